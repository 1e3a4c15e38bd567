"""A few wrong answers to look at: question, gold and prediction, and what both return."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from qc_experiments.databases.engine import Execution, Value
from qc_experiments.errors import UserError
from qc_experiments.evaluation.metrics import HARDNESS, Judged
from qc_experiments.evaluation.shown import table_text
from qc_experiments.judging.judge import Judge
from qc_experiments.system.console import one_line

ROWS, COLUMNS = 3, 4
"""Of a result that are shown."""
CELL, QUERY = 30, 400
"""Characters of a cell, and of a question or query, that are shown."""


def wrong_answers(judged: Sequence[Judged], judge: Judge, count: int) -> str:
    """Some wrong answers as text, the easiest first; empty where there is none to show.

    Where nothing was run, these are answers that are not the gold query. A query that failed is not run
    again: its error is known.

    Args:
        judged: all predictions.
        judge: has judged them, and runs the few that are shown once more.
        count: at most so many.
    """
    from rich.table import Table

    executed = any(one.verdict.verdict != "not_executed" for one in judged)
    wrong = [one for one in judged if (one.correct is False if executed else not one.exact)]
    shown = sorted(wrong, key=lambda one: HARDNESS.index(one.hardness))[:count]
    if not shown:
        return ""
    golds, predicted = _results(shown, judge) if executed else ([None] * count, [None] * count)
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one, of_gold, of_prediction in zip(shown, golds, predicted, strict=False):
        row = one.row
        about = ", ".join(filter(None, (f"row {row.number}", one.hardness, row.db_id)))
        table.add_row("")
        table.add_row("question", f"{_cut(row.question, QUERY)} ({_cut(about, QUERY)})")
        for name, sql, result in (
            ("gold", row.query, of_gold),
            ("predicted", one.prediction, of_prediction),
        ):
            table.add_row(name, _cut(sql, QUERY) or "(nothing)")
            for line in [] if result is None else _result_lines(result):
                table.add_row("", f"  {line}")
    what = "Wrong answers" if executed else "Answers that are not the gold query"
    asked = sum(one.correct is not None for one in judged) if executed else len(judged)
    few = f", the easiest {len(shown)} of them" if len(shown) < len(wrong) else ""
    return f"{what}: {len(wrong)} of {asked}{few}\n{table_text(table)}"


def _results(
    shown: Sequence[Judged], judge: Judge
) -> tuple[Sequence[Execution | None], Sequence[Execution | None]]:
    """What golds and predictions return; None for all where a database is there no more."""
    try:
        golds = [one.execution for one in judge.golds([one.row for one in shown])]
        runs = [one for one in shown if one.verdict.error is None]
        again = iter(judge.run_all([(one.row, one.prediction) for one in runs]))
    except UserError:  # which must not cost a run its result
        return [None] * len(shown), [None] * len(shown)
    failed = (one.verdict.error for one in shown)
    return golds, [next(again) if error is None else Execution(None, (), error) for error in failed]


def _result_lines(found: Execution) -> list[str]:
    if found.rows is None:
        return [f"fails: {_cut(found.error or '', QUERY)}"]
    more = len(found.columns) - COLUMNS
    lines = [
        " | ".join([*(_cell(cell) for cell in islice(row, COLUMNS)), *["..."] * (more > 0)])
        for row in (found.columns, *found.rows[:ROWS])
    ]
    if (left := len(found.rows) - ROWS) > 0:
        lines.append(f"... {left:,} more")
    return [*lines, *["(no rows)"] * (not found.rows)]


def _cell(value: Value) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return _cut(f"x'{value[:CELL].hex()}'", CELL)
    return _cut(str(value), CELL)


def _cut(text: str, longest: int) -> str:
    """A text in one line, without what would steer a terminal."""
    # What a model rambles, or a cell of megabytes, is cut before anything else is done with it.
    line = one_line(text[: 2 * longest])
    return line if len(line) <= longest and len(text) <= 2 * longest else f"{line[: longest - 1]}…"
