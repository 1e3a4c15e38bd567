"""Train one model: adapter, estimate, base figures, the Trainer, and the saved adapter."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from qc_experiments.collators.standard import build_collator, features
from qc_experiments.config.metrics import LOSS, Metric
from qc_experiments.config.schema import (
    CollatorName,
    PackAttention,
    RunConfig,
    changes_base,
    shifts_base,
)
from qc_experiments.errors import UserError
from qc_experiments.evaluation.evaluator import Evaluator, Measured
from qc_experiments.models.base import torch_dtype
from qc_experiments.models.cpu_layers import lean_layers
from qc_experiments.models.fingerprint import BaseModelFingerprint, base_model_fingerprint
from qc_experiments.models.lora import add_adapter, continue_adapter, save_adapter
from qc_experiments.models.prompting import SavedPrompting
from qc_experiments.packing.supported import cannot_pack
from qc_experiments.records.folder import RunFolder
from qc_experiments.system.files import write_failure
from qc_experiments.system.processes import is_main_process
from qc_experiments.system.progress import duration
from qc_experiments.system.signals import StopRequests
from qc_experiments.tracking.tracker import Tracker
from qc_experiments.training.arguments import training_arguments
from qc_experiments.training.base_model import measure_base
from qc_experiments.training.callbacks import ReportCallback
from qc_experiments.training.checkpoints import Checkpoint, CheckpointStore
from qc_experiments.training.estimate import estimated_training_seconds
from qc_experiments.training.plan import Plan
from qc_experiments.training.trainer import Paused, TextToSqlTrainer
from qc_experiments.training.worth import check_worth

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A trained model and what its training took.

    Attributes:
        model: the trained model.
        base: the base model's figures, or None where they were not asked for.
        steps: optimizer steps taken.
        seconds: time of the training over all starts, in-training evaluations included.
        seconds_before: what earlier starts took of that.
        examples_per_second: rows trained on a second; None where nothing was trained.
        tokens_per_second: tokens of those rows a second, padding left out.
        parameters_trainable: number of weights that were trained.
        parameters_total: number of all weights, the adapter's included.
    """

    model: Any
    base: Measured | None
    steps: int
    seconds: float
    seconds_before: float
    examples_per_second: float | None
    tokens_per_second: float | None
    parameters_trainable: int
    parameters_total: int


class Rested(Exception):
    """A training rests before its end.

    Args:
        steps: optimizer steps taken.
        figures: what the model is worth so far, as `Evaluator.during_training` names it.
    """

    def __init__(self, steps: int, figures: dict[str, float]) -> None:
        super().__init__(f"rests behind step {steps}")
        self.steps = steps
        self.figures = figures


def fit(
    model: Any,
    config: RunConfig,
    plan: Plan,
    examination: Evaluator,
    tracker: Tracker,
    folder: RunFolder,
    store: CheckpointStore,
    resume_from: Checkpoint | None,
    stop: StopRequests,
    pause_at: int | None = None,
    base_place: Path | None = None,
) -> Fitted:
    """Train a base model as the config says and save what was learned in the run's folder.

    Args:
        model: the base model; it is changed.
        config: the whole config.
        plan: rows in tokens.
        examination: measures the base model, and the model during training.
        tracker: where figures go.
        folder: the run's folder.
        store: the run's checkpoints.
        resume_from: the one to go on from, or None.
        stop: whether somebody asks the run to stop.
        pause_at: step behind which the training rests; None: it goes to its end.
        base_place: file that runs share in which the base model is the same, or None.

    Raises:
        Rested: with the figures at ``pause_at``.
    """
    base: Measured | None = None
    gone = changes_base(config.lora)
    measures_base = config.evaluation.base and pause_at is None  # which is asked at the end alone
    if measures_base and gone:
        base = measure_base(examination, model, folder, base_place)
    initial: Path | None = None
    if config.lora.enabled:
        model = _with_adapter(model, config)
        if shifts_base(config.lora):
            initial = folder / "checkpoints" / "initial_adapter"
            if is_main_process():
                folder.check_held()
                model.save_pretrained(str(initial))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = model.num_parameters()
    tokens = plan.tokens * plan.epochs
    if plan.steps:
        share = 100 * trainable / total
        log.info("Trains  %s of %s weights (%.2f %%)", f"{trainable:,}", f"{total:,}", share)
        pad_id = plan.tokenizer.pad_token_id
        computed = plan.computed_tokens(config) * plan.epochs
        estimate = estimated_training_seconds(model, plan.train, computed, pad_id)
        log.info("Time    the training will take about %s", duration(estimate))
    if measures_base and not gone:
        with model.disable_adapter():
            base = measure_base(examination, model, folder, base_place)
    if not plan.steps:
        log.info("trainer.max_steps=0: nothing is trained, the model is measured as it is")
        return Fitted(model, base, 0, 0.0, 0.0, None, None, trainable, total)

    folder.check_held()  # the Trainer makes folders as it pleases
    trainer = _trainer(model, config, plan, examination, tracker, store, stop, pause_at)
    if resume_from is not None and resume_from.progress["ended"]:
        trainer.take_over(resume_from)
    elif resume_from is not None and resume_from.step == pause_at:
        trainer.look_at(resume_from)
    else:
        if resume_from is not None:
            trainer.resume(resume_from.progress)
        place = str(resume_from.path) if resume_from else None
        with stop.patiently(), suppress(Paused):
            trainer.train(resume_from_checkpoint=place)
    if pause_at is not None:
        # Also where the training has ended before: what comes behind it belongs to the last rung.
        metric = config.metric(config.objective)
        figures = _measured(examination, trainer.model, "objective", metric)
        raise Rested(int(trainer.state.global_step), figures)
    seconds = trainer.seconds
    steps = int(trainer.state.global_step)
    log.info("Trained in %s", duration(seconds))
    _save(model, config, plan, folder, initial)
    done = steps / plan.steps
    rows = len(plan.train) * plan.epochs * done
    return Fitted(
        model=model,
        base=base,
        steps=steps,
        seconds=seconds,
        seconds_before=trainer.seconds_before,
        examples_per_second=rows / seconds,
        tokens_per_second=tokens * done / seconds,
        parameters_trainable=trainable,
        parameters_total=total,
    )


