"""What a run says while it trains: figures to the trackers, lines and a bar to the terminal."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from qc_experiments.tracking.tracker import Tracker

log = logging.getLogger(__name__)

LOGGED = ("loss", "learning_rate", "grad_norm", "epoch")


class ReportCallback(TrainerCallback):
    """Hand the Trainer's figures to the trackers and print a line for each.

    Args:
        tracker: where figures go.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._started = 0.0
        self._first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self._first_step = state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Track and print the figures of a step."""
        logs = logs or {}
        evaluated = {key: value for key, value in logs.items() if key.startswith("eval_")}
        if not evaluated and "loss" not in logs:
            return  # the Trainer's closing line; the run counts its own seconds
        kept = {key: logs[key] for key in LOGGED if key in logs} | evaluated
        if not state.is_world_process_zero:
            return
        self._tracker.log(state.global_step, kept)
        place = f"step {state.global_step:>4}/{state.max_steps}"
        if evaluated:
            text = "  ".join(f"{k.removeprefix('eval_')} {v:.4f}" for k, v in evaluated.items())
            log.info("%s  held-out: %s", place, text)
            return
        log.info(
            "%s  loss %.4f  learning rate %.2e  %s left",
            place,
            logs["loss"],
            logs.get("learning_rate", float("nan")),
            duration(self._left(state)),
        )

    def _left(self, state: TrainerState) -> float:
        done = state.global_step - self._first_step
        each = (time.perf_counter() - self._started) / max(1, done)
        return each * (state.max_steps - state.global_step)


def duration(seconds: float) -> str:
    """A time for people: ``40 s``, ``7 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
