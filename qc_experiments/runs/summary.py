"""What a run tells at its end: its predictions, and the table of base model and trained model."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from qc_experiments.config.metrics import (
    ALSO_LOSS,
    BIRD,
    EXACT,
    EXECUTION,
    LOSS,
    METRICS,
    TEST_SUITE,
    Metric,
    indented,
)
from qc_experiments.evaluation.confidence import (
    CONFIDENCE_COLUMN,
    confidence_lines,
    pairs,
    separation,
)
from qc_experiments.evaluation.evaluator import Measured
from qc_experiments.evaluation.metrics import (
    HARDNESS,
    Judged,
    taken,
    verdict_cells,
    verdict_columns,
)
from qc_experiments.evaluation.shown import table_text
from qc_experiments.evaluation.statistics import Mean, Rate, paired
from qc_experiments.evaluation.wording import verdict
from qc_experiments.system.words import counted

Cell = str | int | float | None

PREDICTION_COLUMNS = ("row", "db_id", "question", "query", "context", "prediction")


def prediction_table(judged: Sequence[Judged]) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of ``predictions.csv``; ``row`` is the row of the held-out CSV."""
    verdicts = verdict_columns(judged)
    known = any(one.confidence is not None for one in judged)
    columns = [*PREDICTION_COLUMNS, *([CONFIDENCE_COLUMN] if known else []), *verdicts]
    if any(one.after_repair is not None for one in judged):
        columns += ["repaired_prediction", "repaired_correct"]
    rows: list[list[Cell]] = []
    for one in judged:
        row = one.row
        cells: list[Cell] = [row.number, row.db_id, row.question, row.query, row.context]
        cells += [one.prediction, *([one.confidence] if known else [])]
        cells += verdict_cells(one, verdicts)
        if one.after_repair is not None:
            query, verdict = one.after_repair
            cells += [query, None if verdict.correct is None else int(verdict.correct)]
        rows.append(cells)
    return columns, rows


def summary(
    trained: Measured,
    base: Measured | None,
    trained_name: str,
    files: str,
    *,
    continued: bool = False,
    wrong: str = "",
) -> str:
    """The closing table as text.

    Args:
        trained: what was measured of the trained model.
        base: of the base model on the same rows, or None.
        trained_name: what the trained model is called in the table.
        files: where the run's files are.
        continued: whether the run went on from a saved adapter.
        wrong: some wrong answers of the trained model, as text.
    """
    executed = any(one.correct is not None for one in trained.judged)
    table = Table("", box=box.SIMPLE_HEAD, title=counted(len(trained.judged), "held-out question"))
    columns = [trained] if base is None else [base, trained]
    for name in ("base model", trained_name)[-len(columns) :]:
        table.add_column(name, justify="right")
    table.add_row(LOSS.long_title, *(LOSS.shown(m.loss) for m in columns))
    if trained.also_loss is not None:
        table.add_row(ALSO_LOSS.title, *(LOSS.shown(m.also_loss) for m in columns))
    for metric in (*METRICS, *trained.own):
        # The published rules stand in report.json, for comparison with other work.
        if metric not in (LOSS, BIRD, TEST_SUITE):
            _add(table, metric, columns, executed)
    table.add_section()
    by = EXECUTION if executed else EXACT
    table.add_row(f"{by.title} by hardness of the gold query", *("" for _ in columns))
    for level in HARDNESS:
        of = [taken(by, [one for one in m.judged if one.hardness == level]) for m in columns]
        if of[-1].count:
            table.add_row(f"  {level}", *(_shown(by, one) for one in of))
    lines = [table_text(table), ""]
    if any(one.verdict.verdict == "gold_error" for one in trained.judged):
        lines += ["Questions whose gold fails count in exact match and valid SQL alone.", ""]
    if base is not None and continued:
        adapter = "without the adapter that the run goes on from, whose gain counts as well"
        lines += [f"base model: {adapter}", ""]
    if sure := confidence_lines(separation(pairs(trained.judged))):
        lines += [*sure, ""]
    if wrong:
        lines += [wrong, ""]
    if base is not None:
        outcomes = [[one.correct if executed else one.exact for one in m.judged] for m in columns]
        said = verdict(paired(*outcomes), "base model", trained_name)
        lines += [f"In {by.title} {said}", ""]
    return "\n".join([*lines, f"Files: {files}", ""])


def _add(table: Table, metric: Metric, columns: Sequence[Measured], executed: bool) -> None:
    """Rows on a metric, if it was measured or is one of those that every run measures."""
    found = [taken(metric, m.judged) for m in columns]
    failing = any(one.verdict.verdict == "gold_error" for one in columns[-1].judged)
    of_execution = metric is EXECUTION
    always = metric not in METRICS or metric.during_training  # a user's own, or one of every run
    if found[-1].count or (always and (not of_execution or failing)):
        table.add_row(indented(metric), *(_shown(metric, one) for one in found))
    if of_execution and executed:
        table.add_row("  95 % interval", *map(_interval, found))
    if of_execution and failing:
        table.add_row("  questions judged", *(_counted(m.judged) for m in columns))


def _counted(judged: Sequence[Judged]) -> str:
    """How many questions execution accuracy is taken over, and why not over all."""
    failing = sum(one.verdict.verdict == "gold_error" for one in judged)
    count = sum(one.correct is not None for one in judged)
    return f"{count} of {len(judged)} ({counted(failing, 'gold fails', 'golds fail')})"


def _interval(found: Rate | Mean) -> str:
    low, high = found.interval()
    return "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f} %"


def _shown(metric: Metric, found: Rate | Mean) -> str:
    if found.value is None:
        return "not measured"
    hits = "" if found.hits is None else f" ({found.hits} of {found.count})"
    return metric.shown(found.value) + hits
