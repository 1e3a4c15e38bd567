"""The jobs of a sweep: each is run in the worker, or its share of a round is, and reports what came of it."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from qc_experiments.config.compose import explain
from qc_experiments.config.metrics import LOSS
from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError, in_one_line
from qc_experiments.sweeps.halving import Report, Round, Sweep, shares, tell
from qc_experiments.sweeps.preview import SweepPlan, job_config
from qc_experiments.sweeps.worker import Outcome, Worker
from qc_experiments.system.paths import hash_texts
from qc_experiments.system.reading import Unreadable
from qc_experiments.system.words import duration

log = logging.getLogger(__name__)

FOLDER_PREFIX = ".sweep_"
"""It stands beside the runs, since nothing else is sure to be seen from a cluster's machines."""
ABOUT = "sweep.json"
"""In that folder: how many jobs there are, in which keys they differ, and each one's threads."""
AT_ONCE = 2.0
"""Seconds below which a job had nothing to do."""


class Jobs:
    """What Hydra calls for each job of a sweep, in whatever process its launcher has started.

    Args:
        place: the folder through which jobs and sweep speak.
        sweep: the process that runs the sweep.
        command: by which that was started.
    """

    def __init__(self, place: Path, sweep: int, command: tuple[str, ...]) -> None:
        self._place = place
        self._sweep = sweep
        self._command = command
        self._worker = Worker(sweep, command)
        self._pace: list[tuple[int, float]] = []  # round and seconds of each job run here

    def __reduce__(self) -> tuple[Any, ...]:
        """A launcher sends it to its processes, of which each has one for the whole sweep."""
        return _here, (self._place, self._sweep, self._command)

    def __call__(self, given: DictConfig) -> float | None:
        """Run a job, or this round's share of it; returns the objective, None if there is none."""
        from hydra.core.hydra_config import HydraConfig

        try:
            about = json.loads((self._place / ABOUT).read_text(encoding="utf-8"))
        except OSError:
            about = {}
        job, task = HydraConfig.get().job.num, HydraConfig.get().overrides.task
        # Those in which the jobs of the sweep differ, as far as that is known.
        swept = [one for one in task if one.partition("=")[0] in about.get("keys", ())]
        overrides = " ".join(swept or task)
        now = Round.read(self._place)
        if now.jobs is not None and job not in now.jobs:
            return None
        try:
            config = job_config(given)
        except Exception as error:  # one failing job must not end the others
            reason = explain(error) or f"{type(error).__name__}: {error}"
            self._tell(Report(job, overrides, "failed", reason), now)
            return None
        halving = config.sweep.halving
        jobs = now.jobs or range(about.get("jobs") or 0)
        log.info("\nJob %s%s: %s", job, self._progress(job, jobs, now, halving), overrides)
        started = time.perf_counter()
        report = self._run(job, overrides, config, now, about.get("threads"))
        self._tell(report, now)
        self._pace.append((now.number, time.perf_counter() - started))
        return report.objective

    def close(self) -> None:
        """End the process in which jobs run."""
        self._worker.close()

    def _run(
        self, job: int, overrides: str, config: RunConfig, now: Round, threads: int | None
    ) -> Report:
        try:
            share = shares(config.sweep.halving)[now.number]
            outcome = self._worker.run(config, share, threads)
        except Exception as error:  # submitit's, say, when a job's time is up for the last time
            outcome = Outcome("failed", error=in_one_line(error))
        try:
            folders = _folders(config, outcome)
        except Exception:  # which is why the job failed, and it has said so: the others must go on
            folders = ()
        result = outcome.result or {}
        return Report(
            job,
            overrides,
            outcome.status,
            outcome.error,
            folders,
            result.get(config.objective),  # result.json may be older than the choice of it
            config.metric(config.objective).higher_is_better,
            config.sweep.halving,
            result.get("steps"),
            _measured_on(config, folders),
        )

    def _progress(self, job: int, jobs: Sequence[int], now: Round, halving: int | None) -> str:
        """`` (3 of 12; about 20 min left)``, as far as that is known."""
        if job not in jobs:
            return ""
        place = jobs.index(job)
        text = f"{place + 1} of {len(jobs)}"
        # What took no time had finished before; other launchers' jobs run beside each other.
        seconds = [s for number, s in self._pace if number == now.number and s > AT_ONCE]
        if seconds and self._sweep == os.getpid():
            left = sum(seconds) / len(seconds) * (len(jobs) - place)
            text += f"; about {duration(left)} left" + (" for this round" if halving else "")
        return f" ({text})"

    def _tell(self, report: Report, now: Round) -> None:
        if report.error is not None:
            log.error("job %s failed: %s", report.job, report.error)
        try:
            tell(self._place, now.number, report)
        except FileNotFoundError:
            raise UserError(
                f"{self._place.parent}: was deleted or moved while the sweep was running: run the same "
                "command again"
            ) from None
        except OSError as error:  # the run's own folder has all of it
            log.error("job %s cannot be reported to the sweep (%s)", report.job, error)


