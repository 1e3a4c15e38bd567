"""transformers' Trainer, with a loss that counts label tokens and a validation that counts them too."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from qc_experiments.collators.shared_schema import SchemaSampler
from qc_experiments.errors import UserError
from qc_experiments.models.loss import summed_loss
from qc_experiments.packing.agreement import (
    CHECKED_ROWS,
    average_gradients,
    disagreement,
    padded,
    padded_parts,
)
from qc_experiments.packing.loss import backward_pack
from qc_experiments.packing.prefix_tree import PackRow, pack_rows
from qc_experiments.packing.supported import architecture
from qc_experiments.system.files import write_failure
from qc_experiments.system.signals import Interrupted, StopRequests
from qc_experiments.training.callbacks import LoggingInterval, SafePlaces
from qc_experiments.training.checkpoints import DRAFT, Checkpoint, CheckpointStore
from qc_experiments.training.divergence import LossWatch

log = logging.getLogger(__name__)

Measure = Callable[[Any], dict[str, float]]

AGREEMENT = 1e-3
"""Relative difference of gradients that passes for rounding in float32."""
COARSE_AGREEMENT = 0.1
"""The same with 16-bit numbers or quantized weights."""


_agreed: set[tuple[Any, ...]] = set()
"""Kinds of models whose packs were found right in this process: the jobs of a sweep check once."""


class Paused(Exception):
    """A training rests behind a checkpoint, to go on later."""


class TextToSqlTrainer(Trainer):
    """Trainer whose loss is normalised by the label tokens of the whole effective batch.

    So neither accumulation steps nor devices nor padding change the objective, and logits are
    computed only where there is a label.

    Packs of rows (see `collators.shared_schema`) are computed one after the other within a training
    step, so that memory is that of one pack.

    Args:
        order: of the rows in each epoch, or None for the Trainer's own shuffle.
        store: where checkpoints go.
        stop: whether somebody asks the run to stop.
        whole_mask: whether attention in packs is one call with a mask, not in blocks.
        pause_at: step behind which the training rests, by `Paused`, with a checkpoint; None: never.
        measure: called with the model at each evaluation; returns the figures, such as
            ``eval_loss``.
        arguments: those of `transformers.Trainer`.
    """

    loss_is_scaled_for_ga = True  # compute_loss divides by the labels of all accumulated batches

    def __init__(
        self,
        *,
        measure: Measure,
        store: CheckpointStore,
        stop: StopRequests,
        order: SchemaSampler | None = None,
        whole_mask: bool = False,
        pause_at: int | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._store = store
        self._stop = stop
        self._whole_mask = whole_mask
        self._draft: Path | None = None  # where a checkpoint is being written
        self._watch = LossWatch(self.model.config.get_text_config().vocab_size)
        self._pause_at = pause_at
        self.add_callback(SafePlaces(stop, pause_at))
        self._measure = measure
        self._order = order
        self._started, self.seconds_before = time.perf_counter(), 0.0
        self._packs: bool | None = None  # whether packed rows agree with padded ones; None: unknown
        # The Trainer counts the labels of an effective batch only for models that take the count.
        self.model_accepts_loss_kwargs = True

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

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order or super()._get_train_sampler(train_dataset)

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
            self._packs = self._agree(inputs["rows"])
        model.train()
        scale = self.accelerator.num_processes / num_items_in_batch
        total = torch.zeros((), device=self.args.device)
        # A step takes several backward passes: gradients are exchanged between processes once,
        # behind the last one.
        with self.accelerator.no_sync(model):
            if self._packs:
                for pack in inputs["packs"]:
                    total += backward_pack(
                        model, pack, scale, self._scaled, whole_mask=self._whole_mask
                    )
            else:
                for rows in padded_parts(inputs["rows"]):
                    loss = summed_loss(model, padded(rows, self.args.device)) * scale
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

    def _agree(self, rows: Sequence[PackRow]) -> bool:
        """Compare a few rows packed with the same rows padded; says so if they differ."""
        known = (*architecture(self.model), self._whole_mask)
        if known in _agreed:
            return True
        few = sorted(rows, key=lambda row: list(row.prompt))[:CHECKED_ROWS]
        # In one pass, and in as many as there are rows.
        away = max(
            disagreement(self.model, few, pack_rows(few, most), whole_mask=self._whole_mask)
            for most in (sum(map(len, few)), 1)
        )
        coarse = self.args.bf16 or self.args.fp16 or _quantized(self.model)
        if away <= (COARSE_AGREEMENT if coarse else AGREEMENT):
            _agreed.add(known)
            return True
        log.warning(
            "collator=shared_schema: packed rows give other gradients than padded ones (relative "
            "difference %.2g): this run goes on with padded rows, as collator=seq2seq",
            away,
        )
        return False

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """As the parent; right before the weights are changed, which a gradient that is NaN forbids."""
        found = super()._get_grad_norm(model, grad_norm=grad_norm)
        if found is not None and self.accelerator.scaler is None:  # float16 skips such steps itself
            self._watch.check_gradient(self.state.global_step + 1, float(found))
        self._watch.end_step()
        return found

    def resume(self, progress: dict[str, Any]) -> None:
        """Go on in the middle of a logging interval; to be called before `train`.

        Args:
            progress: of the checkpoint that `train` is given.
        """
        self.seconds_before = progress["seconds"]
        self.add_callback(LoggingInterval(self, progress))

    @property
    def seconds(self) -> float:
        """Time spent on this training up to now, by earlier starts too."""
        return self.seconds_before + time.perf_counter() - self._started

    def take_over(self, checkpoint: Checkpoint) -> None:
        """Become the trainer that had ended its training when it wrote a checkpoint."""
        self.look_at(checkpoint)
        self.state.best_model_checkpoint = str(best) if (best := self._best()) else None
        if self.args.load_best_model_at_end and best is not None:
            self._load_best_model()

    def look_at(self, checkpoint: Checkpoint) -> None:
        """Take weights and state of a checkpoint, to measure them."""
        self.seconds_before = checkpoint.progress["seconds"]
        self._load_from_checkpoint(str(checkpoint.path))
        self.state = TrainerState.load_from_json(str(checkpoint.path / TRAINER_STATE_NAME))

    def _best(self) -> Path | None:
        """The best checkpoint, where this run's folder is now."""
        known = self.state.best_model_checkpoint
        name = Path(known).name if known else f"checkpoint-{self.state.best_global_step}"
        place = self._store.folder / name
        return place if place.is_dir() else None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._draft) if self._draft else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a checkpoint, whole or not at all; then end the training if somebody asked for it."""
        step, best = self.state.global_step, self._best()
        try:
            self._draft = self._store.draft()
            self._together()
            super()._save_checkpoint(model, trial)
            written = self._draft / self._store.place(step).name
            intervals = self._gathered(float(self._tr_loss))
            if self.args.should_save:
                if self.state.best_global_step == step:
                    best = self._store.place(step)
                self.state.best_model_checkpoint = str(best) if best else None
                self.state.save_to_json(str(written / TRAINER_STATE_NAME))
                progress = {
                    "ended": self.control.should_training_stop,
                    "loss_since_logged": intervals,
                    "logged_at": self._globalstep_last_logged,
                    "seconds": self.seconds,
                }
                self._store.commit(written, step, progress)
                self._store.prune(step, best)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise self._unsaved(step, error) from error
        finally:
            self._draft = None
        self._together()
        if self._stop.requested is not None:
            raise Interrupted(self._stop.requested)
        if self._pause_at is not None and step >= self._pause_at:
            raise Paused

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

    def _together(self) -> None:
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

        The arguments are the Trainer's; what is measured was given to the constructor.
        """
        figures = self._measure(self.model)
        self.log(dict(figures))
        self.control: Any = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, figures
        )
        return figures


def _quantized(model: Any) -> bool:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return bool(getattr(base, "is_quantized", False)) or model.dtype != torch.float32
