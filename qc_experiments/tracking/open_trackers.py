"""Which trackers a run has: its own ``metrics.jsonl``, and the one that ``tracking.name`` names."""

from __future__ import annotations

import logging

from qc_experiments.config.plugins import TRACKERS, load
from qc_experiments.config.schema import RunConfig, TrackingConfig, plain
from qc_experiments.errors import RAISED, UserError, in_one_line
from qc_experiments.records.folder import RunFolder
from qc_experiments.system.processes import is_main_process
from qc_experiments.system.secrets import redacted_tree
from qc_experiments.tracking.tracker import (
    Guarded,
    JsonlTracker,
    NullTracker,
    TrackedRun,
    Tracker,
    Trackers,
    logged_figures,
)

log = logging.getLogger(__name__)
TITLES = {"wandb": "Weights & Biases"}
METHODS = ("log", "table", "summary", "close")
"""Of a `Tracker`."""


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


def open_trackers(config: RunConfig, folder: RunFolder) -> Tracker:
    """What a run tells its figures; a service that cannot be started does not end it.

    Raises:
        UserError: if a user's own gives no tracker.
    """
    if not is_main_process():
        return NullTracker()
    metrics = folder / "metrics.jsonl"
    name = config.tracking.name
    title = TITLES.get(name, name)
    run = TrackedRun(
        config=config.tracking,
        folder=folder.path,
        run_id=folder.identity.run_id,
        name=folder.identity.name,
        settings=redacted_tree(plain(config)),
        logged=logged_figures(metrics),
    )
    remote: Tracker = NullTracker()
    try:
        remote = load("tracking.name", name, TRACKERS)(run)
    except RAISED as error:  # the network, the login, the service: none may end a run
        log.warning(
            "%s could not be started (%s); all figures are in the run's folder",
            title,
            in_one_line(error),
        )
    _check_methods(name, remote)
    return Trackers(JsonlTracker(metrics), Guarded(remote, title))
