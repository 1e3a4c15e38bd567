"""Compare two judged prediction files on the same questions; refuse unlike ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.config.metrics import EXECUTION
from qc_experiments.data.table import column_place, read_cells
from qc_experiments.errors import UserError
from qc_experiments.evaluation.statistics import Paired, paired
from qc_experiments.evaluation.wording import verdict
from qc_experiments.records.results import read_evaluation
from qc_experiments.system.paths import folder_problem
from qc_experiments.system.reading import Unreadable
from qc_experiments.system.words import counted

JUDGED_FILES = ("judged.csv", "predictions.csv")
"""Where verdicts stand: as `qc evaluate` writes them, and as a run does."""

WHAT = {
    "questions": "the questions",
    "golds": "the gold queries",
    "databases": "the databases' contents",
    "judge": "the judge (its version or its limits)",
}
"""What verdicts depend on, by the keys of ``judged_on``."""


@dataclass(frozen=True)
class JudgedFile:
    """What an earlier evaluation found.

    Attributes:
        folder: where it stands.
        outcomes: 1, 0 or None for each row, in the file's order.
        report: the content of its ``report.json``.
    """

    folder: Path
    outcomes: list[bool | None]
    report: dict[str, Any]


def read_judged(folder: Path, key: str) -> JudgedFile:
    """Read the verdicts and hashes that an evaluation or a run left in its folder.

    Args:
        folder: the folder.
        key: what the user calls it, for messages.

    Raises:
        UserError: if it is no such folder.
    """
    source = next((folder / name for name in JUDGED_FILES if os.path.isfile(folder / name)), None)
    try:
        report = read_evaluation(folder)
    except Unreadable as problem:
        raise UserError(f"{key} {folder}: {problem}; judge it again with qc evaluate") from None
    if source is None or report is None:
        closed = folder_problem(folder)
        why = "" if closed is None else f" ({closed})"
        raise UserError(
            f"{key} {folder}: holds no evaluation{why}; name the --output of an earlier qc evaluate, or "
            f"a run's folder ({' or '.join(JUDGED_FILES)}, and report.json)"
        )
    header, numbered = read_cells(source)
    place = column_place(source, header, "correct", "judge it again with qc evaluate")
    known: dict[str, bool | None] = {"1": True, "0": False, "": None}
    for number, cells in numbered:
        if cells[place] not in known:
            raise UserError(
                f"{source}: row {number}: correct is {cells[place]!r}, not 1, 0 or empty"
            )
    return JudgedFile(folder, [known[cells[place]] for _, cells in numbered], report)


def distinct_names(first: str, second: str) -> tuple[str, str]:
    """Names of two systems that can be told apart."""
    return (f"{first} (before)", f"{second} (now)") if first == second else (first, second)


def compare_judged(
    first: JudgedFile, outcomes: list[bool | None], judged_on: dict[str, str], name: str
) -> Paired:
    """The 2x2 table of an earlier evaluation and this one.

    Args:
        first: the earlier one.
        outcomes: this one's verdicts.
        judged_on: this one's hashes.
        name: what this one is called in messages.

    Raises:
        UserError: naming what differs, if they were not judged on the same.
    """
    before = first.report["judged_on"]
    differing = [what for key, what in WHAT.items() if before.get(key) != judged_on.get(key)]
    if differing or len(first.outcomes) != len(outcomes):
        raise UserError(
            f"{first.folder} and {name} cannot be compared: "
            f"{' and '.join(differing) or 'the number of rows'} differ; judge both on the same"
        )
    return paired(first.outcomes, outcomes)


def comparison_lines(found: Paired, first: str, second: str) -> list[str]:
    """The comparison in words.

    Args:
        found: the 2x2 table.
        first: name of the first system.
        second: name of the second.
    """
    if not found.count:
        return ["Nothing was measured for both."]
    width = max(len(first), len(second))
    right = {first: found.both + found.only_first, second: found.both + found.only_second}
    return [
        *(f"{name:<{width}}  {EXECUTION.shown(n / found.count)}" for name, n in right.items()),
        f"{counted(found.count, 'question')}: both right {found.both}, only {first} {found.only_first}, only "
        f"{second} {found.only_second}, neither {found.neither}",
        verdict(found, first, second),
    ]
