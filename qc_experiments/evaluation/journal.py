"""What was computed is kept until the work has finished, so that an interruption loses little of it.

Questions are answered in parts that depend on nothing but the questions, so that a run that was
interrupted answers the rest as it would have without.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qc_experiments.generation.choosing import Predicted
from qc_experiments.system.unfinished import Lines


class Journal:
    """The loss and the answers of one model, in a file of JSON lines.

    Args:
        path: the file; it is made with the first answers.
        model: tells which model answers; a file about another one is started again.
    """

    def __init__(self, path: Path, model: str) -> None:
        self._loss: float | None = None
        self._also_loss: float | None = None
        self._known: dict[tuple[int, ...], list[Predicted]] = {}
        self._lines = Lines(path, model, self._take)

    @property
    def dropped(self) -> bool:
        """Whether the file was about another model."""
        return self._lines.dropped

    def __len__(self) -> int:
        """Answers that are kept."""
        return sum(map(len, self._known.values()))

    @property
    def loss(self) -> float | None:
        """The validation loss in nats per label token, or None."""
        return self._loss

    @property
    def also_loss(self) -> float | None:
        """The loss on ``data.also_evaluate`` in nats per label token, or None."""
        return self._also_loss

    def keep_loss(self, loss: float, also: float | None = None) -> None:
        """Keep the validation loss.

        Args:
            loss: in nats per label token.
            also: on ``data.also_evaluate``, or None.

        Raises:
            OSError: if it cannot be written.
        """
        self._loss, self._also_loss = loss, also
        self._lines.append({"loss": loss, "also_loss": also})

    def answers(self, rows: Sequence[int]) -> list[Predicted] | None:
        """What was answered to these rows, or None.

        Args:
            rows: numbers of a part's rows.
        """
        return self._known.get(tuple(rows))

    def add(self, rows: Sequence[int], answers: Sequence[Predicted]) -> None:
        """Keep the answers of a part.

        Args:
            rows: numbers of the part's rows.
            answers: to them, in the same order.

        Raises:
            OSError: if they cannot be written.
        """
        self._known[tuple(rows)] = list(answers)
        part = {
            "rows": list(rows),
            "sql": [one.sql for one in answers],
            "after_repair": [one.after_repair for one in answers],
            "candidates": [one.candidates for one in answers],
            "confidence": [one.confidence for one in answers],
        }
        self._lines.append(part)

    def remove(self) -> None:
        """Forget all."""
        self._lines.remove()

    def _take(self, part: dict[str, Any]) -> None:
        if "loss" in part:
            self._loss, self._also_loss = float(part["loss"]), part.get("also_loss")
            return
        candidates = map(tuple, part["candidates"])
        sure = part.get("confidence", [None] * len(part["sql"]))  # older ones have none
        kept = zip(part["sql"], part["after_repair"], candidates, sure, strict=True)
        self._known[tuple(part["rows"])] = [Predicted(*each) for each in kept]
