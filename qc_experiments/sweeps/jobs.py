"""The jobs of a sweep: each is run in the worker, says what came of it, and may be one of several rungs.

With ``sweep.halving`` the grid is gone through several times: all jobs train for a share of their steps,
the better ones go on. What is left of a rung is decided by the process that runs the sweep; the jobs read
it from a file, since a launcher may run them in other processes.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError
from qc_experiments.sweeps.outlook import Outlook
from qc_experiments.sweeps.worker import SWEEPS_PROCESS, Outcome, Worker
from qc_experiments.system.progress import duration

log = logging.getLogger(__name__)

PLACE = "QC_SWEEP_FOLDER"
"""Names the folder through which jobs and sweep speak, in whatever process they run."""
FOLDER_PREFIX = ".sweep_"
"""It stands beside the runs, since nothing else is sure to be seen from a cluster's machines."""
ABOUT = "sweep.json"
"""In that folder: how many jobs there are, in which keys they differ, and each one's threads."""
FIRST_RUNG = 8
"""The first rung of a halving trains about one step in so many."""


@dataclass(frozen=True)
class Report:
    """What came of a job.

    Attributes:
        job: its number.
        overrides: what it was given.
        status: ``finished``, ``paused``, ``failed``, ``interrupted`` or ``died``.
        error: one line, or None.
        folders: run folders that are its.
        objective: the figure that the sweep compares, or None.
        greater_is_better: whether more of it is better.
        halving: one in how many goes on; None where every job goes to its end.
        steps: that it has trained for, where that is known.
    """

    job: int
    overrides: str
    status: str
    error: str | None = None
    folders: tuple[str, ...] = ()
    objective: float | None = None
    greater_is_better: bool = False
    halving: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Rung:
    """One pass over the jobs.

    Attributes:
        number: counts from 0.
        jobs: those that take part; None for all.
    """

    number: int = 0
    jobs: tuple[int, ...] | None = None


def shares(halving: int | None) -> list[float]:
    """The share of its steps that a job has taken at the end of each rung; the last is 1.

    Args:
        halving: one in how many goes on, or None.
    """
    if halving is None:
        return [1.0]
    rungs = max(1, round(math.log(FIRST_RUNG) / math.log(halving)))
    return [float(halving) ** -n for n in range(rungs, -1, -1)]


def swept_part(overrides: Sequence[str]) -> str:
    """Those of a job's overrides in which the jobs of its sweep differ; all where that is not known."""
    keys = _about().get("keys")
    kept = [one for one in overrides if keys is None or one.partition("=")[0] in keys]
    return " ".join(kept or overrides)


def _progress(job: int, rung: Rung, halved: bool) -> str:
    """`` (3 of 12; about 20 min left)``, as far as that is known."""
    known = _about()
    jobs = list(range(known["jobs"])) if rung.jobs is None and known.get("jobs") else rung.jobs
    if not jobs or job not in jobs:
        return ""
    place = list(jobs).index(job)
    text = f"{place + 1} of {len(jobs)}"
    # What took no time had finished before; other launchers' jobs run beside each other.
    seconds = [s for number, s in _pace if number == rung.number and s > AT_ONCE]
    if seconds and os.environ.get(SWEEPS_PROCESS) == str(os.getpid()):
        left = sum(seconds) / len(seconds) * (len(jobs) - place)
        text += f"; about {duration(left)} left" + (" for this rung" if halved else "")
    return f" ({text})"


AT_ONCE = 2.0
"""Seconds below which a job had nothing to do."""
_pace: list[tuple[int, float]] = []
"""Rung and seconds of each job that this process has seen to."""
_worker = Worker()
atexit.register(_worker.close)


def take(job: int, overrides: str, config: RunConfig) -> float | None:
    """Run a job, or this rung's share of it; returns the objective, None if there is none.

    Args:
        job: its number.
        overrides: what it was given.
        config: the whole, checked config.
    """
    rung = _rung()
    if rung.jobs is not None and job not in rung.jobs:
        return None
    halved = config.sweep.halving is not None
    log.info("\nJob %s%s: %s", job, _progress(job, rung, halved), overrides)
    started = time.perf_counter()
    share = shares(config.sweep.halving)[rung.number]
    try:
        outcome = _worker.run(config, share, _about().get("threads"))
    except Exception as error:  # submitit's, say, when a job's time is up for the last time
        outcome = Outcome("failed", error=" ".join(f"{type(error).__name__}: {error}".split()))
    try:
        folders = _folders(config, outcome)
    except (UserError, OSError):  # which is why the job failed; it has said so
        folders = ()
    result = outcome.result or {}
    objective = result.get(config.objective)  # result.json may be older than the choice of it
    report = Report(
        job,
        overrides,
        outcome.status,
        outcome.error,
        folders,
        objective,
        config.metric(config.objective).higher_is_better,
        config.sweep.halving,
        result.get("steps"),
    )
    _tell(report)
    _pace.append((rung.number, time.perf_counter() - started))
    return objective


def refuse(job: int, overrides: str, error: str) -> None:
    """Report a job whose config is no good; in later rungs it is not there any more."""
    jobs = _rung().jobs
    if jobs is not None and job not in jobs:
        return
    _tell(Report(job, overrides, "failed", error))


def close_worker() -> None:
    """End the process in which jobs run."""
    _worker.close()


