"""Where figures go while a run is under way: one small protocol, and the trackers that follow it."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from qc_experiments.config.schema import TrackingConfig
from qc_experiments.errors import RAISED, in_one_line

log = logging.getLogger(__name__)

CLOSING_SECONDS = 120.0
"""How long a service may take to close its run."""

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


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is made of.

    Attributes:
        config: the tracking section.
        folder: the run's folder.
        run_id: stays the same when the same run is started again.
        name: of the run.
        settings: the whole config, nested, without secrets.
        logged: figures of the steps before this start, by step.
    """

    config: TrackingConfig
    folder: Path
    run_id: str
    name: str
    settings: dict[str, Any]
    logged: Sequence[tuple[int, Mapping[str, Figure]]] = ()


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


def no_tracker(run: TrackedRun) -> NullTracker:
    """``tracking.name=none``."""
    return NullTracker()


class JsonlTracker(NullTracker):
    """Writes ``metrics.jsonl``: one JSON object per line, ``step`` first, flushed at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Write one line.

        Raises:
            FileNotFoundError: if the file was deleted, so that nobody would find the line.
        """
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        self._file.flush()
        if not os.fstat(self._file.fileno()).st_nlink:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._file.name)

    def close(self, exit_code: int) -> None:
        """Close the file."""
        self._file.close()


def logged_figures(path: Path) -> list[tuple[int, dict[str, Figure]]]:
    """What ``metrics.jsonl`` holds: figures by step."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(line.pop("step"), line) for line in lines]


class Guarded:
    """A tracker whose failures do not end a run: one warning, and nothing more is sent to it.

    Args:
        tracker: may fail.
        name: of the service, for the warning.
    """

    def __init__(self, tracker: Tracker, name: str) -> None:
        self._service = tracker
        self._tracker: Tracker = tracker
        self._name = name

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Tell it, if it still listens."""
        self._try(self._tracker.log, step, figures)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Figure]]) -> None:
        """Tell it, if it still listens."""
        self._try(self._tracker.table, name, columns, rows)

    def summary(self, figures: Mapping[str, Figure]) -> None:
        """Tell it, if it still listens."""
        self._try(self._tracker.summary, figures)

    def close(self, exit_code: int) -> None:
        """Tell it, if it still listens; a service that does not answer is not waited for."""
        # A service that failed is closed as well, or it would take the figures of the next run.
        told = (self._service.close, exit_code)
        closing = threading.Thread(target=self._try, args=told, daemon=True)
        closing.start()
        closing.join(CLOSING_SECONDS)
        if closing.is_alive():
            self._give_up(f"no answer for {CLOSING_SECONDS:.0f} s")

    def _try(self, told: Callable[..., None], *what: Any) -> None:
        try:
            told(*what)
        except RAISED as error:  # whatever a service fails with, the run's own files are whole
            self._give_up(in_one_line(error))

    def _give_up(self, reason: str) -> None:
        if isinstance(self._tracker, NullTracker):
            return  # the user has been told
        log.warning(
            "%s failed and gets no more data (%s); all figures are in the run's folder",
            self._name,
            reason,
        )
        self._tracker = NullTracker()


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
