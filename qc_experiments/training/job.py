"""What a training is given besides its model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qc_experiments.config.metrics import LOSS
from qc_experiments.config.schema import RunConfig
from qc_experiments.data.encode import Example
from qc_experiments.errors import UserError
from qc_experiments.evaluation.evaluator import Evaluator
from qc_experiments.generation.choosing import Answerer
from qc_experiments.generation.served import ModelServer
from qc_experiments.models.device import GPU, Precision
from qc_experiments.models.loss import pad_batch, summed_loss
from qc_experiments.packing.agreement import PackAgreement
from qc_experiments.records.folder import RunFolder
from qc_experiments.system.memory import out_of_memory
from qc_experiments.system.processes import is_main_process
from qc_experiments.system.signals import StopRequests
from qc_experiments.tracking.tracker import Tracker
from qc_experiments.training.checkpoints import Checkpoint, CheckpointStore
from qc_experiments.training.plan import Plan

CHECKPOINTING = {"use_reentrant": False}  # how activations are computed again
TRIAL_ROWS = 2
GPU_TRIAL_TOKENS = 2048  # fewer do not fill a GPU, and would take as long


class Pace:
    """How long models take per token; each shape of model is tried once by whoever owns this."""

    def __init__(self) -> None:
        self._seconds_per_token: dict[tuple[Any, ...], float] = {}

    def seconds(
        self, model: Any, examples: Sequence[Example], tokens: float, precision: Precision
    ) -> float | None:
        """Time a pass over two rows (more on a GPU), forward and backward, and scale it to so many tokens.

        The model's weights, gradients and random states are afterwards as they were. None where memory did
        not suffice for the trial: the training itself may take less at once.
        """
        device = next(model.parameters()).device
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        shape = (model.num_parameters(), trained, model.dtype, device)
        if shape not in self._seconds_per_token:
            rows = sorted(examples, key=len)[len(examples) // 2 :]
            few = TRIAL_ROWS
            if device.type == GPU:
                few = max(few, GPU_TRIAL_TOKENS // len(rows[0]))
            try:
                self._seconds_per_token[shape] = _seconds_per_token(model, rows[:few], precision)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                return None
            finally:
                model.zero_grad(set_to_none=True)
        return self._seconds_per_token[shape] * tokens


def _seconds_per_token(model: Any, rows: Sequence[Example], precision: Precision) -> float:
    device = next(model.parameters()).device
    batch = {key: value.to(device) for key, value in pad_batch(rows).items()}
    devices = [device] if device.type == GPU else []
    was_training = model.training
    seconds = 0.0
    try:
        with torch.random.fork_rng(devices=devices):
            model.train()
            for _ in range(2):  # the first pass warms up
                started = time.perf_counter()
                with precision():
                    loss = summed_loss(model, batch)
                loss.backward()
                if devices:
                    torch.cuda.synchronize(device)
                seconds = time.perf_counter() - started
    finally:
        model.train(was_training)
    return seconds / sum(map(len, rows))


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
    precision: Precision  # how the model is computed, in training and measuring alike
    server: ModelServer | None = None  # writes the answers at the end

    def base_answerer(self) -> Answerer | None:
        """What asks a server for the base model's answers; None: they are written here."""
        base = None if self.server is None else self.server.base
        return None if self.server is None or base is None else self.server.answerer(base.name)

    @contextmanager
    def trained_answerer(self, steps: int) -> Iterator[Answerer | None]:
        """The same for the trained model, or for the model as it is after no step."""
        server, settings = self.server, self.config.evaluation
        adapter = str(self.folder / "adapter") if steps else self.config.model.adapter
        if server is None:
            yield None
        elif settings.endpoint_model is not None:
            yield server.answerer(settings.endpoint_model)
        elif adapter is None:
            yield self.base_answerer()
        elif not is_main_process():
            yield server.answerer(self.folder.path.name)
        else:
            with server.holding(Path(adapter).expanduser(), self.folder.path.name) as name:
                yield server.answerer(name)

    def measured(self, model: Any, key: str) -> dict[str, float]:
        """Figures during training, the one that is chosen by among them.

        ``key`` is the setting that names it: ``objective`` or ``trainer.metric_for_best_model``.
        """
        config = self.config
        chosen = config.objective if key == "objective" else config.trainer.metric_for_best_model
        metric = config.metric(chosen)
        with self.precision():
            figures = self.evaluator.during_training(model, generates=metric is not LOSS)
        if metric.logged_as not in figures:
            raise UserError(
                f"{key}={metric.key} cannot be measured any more: every gold query fails on its "
                "database, though some did not when the run started: see whether the databases are as "
                "they were"
            )
        return figures
