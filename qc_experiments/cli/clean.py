"""`qc clean`: say what may be deleted without loss, and delete it when told.

For example:

    qc clean outputs
    qc clean outputs --only checkpoints --delete
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qc_experiments.cli.parser import Parser
from qc_experiments.config.outputs import PathsConfig
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.paths import user_path
from qc_experiments.system.words import counted, nearest, size

if TYPE_CHECKING:
    from qc_experiments.runs.cleaning import Waste

MOST_NAMED = 10
"""Things of a kind that are named."""


def main(arguments: Sequence[str]) -> None:
    """Say and delete; exits with 2 where the user has to mend something."""
    with told_to_users():
        _clean(parser().parse_args(arguments))


def parser() -> argparse.ArgumentParser:
    """Of the command's options."""
    from qc_experiments.runs.cleaning import KINDS

    found = Parser(
        prog="qc clean",
        description="Say what may be deleted without loss, and delete it when told. What a run at work, or "
        "one that can go on, needs is never touched.",
    )
    add, paths = found.add_argument, PathsConfig()
    add(
        "folder",
        nargs="?",
        default=paths.output,
        metavar="DIR",
        help=f"a folder with runs up to 3 levels down ({paths.output})",
    )
    add("--delete", action="store_true", help="delete it; else nothing is changed")
    add("--only", metavar="KIND[,KIND]", help=f"of {', '.join(KINDS)} (all of them)")
    add(
        "--cache",
        metavar="DIR",
        default=paths.cache,
        help="cache folder, as paths.cache in training",
    )
    return found


def _clean(options: argparse.Namespace) -> None:
    from qc_experiments.runs.cleaning import KINDS, Cleaning

    kinds = list(KINDS) if options.only is None else options.only.split(",")
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(
                f"--only {kind}: no such kind{nearest(kind, KINDS)}; {', '.join(KINDS)}"
            )
    folder, cache = user_path(options.folder, "DIR"), user_path(options.cache, "--cache")
    cleaning = Cleaning(folder, cache, kinds)
    found = cleaning.find()
    for kind in filter(kinds.__contains__, KINDS):
        _say(kind, KINDS[kind], [waste for waste in found if waste.kind == kind])
    for left in cleaning.closed:
        print(f"{left.name}: {left.reason}")
    total = sum(waste.bytes for waste in found)
    if not options.delete:
        print(f"{size(total)} would be freed; nothing is deleted without --delete")
        return
    freed, problems = cleaning.delete()
    print(f"Freed {freed:,} bytes ({size(freed)})")
    if problems:
        more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise UserError(f"not all could be deleted: {problems[0]}{more}")


def _say(kind: str, what: str, found: Sequence[Waste]) -> None:
    total = sum(waste.bytes for waste in found)
    print(f"{kind}: {size(total)} in {counted(len(found), 'place')} ({what})")
    for waste in found[:MOST_NAMED]:
        print(f"  {size(waste.bytes):>10}  {waste.path}")
    if len(found) > MOST_NAMED:
        print(f"  and {len(found) - MOST_NAMED} more")
