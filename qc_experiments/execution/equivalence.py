"""Are two results the same? A plain rule: rows as a multiset, in order where the gold orders them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

JUDGE = "sqlite-rows-1"
"""Name and version of these rules; part of the evaluation's hash."""

Value = object
SIGNIFICANT_DIGITS = 9


def _comparable(value: Value) -> Value:
    """A value in the form in which it is compared: 2 equals 2.0, the last digits do not count."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    whole = round(value)
    if abs(value - whole) <= abs(value) * 10.0**-SIGNIFICANT_DIGITS and abs(whole) < 2**53:
        return whole
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def same_result(
    gold: Sequence[tuple[Value, ...]], predicted: Sequence[tuple[Value, ...]], *, ordered: bool
) -> bool:
    """Whether two results hold the same rows.

    Args:
        gold: rows of the gold query.
        predicted: rows of the predicted query, columns in the gold's order.
        ordered: whether the order of the rows counts.
    """
    left = [tuple(map(_comparable, row)) for row in gold]
    right = [tuple(map(_comparable, row)) for row in predicted]
    return left == right if ordered else Counter(left) == Counter(right)


def orders_rows(sql: str) -> bool:
    """Whether the outermost query of a statement orders its rows (parsed as SQLite's dialect)."""
    try:
        tree = sqlglot.parse_one(sql, dialect="sqlite")
    except (SqlglotError, RecursionError):
        return False
    return isinstance(tree, exp.Query) and tree.args.get("order") is not None
