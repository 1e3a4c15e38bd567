"""Where a run's figures go: its own ``metrics.jsonl``, and the service that ``tracking.name`` names."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from qc_experiments.config.plugins import TRACKERS, load
from qc_experiments.config.schema import RunConfig, TrackingConfig, plain
from qc_experiments.errors import RAISED, UserError, in_one_line
from qc_experiments.records.folder import RunFolder
from qc_experiments.system.processes import is_main_process
from qc_experiments.system.secrets import redacted_tree

log = logging.getLogger(__name__)

TITLES = {"wandb": "Weights & Biases"}
CLOSING_SECONDS = 120.0
"""How long a service may take to close its run."""

Figure = float | int | str | bool | None


class Tracker(Protocol):
    """What a run tells its tracker. No method may change what the run computes."""

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Figures of one moment, such as loss and learning rate at an optimizer step."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Figure]]) -> None:
        """A table, such as the predictions."""

    def summary(self, figures: Mapping[str, Figure]) -> None:
        """The final figures."""

    def close(self, exit_code: int) -> None:
        """The end of the run; 0 means that it succeeded."""


METHODS = ("log", "table", "summary", "close")


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

    def _do_nothing(self, *what: Any, **named: Any) -> None: ...

    log = table = summary = close = _do_nothing


def no_tracker(run: TrackedRun) -> NullTracker:
    """``tracking.name=none``."""
    return NullTracker()


class RunTracker:
    """Writes ``metrics.jsonl`` and tells a service, whose failures do not end the run.

    After its first failure there is one warning, and nothing more is sent to it.
    """

    def __init__(self, path: Path, service: Tracker, title: str) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._service = service
        self._title = title
        self._failed = False

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Write one JSON object per line, ``step`` first, flushed at once."""
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        self._file.flush()
        if not os.fstat(self._file.fileno()).st_nlink:  # deleted: nobody would find the line
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._file.name)
        self._send("log", step, figures)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Figure]]) -> None:
        """Send a table."""
        self._send("table", name, columns, rows)

    def summary(self, figures: Mapping[str, Figure]) -> None:
        """Send the final figures."""
        self._send("summary", figures)

    def close(self, exit_code: int) -> None:
        """Close the file and the service, which is not waited for if it does not answer."""
        self._file.close()
        closing = threading.Thread(target=self._send, args=("close", exit_code), daemon=True)
        closing.start()
        closing.join(CLOSING_SECONDS)
        if closing.is_alive():
            self._give_up(f"no answer for {CLOSING_SECONDS:.0f} s")

    def _send(self, method: str, *what: Any) -> None:
        # A service that failed is closed as well, or it would take the figures of the next run.
        if self._failed and method != "close":
            return
        try:
            getattr(self._service, method)(*what)
        except RAISED as error:  # whatever a service fails with, the run's own files are whole
            self._give_up(in_one_line(error))

    def _give_up(self, reason: str) -> None:
        if not self._failed:
            log.warning(
                "%s failed (%s); nothing more is sent to it, all figures are in the run's folder",
                self._title,
                reason,
            )
        self._failed = True


def check_tracking(config: TrackingConfig) -> None:
    """Make sure, before anything is computed, that the tracker can be made.

    ``tracking.name`` is of `TRACKERS`, or the dotted name of a user's function, which takes a `TrackedRun`
    and returns a `Tracker`. Where it has an attribute ``check``, that is called here, with the tracking
    section.

    Raises:
        UserError: if a user's own cannot be imported, makes no tracker, or its check says so.
    """
    make = load("tracking.name", config.name, TRACKERS)
    if not callable(make):
        raise UserError(f"tracking.name={config.name}: it is {make!r:.60}, not a function")
    if isinstance(make, type):
        _check_methods(config.name, make)
    if hasattr(make, "check"):
        make.check(config)


def _check_methods(name: str, tracker: object) -> None:
    lacks = [one for one in METHODS if not callable(getattr(tracker, one, None))]
    if lacks:
        kind = tracker.__name__ if isinstance(tracker, type) else type(tracker).__name__
        raise UserError(
            f"tracking.name={name}: its tracker ({kind}) lacks the methods {', '.join(lacks)}"
        )


def open_tracker(config: RunConfig, folder: RunFolder) -> Tracker:
    """What a run tells its figures; a service that cannot be started does not end it."""
    if not is_main_process():
        return NullTracker()
    metrics = folder / "metrics.jsonl"
    name = config.tracking.name
    title = TITLES.get(name, name)
    logged = []
    if metrics.exists():
        lines = map(json.loads, metrics.read_text(encoding="utf-8").splitlines())
        logged = [(line.pop("step"), line) for line in lines]
    run = TrackedRun(
        config=config.tracking,
        folder=folder.path,
        run_id=folder.identity.run_id,
        name=folder.identity.name,
        settings=redacted_tree(plain(config)),
        logged=logged,
    )
    service: Tracker = NullTracker()
    try:
        service = load("tracking.name", name, TRACKERS)(run)
    except RAISED as error:  # the network, the login, the service: none may end a run
        reason = in_one_line(error)
        log.warning(
            "%s could not be started (%s); all figures are in the run's folder", title, reason
        )
    _check_methods(name, service)
    return RunTracker(metrics, service, title)