@lru_cache(maxsize=1)
def _here(place: Path, sweep: int, command: tuple[str, ...]) -> Jobs:
    """This process's jobs of a sweep: joblib's takes several, which then share a worker."""
    return Jobs(place, sweep, command)


def _measured_on(config: RunConfig, folders: Sequence[str]) -> str | None:
    """A hash of what a run's objective depends on besides its model; None where it left no folder."""
    from qc_experiments.config.determining import Affects, settings_affecting
    from qc_experiments.records.results import read_environment

    try:
        rows = [read_environment(Path(folder)).evaluation_hash for folder in folders[:1]]
    except (Unreadable, OSError):
        return None
    of_losses = config.objective == LOSS.key
    settings = settings_affecting(Affects.LOSS if of_losses else Affects.JUDGING, config)
    # Losses of several models are warned of when the sweep is planned.
    about = {key: value for key, value in settings.items() if not key.startswith("model.")}
    return hash_texts(json.dumps([rows, about], sort_keys=True, default=str)) if rows else None


def _folders(config: RunConfig, outcome: Outcome) -> tuple[str, ...]:
    """Folders of the run; where its process could not write down how it ended, that is done here."""
    hashed = None if outcome.result is None else outcome.result.get("config_hash")
    if hashed is not None:
        output = Path(config.paths.output).expanduser()
        return tuple(str(path) for path in output.glob(f"*-{hashed[:8]}"))
    from qc_experiments.records.find import is_run
    from qc_experiments.runs.train import run_folder
    from qc_experiments.training.inputs import load_data

    folder = run_folder(config, load_data(config))
    if not is_run(folder.path):
        return ()
    if outcome.status == "died" and folder.finished() is None:
        hashed = folder.identity.config_hash
        folder.result({"status": "failed", "config_hash": hashed, "error": outcome.error})
    return (str(folder.path),)


@contextmanager
def sweeping(plan: SweepPlan | None) -> Iterator[tuple[Sweep, Jobs]]:
    """A sweep and its jobs, with the folder through which they speak: in that of the runs, if it is known."""
    output = None if plan is None else plan.output
    try:
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
        place = tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, dir=output)
    except OSError:  # Hydra is about to say so
        place = tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX)
    with place as folder:
        known = () if plan is None else plan.jobs or ()
        if plan is not None:
            about = {"keys": plan.keys, "jobs": len(known), "threads": plan.threads_per_job()}
            (Path(folder) / ABOUT).write_text(json.dumps(about), encoding="utf-8")
        jobs = Jobs(Path(folder), os.getpid(), tuple(sys.argv))
        try:
            yield Sweep(Path(folder), [" ".join(one) for one in known]), jobs
        finally:
            jobs.close()
