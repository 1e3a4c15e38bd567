"""Read run folders, whatever state they are in: finished, failed, interrupted, or still at work.

A run writes its files whole or not at all, but a comparison may come before some of them are there,
and folders are copied, cut and deleted by hand. So nothing that is missing or unreadable here is an
error: the figure is absent, and the comparison says so.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from qc_experiments.compare.answers import Outcomes, read_outcomes
from qc_experiments.compare.curves import Curves, read_curves
from qc_experiments.config import RunConfig, plain
from qc_experiments.errors import UserError
from qc_experiments.locking import LOCK
from qc_experiments.processes import process_lives

Scalar = str | int | float | bool | None

DEPTH = 3
"""How far below a named folder runs are looked for: ``outputs/<sweep>/<part>/<run>``."""

FINISHED, RUNNING, FAILED, INTERRUPTED = "finished", "running", "failed", "interrupted"
PAUSED = "paused"
"""Rests in a halving: it waits for its rung's end, or others went on instead."""
STATUSES = (FINISHED, RUNNING, PAUSED, FAILED, INTERRUPTED)

SILENT_SECONDS = 3600.0
"""A run of which only its files tell counts as interrupted when none changed for so long."""

LONGEST_ERROR = 300
"""Characters of an error's line that are shown."""


@dataclass(frozen=True)
class Run:
    """One run's folder, as far as it tells.

    Attributes:
        folder: where it is.
        name: the folder's name, with as much of its path as tells it from the others.
        status: one of `STATUSES`.
        error: one line on why it did not finish, or None.
        config: every key, by its dotted path; lists are joined to text.
        result: the content of ``result.json``; empty where there is none.
        config_hash: of everything that determines its figures; None where it is not recorded.
        evaluation_hash: of all that its verdicts depend on; None where it is not recorded.
        data_hash: of the training rows.
        template_hash: of the prompt template.
        code_commit: of the code that computed it.
        processes: how many trained it together.
        outcomes: its verdicts, question by question.
        curves: its losses by step.
        judged_on: the parts of ``evaluation_hash``, as ``report.json`` has them.
        by_hardness: right answers and questions of each hardness.
        by_database: right answers and questions of each database.
    """

    folder: Path
    name: str
    status: str
    error: str | None
    config: Mapping[str, Scalar]
    result: Mapping[str, Any]
    config_hash: str | None
    evaluation_hash: str | None
    data_hash: str | None
    template_hash: str | None
    code_commit: str | None
    processes: int = 1
    outcomes: Outcomes | None = None
    curves: Curves = field(default_factory=Curves)
    judged_on: Mapping[str, str] = field(default_factory=dict)
    by_hardness: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    by_database: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether all of its figures are there."""
        return self.status == FINISHED

    @property
    def last_step(self) -> int | None:
        """How far it got; of a run at work, the last step of which anything was logged."""
        steps = self.figure("steps")
        return self.curves.last_step if steps is None else int(steps)

    def figure(self, key: str) -> float | None:
        """A number of ``result.json``; None where it was not measured or is not finite."""
        value = self.result.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return value if math.isfinite(value) else None


def load_runs(folders: Sequence[Path]) -> list[Run]:
    """Read all runs in some folders, which may be runs themselves or hold them up to `DEPTH` below.

    Args:
        folders: a run that is found twice is read once.

    Raises:
        UserError: naming a folder that is missing or holds no run.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: is no folder; name a run's folder or one that holds runs")
        inside = list(_below(folder, DEPTH))
        if not inside:
            raise UserError(
                f"{folder}: holds no run (a folder with config.yaml and result.json, at most {DEPTH} "
                "levels down): name the paths.output of a training"
            )
        for path in inside:
            found.setdefault(path.resolve(), path)
    names = _distinct(list(found))
    defaults = flatten(plain(RunConfig()))
    now = time.time()
    return [
        _read(path, name, defaults, now) for path, name in zip(found.values(), names, strict=True)
    ]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """A nested config by dotted keys; lists and what is no number become text."""
    found: dict[str, Scalar] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            found[f"{prefix}{key}"] = "+".join(map(str, value))
        elif (
            value is None
            or isinstance(value, str | bool | int)
            or (isinstance(value, float) and math.isfinite(value))
        ):
            found[f"{prefix}{key}"] = value
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return (folder / "environment.json").is_file() or (folder / "config.yaml").is_file()


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if is_run(folder):
        yield folder  # what is inside a run (its W&B folder has a config.yaml too) is no run
        return
    if depth == 0:
        return
    try:
        inside = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return
    for name in inside:
        if not name.startswith("."):
            yield from _below(folder / name, depth - 1)


