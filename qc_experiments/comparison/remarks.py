"""What a ranking does not show, in words: other data or code, other questions, repetitions."""

from __future__ import annotations

from collections.abc import Sequence

from qc_experiments.comparison.facts import CODE, DATA, TEMPLATE, Facts
from qc_experiments.comparison.runs import Run
from qc_experiments.system.console import one_line
from qc_experiments.system.words import counted

MOST_NAMED = 10
"""Runs that a warning names."""


def remarks(
    runs: Sequence[Run],
    swept: Sequence[str],
    known: Facts,
    repeated: Sequence[str],
    unlike: Sequence[Run],
) -> list[str]:
    """Warnings, a line each.

    Args:
        runs: the finished ones.
        swept: keys in which they differ.
        known: the facts of each.
        repeated: names of runs that are left out, as repetitions.
        unlike: runs that are not pooled, though they differ in their seeds at most.
    """
    lines = []
    for key, what in ((DATA, "training data"), (TEMPLATE, "templates"), (CODE, "versions of code")):
        versions = len({known[run.folder][key] for run in runs})
        if key in swept and versions > 1:
            lines.append(f"The runs used {versions} different {what}: see the column {key}.")
    changed = sum((run.code_commit or "").endswith("+changes") for run in runs)
    if changed:
        lines.append(
            f"{changed} of {counted(len(runs), 'run')} used code with uncommitted "
            "changes, which may differ though the commit is the same."
        )
    counts = [count for run in runs if (count := run.figure("execution_count")) is not None]
    if len(set(counts)) > 1:
        lines.append(
            f"Execution accuracies are taken over {min(counts):.0f} to {max(counts):.0f} questions, as some "
            "golds failed in some runs only: raise evaluation.timeout, or judge while the machine is idle."
        )
    if repeated:
        lines.append(
            f"Copies and repetitions of runs that are here already are left out: {_some(repeated)}."
        )
    if unlike:
        lines.append(
            "Not pooled as seeds of one configuration, as some have the same seed, and so differ in a "
            f"file or are not deterministic: {_some([one_line(run.name) for run in unlike])}."
        )
    return lines


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
