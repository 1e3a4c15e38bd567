"""Checkpoints that are whole or not there, and the one from which a training goes on.

A checkpoint is written into a draft folder, hashed file by file into a manifest, forced to the disk and
renamed into place. Whatever happens on the way, a folder ``checkpoint-<step>`` whose files have the
hashes of its manifest is one that was written whole; any other is named and passed over.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.system.files import sync_folder, write_whole
from qc_experiments.system.processes import is_main_process

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
DRAFT = ".draft"
OLD = ".old"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its folder, the steps taken, and what `CheckpointStore.commit` was given."""

    path: Path
    step: int
    progress: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run; ``keep`` of the newest are kept, besides the best (None: all)."""

    def __init__(self, folder: Path, keep: int | None) -> None:
        self.folder = folder
        self._keep = keep

    def place(self, step: int) -> Path:
        """Where the checkpoint of a step is, or would be."""
        return self.folder / f"checkpoint-{step}"

    def draft(self) -> Path:
        """An empty folder to write the next checkpoint into."""
        draft = self.folder / DRAFT
        if is_main_process():
            shutil.rmtree(draft, ignore_errors=True)
            self.folder.mkdir(exist_ok=True)  # but not the run's own, if that was deleted meanwhile
            draft.mkdir()
        return draft

    def commit(self, written: Path, step: int, progress: dict[str, Any]) -> None:
        """Make a checkpoint of what was written; where that fails, those before are as they were."""
        hashes = {}
        for path in _files(written):
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            hashes[path.relative_to(written).as_posix()] = _hash(path)
        manifest = {"step": step, "progress": progress, "files": hashes}
        write_whole(written / MANIFEST, json.dumps(manifest, indent=2))
        for folder in sorted({path.parent for path in _files(written)}):
            sync_folder(folder)
        place = self.place(step)
        if place.exists():  # one that was found torn when the training went on
            self._discard(place)
        os.replace(written, place)
        sync_folder(self.folder)
        shutil.rmtree(self.folder / DRAFT, ignore_errors=True)

    def prune(self, step: int, best: Path | None) -> None:
        """Remove all but the newest and the best; those after ``step`` were torn, and do not count."""
        if self._keep is None:
            return
        steps = sorted(one for one in self._steps() if one <= step)
        for place in map(self.place, steps[: -self._keep]):
            if place != best:
                self._discard(place)

    def forget_after(self, step: int) -> None:
        """Remove checkpoints after a step, for a training that pauses there."""
        for place in [self.place(one) for one in self._steps() if one > step]:
            if is_main_process():
                log.warning("%s is removed: the run pauses before it", place)
                self._discard(place)

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint; those that are not whole are named and passed over."""
        if is_main_process():
            for leftover in (DRAFT, OLD):
                shutil.rmtree(self.folder / leftover, ignore_errors=True)
        for step in sorted(self._steps(), reverse=True):
            path = self.place(step)
            reason = defect(path)
            if reason is None:
                manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
                return Checkpoint(path, step, manifest["progress"])
            log.warning("%s: %s; it is passed over", path, reason)
        return None

    def _steps(self) -> list[int]:
        names = [path.name.removeprefix("checkpoint-") for path in self.folder.glob("checkpoint-*")]
        return [int(name) for name in names if name.isdecimal()]

    def _discard(self, path: Path) -> None:
        """Remove a folder, so that no half of it is ever seen at its place."""
        shutil.rmtree(self.folder / OLD, ignore_errors=True)
        os.replace(path, self.folder / OLD)
        shutil.rmtree(self.folder / OLD, ignore_errors=True)


def defect(path: Path) -> str | None:
    """What is wrong with a checkpoint's folder, or None if it is whole."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        expected: dict[str, str] = manifest["files"]
        manifest["step"], manifest["progress"]
    except FileNotFoundError:
        return f"has no {MANIFEST}, so that it was not written to its end"
    except (OSError, ValueError, KeyError, TypeError):
        return f"its {MANIFEST} cannot be read"
    for name, digest in expected.items():
        try:
            if _hash(path / name) != digest:
                return f"{name} is not as it was written"
        except OSError:
            return f"{name} is missing or cannot be read"
    return None


def cut_metrics(metrics: Path, step: int) -> None:
    """Remove the lines of steps that will be taken again."""
    if not metrics.exists() or not is_main_process():
        return
    kept = []
    for line in metrics.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # torn by a power cut
    write_whole(metrics, "".join(kept))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
