"""What a training is given besides its model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import Metric, RunConfig
from qc_experiments.errors import UserError
from qc_experiments.evaluation.evaluator import Examination
from qc_experiments.packing.agreement import PackAgreement
from qc_experiments.records.folder import RunFolder
from qc_experiments.system.signals import StopRequests
from qc_experiments.tracking.tracker import Tracker
from qc_experiments.training.checkpoints import Checkpoint, CheckpointStore
from qc_experiments.training.estimate import Pace
from qc_experiments.training.plan import Plan


@dataclass(frozen=True)
class TrainingJob:
    """What a training is given besides its model.

    Attributes:
        config: the whole config.
        plan: rows in tokens.
        evaluator: measures the base model, and the model during training.
        tracker: where figures go.
        folder: the run's folder, in which what was learned is saved.
        store: the run's checkpoints.
        resume_from: the one to go on from, or None.
        stop: whether somebody asks the run to stop.
        pause_at: step after which the training pauses; None: it goes to its end.
        base_place: file that runs share in which the base model is the same, or None.
        agreement: whether packed rows give what padded ones give, by kind of model.
        pace: how long a token takes, by kind of model.
    """

    config: RunConfig
    plan: Plan
    evaluator: Examination
    tracker: Tracker
    folder: RunFolder
    store: CheckpointStore
    resume_from: Checkpoint | None
    stop: StopRequests
    pause_at: int | None
    base_place: Path | None
    agreement: PackAgreement
    pace: Pace

    def measured(self, model: Any, key: str, metric: Metric) -> dict[str, float]:
        """Figures during training, the one that is chosen by among them.

        Args:
            model: the model in training.
            key: the setting that names the metric, for messages.
            metric: by which checkpoints or runs are chosen.

        Raises:
            UserError: if that one cannot be measured any more.
        """
        figures = self.evaluator.during_training(model, generates=metric.needs_generation)
        if f"eval_{metric.value.removeprefix('eval_')}" not in figures:
            raise UserError(
                f"{key}={metric.value} cannot be measured any more: every gold query fails on its "
                "database, though some did not when the run started: see whether the databases are as "
                "they were"
            )
        return figures
