"""Losses by step, from ``metrics.jsonl``, thinned to what a plot can show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.config.metrics import LOSS
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


def read_curves(path: Path) -> Curves:
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