def _folders(config: RunConfig, outcome: Outcome) -> tuple[str, ...]:
    """Folders of the run; where its process could not write down how it ended, that is done here."""
    hashed = None if outcome.result is None else outcome.result.get("config_hash")
    if hashed is not None:
        output = Path(config.paths.output).expanduser()
        return tuple(str(path) for path in output.glob(f"*-{hashed[:8]}"))
    from qc_experiments.comparison.runs import is_run
    from qc_experiments.runs.train import run_folder
    from qc_experiments.training.inputs import load_data

    folder = run_folder(config, load_data(config))
    if not is_run(folder.path):
        return ()
    if outcome.status == "died" and folder.finished() is None:
        hashed = folder.identity.config_hash
        folder.result({"status": "failed", "config_hash": hashed, "error": outcome.error})
    return (str(folder.path),)


def _tell(report: Report) -> None:
    if report.error is not None:
        log.error("job %s failed: %s", report.job, report.error)
    place = os.environ.get(PLACE)
    if place is None:
        return
    try:
        with (Path(place) / f"rung{_rung().number}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(report)) + "\n")
    except FileNotFoundError:
        raise UserError(
            f"{Path(place).parent}: was deleted or moved while the sweep was at work: run the same command "
            "again"
        ) from None
    except OSError as error:  # the run's own folder has all of it
        log.error("job %s cannot be reported to the sweep (%s)", report.job, error)


def _about() -> dict[str, Any]:
    """What the sweep has written down for its jobs; empty where there is no sweep."""
    place = os.environ.get(PLACE)
    try:
        found: dict[str, Any] = json.loads((Path(place or "") / ABOUT).read_text(encoding="utf-8"))
    except OSError:
        return {}
    return found


def _rung() -> Rung:
    place = os.environ.get(PLACE)
    try:
        found = json.loads((Path(place or "") / "rung.json").read_text(encoding="utf-8"))
    except OSError:
        return Rung()
    return Rung(found["number"], None if found["jobs"] is None else tuple(found["jobs"]))


class Sweep:
    """What the jobs of a sweep have reported so far.

    Args:
        place: the folder through which they report.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._number = 0
        self._jobs: list[int] | None = None  # of this rung; None says all
        self._steps: dict[int, int | None] = {}  # of each job at the last choice
        self.reports: dict[int, Report] = {}

    def gather(self) -> None:
        """Read what the jobs of this rung have reported."""
        path = self._place / f"rung{self._number}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            report = Report(**json.loads(line))
            self.reports[report.job] = report

    def failed(self) -> list[Report]:
        """The jobs that did not get to where they should have."""
        return [report for report in self.reports.values() if report.error is not None]

    def next_rung(self) -> bool:
        """Choose who goes on, for another pass over the jobs; False where nobody has to."""
        here = [self.reports[job] for job in (self.reports if self._jobs is None else self._jobs)]
        resting = [report for report in here if report.status == "paused"]
        if not resting or resting[0].halving is None:
            return False
        halving = resting[0].halving
        kept, why = self._better(resting, halving)
        log.info(
            "\nBehind %.3g of their steps, %d of %d runs go on%s: %s",
            shares(halving)[self._number],
            len(kept),
            len(resting),
            why,
            "all" if len(kept) == len(resting) else f"jobs {', '.join(map(str, sorted(kept)))}",
        )
        self._steps = {report.job: report.steps for report in resting}
        self._number += 1
        self._jobs = sorted(kept)
        rung = {"number": self._number, "jobs": self._jobs}
        (self._place / "rung.json").write_text(json.dumps(rung), encoding="utf-8")
        return True

    def _better(self, resting: Sequence[Report], halving: int) -> tuple[list[int], str]:
        """The jobs that go on, and why they are more than one in `halving`."""
        steps = {report.job: report.steps for report in resting}
        if None not in steps.values() and all(self._steps.get(job) == steps[job] for job in steps):
            return list(steps), " (no step was taken since the last choice)"
        sign = -1 if resting[0].greater_is_better else 1
        worth = {
            r.job: sign * r.objective
            if r.objective is not None and math.isfinite(r.objective)
            else math.inf
            for r in resting
        }
        ranked = sorted(worth, key=lambda job: (worth[job], job))
        count = math.ceil(len(ranked) / halving)
        border = worth[ranked[count - 1]]
        if border == math.inf:
            return ranked[:count], ""
        # A choice between equals would go by the order in which they were named.
        kept = [job for job in ranked if worth[job] <= border]
        return kept, " (some are equal)" if len(kept) > count else ""


@contextmanager
def sweeping(ahead: Outlook | None) -> Iterator[Sweep]:
    """Listen to the jobs of a sweep.

    Args:
        ahead: what is known of it; None keeps what the jobs report among the system's temporary files.
    """
    output = None if ahead is None else ahead.output
    try:
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
        place = tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, dir=output)
    except OSError:  # Hydra is about to say so
        place = tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX)
    with place as folder:
        if ahead is not None:
            jobs = None if ahead.jobs is None else len(ahead.jobs)
            threads = ahead.threads_per_job()
            about = json.dumps({"keys": ahead.keys, "jobs": jobs, "threads": threads})
            (Path(folder) / ABOUT).write_text(about, encoding="utf-8")
        os.environ[PLACE] = folder
        os.environ[SWEEPS_PROCESS] = str(os.getpid())
        sweep = Sweep(Path(folder))
        try:
            yield sweep
        finally:
            del os.environ[PLACE], os.environ[SWEEPS_PROCESS]
            close_worker()


def closing_lines(reports: Sequence[Report]) -> list[str]:
    """What is said at the end of a sweep about jobs that failed, each error once."""
    by_error: dict[str, list[Report]] = {}
    for report in sorted(reports, key=lambda report: report.job):
        by_error.setdefault(report.error or "", []).append(report)
    return [f"{_named(failed)}: {error}" for error, failed in by_error.items()]


def _named(reports: Sequence[Report]) -> str:
    if len(reports) == 1:
        return f"job {reports[0].job} ({reports[0].overrides})"
    return f"jobs {', '.join(str(report.job) for report in reports)}"
