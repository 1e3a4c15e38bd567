"""What a query's text tells about itself, found in a child process, where odd texts do no harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from qc_experiments.data.table import Row
from qc_experiments.judging.judge import Judge
from qc_experiments.sql.parsing import conditions, parse, sources
from qc_experiments.sql.structure import features, hardness
from qc_experiments.sql.table_names import table_names
from qc_experiments.sql.tokens import calls_random, statements, tokens

SECONDS = 10.0
OPERATORS = {exp.EQ: "=", exp.NEQ: "=", exp.In: "=", exp.Like: "LIKE", exp.ILike: "ILIKE"}
"""Comparisons whose texts are values, or patterns of them; a bound need be none."""
WITHIN = (exp.Paren, exp.Tuple)
"""What may stand between a text and the comparison that it belongs to."""
FIXING = (exp.EQ, exp.In, exp.Is)
DIALECTS = ("sqlite", "postgres", "duckdb", "mysql", "tsql", "oracle", "bigquery", "snowflake")
"""A text that none of these reads is no SQL."""


@dataclass(frozen=True)
class QueryFacts:
    """What the text of a query tells.

    Attributes:
        problem: why it cannot be read, in words; None if it can.
        is_sql: whether some dialect can read it, as far as that is known.
        tables: that it names, in lower case.
        columns: that it names, in lower case.
        own_names: names in lower case that may be no table's column: given to what it computes, or words
            that a function takes (``timestampdiff(YEAR, a, b)``).
        values: texts that columns of tables are to hold, each with ``=``, ``LIKE`` or ``ILIKE``.
        double_quoted: those that stand in double quotes, where SQLite may take them for texts.
        skeleton: the query in lower case with a mark for each literal.
        tie_breaks: the query twice, with opposite choices of the rows that a LIMIT within it cuts from a tie.
        marks: of ``cross_join``, ``limit_without_order`` (at its end), ``picks_any_rows`` (such a one that
            surely cuts, of a table with two rows), ``random``, ``several_statements``.
    """

    problem: str | None = None
    is_sql: bool = True
    hardness: str = "unknown"
    features: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    own_names: tuple[str, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    double_quoted: tuple[str, ...] = ()
    skeleton: str = ""
    tie_breaks: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


def query_facts(rows: Sequence[Row], judge: Judge) -> list[QueryFacts]:
    """What the query of each row tells."""
    asked = [(row.query, row.schema, judge.dialect(row)) for row in rows]
    unique = list(dict.fromkeys(asked))
    answers = judge.call_each(__name__, unique, SECONDS)
    known = {
        texts: QueryFacts(problem=found) if isinstance(found, str) else QueryFacts(*found)
        for texts, found in zip(unique, answers, strict=True)
    }
    return [known[texts] for texts in asked]


def answer(query: str, context: str, dialect: str) -> tuple[Any, ...]:
    """The fields of `QueryFacts`; called in a child process, whose answers are plain values."""
    marks = ["random"] if calls_random(query, dialect) else []
    if len(statements(query, dialect)) > 1:
        marks.append("several_statements")
    found = parse(query, dialect)
    if found.tree is None:
        problem = found.problem or "it is no query that can be parsed"
        is_sql = any(parse(query, one).tree is not None for one in DIALECTS)
        is_sql = is_sql or found.problem is not None
        return (problem, is_sql, "unknown", (), (), (), (), (), (), "", (), tuple(marks))
    tree = found.tree
    named = {one.alias_or_name.lower() for one in tree.find_all(exp.CTE)}
    tables = {one.name.lower() for one in tree.find_all(exp.Table) if _is_table(one, named)}
    columns = {
        one.name.lower() for one in tree.find_all(exp.Column) if not isinstance(one.this, exp.Star)
    }
    own = _own_names(tree)
    marks += _limit_marks(tree, named)
    # Of SQLite's joins sqlglot makes CROSS JOIN out of a comma as well.
    says_cross = any(token.is_word("cross") for token in tokens(query, dialect))
    if not says_cross and any(_lacks_join(one, named) for one in tree.find_all(exp.Select)):
        marks.append("cross_join")
    names = table_names(context, dialect)
    known = own | (frozenset() if names is None else names.columns)
    quoted = _double_quoted(tree, known) if dialect == "sqlite" else {}
    return (
        None,
        True,
        hardness(query, dialect),
        features(query, dialect),
        tuple(sorted(tables)),
        tuple(sorted(columns)),
        tuple(sorted(own)),
        tuple(dict.fromkeys((*_values(tree, own), *quoted.items()))),
        tuple(quoted),
        _skeleton(tree, dialect),
        _tie_breaks(tree, dialect),
        tuple(marks),
    )


def _is_table(unit: exp.Expression, named: set[str]) -> bool:
    """Whether a source is a table or a view: no function, no list of values, no named query."""
    is_named = isinstance(unit, exp.Table) and isinstance(unit.this, exp.Identifier)
    return is_named and (bool(unit.args.get("db")) or unit.name.lower() not in named)


def _own_names(tree: exp.Query) -> set[str]:
    found = {one.alias.lower() for one in tree.find_all(exp.Alias) if one.alias}
    for alias in tree.find_all(exp.TableAlias):
        found |= {one.name.lower() for one in alias.args.get("columns") or ()}
    for call in tree.find_all(exp.Func):
        if isinstance(call, exp.Anonymous) or "unit" in call.args:
            words = call.iter_expressions()
            found |= {one.name.lower() for one in words if isinstance(one, exp.Column)}
    return found


def _limit_marks(tree: exp.Query, named: set[str]) -> list[str]:
    found = []
    if tree.args.get("limit") is not None and tree.args.get("order") is None:
        found.append("limit_without_order")
        cuts = ("where", "group", "having", "qualify", "distinct", "joins")
        plain = isinstance(tree, exp.Select) and not any(tree.args.get(one) for one in cuts)
        units = sources(tree)[0] if plain else []
        if len(units) == 1 and _is_table(units[0], named) and not tree.find(exp.Func):
            found.append("picks_any_rows")
    return found


def _lacks_join(select: exp.Select, named: set[str]) -> bool:
    """Whether nothing says which rows of two tables of a FROM belong together.

    False where that cannot be told from the text, or a table's row is picked.
    """
    units, joins = sources(select)
    natural = any(join.args.get("method") or join.args.get("using") for join in joins)
    if natural or len(units) < 2 or not all(_is_table(unit, named) for unit in units):
        return False
    groups = [{unit.alias_or_name.lower()} for unit in units]
    picked: set[str] = set()
    where = select.args.get("where")
    for root in (where and where.this, *(join.args.get("on") for join in joins)):
        for test, _ in conditions(root)[0]:
            tables = {column.table.lower() for column in test.find_all(exp.Column)}
            if test.find(exp.Query) or not tables <= set().union(*groups):
                return False  # names without their tables, or what stands in another query
            joined = [group for group in groups if group & tables]
            groups = [group for group in groups if not group & tables]
            groups += [set().union(*joined)] if joined else []
            if len(tables) == 1 and isinstance(test, FIXING):
                picked |= tables
    return sum(not group & picked for group in groups) > 1


def _values(tree: exp.Query, own: set[str]) -> list[tuple[str, str]]:
    """Texts that a column itself is compared with, not what a function or the query makes of it.

    None where rows come from elsewhere than tables. A text with digits may be said in words.
    """
    if any(not isinstance(one.this, exp.Identifier) for one in tree.find_all(exp.Table)):
        return []
    if tree.find(exp.UDTF, exp.Values):
        return []
    found = []
    for literal in tree.find_all(exp.Literal):
        node = literal.parent
        while isinstance(node, WITHIN):
            node = node.parent
        operator = OPERATORS.get(type(node))
        text = literal.this
        if operator is None or not literal.is_string or any(map(str.isdigit, text)):
            continue
        sides = (node.this, node.args.get("expression"))
        names = [side.name.lower() for side in sides if isinstance(side, exp.Column)]
        if names and own.isdisjoint(names) and not isinstance(node.parent, exp.Escape):
            found.append((text, operator))
    return found


def _double_quoted(tree: exp.Query, columns: set[str]) -> dict[str, str]:
    """Names in double quotes that no column has, and that a column is compared with, and how."""
    return {
        column.name: OPERATORS[type(column.parent)]
        for column in tree.find_all(exp.Column)
        if column.this.args.get("quoted")
        and not column.table
        and column.name.lower() not in columns
        and type(column.parent) in OPERATORS
        and column.parent.this is not column
    }


def _tie_breaks(tree: exp.Query, dialect: str) -> tuple[str, ...]:
    """The query twice, with each inner LIMIT cutting ties from the other end."""
    inner = [one for one in tree.find_all(exp.Select, exp.SetOperation) if one is not tree]
    if not any(one.args.get("limit") for one in inner):
        return ()
    found = []
    for descending in (False, True):
        copy = tree.copy()
        for query in list(copy.find_all(exp.Select, exp.SetOperation)):
            if query is copy or not query.args.get("limit"):
                continue
            last = [
                exp.Ordered(this=exp.Literal.number(place), desc=descending)
                for place in range(1, len(query.selects) + 1)
            ]
            order = query.args.get("order")
            query.set(
                "order", exp.Order(expressions=[*(order.expressions if order else ()), *last])
            )
        try:
            found.append(copy.sql(dialect, comments=False))
        except RecursionError:
            return ()
    return tuple(found)


def _skeleton(tree: exp.Query, dialect: str) -> str:
    copy = tree.copy()
    for literal in list(copy.find_all(exp.Literal)):
        literal.replace(exp.Placeholder())
    try:
        return copy.sql(dialect, comments=False).lower()
    except RecursionError:
        return ""
