"""What every database engine takes and gives: limits in, one `Execution` out.

An engine is a module with one function, ``run(target, sql, limits) -> Execution``, which opens a
fresh read-only view of the database, runs one statement and closes it. Engines run in child
processes only (see `qc_experiments.databases.pool`), so that what an engine cannot stop can be killed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Value = None | int | float | str | bytes
"""A cell as it is compared; an engine turns dates, decimals and whatever else into one of these."""

ERROR_CLASSES = (
    "syntax",
    "no_such_table",
    "no_such_column",
    "ambiguous_column",
    "no_such_function",
    "type",
    "forbidden",
    "not_a_query",
    "timeout",
    "memory",
    "result_too_large",
    "other",
)
"""Why a statement gave no rows."""


@dataclass(frozen=True)
class Limits:
    """What one statement may use.

    Attributes:
        seconds: time until it is ended.
        rows: most rows of a result.
        bytes: most bytes of a result (text and blobs by their length, anything else as 8).
    """

    seconds: float = 5.0
    rows: int = 100_000
    bytes: int = 64_000_000


@dataclass(frozen=True)
class Execution:
    """What came of a statement.

    Attributes:
        rows: the result, or None if it failed.
        columns: names of the result's columns.
        error: the database's message, or None.
        error_class: one of `ERROR_CLASSES`, or None if it succeeded.
        seconds: how long it took.
        warning: what the database forgave silently, or None.
    """

    rows: list[tuple[Value, ...]] | None
    columns: tuple[str, ...] = ()
    error: str | None = None
    error_class: str | None = None
    seconds: float = 0.0
    warning: str | None = None


class ResultTooLarge(Exception):
    """A result exceeds its limits."""


def size_of(row: tuple[Value, ...]) -> int:
    """Bytes of a row, as `Limits.bytes` counts them."""
    return sum(len(cell) if isinstance(cell, str | bytes) else 8 for cell in row)


def collect(rows: Iterable[tuple[Value, ...]], limits: Limits) -> list[tuple[Value, ...]]:
    """Fetch a result within its limits.

    Args:
        rows: iterable of tuples of `Value`.
        limits: rows and bytes that it may have.

    Raises:
        ResultTooLarge: as soon as it exceeds them.
    """
    kept: list[tuple[Value, ...]] = []
    total = 0
    for row in rows:
        kept.append(row)
        total += size_of(row)
        if len(kept) > limits.rows:
            raise ResultTooLarge(f"more than {limits.rows} rows")
        if total > limits.bytes:
            raise ResultTooLarge(f"more than {limits.bytes} bytes")
    return kept