def _with_adapter(model: Any, config: RunConfig) -> Any:
    adapted = _adapted(model, config)
    if adapted.device.type == "cpu":
        lean_layers(adapted)
    return adapted


def _adapted(model: Any, config: RunConfig) -> Any:
    checkpointing = config.trainer.gradient_checkpointing
    if config.model.adapter is None:
        return add_adapter(model, config.lora, gradient_checkpointing=checkpointing)
    folder = Path(config.model.adapter).expanduser()
    return continue_adapter(model, folder, config.lora, gradient_checkpointing=checkpointing)


def _measured(examination: Evaluator, model: Any, key: str, metric: Metric) -> dict[str, float]:
    """Figures during training, the one that is chosen by among them."""
    figures = examination.during_training(model, generates=metric is not LOSS)
    if metric.logged_as not in figures:
        raise UserError(
            f"{key}={metric.key} cannot be measured any more: every gold query fails on its database, "
            "though some did not when the run started: see whether the databases are as they were"
        )
    return figures


def _trainer(
    model: Any,
    config: RunConfig,
    plan: Plan,
    examination: Evaluator,
    tracker: Tracker,
    store: CheckpointStore,
    stop: StopRequests,
    pause_at: int | None,
) -> TextToSqlTrainer:
    from datasets import Dataset
    from transformers import EarlyStoppingCallback, PrinterCallback

    order = None
    if config.collator.name is CollatorName.shared_schema:
        reason = cannot_pack(model)
        if reason is not None:
            kind = model.config.get_text_config().model_type
            raise UserError(
                f"collator=shared_schema: {kind} cannot be trained on packed rows ({reason}): use "
                "collator=seq2seq"
            )
        order = plan.order(config)
    tokenizer = plan.tokenizer
    rows = features(plan.train, config.data.loss_on, config.collator, tokenizer.pad_token_id)
    metric = config.metric(config.trainer.metric_for_best_model)
    trainer = TextToSqlTrainer(
        model=model,
        args=training_arguments(config, store.folder, torch_dtype(config.model.dtype)),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=plan.validation,
        data_collator=build_collator(config.collator, tokenizer),
        order=order,
        whole_mask=config.collator.attention is PackAttention.mask,
        store=store,
        stop=stop,
        pause_at=pause_at,
        measure=lambda model: _measured(
            examination, model, "trainer.metric_for_best_model", metric
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ReportCallback(tracker))
    patience = config.trainer.early_stopping_patience
    if patience is not None:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=patience))
    return trainer


def _save(
    model: Any, config: RunConfig, plan: Plan, folder: RunFolder, initial: Path | None
) -> None:
    """Save the adapter (or the whole model) with all that inference needs, whole or not at all."""
    if not is_main_process():
        return
    place = folder / ("adapter" if config.lora.enabled else "model")
    draft = folder / f".{place.name}"
    folder.check_held()
    shutil.rmtree(draft, ignore_errors=True)
    try:
        if config.lora.enabled:
            save_adapter(model, draft, initial)
        else:
            model.save_pretrained(str(draft))
        plan.tokenizer.save_pretrained(str(draft))
        base = _base_fingerprint(plan) if config.lora.enabled else None
        SavedPrompting.of(config, plan.encoder, base).save(draft)
        check_worth(model, draft, config, plan)
        shutil.rmtree(place, ignore_errors=True)
        os.replace(draft, place)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = write_failure(error)
        if reason is None:
            raise
        raise UserError(
            f"{place}: cannot be written ({reason}): make room and run the same command again"
        ) from error


def _base_fingerprint(plan: Plan) -> BaseModelFingerprint | None:
    """What the base model's weights are, for those who will load the adapter."""
    try:
        return base_model_fingerprint(plan.source)
    except UserError as error:  # moved during the training, say, which is no reason to lose it
        log.warning("%s; qc predict will not notice another base model", error)
        return None
