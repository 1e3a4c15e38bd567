"""Read run folders, whatever state they are in: finished, failed, interrupted, or still at work.

A run writes its files whole or not at all, but a comparison may come before some of them are there,
and folders are copied, cut and edited by hand. So nothing here is an error: a figure whose file is
missing is absent, and a run with a file that cannot be what the run wrote is left out, by name and reason.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from qc_experiments.comparison.predictions import Outcomes, read_outcomes
from qc_experiments.config.metrics import CONTENT_HASHES, LOSS
from qc_experiments.config.schema import RunConfig, plain
from qc_experiments.errors import UserError
from qc_experiments.records.find import DEPTH, runs_below
from qc_experiments.records.results import (
    Environment,
    Report,
    Scalar,
    flatten,
    read_config,
    read_environment,
    read_report,
    read_result,
)
from qc_experiments.system.console import visible
from qc_experiments.system.locking import LOCK
from qc_experiments.system.paths import folder_problem
from qc_experiments.system.processes import process_lives
from qc_experiments.system.reading import (
    COUNT,
    FINITE,
    MOST_BYTES,
    Unreadable,
    check,
    read_file,
    read_json,
)
from qc_experiments.system.secrets import redacted

FINISHED, RUNNING, FAILED, INTERRUPTED = "finished", "running", "failed", "interrupted"
PAUSED = "paused"
"""In a halving: it waits until all runs have come as far, or others went on instead."""
STATUSES = (FINISHED, RUNNING, PAUSED, FAILED, INTERRUPTED)

SILENT_SECONDS = 3600.0
"""A run of which only its files tell counts as interrupted when none changed for so long."""

LONGEST_ERROR = 300
"""Characters of an error's line that are shown."""
MOST_METRICS = 64 * MOST_BYTES
MOST_POINTS = 100
"""Points of a curve that are kept; the first and the last are always among them."""


Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Curves:
    """Losses of one run by step, in nats per token, and the last step of which anything was logged."""

    training: Curve = ()
    held_out: Curve = ()
    last_step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run(Environment, Report):
    """One run's folder, as far as it tells.

    Attributes:
        folder: where it is.
        name: the folder's name, with as much of its path as tells it from the others.
        status: one of `STATUSES`.
        error: one line on why it did not finish, or None.
        config: every key, by its dotted path; lists are joined to text.
        result: the content of ``result.json``; empty where there is none.
        outcomes: its verdicts, question by question.
        curves: its losses by step.
    """

    folder: Path
    name: str
    status: str
    error: str | None
    config: Mapping[str, Scalar]
    result: Mapping[str, Any]
    outcomes: Outcomes | None
    curves: Curves

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


class LeftOut(NamedTuple):
    """A folder that is part of no comparison, as something of it cannot be read."""

    name: str
    reason: str


def load_runs(folders: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """All runs in some folders, which may be runs themselves, each once; and those that cannot be read."""
    found: dict[Path, Path] = {}
    left_out: list[LeftOut] = []
    for folder in folders:
        if problem := folder_problem(folder):
            raise UserError(
                f"{folder}: is no folder to read ({problem}); name a run's folder or one that holds runs"
            )
        closed: list[LeftOut] = []
        inside = list(runs_below(folder, partial(_closed, closed)))
        left_out += closed
        if not inside and not closed:
            raise UserError(
                f"{folder}: holds no run (a folder with config.yaml and result.json, at most {DEPTH} "
                "levels down): name the paths.output of a training"
            )
        for path in inside:
            found.setdefault(path.resolve(), path)
    names = _distinct(list(found))
    defaults = flatten(plain(RunConfig()))
    now = time.time()
    runs = []
    for path, name in zip(found.values(), names, strict=True):
        try:
            runs.append(_read(path, name, defaults, now))
        except Unreadable as problem:
            left_out.append(LeftOut(one_line(name), one_line(str(problem))))
    return runs, left_out


def _closed(closed: list[LeftOut], folder: Path, error: OSError) -> None:
    closed.append(LeftOut(one_line(str(folder)), f"cannot be looked into ({error.strerror})"))


def _distinct(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell all of them apart."""
    for parts in range(1, DEPTH + 2):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read(folder: Path, name: str, defaults: Mapping[str, Scalar], now: float) -> Run:
    result = read_result(folder) or {}
    environment = read_environment(folder)
    written = read_config(folder)
    if not written and result.get("status") == FINISHED:
        raise Unreadable("config.yaml is missing or empty, so that it is not known what was run")
    # A key that an older run's config lacks came later, with a default that changed nothing.
    config = {**defaults, **written}
    status, error = _status(folder, result, now, config)
    hashes = {key: result[key] for key in (*CONTENT_HASHES, "code_commit") if result.get(key)}
    return Run(
        folder=folder,
        name=name,
        status=status,
        error=error,
        config=config,
        result=result,
        outcomes=read_outcomes(folder / "predictions.csv") if status == FINISHED else None,
        curves=_read_curves(folder / "metrics.jsonl"),
        **vars(environment) | hashes,
        **vars(read_report(folder)),
    )


def _status(
    folder: Path, result: Mapping[str, Any], now: float, config: Mapping[str, Scalar]
) -> tuple[str, str | None]:
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


def one_line(text: str) -> str:
    """Without line breaks and without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in visible(text)).split())


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
                if process_lives(pid):
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


def _read_curves(path: Path) -> Curves:
    """What a run has logged in ``metrics.jsonl``, whose last line may be half written."""
    content = read_file(path, MOST_METRICS)
    if content is None:
        return Curves()
    lines = _lines(content.decode("utf-8", "replace"))
    return Curves(
        training=_curve(lines, "loss"),
        held_out=_curve(lines, LOSS.logged_as),
        last_step=max((line["step"] for line in lines), default=None),
    )


def _lines(text: str) -> list[dict[str, Any]]:
    *rows, last = text.split("\n")
    if not last.startswith("{") or last.endswith("}"):  # else it is being written
        rows.append(last)
    try:
        # In one go: a tenth of the time. A loss that was no number was logged as NaN, and is a gap.
        text = f"[{','.join(filter(str.strip, rows))}]"
        lines: list[dict[str, Any]] = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise Unreadable("metrics.jsonl has a line that is no JSON") from None
    for one in lines:
        if not isinstance(one, dict) or one.get("step") is None:
            raise Unreadable("metrics.jsonl has a line that is no object with a step")
        check(one["step"], COUNT, "metrics.jsonl: step")
        for key in ("loss", LOSS.logged_as):
            check(one.get(key), FINITE, f"metrics.jsonl: {key}")
    return lines


def _curve(lines: Sequence[dict[str, Any]], key: str) -> Curve:
    values = ((line["step"], line.get(key)) for line in lines)
    curve = [(step, float(f"{value:.5g}")) for step, value in values if value is not None]
    if len(curve) <= MOST_POINTS:
        return tuple(curve)
    stride = (len(curve) - 1) / (MOST_POINTS - 1)
    return tuple(curve[round(place * stride)] for place in range(MOST_POINTS))
