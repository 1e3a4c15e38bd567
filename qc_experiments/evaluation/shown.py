"""A report as a table for a terminal, and cells and results as short text."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qc_experiments.config.metrics import METRICS, indented, metric_of
from qc_experiments.evaluation.confidence import confidence_lines
from qc_experiments.system.console import one_line, visible
from qc_experiments.system.words import counted, noun_for

if TYPE_CHECKING:
    from rich.table import Table

    from qc_experiments.databases.engine import Value
    from qc_experiments.judging.verdict import FirstRows

WIDTH = 100
SECTIONS = (
    ("right by hardness", "by_hardness"),
    ("right by database", "by_database"),
    ("wrong because of", "by_error_class"),
)
MOST_ROWS = 10
"""Rows that are named of those with one problem."""
MOST_CHARACTERS = 40
"""Of a cell."""
KEPT_COLUMNS, KEPT_CHARACTERS = 20, 60
"""Of a result that stands in a cell of a CSV, and of each of its cells."""


def report_text(content: Mapping[str, Any]) -> str:
    """A report with its shares, counts and intervals, and what does not count.

    Args:
        content: as `metrics.report` gives it.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("", "share", "count", "95 % interval"):
        table.add_column(title, justify="left" if not title else "right")
    own = [metric_of(key, plain) for key, plain in content.get("metrics", {}).items()]
    for metric in (*METRICS, *own):
        found = content["figures"].get(metric.key)
        if found is not None and found["value"] is not None:
            table.add_row(indented(metric), metric.shown(found["value"]), *_counted(found))
        elif found is not None and metric in own:
            table.add_row(indented(metric), "not measured", "", "")
    for title, key in SECTIONS:
        if content[key]:
            table.add_section()
            table.add_row(title)
            for name, share in content[key].items():
                if share["value"] is not None:
                    value = f"{100 * share['value']:.1f} %"
                    table.add_row(f"  {visible(name)}", value, *_counted(share))
    sure = content.get("confidence")
    told = confidence_lines(sure)
    if sure and told:
        table.add_section()
        table.add_row("right among the surest")
        for percent, share in sure["coverage"].items():
            value = f"{100 * share['value']:.1f} %"
            table.add_row(f"  {percent} %", value, *_counted(share))
    return "\n".join([table_text(table), *_lines(content), *told[:1]])


def _counted(found: Mapping[str, Any]) -> tuple[str, str]:
    """How often it was so, and the 95 % interval; of a mean only over how many it was taken."""
    if found["low"] is None:
        return str(found["count"]), ""
    interval = f"{100 * found['low']:.1f} to {100 * found['high']:.1f} %"
    return f"{found['hits']} of {found['count']}", interval


def _lines(content: Mapping[str, Any]) -> list[str]:
    from qc_experiments.evaluation.golds import reasons  # parses SQL, which a comparison need not

    lines = []
    failed = content["gold_errors"]
    if failed:
        why = reasons([(one["row"], one["error_class"], one["error"]) for one in failed])
        golds = counted(len(failed), "gold query fails", "gold queries fail")
        lines.append(
            f"{golds}, and the question counts in exact match and valid SQL alone: {visible(why)}"
        )
    left_out = content.get("not_fuzzed")
    if left_out:
        told = "; ".join(f"{visible(reason)} ({count})" for reason, count in left_out.items())
        lines.append(
            f"{counted(sum(left_out.values()), 'question was', 'questions were')} not asked on perturbed "
            f"copies, and not counted there: {told}"
        )
    ambiguous = content["ambiguous_golds"]
    if ambiguous:
        rows = _first([str(one["row"]) for one in ambiguous])
        lines.append(
            f"{counted(len(ambiguous), 'gold is', 'golds are')} ambiguous (LIMIT cuts through a tie; any "
            f"legal cut counts): {noun_for(len(ambiguous), 'row')} {rows}"
        )
    return lines


def _first(named: Sequence[str]) -> str:
    more = f" and {len(named) - MOST_ROWS} more" if len(named) > MOST_ROWS else ""
    return ", ".join(named[:MOST_ROWS]) + more


def table_text(table: Table, width: int = WIDTH) -> str:
    """A rich table as plain text; names are data: no markup, no emoji, no colours.

    Args:
        table: what is printed.
        width: characters of a line.
    """
    from rich.console import Console

    buffer = io.StringIO()
    console = Console(
        file=buffer, width=width, color_system=None, markup=False, emoji=False, highlight=False
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip().splitlines())


def cell_text(cell: Value, most: int = MOST_CHARACTERS) -> str:
    """A cell of a result in one line of at most so many characters."""
    if cell is None:
        return "NULL"
    if isinstance(cell, bytes):
        return cut(f"x'{cell[:most].hex()}'", most)
    text = cell[: 4 * most] if isinstance(cell, str) else str(cell)
    escaped = text.replace("\\", "\\\\") if "\n" in text or "\t" in text else text
    return cut(visible(escaped).replace("\n", "\\n").replace("\t", "\\t"), most)


def line_text(text: str, most: int) -> str:
    """A text in one line of at most so many characters, without what would steer a terminal."""
    # What a model rambles, or a question of megabytes, is cut before anything else is done with it.
    line = one_line(text[: 10 * most])
    return cut(line if len(text) <= 10 * most else f"{line}…", most)


def cut(text: str, most: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def rows_json(found: FirstRows) -> str:
    """The first rows of a result as a JSON list of lists; a text at its end says how many there are.

    Wide rows and long cells are cut and end in "…"; bytes are written as x'00ff'. Empty for a query that
    failed.
    """
    if found.rows is None:
        return ""
    rows: list[object] = [
        [*map(_kept, row[:KEPT_COLUMNS]), *["…"] * (len(row) > KEPT_COLUMNS)] for row in found.rows
    ]
    if found.count > len(found.rows):
        rows.append(f"{counted(found.count, 'row')} in all")
    return json.dumps(rows, ensure_ascii=False)


def _kept(cell: Value) -> Value:
    if cell is None or isinstance(cell, int) or (isinstance(cell, float) and math.isfinite(cell)):
        return cell
    if isinstance(cell, str):
        return cut(visible(cell[: 4 * KEPT_CHARACTERS]), KEPT_CHARACTERS)
    return cell_text(cell, KEPT_CHARACTERS)


def rows_lines(kept: str) -> str:
    """What `rows_json` has written, a row a line; any other text as it is."""
    try:
        rows = json.loads(kept)
        if not isinstance(rows, list):
            return kept
        cells = (row if isinstance(row, list) else [row] for row in rows)
        lines = (" | ".join(cell_text(cell, KEPT_CHARACTERS) for cell in row) for row in cells)
        return "\n".join(lines) if rows else "(no rows)"
    except (ValueError, RecursionError):
        return kept
