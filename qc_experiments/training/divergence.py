"""Notice a training that diverges before it spoils the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qc_experiments.errors import UserError

EXPLODED = 3.0  # a loss so many times that of blind guessing has exploded
NAMED_ROWS = 20  # rows of a step that are named


class LossWatch:
    """Watches the loss of each optimizer step; guessing blindly has that of the vocabulary's logarithm."""

    def __init__(self, vocabulary: int) -> None:
        self._limit = EXPLODED * math.log(vocabulary)
        self._loss = 0.0
        self._rows: list[int] = []

    def add(self, step: int, loss: float, rows: Sequence[int]) -> None:
        """Refuse to go on where the step's loss is not finite, or has exploded."""
        self._loss += loss
        self._rows += rows
        if not math.isfinite(self._loss):
            self._stop(step, f"the loss is {self._loss}", rows)
        if self._loss > self._limit:
            self._stop(step, f"the loss has exploded to {self._loss:.1f}", self._rows)

    def check_gradient(self, step: int, norm: float) -> None:
        """Refuse to go on where the gradient of a step is not finite."""
        if not math.isfinite(norm):
            self._stop(step, f"the gradient's norm is {norm}", self._rows)

    def end_step(self) -> None:
        """Begin with the next step."""
        self._loss, self._rows = 0.0, []

    def _stop(self, step: int, what: str, rows: Sequence[int]) -> None:
        named = ", ".join(map(str, sorted(rows)[:NAMED_ROWS]))
        more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
        raise UserError(
            f"step {step}: {what} (training rows {named}{more}); the training was stopped and the last "
            "checkpoint kept: look at those rows, or set a lower trainer.learning_rate or a lower "
            "trainer.max_grad_norm"
        )
