"""Compare two queries part by part: their tables, columns, conditions and joins."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from sqlglot import exp

from qc_experiments.sql.names import Names
from qc_experiments.sql.parsing import bare, conditions, parsed, sources


@dataclass(frozen=True)
class Score:
    """How far two sets agree: whether they are equal, and the F1 of one against the other."""

    equal: bool
    f1: float


@dataclass(frozen=True)
class Components:
    """How far two queries agree, in each of their parts."""

    tables: Score
    columns: Score
    conditions: Score
    joins: Score


@dataclass
class _Parts:
    tables: set[str] = field(default_factory=set)
    columns: set[str] = field(default_factory=set)
    conditions: set[str] = field(default_factory=set)
    joins: set[tuple[str, str]] = field(default_factory=set)


def components(gold: str, predicted: str, dialect: str = "sqlite") -> Components | None:
    """Compare the parts of two queries; None where the gold query cannot be parsed.

    A prediction that cannot be parsed has no parts. Comparing queries part by part follows the
    component matching of Spider (Yu et al. 2018), but the parts are our own. They are taken from
    the query and all its subqueries, and their names are written as `Names` says:

    * tables are the base tables;
    * columns are those used anywhere, with ``*`` as one of them. A name that only one of the two
      queries gives a table takes the table from there, so that a bare ``column`` matches it;
    * conditions are the comparisons in WHERE, HAVING, QUALIFY and ON, except those that join;
    * joins are the pairs of columns that ON, USING or WHERE hold equal. A table that no such pair
      connects, as in CROSS and NATURAL joins, is paired with each other table in its FROM.
    """
    gold_names, predicted_names = _names(gold, dialect), _names(predicted, dialect)
    expected = _parts(gold_names, predicted_names)
    if expected is None:
        return None
    found = _parts(predicted_names, gold_names) or _Parts()
    return Components(
        tables=_score(expected.tables, found.tables),
        columns=_score(expected.columns, found.columns),
        conditions=_score(expected.conditions, found.conditions),
        joins=_score(expected.joins, found.joins),
    )


def _score(expected: Set[object], found: Set[object]) -> Score:
    if not expected and not found:
        return Score(equal=True, f1=1.0)
    f1 = 2 * len(expected & found) / (len(expected) + len(found))
    return Score(equal=expected == found, f1=f1)


def _names(sql: str, dialect: str) -> Names | None:
    tree = parsed(sql, dialect)
    try:
        return None if tree is None else Names(tree, strings_in_quotes=dialect == "sqlite")
    except RecursionError:  # queries in WITH that read from one another, hundreds in a row
        return None


def _parts(names: Names | None, other: Names | None) -> _Parts | None:
    if names is None:
        return None
    names.use_hints(other.told if other else frozenset())
    try:
        parts = _Parts(names.tables, set(names.columns()))
        for select in names.selects:
            _add_conditions(parts, names, select)
    except RecursionError:  # the tree could be parsed, but is too deep to be written out
        return None
    return parts


def _add_conditions(parts: _Parts, names: Names, select: exp.Select) -> None:
    """Add the conditions and joins of one SELECT."""
    linked: set[str] = set()  # what the tables that a pair of columns connects are called here
    for left, right, pair in _using(names, select):
        linked |= {left, right}
        parts.columns.update(pair)
        parts.joins.add(pair)
    for test, negated in _tests(select):
        if not negated and _joins(names, test, select):
            left, right = bare(test.this), bare(test.expression)
            linked |= {left.table.lower(), right.table.lower()}
            parts.joins.add(_pair(names.text(left), names.text(right)))
        elif not isinstance(test, (exp.Boolean, exp.Literal)):  # such as sqlglot's ON TRUE
            parts.conditions.add(f"not {names.text(test)}" if negated else names.text(test))
    if "" not in linked:  # a column whose table cannot be told may connect any
        parts.joins.update(_unlinked(names, select, linked))


def _tests(select: exp.Select) -> Iterator[tuple[exp.Expression, bool]]:
    clauses = [select.args.get(name) for name in ("where", "having", "qualify")]
    roots = [clause.this for clause in clauses if clause is not None]
    roots += [join.args.get("on") for join in sources(select)[1]]
    for root in roots:
        yield from conditions(root)[0]


def _using(names: Names, select: exp.Select) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """For each column in a USING: the two tables as they are called here, and its two names."""
    scope = names.scope(select)
    called = list(scope)
    for join in sources(select)[1]:
        right = join.this.alias_or_name.lower()
        for column in join.args.get("using") or ():
            if right in scope and called.index(right) > 0:
                left = called[called.index(right) - 1]
                name = column.name.lower()
                one, other = (
                    names.column_of(scope[table], name) or name for table in (left, right)
                )
                yield left, right, _pair(one, other)


def _joins(names: Names, test: exp.Expression, select: exp.Select) -> bool:
    """Whether a comparison holds a column of one table equal to a column of another."""
    if not isinstance(test, exp.EQ):
        return False
    sides = [bare(test.this), bare(test.expression)]
    if not all(isinstance(side, exp.Column) and not names.is_value(side) for side in sides):
        return False
    left, right = (side.table.lower() for side in sides)
    return left != right or (not left and len(names.scope(select)) > 1)


def _unlinked(names: Names, select: exp.Select, linked: set[str]) -> Iterator[tuple[str, str]]:
    """Pairs of the tables in a FROM that no columns connect, each with every other table there."""
    tables = {
        called: source if isinstance(source, str) else "(query)"
        for called, source in names.scope(select).items()
    }
    each = list(tables.values())
    for one in {table for called, table in tables.items() if called not in linked}:
        for other in set(each):
            if one != other or each.count(one) > 1:
                yield _pair(one, other)


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one <= other else (other, one)
