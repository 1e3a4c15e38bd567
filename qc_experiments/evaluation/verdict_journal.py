"""Verdicts are kept until the evaluation has finished, so that an interruption does not lose them."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qc_experiments.judging.verdict import Verdict
from qc_experiments.system.unfinished import Lines, written


class VerdictJournal:
    """The verdicts on some predictions, in a file of JSON lines.

    Args:
        path: the file; it is made with the first verdict.
        work: tells on which predictions, golds and databases.
        option: what the user calls the output, with its value, for messages.

    Attributes:
        known: verdicts by the place of their row.
        seconds: that earlier starts took.
    """

    def __init__(self, path: Path, work: str, option: str) -> None:
        self.known: dict[int, Verdict] = {}
        self.seconds = 0.0
        self._added = 0
        self._option = option
        self._lines = Lines(path, work, self._take)
        self._started = time.perf_counter()
        self._writing = threading.Lock()

    def __len__(self) -> int:
        """Verdicts that are kept."""
        return len(self.known) + self._added

    @property
    def dropped(self) -> bool:
        """Whether the file was about other predictions, golds or databases."""
        return self._lines.dropped

    def add(self, place: int, verdict: Verdict) -> None:
        """Keep a verdict for later starts; several threads may do so.

        Args:
            place: of its row.
            verdict: on the prediction there.

        Raises:
            UserError: if it cannot be written.
        """
        seconds = self.seconds + time.perf_counter() - self._started
        line = {"place": place, "verdict": asdict(verdict), "seconds": seconds}
        with self._writing, written(self._option):
            self._lines.append(line, forced=False)  # hundreds per second; a power cut may cost some
            self._added += 1

    def remove(self) -> None:
        """Forget all."""
        self._lines.remove()

    def _take(self, line: dict[str, Any]) -> None:
        self.known[int(line["place"])] = Verdict(**line["verdict"])
        self.seconds = float(line["seconds"])
