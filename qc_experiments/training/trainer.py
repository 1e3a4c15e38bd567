"""transformers' Trainer, with a loss that counts label tokens and a validation that counts them too."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch import Tensor
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from qc_experiments.collators.standard import Collate, numbered
from qc_experiments.config.schema import PackAttention, Strategy
from qc_experiments.data.encode import Example
from qc_experiments.errors import UserError
from qc_experiments.evaluation.processes import of_main_process
from qc_experiments.models.device import GPU, only_cpu
from qc_experiments.models.loss import pad_batch, summed_loss
from qc_experiments.models.transformers_hooks import OpenTrainer, with_one_device
from qc_experiments.packing.loss import average_gradients, backward_pack, padded_parts
from qc_experiments.system.files import write_failure
from qc_experiments.system.signals import Interrupted
from qc_experiments.training.callbacks import (
    CheckpointTiming,
    LoggingInterval,
    MemoryTrimming,
    ReportCallback,
)
from qc_experiments.training.checkpoints import DRAFT
from qc_experiments.training.divergence import LossWatch
from qc_experiments.training.job import CHECKPOINTING, TrainingJob
from qc_experiments.training.pack_choice import PADDED, PackChoice, choose

log = logging.getLogger(__name__)

STRATEGIES = {Strategy.never: "no", Strategy.steps: "steps", Strategy.epoch: "epoch"}


class TextToSqlTrainer(OpenTrainer):
    """Trainer whose loss is normalised by the label tokens of the whole effective batch.

    So neither accumulation steps nor devices nor padding change the objective. Packs of rows (see
    `collators.shared_schema`) are computed one after the other within a training step, so that memory is
    that of one pack. A collator's attribute ``order``, if it has one, is a Sampler of the rows in each epoch.
    """

    def __init__(self, model: Any, job: TrainingJob, collate: Collate) -> None:
        super().__init__(
            model=model,
            args=_arguments(job),
            train_dataset=job.plan.train,
            eval_dataset=job.plan.validation,
            data_collator=partial(numbered, collate),
        )
        self._job, self._store, self._stop = job, job.store, job.stop
        self.row_order = getattr(collate, "order", None)
        self._watch = LossWatch(self.model.config.get_text_config().vocab_size)
        self._started, self.seconds_before = time.perf_counter(), 0.0
        self._packs: PackChoice | None = None  # made at the first step of each start
        self.pack_attention: str | None = (
            None  # as `PackChoice.name`; None where no packs were given
        )
        self.packed_difference: float | None = None  # how far their gradients are from each other
        self.add_callback(CheckpointTiming(job.stop, job.pause_at))
        if job.precision.device == "cpu":
            self.add_callback(MemoryTrimming())
        self.remove_callback(PrinterCallback)
        self.add_callback(ReportCallback(job.tracker))
        patience = job.config.trainer.early_stopping_patience
        self._early_stopping: EarlyStoppingCallback | None = None
        if patience is not None:
            self._early_stopping = EarlyStoppingCallback(early_stopping_patience=patience)
            self.add_callback(self._early_stopping)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Summed loss of a padded micro-batch over the labels of the effective batch on all devices."""
        # Gradients are averaged over processes, but num_items_in_batch counts the labels of all.
        processes = self.accelerator.num_processes
        return summed_loss(model, inputs) / num_items_in_batch * processes

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """One micro-batch, padded or of packs, forward and backward; returns its loss."""
        rows = inputs.pop("row_numbers")
        loss = self._computed(model, inputs, num_items_in_batch)
        self._watch.add(loss.detach(), rows)
        return loss

    def _computed(self, model: Any, inputs: dict[str, Any], labels: Any) -> Tensor:
        if "packs" not in inputs:
            return super().training_step(model, inputs, labels)
        if self._packs is None:
            self._packs = self._choose_packs(inputs["rows"])
            if self._packs.name != self.pack_attention:
                self.pack_attention = self._packs.name
                self.packed_difference = self._packs.difference
        model.train()
        scale = self.accelerator.num_processes / labels
        total = torch.zeros((), device=self.args.device)
        # A step has several backward passes: processes exchange gradients once, after the last one.
        with self.accelerator.no_sync(model):
            if attention := self._packs.attention:
                for pack in inputs["packs"]:
                    total += backward_pack(model, pack, scale, self._scaled, attention=attention)
            else:
                for rows in padded_parts(inputs["rows"]):
                    batch = {k: v.to(self.args.device) for k, v in pad_batch(rows).items()}
                    loss = summed_loss(model, batch) * scale
                    self._scaled(loss).backward()
                    total += loss.detach()
        if self.accelerator.num_processes > 1 and self.accelerator.sync_gradients:
            average_gradients(model)
        return total

    def _choose_packs(self, rows: Sequence[Example]) -> PackChoice:
        """How rows are computed: as an earlier start found, where that can be."""
        before, asked = self.pack_attention, self._job.config.collator.attention
        if before == PADDED:
            return PackChoice(None, self.packed_difference)
        if before not in (None, PackAttention.flex.value) and asked is PackAttention.auto:
            asked = PackAttention(before)  # flex, which may fail here, is tried first anyway
        with self._job.precision():
            found = choose(self.model, rows, asked, self._job.agreement)
        if before not in (None, found.name):
            log.warning("Packed rows attend by %s from here on, by %s before", found.name, before)
        return found

    def _scaled(self, loss: Tensor) -> Tensor:
        """The loss as float16 wants it, so that small gradients do not vanish."""
        scaler = self.accelerator.scaler
        return loss if scaler is None else scaler.scale(loss)

    def before_update(self, gradient_norm: float | None) -> None:
        """Right before the weights are changed, which a loss or gradient that is NaN forbids."""
        # With a scaler (float16) steps with such gradients are skipped.
        norm = gradient_norm if self.accelerator.scaler is None else None
        self._watch.end_step(self.state.global_step + 1, norm)

    def create_optimizer(self, *given: Any) -> Any:
        """As the Trainer makes it; what its library lacks or refuses is told to the user."""
        try:
            return super().create_optimizer(*given)
        except (ImportError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"trainer.optim={self._job.config.trainer.optim}: cannot be made here ({reason}): take "
                "adamw_torch, or install what it needs"
            ) from error

    def run(self) -> None:
        """Train, from a checkpoint if there is one, or take what a training has left that is done."""
        start = self._job.resume_from
        if start is not None:
            self.seconds_before = start.progress["seconds"]
            self.pack_attention = start.progress.get("pack_attention")
            self.packed_difference = start.progress.get("packed_difference")
            if self._early_stopping is not None:
                without_gain = start.progress.get("without_gain", 0)
                self._early_stopping.early_stopping_patience_counter = without_gain
        if start is None or not (start.progress["ended"] or start.step == self._job.pause_at):
            if start is not None:
                self.add_callback(LoggingInterval(self, start.progress))
            with self._stop.patiently():
                self.train(resume_from_checkpoint=str(start.path) if start else None)
            return
        self.load_weights(start.path)
        self.state = TrainerState.load_from_json(str(start.path / TRAINER_STATE_NAME))
        if start.progress["ended"]:
            self.state.best_model_checkpoint = str(best) if (best := self.best()) else None
            if self.args.load_best_model_at_end and best is not None:
                self.load_best_weights()

    @property
    def seconds(self) -> float:
        """Time spent on this training up to now, by earlier starts too."""
        return self.seconds_before + time.perf_counter() - self._started

    def best(self) -> Path | None:
        """The best checkpoint, where this run's folder is now."""
        known = self.state.best_model_checkpoint
        name = Path(known).name if known else f"checkpoint-{self.state.best_global_step}"
        place = self._store.folder / name
        return place if place.is_dir() else None

    def write_checkpoint(self, write: Callable[[], None]) -> None:
        """Save a checkpoint, whole or not at all; then end the training if somebody asked for it."""
        step, best = self.state.global_step, self.best()
        try:
            self.checkpoint_folder = self._store.draft()
            self.accelerator.wait_for_everyone()
            write()
            written = self.checkpoint_folder / self._store.place(step).name
            loss, logged_at = self.since_logged
            losses = gather_object([loss])
            if self.args.should_save:
                if self.state.best_global_step == step:
                    best = self._store.place(step)
                self.state.best_model_checkpoint = str(best) if best else None
                self.state.save_to_json(str(written / TRAINER_STATE_NAME))
                progress = {
                    "pack_attention": self.pack_attention,
                    "packed_difference": self.packed_difference,
                    "ended": self.control.should_training_stop,
                    "without_gain": self._without_gain(),
                    "loss_since_logged": losses,
                    "logged_at": logged_at,
                    "seconds": self.seconds,
                }
                self._store.commit(written, step, progress)
                self._store.prune(step, best)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise self._unsaved(step, error) from error
        finally:
            self.checkpoint_folder = None
        self.accelerator.wait_for_everyone()
        if self._stop.requested is not None:
            raise Interrupted(self._stop.requested)

    def _without_gain(self) -> int:
        """Evaluations since the last that was better; early stopping's patience is a number of them."""
        early = self._early_stopping
        return 0 if early is None else early.early_stopping_patience_counter

    def _unsaved(self, step: int, error: Exception) -> Exception:
        """What the user is told of a checkpoint that could not be written; our own bugs stay bugs."""
        reason = write_failure(error)
        if reason is None:
            return error
        shutil.rmtree(self._store.folder / DRAFT, ignore_errors=True)
        last = self._store.newest()
        kept = f"the last whole one is of step {last.step}" if last else "there is none before it"
        return UserError(
            f"{self._store.folder}: the checkpoint of step {step} could not be written "
            f"({reason}); {kept}: make room and run the same command again"
        )

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure what the job says, log the figures, and let callbacks act on them."""
        figures = self._job.measured(self.model, "trainer.metric_for_best_model")
        # Each process has its own rounding and limits of time, but all have to stop or go on together.
        figures = of_main_process(figures)
        self.log(dict(figures))
        told = (self.args, self.state, self.control, figures)
        self.control: Any = self.callback_handler.on_evaluate(*told)
        return figures


def _arguments(job: TrainingJob) -> TrainingArguments:
    config, trainer, mixed = job.config, job.config.trainer, job.precision.mixed
    on_gpu = job.precision.device == GPU
    best: dict[str, Any] = {}
    if trainer.eval_strategy is not Strategy.never:
        metric = config.metric(trainer.metric_for_best_model)
        best = {
            "metric_for_best_model": metric.logged_as,
            "greater_is_better": metric.higher_is_better,
            "load_best_model_at_end": trainer.load_best_model_at_end,
        }
    optim = trainer.optim
    if on_gpu and optim == "adamw_torch":
        optim = "adamw_torch_fused"  # the same in one kernel
    arguments = TrainingArguments(
        output_dir=str(job.store.folder),
        learning_rate=trainer.learning_rate,
        per_device_train_batch_size=trainer.micro_batch_size(),
        gradient_accumulation_steps=trainer.gradient_accumulation_steps,
        max_steps=-1 if trainer.max_steps is None else trainer.max_steps,
        num_train_epochs=trainer.num_train_epochs,
        lr_scheduler_type=trainer.lr_scheduler_type,
        warmup_steps=job.plan.warmup_steps(trainer.warmup_steps),
        weight_decay=trainer.weight_decay,
        adam_beta2=trainer.adam_beta2,
        max_grad_norm=trainer.max_grad_norm,
        optim=optim,
        activation_checkpointing=trainer.gradient_checkpointing,
        activation_checkpointing_kwargs=CHECKPOINTING,
        eval_strategy=STRATEGIES[trainer.eval_strategy],
        eval_steps=trainer.eval_steps,
        save_strategy=STRATEGIES[trainer.save_strategy],
        save_steps=trainer.save_steps or 500,
        save_total_limit=None,  # CheckpointStore.prune keeps the newest and the best
        logging_strategy="steps",
        logging_steps=trainer.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # a NaN must be seen
        dataloader_num_workers=trainer.dataloader_num_workers,
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
        bf16=mixed is torch.bfloat16,
        fp16=mixed is torch.float16,
        seed=config.seed,
        data_seed=config.seed,
        report_to="none",
        use_cpu=only_cpu(),
        disable_tqdm=True,
        **best,
    )
    return with_one_device(arguments)
