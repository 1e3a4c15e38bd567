"""Tell how hard a query is and which SQL features it uses; both from its text, parsed with sqlglot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from sqlglot import exp

from qc_experiments.sql.parsing import Condition, conditions, parse, sources

Hardness = Literal["easy", "medium", "hard", "extra", "unknown"]

FEATURES: dict[str, str] = {
    "join": "more than one table in a FROM, whether joined or listed with commas",
    "left join": "an outer join: LEFT, RIGHT or FULL",
    "self join": "the same table twice in one FROM",
    "where": "rows are filtered with WHERE",
    "group by": "rows are grouped with GROUP BY",
    "having": "groups are filtered with HAVING",
    "order by": "rows are sorted with ORDER BY",
    "limit": "only some rows are kept, with LIMIT",
    "distinct": "repeated rows or values are dropped, as in SELECT DISTINCT or count(DISTINCT ...)",
    "aggregate": "count, sum, avg, min, max or another aggregate over rows",
    "subquery": "a query inside a query: in FROM, in a condition or as a value",
    "exists": "a test whether a subquery returns rows",
    "set operation": "UNION, INTERSECT or EXCEPT",
    "like": "text is matched with LIKE, ILIKE, SIMILAR TO or GLOB",
    "between": "a range is tested with BETWEEN",
    "in": "a value is looked up with IN, in a list or a subquery",
    "not": "a condition is negated with NOT, as in NOT IN; IS NOT NULL is a null test instead",
    "or": "conditions are combined with OR",
    "null test": "IS NULL or IS NOT NULL",
    "case": "a CASE expression or iif()",
    "window function": "a function with OVER",
    "common table expression": "a named query in WITH",
    "arithmetic": "values are added, subtracted, multiplied, divided or taken modulo",
}
"""What `features` can report, in its order, and what each means."""

_MARKS: tuple[tuple[str, type[exp.Expression] | tuple[type[exp.Expression], ...]], ...] = (
    ("group by", exp.Group),
    ("having", exp.Having),
    ("limit", (exp.Limit, exp.Fetch)),
    ("distinct", exp.Distinct),
    ("exists", exp.Exists),
    ("set operation", exp.SetOperation),
    ("like", (exp.Like, exp.ILike, exp.SimilarTo, exp.Glob)),
    ("between", exp.Between),
    ("in", exp.In),
    ("or", exp.Or),
    ("case", (exp.Case, exp.If)),
    ("window function", exp.Window),
    ("common table expression", exp.CTE),
    ("arithmetic", (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)),
)
"""The features that one kind of node in the tree gives away wherever it stands."""


def hardness(sql: str, dialect: str = "sqlite") -> Hardness:
    """How hard a query is by the rules of Spider; ``unknown`` where it cannot be parsed.

    The rules are those of `eval_hardness` in Spider's evaluation.py (Yu et al. 2018, "Spider: A
    Large-Scale Human-Labeled Dataset for Complex and Cross-Domain Semantic Parsing and Text-to-SQL
    Task"), quirks included: of a set operation only the first SELECT is looked at, and a query in
    FROM counts as a table. What Spider's own parser cannot read, such as WITH, outer joins, CASE
    and IS NOT NULL (here a condition with NOT), is counted by the same rules as far as they reach.

    One slip of that parser is not copied: after a comparison with a column on its right-hand side
    it skips a following OR, as in ``WHERE a < b OR c > d``.
    """
    select: exp.Expression | None
    select = tree = parse(sql, dialect).tree
    while isinstance(select, (exp.SetOperation, exp.Subquery)):
        select = select.this
    if not isinstance(select, exp.Select):
        return "unknown"
    units, joins = sources(select)
    clauses = [select.args.get(name) for name in ("where", "having")]
    roots = [*(clause and clause.this for clause in clauses), *(j.args.get("on") for j in joins)]
    found = [conditions(root) for root in roots]
    tests = [test for tests, _ in found for test, _ in tests]
    nested = isinstance(tree, exp.SetOperation) + sum(
        isinstance(node, exp.Query)
        for test in tests
        for node in test.walk(prune=lambda n: isinstance(n, exp.Query))
    )
    parts = (
        sum(select.args.get(name) is not None for name in ("where", "group", "order", "limit"))
        + max(0, len(units) - 1)
        + sum(ors for _, ors in found)
        + sum(isinstance(test, (exp.Like, exp.ILike, exp.Escape)) for test in tests)
    )
    others = _others(select, found[0][0], found[1][0])
    if parts <= 1 and others == 0 and nested == 0:
        return "easy"
    if nested == 0 and ((others <= 2 and parts <= 1) or (others < 2 and parts <= 2)):
        return "medium"
    if nested == 0 and ((others > 2 and parts <= 2) or (others <= 2 and 2 < parts <= 3)):
        return "hard"
    if nested <= 1 and others == 0 and parts <= 1:
        return "hard"
    return "extra"


def _others(select: exp.Select, where: list[Condition], having: list[Condition]) -> int:
    """Spider's `count_others`: what makes a query harder besides its clauses and subqueries."""
    group, order = select.args.get("group"), select.args.get("order")
    groups = group.expressions if group else []
    # Spider counts aggregates by testing whether the first field of a list's items is not zero. In
    # a condition that field says NOT, so NOT counts too; in HAVING, the connectors do as well.
    aggregates = (
        sum(_is_aggregate(item.unalias().unnest()) for item in select.expressions)
        + sum(_is_aggregate(item.unnest()) for item in groups)
        + sum(_combined_aggregates(item.this) for item in (order.expressions if order else ()))
        + sum(negated for _, negated in (*where, *having))
        + max(0, len(having) - 1)
    )
    return (aggregates > 1) + sum(len(part) > 1 for part in (select.expressions, where, groups))


