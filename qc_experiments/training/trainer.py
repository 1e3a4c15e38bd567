"""transformers' Trainer, with a loss that counts label tokens and a validation that counts them too."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.utils.data import Sampler
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from qc_experiments.collators.standard import Collate, Numbered
from qc_experiments.config.schema import PackAttention
from qc_experiments.errors import UserError
from qc_experiments.models.base import torch_dtype
from qc_experiments.models.loss import pad_batch, summed_loss
from qc_experiments.models.transformers_hooks import OpenTrainer
from qc_experiments.packing.loss import average_gradients, backward_pack, padded_parts
from qc_experiments.system.files import write_failure
from qc_experiments.system.signals import Interrupted
from qc_experiments.training.arguments import training_arguments
from qc_experiments.training.callbacks import CheckpointTiming, LoggingInterval, ReportCallback
from qc_experiments.training.checkpoints import DRAFT, Checkpoint
from qc_experiments.training.divergence import LossWatch
from qc_experiments.training.job import TrainingJob

log = logging.getLogger(__name__)


class TextToSqlTrainer(OpenTrainer):
    """Trainer whose loss is normalised by the label tokens of the whole effective batch.

    So neither accumulation steps nor devices nor padding change the objective, and logits are
    computed only where there is a label.

    Packs of rows (see `collators.shared_schema`) are computed one after the other within a training
    step, so that memory is that of one pack.

    Args:
        model: as it is trained.
        job: everything else.
        collate: makes batches of examples; its attribute ``order``, if it has one, is a Sampler of the rows
            in each epoch, in the place of the Trainer's own shuffle.
    """

    def __init__(self, model: Any, job: TrainingJob, collate: Collate) -> None:
        config, plan = job.config, job.plan
        super().__init__(
            model=model,
            args=training_arguments(
                config,
                job.store.folder,
                torch_dtype(config.model.dtype),
                plan.warmup_steps(config.trainer.warmup_steps),
            ),
            train_dataset=plan.train,
            eval_dataset=plan.validation,
            data_collator=Numbered(collate),
        )
        self._job, self._store, self._stop = job, job.store, job.stop
        self._order: Sampler[int] | None = getattr(collate, "order", None)
        self._whole_mask = config.collator.attention is PackAttention.mask
        self._draft: Path | None = None  # where a checkpoint is being written
        self._watch = LossWatch(self.model.config.get_text_config().vocab_size)
        self._started, self.seconds_before = time.perf_counter(), 0.0
        self._packs: bool | None = None  # whether packed rows agree with padded ones; None: unknown
        self.add_callback(CheckpointTiming(job.stop, job.pause_at))
        self.remove_callback(PrinterCallback)
        self.add_callback(ReportCallback(job.tracker))
        patience = config.trainer.early_stopping_patience
        if patience is not None:
            self.add_callback(EarlyStoppingCallback(early_stopping_patience=patience))

    def row_order(self) -> Sampler[int] | None:
        """The order of the rows in each epoch."""
        return self._order

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Summed loss of a micro-batch over the labels of the effective batch.

        Args:
            model: the model in training.
            inputs: ``input_ids``, ``attention_mask``, ``labels``, each [rows, length].
            return_outputs: not supported; evaluation does not pass here.
            num_items_in_batch: labels of the effective batch, over all devices.
        """
        if num_items_in_batch is None or return_outputs:
            raise ValueError("compute_loss is for training steps: it needs the number of labels")
        # Gradients are averaged over processes, but num_items_in_batch counts the labels of all.
        processes = self.accelerator.num_processes
        return summed_loss(model, inputs) / num_items_in_batch * processes

    def training_step(
        self,
        model: Any,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """One micro-batch, forward and backward; returns its loss.

        Args:
            model: the model in training.
            inputs: a padded batch, or ``packs`` and ``rows`` of `SharedSchemaCollator`.
            num_items_in_batch: labels of the effective batch, over all devices.
        """
        rows = inputs.pop("row_numbers")
        loss = self._computed(model, inputs, num_items_in_batch)
        self._watch.add(self.state.global_step + 1, float(loss), rows)
        return loss

    def _computed(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        if "packs" not in inputs:
            loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
            return loss
        if num_items_in_batch is None:
            raise ValueError("training_step needs the number of labels")
        if self._packs is None:
            self._packs = self._packs_agree(inputs["rows"])
        model.train()
        scale = self.accelerator.num_processes / num_items_in_batch
        total = torch.zeros((), device=self.args.device)
        # A step takes several backward passes: gradients are exchanged between processes once,
        # after the last one.
        with self.accelerator.no_sync(model):
            if self._packs:
                for pack in inputs["packs"]:
                    total += backward_pack(
                        model, pack, scale, self._scaled, whole_mask=self._whole_mask
                    )
            else:
                for rows in padded_parts(inputs["rows"]):
                    batch = {k: v.to(self.args.device) for k, v in pad_batch(rows).items()}
                    loss = summed_loss(model, batch) * scale
                    self._scaled(loss).backward()
                    total += loss.detach()
        if self.accelerator.num_processes > 1 and self.accelerator.sync_gradients:
            average_gradients(model)
        return total

    def _scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss as float16 wants it, so that small gradients do not vanish."""
        scaler = self.accelerator.scaler
        if scaler is None:
            return loss
        larger: torch.Tensor = scaler.scale(loss)
        return larger

    def _packs_agree(self, rows: list[Any]) -> bool:
        """Compare a few rows packed with the same rows padded; says so if they differ."""
        away = self._job.agreement.disagreement(
            self.model, rows, gradients=True, whole_mask=self._whole_mask
        )
        if away is None:
            return True
        log.warning(
            "collator=shared_schema: packed rows give other gradients than padded ones (relative "
            "difference %.2g): this run goes on with padded rows, as collator=seq2seq",
            away,
        )
        return False

    def before_update(self, gradient_norm: float | None) -> None:
        """Right before the weights are changed, which a gradient that is NaN forbids."""
        # With a scaler (float16) such steps are skipped.
        if gradient_norm is not None and self.accelerator.scaler is None:
            self._watch.check_gradient(self.state.global_step + 1, gradient_norm)
        self._watch.end_step()

    def resume(self, progress: dict[str, Any]) -> None:
        """Go on in the middle of a logging interval; to be called before `train`."""
        self.seconds_before = progress["seconds"]
        self.add_callback(LoggingInterval(self, progress))

    @property
    def seconds(self) -> float:
        """Time spent on this training up to now, by earlier starts too."""
        return self.seconds_before + time.perf_counter() - self._started

    def become_finished(self, checkpoint: Checkpoint) -> None:
        """Become the trainer that had ended its training when it wrote a checkpoint."""
        self.load_checkpoint(checkpoint)
        self.state.best_model_checkpoint = str(best) if (best := self.best()) else None
        if self.args.load_best_model_at_end and best is not None:
            self.load_best_weights()

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Take weights and state of a checkpoint, to measure them."""
        self.seconds_before = checkpoint.progress["seconds"]
        self.load_weights(checkpoint.path)
        self.state = TrainerState.load_from_json(str(checkpoint.path / TRAINER_STATE_NAME))

    def best(self) -> Path | None:
        """The best checkpoint, where this run's folder is now."""
        known = self.state.best_model_checkpoint
        name = Path(known).name if known else f"checkpoint-{self.state.best_global_step}"
        place = self._store.folder / name
        return place if place.is_dir() else None

    def checkpoint_folder(self) -> Path | None:
        """The draft of the checkpoint that is being written."""
        return self._draft

    def write_checkpoint(self, write: Callable[[], None]) -> None:
        """Save a checkpoint, whole or not at all; then end the training if somebody asked for it."""
        step, best = self.state.global_step, self.best()
        try:
            self._draft = self._store.draft()
            self._barrier()
            write()
            written = self._draft / self._store.place(step).name
            loss, logged_at = self.since_logged
            losses = self._gathered(loss)
            if self.args.should_save:
                if self.state.best_global_step == step:
                    best = self._store.place(step)
                self.state.best_model_checkpoint = str(best) if best else None
                self.state.save_to_json(str(written / TRAINER_STATE_NAME))
                progress = {
                    "ended": self.control.should_training_stop,
                    "loss_since_logged": losses,
                    "logged_at": logged_at,
                    "seconds": self.seconds,
                }
                self._store.commit(written, step, progress)
                self._store.prune(step, best)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise self._unsaved(step, error) from error
        finally:
            self._draft = None
        self._barrier()
        if self._stop.requested is not None:
            raise Interrupted(self._stop.requested)

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

    def _barrier(self) -> None:
        if self.args.world_size > 1:
            torch.distributed.barrier()

    def _gathered(self, value: float) -> list[float]:
        if self.args.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.args.world_size
        torch.distributed.all_gather_object(values, value)
        return values

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure the model, log the figures, and let callbacks act on them.

        The arguments are the Trainer's; what is measured is the job's.
        """
        figures = self._job.measured(self.model, "trainer.metric_for_best_model")
        self.log(dict(figures))
        self.control: Any = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, figures
        )
        return figures
