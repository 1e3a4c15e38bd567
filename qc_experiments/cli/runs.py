"""`qc runs`: what runs there are, how good they are, what they take, and what goes on with them."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from qc_experiments.cli.parser import Parser
from qc_experiments.config.outputs import PathsConfig
from qc_experiments.system.console import told_to_users
from qc_experiments.system.paths import user_path
from qc_experiments.system.words import age, counted, size

if TYPE_CHECKING:
    from qc_experiments.runs.overview import Listed

MOST_COMMANDS = 10
"""That are named below the table."""
LONGEST_REASON, WIDEST = 100, 1000
"""Characters of a reason in the table, all of which --json has; and of a line."""


def main(arguments: Sequence[str]) -> None:
    """List; exits with 2 where there are no runs to list."""
    with told_to_users():
        _list(parser().parse_args(arguments))


def parser() -> argparse.ArgumentParser:
    """Of the command's options."""
    found = Parser(
        prog="qc runs",
        description="List runs: state, score, size, when they changed, and what goes on with them.",
    )
    output = PathsConfig().output
    found.add_argument(
        "folder",
        nargs="?",
        default=output,
        metavar="DIR",
        help=f"a run, or a folder with runs up to 3 levels down ({output})",
    )
    found.add_argument("--json", action="store_true", help="print all of it as JSON")
    return found


def _list(options: argparse.Namespace) -> None:
    from qc_experiments.runs.overview import overview

    runs, closed = overview(user_path(options.folder, "DIR"))
    if options.json:
        print(json.dumps([asdict(one) for one in runs], indent=2))
        for left in closed:
            print(f"{left.name}: {left.reason}", file=sys.stderr)
        return
    counts = Counter(one.status for one in runs).items()
    states = ", ".join(f"{count} {status}" for status, count in counts)
    total = sum(one.bytes for one in runs)
    print(f"{counted(len(runs), 'run')}: {states or 'none'}; {size(total)}")
    print(_table(runs))
    for left in closed:
        print(f"{left.name}: {left.reason}")
    resumes = Counter(one.resume for one in runs if one.resume is not None)
    if resumes:
        print("\nWhat goes on with those that have not finished:")
    for command, count in resumes.most_common(MOST_COMMANDS):
        print(f"  {command}" + (f"  ({count} runs)" if count > 1 else ""))
    if len(resumes) > MOST_COMMANDS:
        print(f"  and {len(resumes) - MOST_COMMANDS} more (--json has all)")


def _table(runs: Sequence[Listed]) -> str:
    from rich import box
    from rich.table import Table

    from qc_experiments.evaluation.shown import table_text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("status", "score", "size", "changed", "goes on"):
        table.add_column(title, no_wrap=True, justify="right" if title == "size" else "left")
    table.add_column("run", no_wrap=True)  # a name that is broken cannot be copied
    now = time.time()
    for one in runs:
        step = {None: "", 0: "from the start"}.get(one.step, f"from step {one.step}")
        table.add_row(
            *(one.status, one.shown_score(), size(one.bytes), age(now - one.changed), step),
            "\n".join([one.name, *_reason(one.why)]),
        )
    return table_text(table, WIDEST)


def _reason(why: str | None) -> list[str]:
    return [] if why is None else [textwrap.shorten(why, LONGEST_REASON, placeholder=" ...")]
