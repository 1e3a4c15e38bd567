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
from qc_experiments.models.fingerprint import base_model_fingerprint
from qc_experiments.models.lora import add_adapter, continue_adapter, save_adapter
from qc_experiments.models.saved import SavedPrompting
from qc_experiments.system.files import write_failure
from qc_experiments.system.processes import is_main_process
from qc_experiments.system.words import counted, duration
from qc_experiments.training.base_model import measure_base
from qc_experiments.training.job import CHECKPOINTING, TrainingJob
from qc_experiments.training.trainer import TextToSqlTrainer
from qc_experiments.training.worth import check_worth

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A trained model and what its training took."""

    model: Any
    base: Measured | None  # the base model's figures, where they were asked for
    steps: int  # optimizer steps taken
    seconds: float  # of the training over all starts, in-training evaluations included
    seconds_before: float  # what earlier starts took of that
    examples_per_second: float | None  # None where nothing was trained
    tokens_per_second: float | None  # padding left out
    parameters_trainable: int
    parameters_total: int  # the adapter's included
    pack_attention: str | None = None  # how packed rows attend, or "padded"; None without packs
    packed_difference: float | None = None  # of gradients, relative, as found at the first step


@dataclass(frozen=True)
class Paused:
    """A training that pauses before its end: steps taken, and what the model is worth so far."""

    steps: int
    figures: dict[str, float]


def fit(model: Any, job: TrainingJob) -> Fitted | Paused:
    """Train a base model, which is changed, and save what was learned in the run's folder."""
    config, plan = job.config, job.plan
    base: Measured | None = None
    changed = changes_base(config.lora)
    measures_base = config.evaluation.base and job.pause_at is None  # asked for at the end alone
    if measures_base and changed:
        with job.precision():
            base = measure_base(job, model)
    if config.lora.enabled:
        model = _with_adapter(model, config)
    initial = None  # the adapter as it starts, by which its shift of the base weights is undone
    if config.lora.enabled and shifts_base(config.lora):
        initial = job.folder / "checkpoints" / "initial_adapter"
        if is_main_process():
            job.folder.check_held()
            model.save_pretrained(str(initial))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = model.num_parameters()
    if plan.steps:
        share = 100 * trainable / total
        log.info("Trains  %s of %s weights (%.2f %%)", f"{trainable:,}", f"{total:,}", share)
        say_how_long(model, job)
    if measures_base and not changed:
        with model.disable_adapter(), job.precision():
            base = measure_base(job, model)
    if not plan.steps:
        log.info("trainer.max_steps=0: nothing is trained, the model is measured as it is")
        return Fitted(model, base, 0, 0.0, 0.0, None, None, trainable, total)
    job.folder.check_held()  # the Trainer makes folders as it pleases
    collate: Any = plan.collator(config)
    if hasattr(collate, "check"):
        collate.check(model)
    trainer = TextToSqlTrainer(model, job, collate)
    trainer.run()
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
        pack_attention=trainer.pack_attention,
        packed_difference=trainer.packed_difference,
    )


def say_how_long(model: Any, job: TrainingJob) -> None:
    """Say how long the steps take that are left of a training, or of its part up to a pause."""
    plan, start = job.plan, job.resume_from
    done = start.step if start else 0
    left = (plan.steps if job.pause_at is None else job.pause_at) - done
    if left <= 0 or (start and start.progress["ended"]):
        return
    if job.config.trainer.gradient_checkpointing:  # as the Trainer will
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=CHECKPOINTING)
    computed = plan.computed_tokens(job.config) * plan.epochs * left / plan.steps
    estimate = job.pace.seconds(model, plan.train, computed, job.precision)
    what = "the training" if left == plan.steps else f"the next {counted(left, 'step')}"
    if estimate is not None:
        log.info("Time    %s will take about %s", what, duration(estimate))


def _with_adapter(model: Any, config: RunConfig) -> Any:
    lora, checkpointing = config.lora, config.trainer.gradient_checkpointing
    if config.model.adapter is None:
        adapted = add_adapter(model, lora, gradient_checkpointing=checkpointing)
    else:
        folder = Path(config.model.adapter).expanduser()
        adapted = continue_adapter(model, folder, lora, gradient_checkpointing=checkpointing)
    lean_layers(adapted)
    return adapted


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
        base = None
        if config.lora.enabled:
            try:
                base = base_model_fingerprint(plan.source)
            except UserError as error:  # moved during the training, say, no reason to lose it
                log.warning("%s; qc predict will not notice another base model", error)
        SavedPrompting.of(config, plan.encoder, base, plan.dialect).save(draft)
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
