"""What a run tells at its end: its predictions, and the table of base model and trained model."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from qc_experiments.evaluation.measure import Measured
from qc_experiments.evaluation.metrics import Judged, Rate, rate
from qc_experiments.evaluation.query_shape import SHAPES

WIDTH = 100
PREDICTION_COLUMNS = (
    "row",
    "db_id",
    "question",
    "query",
    "context",
    "prediction",
    "correct",
    "verdict",
    "warning",
    "error_class",
    "seconds",
)
"""Columns of ``predictions.csv``; ``row`` is the row of the held-out CSV."""


def prediction_rows(judged: Sequence[Judged]) -> list[list[str | int | float | None]]:
    """Rows of ``predictions.csv``: ``correct`` is 1, 0 or None where it was not measured."""
    return [
        [
            one.row.number,
            one.row.db_id,
            one.row.question,
            one.row.query,
            one.row.context,
            one.prediction,
            None if one.correct is None else int(one.correct),
            one.verdict,
            None,
            one.error_class,
            None if one.seconds is None else round(one.seconds, 6),
        ]
        for one in judged
    ]


def summary(trained: Measured, base: Measured | None, trained_name: str, files: str) -> str:
    """The closing table as text.

    Args:
        trained: the trained model's figures.
        base: the base model's on the same rows, or None.
        trained_name: what the trained model is called in the table.
        files: where the run's files are.
    """
    columns = ([base] if base is not None else []) + [trained]
    names = (["base model"] if base is not None else []) + [trained_name]
    executed = any(one.correct is not None for one in trained.judged)
    table = Table(box=box.SIMPLE_HEAD, title=f"{len(trained.judged)} held-out questions")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    table.add_row("validation loss (nats a token)", *(f"{m.loss:.4f}" for m in columns))
    if executed:
        table.add_row(
            "execution accuracy", *(_percent(rate([j.correct for j in m.judged])) for m in columns)
        )
        table.add_row(
            "  95 % interval", *(_interval(rate([j.correct for j in m.judged])) for m in columns)
        )
    table.add_row("exact match", *(_percent(rate([j.exact for j in m.judged])) for m in columns))
    table.add_row("valid SQL", *(_percent(rate([j.valid for j in m.judged])) for m in columns))
    table.add_section()
    what = "execution accuracy" if executed else "exact match"
    table.add_row(f"{what} by query shape", *("" for _ in columns))
    for shape in SHAPES:
        rates = [_by_shape(m.judged, shape, executed) for m in columns]
        if rates[-1].count:
            table.add_row(f"  {shape}", *(_percent(r) for r in rates))
    buffer = io.StringIO()
    Console(file=buffer, width=WIDTH, color_system=None).print(table)
    return f"{buffer.getvalue().rstrip()}\n\nFiles: {files}\n"


def _by_shape(judged: Sequence[Judged], shape: str, executed: bool) -> Rate:
    chosen = [one for one in judged if one.shape == shape]
    return rate([one.correct if executed else one.exact for one in chosen])


def _percent(found: Rate) -> str:
    if found.value is None:
        return "not measured"
    return f"{100 * found.value:.1f} % ({found.hits} of {found.count})"


def _interval(found: Rate) -> str:
    low, high = found.interval()
    return "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f} %"
