"""What a training is given besides its model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.config.metrics import LOSS
from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError
from qc_experiments.evaluation.evaluator import Evaluator
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
    evaluator: Evaluator
    tracker: Tracker
    folder: RunFolder
    store: CheckpointStore
    resume_from: Checkpoint | None
    stop: StopRequests
    pause_at: int | None
    base_place: Path | None
    agreement: PackAgreement
    pace: Pace

    def measured(self, model: Any, key: str) -> dict[str, float]:
        """Figures during training, the one that is chosen by among them.

        Args:
            model: the model in training.
            key: the setting that names it: ``objective`` or ``trainer.metric_for_best_model``.

        Raises:
            UserError: if that one cannot be measured any more.
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
