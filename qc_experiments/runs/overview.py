"""What runs there are: state, score, size, age, and what resumes those that have not finished."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.config.metrics import EXECUTION, LOSS, METRICS
from qc_experiments.records.find import is_run
from qc_experiments.records.results import read_config, read_result
from qc_experiments.records.state import (
    FINISHED,
    RUNNING,
    LeftOut,
    distinct_names,
    runs_in,
    state_of,
)
from qc_experiments.system.console import one_line
from qc_experiments.system.files import weigh
from qc_experiments.system.reading import Unreadable, read_json
from qc_experiments.system.secrets import redacted

UNREADABLE = "unreadable"
PROGRAMS = {
    "qc": "qc",
    "train.py": "python train.py",
    "__main__.py": "python -m qc_experiments",
}
"""How what a run was started by is typed."""
THE_SAME = "the same command"


@dataclass(frozen=True)
class Listed:
    """A run as ``qc runs`` lists it.

    Attributes:
        name: the end of its path that tells it from the others.
        folder: its path.
        status: one of `records.state.STATUSES`, or `UNREADABLE`.
        why: one line on why it did not finish, or None.
        metric: key of what it is scored by: execution accuracy where it was measured, else the objective.
        score: that; None where it was not measured.
        count: questions it was measured on; None for what is no share.
        step: from which it goes on; 0: from the start; None where nothing is left to do.
        resume: the command that goes on with it, or words for it; None as above.
        bytes: on the disk.
        changed: when any of its files was, in seconds since the epoch.
    """

    name: str
    folder: str
    status: str
    why: str | None
    metric: str | None
    score: float | None
    count: int | None
    step: int | None
    resume: str | None
    bytes: int
    changed: float

    def shown_score(self) -> str:
        """The score with its count; empty where there is none."""
        if self.metric is None or self.score is None:
            return ""
        known = next((one for one in METRICS if one.key == self.metric), None)
        value = f"{self.score:.4f}" if known is None else known.shown(self.score)
        of = "" if self.count is None else f" of {self.count}"
        return value + of if self.metric == EXECUTION.key else f"{one_line(self.metric)} {value}"


def overview(folder: Path) -> tuple[list[Listed], list[LeftOut]]:
    """The runs of a folder, the last changed first, and folders into which nobody may look.

    Raises:
        UserError: if it is no folder, or holds no run.
    """
    paths, closed = runs_in([folder])
    found = [_listed(path, name) for path, name in zip(paths, distinct_names(paths), strict=True)]
    there = [one for one in found if is_run(Path(one.folder))]  # others were deleted meanwhile
    return sorted(there, key=lambda one: -one.changed), closed


def _listed(folder: Path, name: str) -> Listed:
    size, changed = weigh(folder)
    about = (one_line(name), str(folder))
    try:
        result = read_result(folder) or {}
        config = read_config(folder)
        status, why = state_of(folder, result, time.time(), config)
        metric, score, count = _score(result, config)
        step, resume = None, None
        if status not in (FINISHED, RUNNING):
            step, resume = _newest_step(folder), _command(folder)
    except Unreadable as problem:
        unknown = (None, None, None, None, None)
        return Listed(*about, UNREADABLE, one_line(str(problem)), *unknown, size, changed)
    return Listed(*about, status, why, metric, score, count, step, resume, size, changed)


def _score(
    result: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[str | None, float | None, int | None]:
    accuracy = result.get(EXECUTION.key)
    if accuracy is not None:
        return EXECUTION.key, accuracy, result.get("execution_count")
    if result.get("objective") is not None:
        return str(config.get("objective", LOSS.key)), result["objective"], None
    return None, None, None


def _newest_step(folder: Path) -> int:
    """Of the newest checkpoint; whether it is whole is seen when the run goes on."""
    names = (path.name.rpartition("-")[2] for path in folder.glob("checkpoints/checkpoint-*"))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _command(folder: Path) -> str:
    typed = (read_json(folder / "environment.json") or {}).get("command")
    name, *words = map(str, typed if isinstance(typed, list) and typed else [""])
    if name not in PROGRAMS:
        return THE_SAME
    return one_line(redacted(f"{PROGRAMS[name]} {shlex.join(words)}"))