def _is_aggregate(node: exp.Expression) -> bool:
    return isinstance(node, (exp.Max, exp.Min, exp.Count, exp.Sum, exp.Avg))


def _combined_aggregates(node: exp.Expression) -> int:
    """The number of aggregates that arithmetic combines, as in ``sum(a) / count(*)``."""
    combines = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Paren)
    return sum(map(_is_aggregate, node.walk(prune=lambda n: not isinstance(n, combines))))


def features(sql: str, dialect: str = "sqlite") -> tuple[str, ...]:
    """The `FEATURES` that a query uses anywhere, in their order; none where it cannot be parsed."""
    tree = parse(sql, dialect).tree
    if tree is None:
        return ()
    nodes = list(tree.walk())
    kinds = {type(node) for node in nodes}
    found = {name for name, marks in _MARKS if any(issubclass(kind, marks) for kind in kinds)}
    for node in nodes:
        if isinstance(node, exp.Select):
            found.update(_select_features(node))
        elif isinstance(node, exp.Join) and node.side:
            found.add("left join")
        elif isinstance(node, exp.AggFunc) and not isinstance(node.parent, exp.Window):
            found.add("aggregate")
        elif isinstance(node, exp.Order) and isinstance(node.parent, exp.Query):
            found.add("order by")  # and not the ORDER BY of a window
        elif _is_null_test(node):
            found.add("null test")
        elif isinstance(node, exp.Not) and not _is_null_test(node.this.unnest()):
            found.add("not")
    return tuple(name for name in FEATURES if name in found)


def _is_null_test(node: exp.Expression) -> bool:
    return isinstance(node, exp.Is) and isinstance(node.expression, exp.Null)


def _select_features(select: exp.Select) -> Iterator[str]:
    if select.args.get("where"):  # and not the WHERE of an aggregate's FILTER
        yield "where"
    units, _ = sources(select)
    if len(units) > 1:
        yield "join"
        names = [unit.name.lower() for unit in units if isinstance(unit, exp.Table)]
        if len(set(names)) < len(names):
            yield "self join"
    above = select.parent
    while isinstance(above, (exp.SetOperation, exp.Subquery)):
        above = above.parent
    # With nothing above, this is the query itself or a part of its set operation.
    if above is not None and not isinstance(above, exp.CTE):
        yield "subquery"
