"""What a query returned, for a terminal: a table of its first rows."""

from __future__ import annotations

import shutil
import sys

from qc_experiments.databases.engine import Execution
from qc_experiments.evaluation.shown import MOST_CHARACTERS, cell_text, line_text, table_text
from qc_experiments.system.words import counted

MOST_ROWS = 20
MOST_SQL = 120
"""Characters of a candidate."""
COLUMN = 8
"""Characters of a line for each column at least; further columns are left out."""
NOT_A_TERMINAL = 100
READS_ONLY = ": a query may only read, and only where it has the right to"


def width() -> int:
    """Characters of a line of the terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else NOT_A_TERMINAL


def rows_text(ran: Execution, characters: int) -> str:
    """The first rows as a table and how many there are, or the database's own error in one line.

    Args:
        ran: what came of a query.
        characters: of a line.
    """
    if not ran.rows:
        return outcome(ran)
    from rich import box
    from rich.table import Table

    most = max(1, characters // COLUMN)
    shown = ran.rows[:MOST_ROWS]
    table = Table(box=box.SIMPLE_HEAD)
    for place, name in enumerate(ran.columns[:most]):
        numbers = all(isinstance(row[place], int | float | None) for row in shown)
        table.add_column(
            line_text(name, MOST_CHARACTERS),
            justify="right" if numbers else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in shown:
        table.add_row(*(cell_text(cell) for cell in row[:most]))
    left_out = []
    if len(ran.rows) > MOST_ROWS:
        left_out.append(f"the first {MOST_ROWS} are shown")
    if len(ran.columns) > most:
        left_out.append(f"{most} of {len(ran.columns)} columns fit")
    told = f" ({'; '.join(left_out)})" if left_out else ""
    return f"{table_text(table, characters)}\n{outcome(ran)}{told}"


def outcome(ran: Execution) -> str:
    """How many rows a query returned, or why none: the database's own words."""
    if ran.rows is None:
        why = line_text(ran.error or "no reason given", 10 * MOST_SQL)
        return f"fails: {why}{READS_ONLY if ran.error_class == 'forbidden' else ''}"
    return counted(len(ran.rows), "row") if ran.rows else "no rows"
