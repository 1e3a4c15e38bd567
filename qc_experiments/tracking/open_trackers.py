"""Which trackers a run has: its own ``metrics.jsonl``, and the one that ``tracking.name`` names."""

from __future__ import annotations

import logging

from qc_experiments.config.plugins import TRACKERS, load
from qc_experiments.config.schema import RunConfig, TrackingConfig, plain
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


def check_tracking(config: TrackingConfig) -> None:
    """Make sure, before anything is computed, that the tracker can be made.

    ``tracking.name`` is of `TRACKERS`, or the dotted name of a user's function, which takes a `TrackedRun`
    and returns a `Tracker`. Where it has an attribute ``check``, that is called here, with the tracking
    section.

    Raises:
        UserError: if a user's own cannot be imported, or its check says so.
    """
    make = load("tracking.name", config.name, TRACKERS)
    if hasattr(make, "check"):
        make.check(config)


def open_trackers(config: RunConfig, folder: RunFolder) -> Tracker:
    """What a run tells its figures; a service that cannot be started does not end it."""
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
        remote = Guarded(load("tracking.name", name, TRACKERS)(run), title)
    except Exception as error:  # the network, the login, the service: none may end a run
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        log.warning(
            "%s could not be started (%s); all figures are in the run's folder", title, reason
        )
    return Trackers(JsonlTracker(metrics), remote)
