"""What a training is given besides its model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qc_experiments.config.metrics import LOSS
from qc_experiments.config.schema import RunConfig
from qc_experiments.data.encode import Example
from qc_experiments.errors import UserError
from qc_experiments.evaluation.evaluator import Evaluator
from qc_experiments.models.loss import pad_batch, summed_loss
from qc_experiments.packing.agreement import PackAgreement
from qc_experiments.records.folder import RunFolder
from qc_experiments.system.signals import StopRequests
from qc_experiments.tracking.tracker import Tracker
from qc_experiments.training.checkpoints import Checkpoint, CheckpointStore
from qc_experiments.training.plan import Plan

TRIAL_ROWS = 2


class Pace:
    """How long models take per token; each shape of model is tried once by whoever owns this."""

    def __init__(self) -> None:
        self._seconds_per_token: dict[tuple[Any, ...], float] = {}

    def seconds(self, model: Any, examples: Sequence[Example], tokens: float, pad_id: int) -> float:
        """Time a pass over two rows, forward and backward, and scale it to so many tokens.

        The model's weights, gradients and random states are afterwards as they were.
        """
        device = next(model.parameters()).device
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        shape = (model.num_parameters(), trained, model.dtype, device)
        if shape in self._seconds_per_token:
            return self._seconds_per_token[shape] * tokens
        rows = sorted(examples, key=len)[len(examples) // 2 :][:TRIAL_ROWS]
        batch = {key: value.to(device) for key, value in pad_batch(rows, pad_id).items()}
        devices = [device] if device.type == "cuda" else []
        was_training = model.training
        seconds = 0.0
        with torch.random.fork_rng(devices=devices):
            model.train()
            for _ in range(2):  # the first pass warms up
                started = time.perf_counter()
                summed_loss(model, batch).backward()
                if devices:
                    torch.cuda.synchronize(device)
                seconds = time.perf_counter() - started
        model.zero_grad(set_to_none=True)
        model.train(was_training)
        self._seconds_per_token[shape] = seconds / sum(map(len, rows))
        return self._seconds_per_token[shape] * tokens


@dataclass(frozen=True)
class TrainingJob:
    """What a training is given besides its model."""

    config: RunConfig
    plan: Plan
    evaluator: Evaluator
    tracker: Tracker
    folder: RunFolder
    store: CheckpointStore
    resume_from: Checkpoint | None  # to go on from
    stop: StopRequests  # whether somebody asks the run to stop
    pause_at: int | None  # step after which the training pauses; None: it goes to its end
    base_place: Path | None  # file that runs share in which the base model is the same
    agreement: PackAgreement
    pace: Pace

    def measured(self, model: Any, key: str) -> dict[str, float]:
        """Figures during training, the one that is chosen by among them.

        ``key`` is the setting that names it: ``objective`` or ``trainer.metric_for_best_model``.
        """
        config = self.config
        chosen = config.objective if key == "objective" else config.trainer.metric_for_best_model
        metric = config.metric(chosen)
        figures = self.evaluator.during_training(model, generates=metric is not LOSS)
        if metric.logged_as not in figures:
            raise UserError(
                f"{key}={metric.key} cannot be measured any more: every gold query fails on its "
                "database, though some did not when the run started: see whether the databases are as "
                "they were"
            )
        return figures
