"""Find runs: their folders stand below an outputs folder, side by side or in a sweep's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from qc_experiments.records.results import read_result
from qc_experiments.system.reading import Unreadable

DEPTH = 3
"""How far below a named folder runs are looked for: ``outputs/<sweep>/<part>/<run>``."""
MODELS = ("adapter", "model")
"""What a run saves of its model: LoRA weights, or the whole."""


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return any(os.path.lexists(folder / name) for name in ("environment.json", "config.yaml"))


def runs_below(
    folder: Path, on_closed: Callable[[Path, OSError], None], depth: int = DEPTH
) -> Iterator[Path]:
    """Runs in a folder, which may be one; ``on_closed`` is told of folders into which nobody may look."""
    if is_run(folder):
        yield folder  # what is inside a run (its W&B folder has a config.yaml too) is no run
        return
    if depth == 0:
        return
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        on_closed(folder, error)
        return
    for name in inside:
        if not name.startswith("."):
            yield from runs_below(folder / name, on_closed, depth - 1)


def saved_model(run: Path) -> Path | None:
    """The folder of a run's saved model; None if there is none."""
    return next((run / name for name in MODELS if os.path.isdir(run / name)), None)


def newest_model(outputs: Path) -> Path | None:
    """The saved model of the run below a folder that finished last; None if none has finished."""
    ended = []
    for run in runs_below(outputs, lambda *_: None):
        try:
            ended.append((os.stat(run / "result.json").st_mtime_ns, run))
        except OSError:
            continue  # at work
    for _, run in sorted(ended, reverse=True):
        try:
            finished = (read_result(run) or {}).get("status") == "finished"
        except Unreadable:
            continue
        if finished and (found := saved_model(run)) is not None:
            return found
    return None
