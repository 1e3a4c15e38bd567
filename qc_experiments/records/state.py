"""Where runs are, and what state they are in: finished, failed, interrupted, paused, or still at work."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from qc_experiments.errors import UserError
from qc_experiments.records.find import DEPTH, runs_below
from qc_experiments.records.results import Scalar
from qc_experiments.system.console import one_line
from qc_experiments.system.locking import LOCK
from qc_experiments.system.paths import NO_SUCH_FOLDER, folder_problem
from qc_experiments.system.processes import process_lives
from qc_experiments.system.reading import COUNT, Unreadable, check, read_json
from qc_experiments.system.secrets import redacted

SHARED = ".base_model"
"""Folder beside the runs with what was measured of base models; a file's name begins with `code_mark`."""

FINISHED, RUNNING, FAILED, INTERRUPTED = "finished", "running", "failed", "interrupted"
PAUSED = "paused"
"""In a halving: it waits until all runs have come as far, or others went on instead."""
STATUSES = (FINISHED, RUNNING, PAUSED, FAILED, INTERRUPTED)

SILENT_SECONDS = 3600.0
"""A run of which only its files tell counts as interrupted when none changed for so long."""

LONGEST_ERROR = 300
"""Characters of an error's line that are shown."""


class LeftOut(NamedTuple):
    """A folder that is part of no comparison, as something of it cannot be read."""

    name: str
    reason: str


def runs_in(folders: Iterable[Path]) -> tuple[list[Path], list[LeftOut]]:
    """All runs in some folders, which may be runs themselves, each once; and folders closed to us.

    Raises:
        UserError: for what is no folder, or holds no run.
    """
    found: dict[Path, Path] = {}
    left_out: list[LeftOut] = []
    for folder in folders:
        problem = folder_problem(folder)
        if problem == NO_SUCH_FOLDER:
            raise UserError(
                f"{folder}: {problem}, so no run here yet: train one with qc train, or name a folder that "
                "holds runs"
            )
        if problem:
            raise UserError(
                f"{folder}: is no folder to read ({problem}); name a run's folder or one that holds runs"
            )
        closed: list[LeftOut] = []
        inside = list(runs_below(folder, partial(_closed, closed)))
        left_out += closed
        if not inside and not closed:
            raise UserError(
                f"{folder}: holds no run (a folder with config.yaml and result.json, at most {DEPTH} "
                "levels down): train one with qc train, or name the paths.output of a training"
            )
        for path in inside:
            found.setdefault(path.resolve(), path)
    return list(found.values()), left_out


def _closed(closed: list[LeftOut], folder: Path, error: OSError) -> None:
    closed.append(LeftOut(one_line(str(folder)), f"cannot be looked into ({error.strerror})"))


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell all of them apart."""
    for parts in range(1, DEPTH + 2):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def state_of(
    folder: Path, result: Mapping[str, Any], now: float, config: Mapping[str, Scalar]
) -> tuple[str, str | None]:
    """One of `STATUSES`, and one line on why it did not finish, or None.

    Args:
        folder: of the run.
        result: the content of its ``result.json``; empty where there is none.
        now: seconds since the epoch.
        config: its settings by their dotted keys.
    """
    status = result.get("status")
    if status in (FINISHED, FAILED, INTERRUPTED):
        error = result.get("error")
        return status, redacted(one_line(error))[:LONGEST_ERROR] if error else None
    if status == PAUSED:
        metric = str(config.get("objective", "objective")).replace("_", " ")
        objective = result.get("objective")
        value = f"{objective:.4f}" if isinstance(objective, float) else "not known"
        return PAUSED, f"paused by sweep.halving after step {result.get('steps')}; {metric} {value}"
    return _unfinished(folder, now)


def _unfinished(folder: Path, now: float) -> tuple[str, str | None]:
    """Whether a run without a result is at work; its lock is read, never taken.

    To try the lock would be surer, but a run that starts at that moment would find it held.
    """
    try:
        holder = read_json(folder / LOCK)
        if holder is not None:
            pid, host = check(holder.get("pid"), COUNT, LOCK), holder.get("host")
            if pid is None or host is None:
                return INTERRUPTED, "ended without a result"
            if host == socket.gethostname():
                if process_lives(pid, holder.get("since")):
                    return RUNNING, None
                return INTERRUPTED, f"process {pid} ended without a result"
    except Unreadable:  # emptied when its process ended
        return INTERRUPTED, "ended without a result"
    newest = 0.0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file():
                newest = max(newest, entry.stat().st_mtime)
    silent = now - newest
    if silent < SILENT_SECONDS:
        return RUNNING, None
    return INTERRUPTED, f"no result, and no file changed for {silent / 3600:.0f} hours"
