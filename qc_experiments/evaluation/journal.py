"""What was measured of a model is kept until the run has finished, so that nothing is computed twice.

Questions are answered in parts that depend on nothing but the questions, so that a run that was
interrupted answers the rest as it would have without.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qc_experiments.evaluation.answering import Predicted
from qc_experiments.processes import is_main_process


class Journal:
    """The loss and the answers of one model, in a file of JSON lines.

    Args:
        path: the file; it is made with the first answers.
        model: tells which model answers; a file about another one is begun anew.
    """

    def __init__(self, path: Path, model: str) -> None:
        self._path = path
        self._model = model
        self._loss: float | None = None
        self._known = self._read()

    def __len__(self) -> int:
        """Answers that are kept."""
        return sum(map(len, self._known.values()))

    @property
    def loss(self) -> float | None:
        """The validation loss in nats a label token, or None."""
        return self._loss

    def keep_loss(self, loss: float) -> None:
        """Keep the validation loss.

        Args:
            loss: in nats a label token.

        Raises:
            OSError: if it cannot be written.
        """
        self._loss = loss
        self._append({"loss": loss})

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
        }
        self._append(part)

    def _append(self, part: Mapping[str, Any]) -> None:
        if not is_main_process():
            return
        line = {"model": self._model, **part}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Forget all."""
        if is_main_process():
            self._path.unlink(missing_ok=True)

    def _read(self) -> dict[tuple[int, ...], list[Predicted]]:
        found: dict[tuple[int, ...], list[Predicted]] = {}
        whole = 0
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except OSError:
            return found
        for line in lines:
            try:
                part = json.loads(line)
                if not line.endswith(b"\n") or part["model"] != self._model:
                    break
                if "loss" in part:
                    self._loss = float(part["loss"])
                    whole += len(line)
                    continue
                pairs = zip(part["sql"], part["after_repair"], strict=True)
                found[tuple(part["rows"])] = [Predicted(*both) for both in pairs]
            except (ValueError, KeyError, TypeError):
                break  # torn: it and what follows is answered again
            whole += len(line)
        if whole < sum(map(len, lines)) and is_main_process():
            os.truncate(self._path, whole)
        return found
