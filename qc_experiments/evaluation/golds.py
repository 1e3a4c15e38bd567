"""Try the gold queries of the held-out rows before anything is trained, and say which fail."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from qc_experiments.config.metrics import EXECUTION, LOSS, VALID
from qc_experiments.config.schema import RunConfig, Strategy
from qc_experiments.data.split import sample_rows
from qc_experiments.data.table import Row, name_rows
from qc_experiments.errors import RAISED, UserError, in_one_line
from qc_experiments.evaluation.metrics import Judged, measured
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.verdict import Tried, Verdict
from qc_experiments.system.console import progress
from qc_experiments.system.words import counted

log = logging.getLogger(__name__)

MANY = 500
"""Queries that are worth a line where there is no bar: the first time they take some seconds."""
SHOWN_REASONS = 5
SHOWN_CHARACTERS = 160


def check_golds(
    config: RunConfig, rows: Sequence[Row], source: str, judge: Judge
) -> tuple[str, ...]:
    """Run the golds; what they return is kept, so that judging does not run them again.

    Args:
        config: the whole config.
        rows: the held-out rows.
        source: their CSV, for messages.
        judge: runs them; its processes are ended.

    Returns:
        Lines that name the golds that fail.

    Raises:
        UserError: if the metric by which the run or its checkpoints are chosen could not be measured
            on any row, or a user's own metric fails on the golds.
    """
    try_own_metrics(config, rows)
    chosen_by = (config.objective, config.trainer.metric_for_best_model)
    if config.data.databases is None:
        if VALID.key not in chosen_by:
            return ()
        tried = judge.try_all([(row, "SELECT 1") for row in rows])
        problem, metric = "contexts are no schema that SQLite runs", VALID
        if judge.dialect(rows[0]) != "sqlite":
            problem = "rows have no database"
    else:
        if len(rows) >= MANY:
            log.info("Trying %d gold queries ...", len(rows))
        with progress(
            f"Trying {counted(len(rows), 'gold query', 'gold queries')}", len(rows)
        ) as advance:
            tried = judge.try_golds(rows, advance)
        problem, metric = "gold queries fail", EXECUTION
    judge.close()
    failing = [(r, found) for r, found in zip(rows, tried, strict=True) if found.error is not None]
    for key, needed in _needed(config, metric.key, rows):
        asked = {row.number for row in needed}
        in_vain = [(row, found) for row, found in failing if row.number in asked]
        if asked and len(in_vain) == len(asked):
            where = "" if len(asked) == len(rows) else " of the rows asked in training"
            raise UserError(
                f"{key}={metric.key} cannot be measured: {source}: all {len(asked)} {problem}{where} "
                f"({_reasons_of(in_vain)}): mend them, or choose by another metric, such as {LOSS.key}"
            )
    if not failing or config.data.databases is None:
        return ()
    left = len(rows) - len(failing)
    return (
        f"{source}: {len(failing)} of {len(rows)} gold queries fail, so that {EXECUTION.title} is "
        + (f"taken over the other {left}" if left else "not measured")
        + f" ({_reasons_of(failing)})",
    )


def try_own_metrics(config: RunConfig, rows: Sequence[Row]) -> None:
    """Measure the user's own metrics on the golds, so that a mistake does not show after the training.

    Raises:
        UserError: if one fails.
    """
    right = Verdict(True, "correct", valid=True, ex_bird=True, ex_test_suite=True, seconds=0.0)
    golds = [Judged(row, row.query, right, True, "unknown", ()) for row in rows]
    for metric in config.own_metrics():
        try:
            measured(metric, golds)
        except RAISED as error:  # a user's code raises what it likes
            raise UserError(
                f"evaluation.metrics: {metric.key} cannot be measured, as a trial on the gold queries "
                f"shows ({in_one_line(error)}): mend its function or leave it out"
            ) from error


def _needed(config: RunConfig, metric: str, rows: Sequence[Row]) -> list[tuple[str, Sequence[Row]]]:
    """The settings that choose by a metric, and the rows on which it is taken for them."""
    sample = sample_rows(rows, config.evaluation.during_training, config.evaluation.seed)
    trainer = config.trainer
    needed: list[tuple[str, Sequence[Row]]] = []
    if trainer.metric_for_best_model == metric and trainer.eval_strategy is not Strategy.never:
        needed.append(("trainer.metric_for_best_model", sample))
    if config.objective == metric:
        needed.append(("objective", rows if config.sweep.halving is None else sample))
    return needed


def _reasons_of(failing: Sequence[tuple[Row, Tried]]) -> str:
    return reasons([(row.number, found.error_class, found.error) for row, found in failing])


def reasons(failing: Sequence[tuple[int, str | None, str | None]]) -> str:
    """What the database says, each message once with its rows, the most frequent first.

    Args:
        failing: row, error class and message of each query.
    """
    numbers: dict[str, list[int]] = {}
    for row, error_class, error in failing:
        kind = "" if error_class is None else f"{error_class}: "
        message = " ".join(f"{kind}{error}".split())
        if len(message) > SHOWN_CHARACTERS:
            message = message[:SHOWN_CHARACTERS] + " ..."
        numbers.setdefault(message, []).append(row)
    often = sorted(numbers.items(), key=lambda item: -len(item[1]))
    shown = [f"{name_rows(rows)}: {message}" for message, rows in often[:SHOWN_REASONS]]
    more = sum(len(rows) for _, rows in often[SHOWN_REASONS:])
    return "; ".join(shown) + (f"; and {more} more rows" if more else "")
