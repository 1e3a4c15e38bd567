"""What may be deleted without loss: nothing that a run at work, or one that can go on, needs.

Each thing is deleted while that is held which its users hold, and only if it may still go then. No link is
followed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from qc_experiments.errors import UserError
from qc_experiments.models import gguf, packaged
from qc_experiments.models.fingerprint import file_hash
from qc_experiments.records.find import DEPTH, is_run
from qc_experiments.records.results import Scalar, read_config, read_result
from qc_experiments.records.state import FINISHED, RUNNING, SHARED, runs_in, state_of
from qc_experiments.system.files import weigh
from qc_experiments.system.locking import at_work, held_if_free, idle
from qc_experiments.system.reading import Unreadable
from qc_experiments.system.unfinished import code_mark
from qc_experiments.training.checkpoints import DRAFT, OLD

CHECKPOINTS, DRAFTS, CACHE = "checkpoints", "drafts", "cache"
KINDS = {
    CHECKPOINTS: "of finished runs",
    DRAFTS: "what ended processes have left: half-written files, unfinished judging and predicting",
    CACHE: "that all your projects share: base models unpacked for no run here, which are made again "
    "where they are needed, or by another version; measurements by other code",
}
"""What may be cleaned away, and what it is."""
RUN_DRAFT = re.compile(r"\.(adapter|model|.+\.[0-9a-f]{8})")
"""In a run's folder: what was not renamed into place."""


class Waste(NamedTuple):
    """Something that may go; ``kind`` is one of `KINDS`."""

    kind: str
    path: Path
    bytes: int


@dataclass(frozen=True)
class _Site:
    """A place of waste.

    Attributes:
        find: what there is now.
        hold: keeps others from it; gives whether that succeeded.
        try_hold: whether that is tried to find what is in use; a run that starts would be refused meanwhile.
    """

    find: Callable[[], list[Waste]]
    hold: Callable[[], AbstractContextManager[bool]]
    try_hold: bool = True


@dataclass
class _Needs:
    """What is not to be touched.

    Attributes:
        paths: that runs name which can go on: an adapter in a checkpoint, say.
        models: begins of the hashes of the GGUF files that runs name.
        at_work: those that unfinished ones name.
        all_models: whether it is not known of some run which file it names.
    """

    paths: set[Path] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    at_work: set[str] = field(default_factory=set)
    all_models: bool = False

    def spare(self, path: Path) -> bool:
        """Whether a path is needed, or holds what is."""
        real = Path(os.path.realpath(path))
        return any(real == one or real in one.parents for one in self.paths)


class Cleaning:
    """What may go of a folder with runs, and of a cache folder.

    Args:
        folder: with runs up to three levels down.
        cache: as ``paths.cache`` in training.
        kinds: of `KINDS`; the others are left alone.

    Raises:
        UserError: if there is no such folder, or no run in it.
    """

    def __init__(self, folder: Path, cache: Path, kinds: Collection[str]) -> None:
        self._kinds = kinds
        runs, self.closed = runs_in([folder])
        models = cache / "models"
        files = CACHE in kinds and models.is_dir()  # which are read whole to tell what they are
        needs = _Needs()
        for run in runs:
            _note_needs(run, needs, cache if files else None)
        self._needs = needs
        # A run behind a link lies elsewhere.
        own = [run for run in runs if run.resolve() == folder.resolve() / run.relative_to(folder)]
        self._sites = [_Site(partial(_of_run, run), partial(idle, run), False) for run in own]
        for path in _beside(folder, DEPTH):
            kind = CACHE if path.parent.name == SHARED else DRAFTS
            self._sites.append(_Site(partial(_weighed, kind, path), partial(held_if_free, path)))
        if models.is_dir():
            find = partial(_of_models, models, needs)
            self._sites.append(_Site(find, partial(held_if_free, models)))

    def find(self) -> list[Waste]:
        """What may go, the largest first; nothing is changed."""
        found: list[Waste] = []
        for site in self._sites:
            with site.hold() if site.try_hold else nullcontext(True) as free:
                found += self._allowed(site) if free else []
        return sorted(found, key=lambda one: -one.bytes)

    def delete(self) -> tuple[int, list[str]]:
        """Delete it; gives the bytes freed, and a line on each thing that could not be deleted."""
        freed = 0
        problems: list[str] = []
        for site in self._sites:
            if not self._allowed(site):
                continue
            try:
                with site.hold() as held:
                    # What was not held, or has changed, is in use again.
                    for waste in self._allowed(site) if held else ():
                        freed += _delete(waste, problems)
            except OSError as error:  # a lock that nobody may take
                problems.append(f"{error.filename}: {error.strerror}")
        return freed, problems

    def _allowed(self, site: _Site) -> list[Waste]:
        return [
            one
            for one in site.find()
            if one.kind in self._kinds and not self._needs.spare(one.path)
        ]


