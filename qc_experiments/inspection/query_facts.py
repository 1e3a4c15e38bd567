"""What a query's text tells about itself, found in a child process, where odd texts do no harm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from qc_experiments.data.table import Row
from qc_experiments.judging.judge import Judge
from qc_experiments.sql.parsing import parse
from qc_experiments.sql.structure import features, hardness
from qc_experiments.sql.table_names import TableNames, table_names
from qc_experiments.sql.tokens import calls_random, statements

SECONDS = 10.0
COMPARISONS = (
    *(exp.EQ, exp.NEQ, exp.Like, exp.ILike, exp.In, exp.Between),
    *(exp.GT, exp.GTE, exp.LT, exp.LTE),
)
WITHIN = (exp.Paren, exp.Neg, exp.Tuple)
"""What may stand between a literal and the comparison that it belongs to."""


@dataclass(frozen=True)
class QueryFacts:
    """What the text of a query tells.

    Attributes:
        problem: why it cannot be read, in words; None if it can.
        tables: that it names, in lower case.
        columns: that it names, in lower case.
        literals: texts (with a quote before them) and numbers that columns are compared with.
        double_quoted: those texts that stand in double quotes, where SQLite may take them for such.
        skeleton: the query in lower case with a mark for each literal.
        missing: names that it takes from tables, but the context does not have.
        marks: of ``cross_join``, ``limit_without_order``, ``random``, ``several_statements``.
    """

    problem: str | None = None
    hardness: str = "unknown"
    features: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    literals: tuple[str, ...] = ()
    double_quoted: tuple[str, ...] = ()
    skeleton: str = ""
    missing: tuple[str, ...] = ()
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
        return (problem, "unknown", (), (), (), (), (), "", (), tuple(marks))
    tree = found.tree
    tables = {one.name.lower() for one in tree.find_all(exp.Table)}
    tables -= {one.alias_or_name.lower() for one in tree.find_all(exp.CTE)}
    columns = {
        one.name.lower() for one in tree.find_all(exp.Column) if not isinstance(one.this, exp.Star)
    }
    marks += _marks(tree)
    names = table_names(context, dialect)
    known = frozenset() if names is None else names.columns
    quoted = _double_quoted(tree, known) if dialect == "sqlite" else []
    return (
        None,
        hardness(query, dialect),
        features(query, dialect),
        tuple(sorted(tables)),
        tuple(sorted(columns)),
        (*_literals(tree), *(f"'{text}" for text in quoted)),
        tuple(quoted),
        _skeleton(tree, dialect),
        _missing(tree, tables, names, dialect),
        tuple(marks),
    )


def _marks(tree: exp.Query) -> list[str]:
    found = []
    for select in tree.find_all(exp.Select):
        joins = select.args.get("joins") or []
        joined = any(
            join.args.get(key) or join.args.get("method")
            for join in joins
            for key in ("on", "using")
        )
        if joins and not joined and select.args.get("where") is None:
            found.append("cross_join")
    limited = tree.args.get("limit") is not None
    if limited and tree.args.get("order") is None:
        found.append("limit_without_order")
    return found


def _literals(tree: exp.Query) -> list[str]:
    """Literals that a column itself is compared with, not what a function makes of it."""
    found = []
    for literal in tree.find_all(exp.Literal):
        node = literal.parent
        while isinstance(node, WITHIN):
            node = node.parent
        if isinstance(node, COMPARISONS) and any(
            isinstance(side, exp.Column) for side in (node.this, node.args.get("expression"))
        ):
            found.append(f"'{literal.this}" if literal.is_string else literal.this)
    return list(dict.fromkeys(found))


def _double_quoted(tree: exp.Query, columns: frozenset[str]) -> list[str]:
    """Names in double quotes that no column has, and that a column is compared with."""
    return [
        column.name
        for column in tree.find_all(exp.Column)
        if column.this.args.get("quoted")
        and not column.table
        and column.name.lower() not in columns
        and isinstance(column.parent, COMPARISONS)
        and column.parent.this is not column
    ]


def _skeleton(tree: exp.Query, dialect: str) -> str:
    copy = tree.copy()
    for literal in list(copy.find_all(exp.Literal)):
        literal.replace(exp.Placeholder())
    try:
        return copy.sql(dialect, comments=False).lower()
    except RecursionError:
        return ""


def _missing(
    tree: exp.Query, tables: set[str], names: TableNames | None, dialect: str
) -> tuple[str, ...]:
    """Tables and columns that the context's CREATE statements lack; nothing where it has none."""
    if names is None:
        return ()
    lacking = tables - names.tables.keys()
    if lacking or any(names.tables[table] is None for table in tables):
        return tuple(sorted(lacking))  # of a view, or of what is not there, columns are not known
    own = {one.alias.lower() for one in tree.find_all(exp.Alias, exp.TableAlias) if one.alias}
    for alias in tree.find_all(exp.TableAlias):
        own |= {one.name.lower() for one in alias.args.get("columns") or ()}
    own |= {"rowid", "oid", "_rowid_"}
    lost = set()
    for column in tree.find_all(exp.Column):
        name = column.name.lower()
        is_text = dialect == "sqlite" and column.this.args.get("quoted") and not column.table
        if isinstance(column.this, exp.Identifier) and not is_text and name not in own:
            lost |= {name} - names.columns
    return tuple(sorted(lost))


def literal_text(literal: str) -> str:
    """A literal's text without the marks of a pattern."""
    return literal.removeprefix("'").strip("%_ ")


def is_number(literal: str) -> bool:
    """Whether a literal is written as a number."""
    return not literal.startswith("'") and re.fullmatch(r"[\d.eE+-]+", literal) is not None
