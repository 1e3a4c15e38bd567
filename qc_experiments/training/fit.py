"""Train one model: adapter, estimate, base figures, the Trainer, and the saved adapter."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from qc_experiments.config.schema import RunConfig, changes_base, shifts_base
from qc_experiments.errors import UserError
from qc_experiments.evaluation.evaluator import Measured
from qc_experiments.models.cpu_layers import lean_layers
from qc_experiments.models.fingerprint import BaseModelFingerprint, base_model_fingerprint
from qc_experiments.models.lora import add_adapter, continue_adapter, save_adapter
from qc_experiments.models.saved import SavedPrompting
from qc_experiments.system.files import write_failure
from qc_experiments.system.processes import is_main_process
from qc_experiments.system.words import duration
from qc_experiments.training.base_model import measure_base
from qc_experiments.training.job import TrainingJob
from qc_experiments.training.plan import Plan
from qc_experiments.training.trainer import TextToSqlTrainer
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
        examples_per_second: rows trained on per second; None where nothing was trained.
        tokens_per_second: tokens of those rows per second, padding left out.
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


@dataclass(frozen=True)
class Paused:
    """A training that pauses before its end.

    Attributes:
        steps: optimizer steps taken.
        figures: what the model is worth so far, as the evaluator names it during training.
    """

    steps: int
    figures: dict[str, float]


def fit(model: Any, job: TrainingJob) -> Fitted | Paused:
    """Train a base model as the job's config says and save what was learned in the run's folder.

    Args:
        model: the base model; it is changed.
        job: everything else.
    """
    config, plan = job.config, job.plan
    base: Measured | None = None
    changed = changes_base(config.lora)
    measures_base = config.evaluation.base and job.pause_at is None  # asked for at the end alone
    if measures_base and changed:
        base = measure_base(job.evaluator, model, job.folder, job.base_place)
    if config.lora.enabled:
        model = _with_adapter(model, config)
    initial = _saved_start(model, job) if config.lora.enabled and shifts_base(config.lora) else None
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = model.num_parameters()
    if plan.steps:
        share = 100 * trainable / total
        log.info("Trains  %s of %s weights (%.2f %%)", f"{trainable:,}", f"{total:,}", share)
        computed = plan.computed_tokens(config) * plan.epochs
        estimate = job.pace.seconds(model, plan.train, computed, plan.tokenizer.pad_token_id)
        log.info("Time    the training will take about %s", duration(estimate))
    if measures_base and not changed:
        with model.disable_adapter():
            base = measure_base(job.evaluator, model, job.folder, job.base_place)
    if not plan.steps:
        log.info("trainer.max_steps=0: nothing is trained, the model is measured as it is")
        return Fitted(model, base, 0, 0.0, 0.0, None, None, trainable, total)
    trainer = _trained(model, job)
    steps = int(trainer.state.global_step)
    if job.pause_at is not None:
        # Also where the training has ended before: what comes after it belongs to its last part.
        return Paused(steps, job.measured(trainer.model, "objective"))
    seconds = trainer.seconds
    log.info("Trained in %s", duration(seconds))
    _save(model, job, initial)
    epochs = plan.epochs * steps / plan.steps
    return Fitted(
        model=model,
        base=base,
        steps=steps,
        seconds=seconds,
        seconds_before=trainer.seconds_before,
        examples_per_second=len(plan.train) * epochs / seconds,
        tokens_per_second=plan.tokens * epochs / seconds,
        parameters_trainable=trainable,
        parameters_total=total,
    )


def _with_adapter(model: Any, config: RunConfig) -> Any:
    checkpointing = config.trainer.gradient_checkpointing
    if config.model.adapter is None:
        adapted = add_adapter(model, config.lora, gradient_checkpointing=checkpointing)
    else:
        folder = Path(config.model.adapter).expanduser()
        adapted = continue_adapter(model, folder, config.lora, gradient_checkpointing=checkpointing)
    if adapted.device.type == "cpu":
        lean_layers(adapted)
    return adapted


def _saved_start(model: Any, job: TrainingJob) -> Path:
    """The adapter as it starts, by which its shift of the base weights is taken back at the end."""
    initial = job.folder / "checkpoints" / "initial_adapter"
    if is_main_process():
        job.folder.check_held()
        model.save_pretrained(str(initial))
    return initial


def _trained(model: Any, job: TrainingJob) -> TextToSqlTrainer:
    """The trainer after its training, or with what an earlier start has left of it."""
    job.folder.check_held()  # the Trainer makes folders as it pleases
    collate: Any = job.plan.collator(job.config)
    if hasattr(collate, "check"):
        collate.check(model)
    trainer, resume_from = TextToSqlTrainer(model, job, collate), job.resume_from
    if resume_from is not None and resume_from.progress["ended"]:
        trainer.become_finished(resume_from)
    elif resume_from is not None and resume_from.step == job.pause_at:
        trainer.load_checkpoint(resume_from)
    else:
        if resume_from is not None:
            trainer.resume(resume_from.progress)
        with job.stop.patiently():
            trainer.train(resume_from_checkpoint=str(resume_from.path) if resume_from else None)
    return trainer


def _save(model: Any, job: TrainingJob, initial: Path | None) -> None:
    """Save the adapter (or the whole model) with all that inference needs, whole or not at all."""
    if not is_main_process():
        return
    config, plan, folder = job.config, job.plan, job.folder
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
