"""Where figures go while a run is under way: one small protocol, and the trackers that follow it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

Figure = float | int | str | bool | None


class Tracker(Protocol):
    """What a run tells its trackers. No method may change what the run computes."""

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Figures of one moment, such as loss and learning rate at an optimizer step."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Figure]]) -> None:
        """A table, such as the predictions."""

    def summary(self, figures: Mapping[str, Figure]) -> None:
        """The final figures."""

    def close(self, exit_code: int) -> None:
        """The end of the run; 0 means that it succeeded."""


class NullTracker:
    """Tracks nothing, so that nobody has to ask whether there is a tracker."""

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Do nothing."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Figure]]) -> None:
        """Do nothing."""

    def summary(self, figures: Mapping[str, Figure]) -> None:
        """Do nothing."""

    def close(self, exit_code: int) -> None:
        """Do nothing."""


class JsonlTracker:
    """Writes ``metrics.jsonl``: one JSON object a line, ``step`` first, flushed at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Write one line."""
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        self._file.flush()

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Figure]]) -> None:
        """Do nothing: tables are files of their own."""

    def summary(self, figures: Mapping[str, Figure]) -> None:
        """Do nothing: the final figures are ``result.json``."""

    def close(self, exit_code: int) -> None:
        """Close the file."""
        self._file.close()


class Trackers:
    """Several trackers as one."""

    def __init__(self, *trackers: Tracker) -> None:
        self._trackers = trackers

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Tell each."""
        for tracker in self._trackers:
            tracker.log(step, figures)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Figure]]) -> None:
        """Tell each."""
        for tracker in self._trackers:
            tracker.table(name, columns, rows)

    def summary(self, figures: Mapping[str, Figure]) -> None:
        """Tell each."""
        for tracker in self._trackers:
            tracker.summary(figures)

    def close(self, exit_code: int) -> None:
        """Tell each."""
        for tracker in self._trackers:
            tracker.close(exit_code)
