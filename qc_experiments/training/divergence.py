"""Notice a training that diverges before it spoils the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from qc_experiments.errors import UserError

EXPLODED = 3.0  # a loss so many times that of blind guessing has exploded
NAMED_ROWS = 20  # rows of a step that are named


class LossWatch:
    """Watches the loss of each optimizer step; guessing blindly has that of the vocabulary's logarithm.

    Losses stay where they were computed until the step is whole: a look at each would have a GPU wait.
    """

    def __init__(self, vocabulary: int) -> None:
        self._limit = EXPLODED * math.log(vocabulary)
        self._parts: list[tuple[Tensor, Sequence[int]]] = []

    def add(self, loss: Tensor, rows: Sequence[int]) -> None:
        """Take a micro-batch's share of the step's loss, and the rows that it is of."""
        self._parts.append((loss, rows))

    def end_step(self, step: int, gradient_norm: float | None) -> None:
        """Refuse to go on where loss or gradient are not finite, or the loss has exploded.

        A ``gradient_norm`` of None is not looked at.
        """
        parts, self._parts = self._parts, []
        total, every = 0.0, [row for _, rows in parts for row in rows]
        for loss, rows in parts:
            total += float(loss)
            if not math.isfinite(total):
                self._stop(step, f"the loss is {total}", rows)
        if total > self._limit:
            self._stop(step, f"the loss has exploded to {total:.1f}", every)
        if gradient_norm is not None and not math.isfinite(gradient_norm):
            self._stop(step, f"the gradient's norm is {gradient_norm}", every)

    def _stop(self, step: int, what: str, rows: Sequence[int]) -> None:
        named = ", ".join(map(str, sorted(rows)[:NAMED_ROWS]))
        more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
        raise UserError(
            f"step {step}: {what} (training rows {named}{more}); the training was stopped and the last "
            "checkpoint kept: look at those rows, or set a lower trainer.learning_rate or a lower "
            "trainer.max_grad_norm"
        )
