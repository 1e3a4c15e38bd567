"""transformers' Trainer, with a loss that counts label tokens and a validation that counts them too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import Trainer

from qc_experiments.evaluation.loss import summed_loss

Measure = Callable[[Any], dict[str, float]]


class TextToSqlTrainer(Trainer):
    """Trainer whose loss is normalised by the label tokens of the whole effective batch.

    So neither accumulation steps nor devices nor padding change the objective, and logits are
    computed only where there is a label.

    Args:
        measure: called with the model at each evaluation; returns the figures, such as
            ``eval_loss``.
        arguments: those of `transformers.Trainer`.
    """

    loss_is_scaled_for_ga = True  # compute_loss divides by the labels of all accumulated batches

    def __init__(self, *, measure: Measure, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._measure = measure
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