def _note_needs(run: Path, needs: _Needs, cache: Path | None) -> None:
    """Note what a run needs; without a cache, whose models are left alone, not which GGUF file it names."""
    try:
        config = read_config(run)
        status, _ = state_of(run, read_result(run) or {}, time.time(), config)
    except Unreadable:
        needs.all_models = True
        return
    model = None if cache is None else _gguf_content(config, cache)
    if model is None:
        needs.all_models = True
    else:
        needs.models.add(model)
    if status != FINISHED:
        needs.at_work.add(model or "")
        for key in ("model.adapter", "model.name_or_path"):
            if isinstance(named := config.get(key), str):
                needs.paths.add(Path(os.path.realpath(os.path.expanduser(named))))


def _gguf_content(config: dict[str, Scalar], cache: Path) -> str | None:
    """Begin of the hash of the GGUF file that a run names; empty where it names none, None if unknown."""
    name = str(config.get("model.name_or_path"))
    try:
        if (model := packaged.packaged_model(name)) is not None:
            return model.sha256[: gguf.NAMED]
        path = Path(name).expanduser()
        if path.suffix == ".gguf" or path.is_file():
            return file_hash(path, cache)[: gguf.NAMED]
    except (UserError, OSError, RuntimeError, ValueError):
        return None
    return "" if config.get("model.gguf_file") is None else None


def _of_run(run: Path) -> list[Waste]:
    """Of a run: its checkpoints once it has finished, and drafts where no process works at it."""
    try:
        result = read_result(run) or {}
        status, _ = state_of(run, result, time.time(), {})
    except Unreadable:
        return []
    if status == RUNNING or at_work(run):
        return []
    checkpoints = run / "checkpoints"
    kinds = dict.fromkeys((checkpoints / DRAFT, checkpoints / OLD), DRAFTS)
    if status == FINISHED:
        kinds = {checkpoints: CHECKPOINTS}
    kinds |= {path: DRAFTS for path in _inside(run) if RUN_DRAFT.fullmatch(path.name)}
    return [waste for path, kind in kinds.items() for waste in _weighed(kind, path)]


def _of_models(models: Path, needs: _Needs) -> list[Waste]:
    """Of the cache's models: what was not unpacked to its end, and what no run names or none can use."""
    if models.is_symlink():
        return []
    found = [
        (DRAFTS, path)
        for path in _inside(models)
        if path.name.startswith((gguf.DRAFT, packaged.DRAFT))
    ]
    for path, content, of_now in gguf.conversions(models):
        named = content in needs.models or needs.all_models
        if not (named and of_now) and content not in needs.at_work:
            found.append((CACHE, path))
    return [waste for kind, path in found for waste in _weighed(kind, path)]


def _weighed(kind: str, path: Path) -> list[Waste]:
    """A thing with its bytes; none where it is not there, or is a link."""
    there = os.path.lexists(path) and not path.is_symlink() and not path.parent.is_symlink()
    return [Waste(kind, path, weigh(path)[0])] if there else []


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _beside(folder: Path, depth: int) -> Iterator[Path]:
    """Files beside the runs that may go: of evaluations and predictions, and measurements by other code."""
    if is_run(folder):
        return
    mark = code_mark()
    for path in _inside(folder):
        if path.is_symlink():
            continue
        if path.name == SHARED:
            yield from (one for one in _inside(path) if not one.name.startswith(f"{mark}-"))
        elif path.name.startswith(".") and path.name.endswith(".partial") and path.is_file():
            yield path
        elif depth and path.is_dir() and not path.name.startswith("."):
            yield from _beside(path, depth - 1)


def _delete(waste: Waste, problems: list[str]) -> int:
    """Delete a thing, of which no half is ever taken for the whole; gives the bytes freed."""
    path = waste.path
    try:
        if path.is_dir():
            # A conversion that lacks some files would be taken for one; its users clear such drafts away.
            away = path.parent / f"{gguf.DRAFT}{secrets.token_hex(4)}"
            path = path.rename(away) if waste.kind == CACHE else path
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        pass  # by somebody else
    except OSError as error:
        problems.append(f"{waste.path}: {error.strerror}")
    return waste.bytes - weigh(path)[0]
