"""Read run folders, whatever state they are in: finished, failed, interrupted, or still at work.

A run writes its files whole or not at all, but a comparison may come before some of them are there,
and folders are copied, cut and edited by hand. So nothing here is an error: a figure whose file is
missing is absent, and a run with a file that cannot be what the run wrote is left out, by name and reason.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.comparison.predictions import Outcomes, read_outcomes
from qc_experiments.config.metrics import CONTENT_HASHES, LOSS
from qc_experiments.config.schema import RunConfig, plain
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
from qc_experiments.records.state import FINISHED, LeftOut, distinct_names, runs_in, state_of
from qc_experiments.system.console import one_line
from qc_experiments.system.reading import COUNT, FINITE, MOST_BYTES, Unreadable, check, read_file

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


def load_runs(folders: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """All runs in some folders, which may be runs themselves, each once; and those that cannot be read."""
    found, left_out = runs_in(folders)
    names = distinct_names(found)
    defaults = flatten(plain(RunConfig()))
    now = time.time()
    runs = []
    for path, name in zip(found, names, strict=True):
        try:
            runs.append(_read(path, name, defaults, now))
        except Unreadable as problem:
            left_out.append(LeftOut(one_line(name), one_line(str(problem))))
    return runs, left_out


def _read(folder: Path, name: str, defaults: Mapping[str, Scalar], now: float) -> Run:
    result = read_result(folder) or {}
    environment = read_environment(folder)
    written = read_config(folder)
    if not written and result.get("status") == FINISHED:
        raise Unreadable("config.yaml is missing or empty, so that it is not known what was run")
    # A key that an older run's config lacks came later, with a default that changed nothing.
    config = {**defaults, **written}
    status, error = state_of(folder, result, now, config)
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
