"""Name the shape of a query, and normalise queries for exact match; both by parsing, with sqlglot."""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

SHAPES = (
    "set operation",
    "nested",
    "group by",
    "join",
    "order or limit",
    "aggregate",
    "filter",
    "plain",
    "other",
)
"""Shapes from the most to the least involved; a query counts under the first that fits."""


def _parse(sql: str) -> exp.Expression | None:
    try:
        return sqlglot.parse_one(sql, dialect="sqlite")
    except (SqlglotError, RecursionError):
        return None


def query_shape(sql: str) -> str:
    """The first of `SHAPES` that fits a query; ``other`` where it cannot be parsed."""
    tree = _parse(sql)
    if not isinstance(tree, exp.Query):
        return "other"
    if tree.find(exp.SetOperation):
        return "set operation"
    if len(list(tree.find_all(exp.Select))) > 1:
        return "nested"
    for shape, kinds in (
        ("group by", (exp.Group,)),
        ("join", (exp.Join,)),
        ("order or limit", (exp.Order, exp.Limit)),
        ("aggregate", (exp.AggFunc,)),
        ("filter", (exp.Where,)),
    ):
        if tree.find(*kinds):
            return shape
    return "plain"


def normalised(sql: str) -> str:
    """A query in one spelling: keywords, identifiers, quotes and blanks as sqlglot writes them.

    What cannot be parsed is only lower-cased and freed of repeated blanks.
    """
    tree = _parse(sql)
    if tree is None:
        return " ".join(sql.lower().rstrip("; \n").split())
    for identifier in tree.find_all(exp.Identifier):
        name = identifier.name
        if not identifier.args.get("quoted"):
            identifier.set("this", name.lower())
        elif name == name.lower() and name.isidentifier():
            identifier.set("quoted", False)  # with capitals, "Bonn" may be a string to SQLite
    return tree.sql(dialect="sqlite", comments=False)


def exact_match(gold: str, predicted: str) -> bool:
    """Whether two queries are the same but for spelling (case, blanks, quotes)."""
    return normalised(gold) == normalised(predicted)
