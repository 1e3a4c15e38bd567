"""What a run says while it trains: figures to the trackers, lines and a bar to the terminal."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState

from qc_experiments.system.memory import Trimmer
from qc_experiments.system.signals import StopRequests
from qc_experiments.system.words import duration
from qc_experiments.tracking.tracker import Tracker

log = logging.getLogger(__name__)

LOGGED = ("loss", "learning_rate", "grad_norm", "epoch")


class ReportCallback(TrainerCallback):
    """Hand the Trainer's figures to the trackers and print a line for each."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._started = 0.0
        self._first_step = 0

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self._first_step = state.global_step

    def on_log(self, args: Any, state: TrainerState, control: Any, **given: Any) -> None:
        """Track and print the figures of a step."""
        logs: dict[str, float] = given["logs"]
        evaluated = {key: value for key, value in logs.items() if key.startswith("eval_")}
        if not state.is_world_process_zero or not (evaluated or "loss" in logs):
            return  # or it is the Trainer's closing line; the run counts its own seconds
        kept = {key: logs[key] for key in LOGGED if key in logs} | evaluated
        self._tracker.log(state.global_step, kept)
        place = f"step {state.global_step:>4}/{state.max_steps}"
        if evaluated:
            text = "  ".join(f"{k.removeprefix('eval_')} {v:.4f}" for k, v in evaluated.items())
            log.info("%s  held-out: %s", place, text)
            return
        done = state.global_step - self._first_step
        each = (time.perf_counter() - self._started) / max(1, done)
        left = duration(each * (state.max_steps - state.global_step))
        rate = logs.get("learning_rate", float("nan"))
        log.info("%s  loss %.4f  learning rate %.2e  %s left", place, logs["loss"], rate, left)


class MemoryTrimming(TrainerCallback):
    """Gives back what a training on a CPU holds in vain, between its steps."""

    def __init__(self) -> None:
        self._trimmer = Trimmer()

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Look at what is held."""
        self._trimmer.step_ended()


class CheckpointTiming(TrainerCallback):
    """Moves checkpoints to places from which a training goes on as if it had never stopped.

    At the last step of an epoch that is its end, after the evaluation that belongs to it. One is due where
    somebody has asked the run to stop, and after the step ``pause_at``, where the training pauses.
    """

    def __init__(self, stop: StopRequests, pause_at: int | None = None) -> None:
        self._stop, self._pause_at = stop, pause_at
        self._due = self._paused = False

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Decide whether a checkpoint is written now."""
        control.should_save |= self._stop_requested(args) or self._pauses(state)
        at_end = state.epoch is not None and float(state.epoch).is_integer()
        if at_end or control.should_training_stop:  # either is followed by on_epoch_end
            self._due = control.should_save
            control.should_save = False

    def on_epoch_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Write the checkpoint that was put off; a training that pauses within an epoch is not at its end."""
        if self._paused:
            control.should_log = control.should_evaluate = control.should_save = False
            return
        control.should_save |= self._due or self._stop_requested(args) or self._pauses(state)
        self._due = False

    def on_save(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Let the training pause, with the weights that it has."""
        if self._pauses(state):
            self._paused = control.should_training_stop = True
            state.best_model_checkpoint = None  # the Trainer would take the best one's weights

    def _pauses(self, state: TrainerState) -> bool:
        return self._pause_at is not None and state.global_step >= self._pause_at

    def _stop_requested(self, args: Any) -> bool:
        """Whether any process was asked to stop; all of them learn of it at the same step."""
        if args.world_size > 1:
            flag = torch.tensor([self._stop.requested or 0], device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            self._stop.requested = int(flag) or None
        return self._stop.requested is not None


class LoggingInterval(TrainerCallback):
    """Goes on in the middle of a logging interval: the Trainer would begin with a new one."""

    def __init__(self, trainer: Any, progress: Mapping[str, Any]) -> None:
        self._trainer = trainer
        self._progress = progress

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Set the loss since the last line, where that was, and where the best checkpoint is now."""
        best = self._trainer.best()
        state.best_model_checkpoint = str(best) if best else None
        losses = self._progress["loss_since_logged"]
        own = losses[args.process_index] if len(losses) == args.world_size else fmean(losses)
        self._trainer.since_logged = (own, self._progress["logged_at"])