def _distinct(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell all of them apart."""
    for parts in range(1, DEPTH + 2):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read(folder: Path, name: str, defaults: Mapping[str, Scalar], now: float) -> Run:
    result = _json(folder / "result.json")
    environment = _json(folder / "environment.json")
    written = environment.get("data")
    data = written if isinstance(written, dict) else {}
    # A key that an older run's config lacks came later, with a default that changed nothing.
    config = {**defaults, **_config(folder / "config.yaml")}
    status, error = _status(folder, result, now, config)
    report = _json(folder / "report.json")
    judged_on = report.get("judged_on")
    return Run(
        folder=folder,
        name=name,
        status=status,
        error=error,
        config=config,
        result=result,
        config_hash=_text(result.get("config_hash")) or _text(environment.get("config_hash")),
        evaluation_hash=_text(result.get("evaluation_hash")) or _text(data.get("evaluation_hash")),
        data_hash=_text(result.get("data_hash")) or _text(data.get("train_hash")),
        template_hash=_text(result.get("template_hash")) or _text(data.get("template_hash")),
        code_commit=_text(result.get("code_commit")) or _text(environment.get("code_commit")),
        processes=_processes(environment.get("hardware")),
        outcomes=read_outcomes(folder / "predictions.csv") if status == FINISHED else None,
        curves=read_curves(folder / "metrics.jsonl"),
        judged_on=judged_on if isinstance(judged_on, dict) else {},
        by_hardness=_shares(report.get("by_hardness")),
        by_database=_shares(report.get("by_database")),
    )


def _status(
    folder: Path, result: Mapping[str, Any], now: float, config: Mapping[str, Scalar]
) -> tuple[str, str | None]:
    status = result.get("status")
    if status in (FINISHED, FAILED, INTERRUPTED):
        error = _text(result.get("error"))
        return status, _one_line(error)[:LONGEST_ERROR] if error else None
    if status == PAUSED:
        figure = str(config.get("objective", "objective")).replace("_", " ")
        objective = result.get("objective")
        value = f"{objective:.4f}" if isinstance(objective, float) else "not known"
        return PAUSED, f"rests in sweep.halving behind step {result.get('steps')}; {figure} {value}"
    return _unfinished(folder, now)


def _one_line(text: str) -> str:
    """Without line breaks and without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _unfinished(folder: Path, now: float) -> tuple[str, str | None]:
    """Whether a run without a result is at work; its lock is read, never taken.

    To try the lock would be surer, but a run that starts at that moment would find it held.
    """
    try:
        text = (folder / LOCK).read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = None
    try:
        holder = json.loads(text or "")
        pid, host = int(holder["pid"]), str(holder["host"])
    except (ValueError, KeyError, TypeError):
        if text is not None:
            return INTERRUPTED, "ended without a result"
    else:
        if host == socket.gethostname():
            if process_lives(pid):
                return RUNNING, None
            return INTERRUPTED, f"process {pid} ended without a result"
    silent = now - _last_change(folder)
    if silent < SILENT_SECONDS:
        return RUNNING, None
    return INTERRUPTED, f"no result, and no file changed for {silent / 3600:.0f} hours"


def _last_change(folder: Path) -> float:
    newest = 0.0
    try:
        for entry in os.scandir(folder):
            if entry.is_file():
                newest = max(newest, entry.stat().st_mtime)
    except OSError:
        pass
    return newest


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _config(path: Path) -> dict[str, Scalar]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return {}
    # The runs of a sweep share most sections, and each of these is read once: a third of the time.
    sections = [_section(section) for section in re.split(r"(?m)^(?=[A-Za-z_])", text)]
    if None in sections:  # it may still be whole, if one section refers to another
        sections = [_section(text)]
    return {key: value for section in sections for key, value in (section or {}).items()}


@lru_cache(maxsize=4096)
def _section(text: str) -> Mapping[str, Scalar] | None:
    """Top-level keys of a config by their dotted paths; None where it is no config."""
    import yaml

    # PyYAML's loader in C, where it was built with it, takes a tenth of the other's time.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = yaml.load(text, Loader=loader)
    except (ValueError, RecursionError, yaml.YAMLError):
        return None
    if found is None:
        return {}
    return flatten(found) if isinstance(found, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _processes(hardware: object) -> int:
    found = hardware.get("processes") if isinstance(hardware, dict) else None
    return found if isinstance(found, int) and found > 0 else 1


def _shares(value: object) -> dict[str, tuple[int, int]]:
    found = {}
    for name, share in value.items() if isinstance(value, dict) else ():
        try:
            found[str(name)] = (int(share["hits"]), int(share["count"]))
        except (KeyError, TypeError, ValueError):
            continue
    return found
