"""Verdicts on predictions, and the rates that are made of them, each with its count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qc_experiments.data.table import Row
from qc_experiments.evaluation.query_shape import exact_match, query_shape
from qc_experiments.execution.databases import database_file
from qc_experiments.execution.equivalence import orders_rows, same_result
from qc_experiments.execution.sqlite import (
    Execution,
    empty_database,
    open_readonly,
    run_query,
)

Z_95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True)
class Judged:
    """One prediction and what it is worth.

    Attributes:
        row: the question and its gold query.
        prediction: the SQL that was predicted.
        correct: whether it returns the gold's rows; None where that was not measured.
        verdict: ``correct``, ``wrong_rows``, ``error``, ``gold_error``, or ``not_executed``.
        error_class: why it failed, or None.
        valid: whether the database accepts it; None where there is none to ask.
        exact: whether it is the gold query but for spelling.
        shape: the gold query's shape.
        seconds: how long the prediction ran; None where it did not run.
    """

    row: Row
    prediction: str
    correct: bool | None
    verdict: str
    error_class: str | None
    valid: bool | None
    exact: bool
    shape: str
    seconds: float | None


def judge(
    rows: Sequence[Row], predictions: Sequence[str], databases: Path | None, timeout: float
) -> list[Judged]:
    """Judge predictions.

    With databases, gold and prediction are run there, each on a fresh read-only connection. Without,
    a prediction is only prepared on an empty database made from the row's context.

    Args:
        rows: questions with gold queries.
        predictions: one SQL text a row.
        databases: folder with ``<db_id>/<db_id>.sqlite``, or None.
        timeout: seconds one statement may run.
    """
    return [
        _judge_one(row, prediction, databases, timeout)
        for row, prediction in zip(rows, predictions, strict=True)
    ]


def _judge_one(row: Row, prediction: str, databases: Path | None, timeout: float) -> Judged:
    exact = exact_match(row.query, prediction)
    shape = query_shape(row.query)
    if databases is None:
        valid = _prepares(row.context, prediction, timeout)
        return Judged(row, prediction, None, "not_executed", None, valid, exact, shape, None)
    assert row.db_id is not None  # check_databases has seen to it
    path = database_file(databases, row.db_id)
    predicted = _run(path, prediction, timeout)
    valid = predicted.error is None
    gold = _run(path, row.query, timeout)
    correct: bool | None
    if gold.rows is None:
        correct, verdict = None, "gold_error"
    elif predicted.rows is None:
        correct, verdict = False, "error"
    else:
        correct = same_result(gold.rows, predicted.rows, ordered=orders_rows(row.query))
        verdict = "correct" if correct else "wrong_rows"
    return Judged(
        row,
        prediction,
        correct,
        verdict,
        predicted.error_class,
        valid,
        exact,
        shape,
        predicted.seconds,
    )


def _run(path: Path, sql: str, timeout: float) -> Execution:
    connection = open_readonly(path)
    try:
        return run_query(connection, sql, timeout)
    finally:
        connection.close()


def _prepares(context: str, sql: str, timeout: float) -> bool | None:
    connection = empty_database(context)
    if connection is None:
        return None
    try:
        return run_query(connection, sql, timeout).error is None
    finally:
        connection.close()


@dataclass(frozen=True)
class Rate:
    """A share with its count and its 95 % interval (Wilson 1927)."""

    hits: int
    count: int

    @property
    def value(self) -> float | None:
        """Hits over count; None when nothing was counted."""
        return self.hits / self.count if self.count else None

    def interval(self) -> tuple[float, float] | tuple[None, None]:
        """Lower and upper end of Wilson's score interval."""
        if not self.count:
            return None, None
        n, p = self.count, self.hits / self.count
        centre = (p + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
        half = Z_95 * math.sqrt(p * (1 - p) / n + Z_95**2 / (4 * n * n)) / (1 + Z_95**2 / n)
        return max(0.0, centre - half), min(1.0, centre + half)


def rate(outcomes: Sequence[bool | None]) -> Rate:
    """Share of True among the outcomes that were measured."""
    measured = [outcome for outcome in outcomes if outcome is not None]
    return Rate(sum(measured), len(measured))


def figures(judged: Sequence[Judged]) -> dict[str, float | int | None]:
    """The figures of ``result.json`` that predictions give (see README, What a run leaves behind)."""
    execution = rate([one.correct for one in judged])
    low, high = execution.interval()
    return {
        "execution_accuracy": execution.value,
        "execution_accuracy_low": low,
        "execution_accuracy_high": high,
        "execution_correct": execution.hits if execution.count else None,
        "execution_count": execution.count if execution.count else None,
        "exact_match": rate([one.exact for one in judged]).value,
        "valid_sql": rate([one.valid for one in judged]).value,
    }
