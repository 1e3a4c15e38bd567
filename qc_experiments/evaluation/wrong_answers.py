"""Wrong answers to look at: question, gold and prediction, and what both return."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from qc_experiments.errors import UserError
from qc_experiments.evaluation.metrics import HARDNESS, Judged
from qc_experiments.evaluation.shown import cell_text, line_text, rows_json, table_text
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.verdict import FirstRows
from qc_experiments.system.console import progress

log = logging.getLogger(__name__)

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
    results = _results(shown, judge, ROWS) if executed else [None] * len(shown)
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one, found in zip(shown, results, strict=True):
        row = one.row
        about = ", ".join(filter(None, (f"row {row.number}", one.hardness, row.db_id)))
        table.add_row("")
        table.add_row("question", f"{line_text(row.question, QUERY)} ({line_text(about, QUERY)})")
        for place, (name, sql) in enumerate((("gold", row.query), ("predicted", one.prediction))):
            table.add_row(name, line_text(sql, QUERY) or "(nothing)")
            for line in [] if found is None else _result_lines(found[place]):
                table.add_row("", f"  {line}")
    what = "Wrong answers" if executed else "Answers that are not the gold query"
    asked = sum(one.correct is not None for one in judged) if executed else len(judged)
    few = f", the easiest {len(shown)} of them" if len(shown) < len(wrong) else ""
    return f"{what}: {len(wrong)} of {asked}{few}\n{table_text(table)}"


def with_rows(judged: Sequence[Judged], judge: Judge, most: int) -> list[Judged]:
    """The predictions with the first rows that gold and prediction return, of those that are wrong.

    Args:
        judged: all predictions.
        judge: has judged them, and runs those that are wrong once more.
        most: rows of each result; with 0, or where nothing was run, the predictions come as they are.
    """
    if not most or all(one.verdict.verdict == "not_executed" for one in judged):
        return list(judged)
    wrong = [one for one in judged if one.correct is False]
    results = iter(_results(wrong, judge, most))
    cells = []
    for one in judged:
        found = next(results) if one.correct is False else None
        cells.append(("", "") if found is None else (rows_json(found[0]), rows_json(found[1])))
    return [replace(one, first_rows=both) for one, both in zip(judged, cells, strict=True)]


def _results(
    wrong: Sequence[Judged], judge: Judge, most: int
) -> Sequence[tuple[FirstRows, FirstRows] | None]:
    """What golds and predictions return, so many rows; None for all where a database is there no more."""
    runs = [one for one in wrong if one.verdict.error is None]
    try:
        golds = judge.golds([one.row for one in wrong])
        with progress("Running wrong answers again", len(runs)) as advance:
            pairs = [(one.row, one.prediction) for one in runs]
            again = iter(judge.first_rows(pairs, most, advance))
    except UserError as problem:  # which must not cost a run its result
        log.warning("What wrong answers return is not known: %s", problem)
        return [None] * len(wrong)
    errors = (one.verdict.error for one in wrong)
    predicted = [next(again) if error is None else FirstRows(None, error=error) for error in errors]
    first = [FirstRows.of(one.execution, most) for one in golds]
    return list(zip(first, predicted, strict=True))


def _result_lines(found: FirstRows) -> list[str]:
    if found.rows is None:
        return [f"fails: {line_text(found.error or '', QUERY)}"]
    more = ["..."] * (len(found.columns) > COLUMNS)
    lines = [
        " | ".join([*(cell_text(cell, CELL) for cell in row[:COLUMNS]), *more])
        for row in (found.columns, *found.rows)
    ]
    if left := found.count - len(found.rows):
        lines.append(f"... {left:,} more")
    return [*lines, *["(no rows)"] * (not found.rows)]
