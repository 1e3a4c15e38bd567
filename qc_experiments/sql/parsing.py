"""Parse a query with sqlglot, within limits, walk its tree, and compare it with another."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from sqlglot import Dialect, Token, TokenType, exp

MAX_CHARACTERS = 100_000
MAX_TOKENS = 20_000
MAX_OPEN_JOINS = 10  # what is larger than one of these is not parsed

Condition = tuple[exp.Expression, bool]
"""A comparison, and whether a NOT stands before it."""


class Parsed(NamedTuple):
    """A query's tree, shared between callers, who must not change it; None if there is none."""

    tree: exp.Query | None
    problem: str | None = None
    """The limit that the text exceeds, or None. Text that is no query is no problem."""


@functools.lru_cache(maxsize=256)
def parse(sql: str, dialect: str = "sqlite") -> Parsed:
    """Parse a query within limits that depend on its text alone.

    A text that is below them can still take long: untrusted text is parsed in a child process, with
    a limit of time (see `qc_experiments.evaluation.query_analysis`).
    """
    if len(sql) > MAX_CHARACTERS:
        return Parsed(None, f"it has more than {MAX_CHARACTERS:,} characters")
    reads = Dialect.get_or_raise(dialect)
    try:
        found = reads.tokenize(sql)
        if len(found) > MAX_TOKENS:
            return Parsed(None, f"it has more than {MAX_TOKENS:,} words and marks")
        if _open_joins(found) > MAX_OPEN_JOINS:
            return Parsed(None, f"it has more than {MAX_OPEN_JOINS} JOINs without ON or USING")
        trees = reads.parser().parse(found, sql)
    except RecursionError:
        return Parsed(None, "it nests too deeply")
    except Exception:  # on odd texts sqlglot fails with more than its own errors
        return Parsed(None)
    tree = trees[0] if len(trees) == 1 else None
    while isinstance(tree, exp.Subquery) and isinstance(tree.this, exp.Query):
        tree = tree.this  # a query in parentheses
    if not isinstance(tree, (exp.Select, exp.SetOperation)):
        return Parsed(None)
    _write_limits_alike(tree)
    return Parsed(tree)


def _write_limits_alike(tree: exp.Query) -> None:
    """Drop LIMIT ALL and LIMIT NULL, which keep every row; write FETCH FIRST n ROWS ONLY as LIMIT n."""
    for limit in list(tree.find_all(exp.Limit, exp.Fetch)):
        if isinstance(limit, exp.Limit):
            if isinstance(limit.expression, exp.Null) or limit.expression.name.lower() == "all":
                limit.pop()
            continue
        options = limit.args.get("limit_options")
        if options is None or not (options.args.get("with_ties") or options.args.get("percent")):
            limit.replace(exp.Limit(expression=limit.args.get("count") or exp.Literal.number(1)))


def _open_joins(found: Sequence[Token]) -> int:
    """The number of JOINs after which the next JOIN, or the end, comes before any ON or USING.

    Each of them doubles the time that sqlglot 30 takes to parse a text: with twenty, such as a
    model writes when it starts to repeat itself, to more than ten seconds.
    """
    count, is_open, before = 0, False, None
    for token in found:
        kind = token.token_type
        if kind in (TokenType.JOIN, TokenType.STRAIGHT_JOIN):
            count += is_open
            is_open = before is not TokenType.CROSS  # which takes no ON
        elif kind in (TokenType.ON, TokenType.USING):
            is_open = is_open and before in (TokenType.DOT, TokenType.ALIAS)  # it is a name
        before = kind
    return count + is_open


def conditions(root: exp.Expression | None) -> tuple[list[Condition], int]:
    """The comparisons that AND, OR and NOT combine, from left to right, and the number of ORs.

    A NOT before a parenthesis negates every comparison in it. What stands inside a comparison,
    such as the WHERE of a subquery, is left alone.
    """
    found: list[Condition] = []
    alternatives = 0
    waiting = [] if root is None else [(root, False)]
    while waiting:
        node, negated = waiting.pop()
        if isinstance(node, (exp.And, exp.Or)):
            alternatives += isinstance(node, exp.Or)
            waiting += [(node.expression, negated), (node.this, negated)]
        elif isinstance(node, exp.Paren):
            waiting.append((node.this, negated))
        elif isinstance(node, exp.Not):
            waiting.append((node.this, not negated))
        else:
            found.append((node, negated))
    return found, alternatives


def sources(select: exp.Expression) -> tuple[list[exp.Expression], list[exp.Join]]:
    """The tables and subqueries in a SELECT's FROM, in their order, and the joins between them."""
    units: list[exp.Expression] = []
    joins: list[exp.Join] = []
    start = select.args.get("from_")
    waiting = [] if start is None else [*reversed(select.args.get("joins") or []), start.this]
    while waiting:
        node = waiting.pop()
        if isinstance(node, exp.Join):
            joins.append(node)
            waiting.append(node.this)
            continue
        waiting += reversed(node.args.get("joins") or [])
        if isinstance(node, exp.Subquery) and isinstance(node.this, (exp.Table, exp.Subquery)):
            waiting.append(node.this)  # FROM (a JOIN b ON ...) JOIN c
        else:
            units.append(node)
    return units, joins


def exact_match(gold: str, predicted: str, dialect: str = "sqlite") -> bool:
    """Whether two queries are the same but for spelling (case, blanks, quotes of names).

    What cannot be parsed, or is too deep to be written out, is only lower-cased and freed of
    repeated blanks.
    """
    return _normalised(gold, dialect) == _normalised(predicted, dialect)


def _normalised(sql: str, dialect: str) -> str:
    squeezed = " ".join(sql.lower().rstrip("; \n").split())
    shared = parse(sql, dialect).tree
    if shared is None:
        return squeezed
    tree = shared.copy()
    for identifier in tree.find_all(exp.Identifier):
        name = identifier.name
        if dialect == "duckdb":  # where case never counts in a name
            identifier.set("this", name.lower())
            identifier.set("quoted", not name.isidentifier())
        elif not identifier.args.get("quoted"):
            identifier.set("this", name.lower())
        elif name == name.lower() and name.isidentifier():
            identifier.set("quoted", False)  # with capitals, "Bonn" may be a string to SQLite
    try:
        return tree.sql(dialect=dialect, comments=False)
    except RecursionError:
        return squeezed
