"""What each job of a sweep will be: a run of its own, a run that is there already, or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from qc_experiments.config.compose import composed, explain, to_run_config
from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError
from qc_experiments.sweeps.outlook import Outlook

MOST_JOBS = 300
"""Jobs that are looked at; each takes some hundredths of a second."""


@dataclass(frozen=True)
class Preview:
    """The jobs of a sweep, looked at one by one.

    Attributes:
        lines: one for each job.
        runs: how many different runs there are among those that are not refused.
        refused: how many jobs will be refused.
    """

    lines: tuple[str, ...]
    runs: int
    refused: int


def preview(ahead: Outlook, overrides: Sequence[str], config_dir: str | None) -> Preview:
    """Look at the jobs of a sweep.

    Args:
        ahead: what is known of it; its jobs are known.
        overrides: of the command line, checked.
        config_dir: the user's folder of option files, or None.
    """
    fixed = [one for one in overrides if one.partition("=")[0] not in ahead.keys]
    look = _looking()
    first: dict[str, int] = {}
    lines = []
    refused = 0
    jobs = ahead.jobs or ()
    for number, job in enumerate(jobs):
        line = f"Job {number}: {' '.join(job)}"
        if number < MOST_JOBS:
            name, reason = look(partial(_config, (*fixed, *job), config_dir))
            if reason is not None:
                refused += 1
                line += f"\n  will be refused: {reason}"
            elif first.setdefault(name, number) != number:
                line += f" (the same run as job {first[name]})"
        lines.append(line)
    return Preview(tuple(lines), len(first) + max(0, len(jobs) - MOST_JOBS), refused)


def _config(overrides: Sequence[str], config_dir: str | None) -> RunConfig:
    return to_run_config(composed(overrides, config_dir))


def _looking() -> Callable[[Callable[[], RunConfig]], tuple[str, str | None]]:
    """A function that tells of a config the name of its run, or why it is refused.

    Rows are read once for all jobs that have the same, and tokenized once for each model and adapter.
    """
    from qc_experiments.runs.train import plan_of, run_folder
    from qc_experiments.tracking.open_trackers import check_tracking
    from qc_experiments.training.inputs import load_data

    known: dict[str, Any] = {}

    def once(what: object, make: Callable[[], Any]) -> Any:
        key = repr(what)
        if key not in known:
            try:
                known[key] = make()
            except UserError as error:
                known[key] = error
        if isinstance(known[key], UserError):
            raise known[key]
        return known[key]

    def look(make_config: Callable[[], RunConfig]) -> tuple[str, str | None]:
        try:
            config = make_config()
            rows = (config.data, config.evaluation)
            data = once(("rows", *rows), lambda: load_data(config))
            folder = run_folder(config, data)
            if folder.finished() is None:
                folder.check_owner(config)
            once(("tracking", config.tracking), lambda: check_tracking(config.tracking))
            planned = ("plan", *rows, config.model, config.lora, config.quant)
            once(planned, lambda: plan_of(config, data))
        except Exception as error:
            reason = explain(error)
            if reason is None:
                raise
            return "", reason
        return folder.path.name, None

    return look
