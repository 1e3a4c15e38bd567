"""What a run tells at its end: its predictions, and the table of base model and trained model."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from qc_experiments.evaluation.comparison import comparison_lines
from qc_experiments.evaluation.evaluator import Measured
from qc_experiments.evaluation.metrics import (
    HARDNESS,
    RATES,
    VERDICT_COLUMNS,
    Judged,
    verdict_cells,
)
from qc_experiments.evaluation.statistics import Rate, paired, rate

Cell = str | int | float | None

WIDTH = 100
PREDICTION_COLUMNS = ("row", "db_id", "question", "query", "context", "prediction")


def prediction_table(judged: Sequence[Judged]) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of ``predictions.csv``; ``row`` is the row of the held-out CSV."""
    columns = [*PREDICTION_COLUMNS, *VERDICT_COLUMNS]
    repaired = any(one.after_repair is not None for one in judged)
    if repaired:
        columns += ["repaired_prediction", "repaired_correct"]
    rows: list[list[Cell]] = []
    for one in judged:
        row = one.row
        cells: list[Cell] = [row.number, row.db_id, row.question, row.query, row.context]
        cells += [one.prediction, *verdict_cells(one)]
        if one.after_repair is not None:
            query, verdict = one.after_repair
            cells += [query, None if verdict.correct is None else int(verdict.correct)]
        rows.append(cells)
    return columns, rows


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
    if any(one.verdict.verdict == "gold_error" for one in trained.judged):
        if not executed:
            table.add_row("execution accuracy", *("not measured" for _ in columns))
        table.add_row("  questions judged", *(_counted(m.judged) for m in columns))
    for title, name in (
        ("  after one repair", "repaired_execution_accuracy"),
        ("  on all perturbed databases", "fuzz_accuracy"),
        ("exact match", "exact_match"),
        ("valid SQL", "valid_sql"),
    ):
        shares = [rate(map(RATES[name], m.judged)) for m in columns]
        if shares[-1].count or name in ("exact_match", "valid_sql"):
            table.add_row(title, *(_percent(share) for share in shares))
    table.add_section()
    what = "execution accuracy" if executed else "exact match"
    table.add_row(f"{what} by hardness of the gold query", *("" for _ in columns))
    for level in HARDNESS:
        shares = [_by_hardness(m.judged, level, executed) for m in columns]
        if shares[-1].count:
            table.add_row(f"  {level}", *(_percent(share) for share in shares))
    buffer = io.StringIO()
    Console(file=buffer, width=WIDTH, color_system=None).print(table)
    lines = [buffer.getvalue().rstrip(), ""]
    if base is not None and executed:
        both = paired([one.correct for one in base.judged], [one.correct for one in trained.judged])
        lines += [comparison_lines(both, "base model", trained_name)[-1], ""]
    return "\n".join([*lines, f"Files: {files}", ""])


def _counted(judged: Sequence[Judged]) -> str:
    """How many questions execution accuracy is taken over, and why not over all."""
    failing = sum(one.verdict.verdict == "gold_error" for one in judged)
    counted = sum(one.correct is not None for one in judged)
    return f"{counted} of {len(judged)} ({failing} gold{'s' if failing > 1 else ''} fail)"


def _by_hardness(judged: Sequence[Judged], level: str, executed: bool) -> Rate:
    chosen = [one for one in judged if one.hardness == level]
    return rate(one.correct if executed else one.exact for one in chosen)


def _percent(found: Rate) -> str:
    if found.value is None:
        return "not measured"
    return f"{100 * found.value:.1f} % ({found.hits} of {found.count})"


def _interval(found: Rate) -> str:
    low, high = found.interval()
    return "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f} %"
