"""transformers' Trainer, with a loss that counts label tokens and a validation that counts them too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import Trainer

from qc_experiments.collators.pack_loss import backward_pack
from qc_experiments.collators.prefix_tree import PackRow, pack_rows
from qc_experiments.collators.shared_schema import SchemaSampler
from qc_experiments.evaluation.loss import summed_loss
from qc_experiments.training.packed import (
    CHECKED_ROWS,
    average_gradients,
    disagreement,
    padded,
    padded_parts,
)

log = logging.getLogger(__name__)

Measure = Callable[[Any], dict[str, float]]

AGREEMENT = 1e-3
"""Relative difference of gradients that passes for rounding in float32."""
COARSE_AGREEMENT = 0.1
"""The same with 16-bit numbers or quantized weights."""


class TextToSqlTrainer(Trainer):
    """Trainer whose loss is normalised by the label tokens of the whole effective batch.

    So neither accumulation steps nor devices nor padding change the objective, and logits are
    computed only where there is a label.

    Packs of rows (see `collators.shared_schema`) are computed one after the other within a training
    step, so that memory is that of one pack.

    Args:
        order: of the rows in each epoch, or None for the Trainer's own shuffle.
        measure: called with the model at each evaluation; returns the figures, such as
            ``eval_loss``.
        arguments: those of `transformers.Trainer`.
    """

    loss_is_scaled_for_ga = True  # compute_loss divides by the labels of all accumulated batches

    def __init__(
        self, *, measure: Measure, order: SchemaSampler | None = None, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self._measure = measure
        self._order = order
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
                    total += backward_pack(model, pack, scale, self._scaled)
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
        few = sorted(rows, key=lambda row: list(row.prompt))[:CHECKED_ROWS]
        # In one pass, and in as many as there are rows.
        away = max(
            disagreement(self.model, few, pack_rows(few, most)) for most in (sum(map(len, few)), 1)
        )
        coarse = self.args.bf16 or self.args.fp16 or _quantized(self.model)
        if away <= (COARSE_AGREEMENT if coarse else AGREEMENT):
            return True
        log.warning(
            "collator=shared_schema: packed rows give other gradients than padded ones (relative "
            "difference %.2g): this run goes on with padded rows, as collator=seq2seq",
            away,
        )
        return False

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
