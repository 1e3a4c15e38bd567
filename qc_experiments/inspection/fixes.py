"""What is safe to mend in a data set without asking: nothing is left out that training would take."""

from __future__ import annotations

from qc_experiments.config.schema import ColumnsConfig
from qc_experiments.data.table import read_cells
from qc_experiments.inspection.checks import Inspection
from qc_experiments.inspection.faults import KINDS
from qc_experiments.sql.extraction import extract_sql


def fixed_rows(
    found: Inspection, columns: ColumnsConfig
) -> tuple[list[str], list[list[str]], list[str]]:
    """Header and rows of the CSV with what is safe mended, and what was done, in words.

    Rows that training leaves out (repeats, empty cells) go; SQL is taken out of code fences and prose;
    blanks around cells go.
    """
    header, numbered = read_cells(found.table.path)
    by_kind = {
        kind: {row for fault in found.faults if fault.kind == kind for row in fault.rows}
        for kind in KINDS
        if KINDS[kind].fixed
    }
    gone = by_kind["empty_cell"] | by_kind["repeat"]
    place = header.index(columns.query)
    kept = []
    for number, cells in numbered:
        if number in gone:
            continue
        mended = [cell.strip() for cell in cells]
        if number in by_kind["fenced"]:
            mended[place] = extract_sql(mended[place])
        kept.append(mended)
    done = [f"{KINDS[kind].fixed}: {len(rows):,}" for kind, rows in by_kind.items() if rows]
    return header, kept, done
