"""What the jobs of a sweep report, and which of them go on.

With ``sweep.halving`` the grid is gone through several times: all jobs train for a share of their steps,
the better ones go on. The process that runs the sweep chooses them; the jobs read the choice from a
file, since a launcher may run them in other processes.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from qc_experiments.system.files import write_whole

log = logging.getLogger(__name__)

FIRST_SHARE = 8
"""A run trains for about 1/8 of its steps in the first round of a halving."""
UNHEARD = "ended without a report (is the disk full?): run the same command again"
CHOICE = "round.json"
"""In the sweep's folder: which round it is, and the jobs that take part."""


@dataclass(frozen=True)
class Report:
    """What came of a job."""

    job: int
    overrides: str
    status: str
    """That of its `Outcome`: ``finished``, ``paused``, ``failed``, ``interrupted`` or ``died``."""
    error: str | None = None
    folders: tuple[str, ...] = ()
    objective: float | None = None
    greater_is_better: bool = False
    halving: int | None = None
    steps: int | None = None
    """That it has trained for."""
    measured_on: str | None = None
    """A hash of what its objective depends on besides the model: what agrees in it is ranked together."""

    def loss(self) -> float:
        """Its objective with the sign with which less is better; infinite where it is no number."""
        if self.objective is None or not math.isfinite(self.objective):
            return math.inf
        return -self.objective if self.greater_is_better else self.objective


def tell(place: Path, number: int, report: Report) -> None:
    """Report a job of a round to the process that runs the sweep, see `Sweep.gather`.

    Each has a file of its own: over NFS, lines that several machines append to one may be lost.
    """
    write_whole(place / f"round{number}-{report.job}.json", json.dumps(asdict(report)))


@dataclass(frozen=True)
class Round:
    """One pass over the jobs, and those that take part; None for all."""

    number: int = 0
    jobs: list[int] | None = None

    @classmethod
    def read(cls, place: Path) -> Round:
        """The round that a sweep's folder tells of."""
        try:
            return cls(**json.loads((place / CHOICE).read_text(encoding="utf-8")))
        except OSError:
            return cls()


def shares(halving: int | None) -> list[float]:
    """The share of its steps that a job has taken at the end of each round; the last is 1."""
    if halving is None:
        return [1.0]
    rounds = max(1, round(math.log(FIRST_SHARE) / math.log(halving)))
    return [float(halving) ** -n for n in range(rounds, -1, -1)]


class Sweep:
    """What the jobs of a sweep have reported so far, through a folder.

    Args:
        place: the folder.
        jobs: what each job of the sweep overrides; empty where a sweeper searches.
    """

    def __init__(self, place: Path, jobs: Sequence[str] = ()) -> None:
        self._place, self._jobs = place, jobs
        self._round = Round()
        self._steps: dict[int, int | None] = {}  # of each job at the last choice
        self._told: set[int] = set()  # jobs that have reported in this round
        self.reports: dict[int, Report] = {}

    def gather(self) -> None:
        """Read what the jobs of this round have reported."""
        files = self._place.glob(f"round{self._round.number}-*.json")
        found = [Report(**json.loads(path.read_text(encoding="utf-8"))) for path in files]
        for report in sorted(found, key=lambda one: one.job):
            self.reports[report.job] = report
            self._told.add(report.job)

    def failed(self) -> list[Report]:
        """The jobs that did not get to where they should have."""
        return [report for report in self.reports.values() if report.error is not None]

    def next_round(self) -> bool:
        """Choose who goes on, for another pass over the jobs; False where nobody has to."""
        jobs: Iterable[int] = self._round.jobs or range(len(self._jobs)) or list(self.reports)
        for job in set(jobs) - self._told:
            known = self.reports.get(job) or Report(job, self._jobs[job], "died")
            self.reports[job] = replace(known, status="died", error=UNHEARD)
        self._told = set()
        going_on = [self.reports[job] for job in jobs if self.reports[job].status == "paused"]
        # Two combinations may be the same run, which then is one of those to choose from.
        paused = list({tuple(one.folders) or one.job: one for one in reversed(going_on)}.values())[
            ::-1
        ]
        if not paused or paused[0].halving is None:
            return False
        halving, number = paused[0].halving, self._round.number
        alike: dict[str | None, list[Report]] = {}
        for report in paused:
            alike.setdefault(report.measured_on, []).append(report)
        chosen = [self._better(reports, halving) for reports in alike.values()]
        kept = sorted(job for jobs, _ in chosen for job in jobs)
        why = next((reason for _, reason in chosen if reason), "")
        if len(alike) > 1:
            why = (
                f" (of {len(alike)} groups that were measured on other questions or in other ways)"
            )
        log.info(
            "\nAfter %.3g of their steps, %d of %d runs go on%s: %s",
            shares(halving)[number],
            len(kept),
            len(paused),
            why,
            "all" if len(kept) == len(paused) else f"jobs {', '.join(map(str, kept))}",
        )
        self._steps = {report.job: report.steps for report in paused}
        self._round = Round(number + 1, kept)
        (self._place / CHOICE).write_text(json.dumps(asdict(self._round)), encoding="utf-8")
        return True

    def _better(self, paused: Sequence[Report], halving: int) -> tuple[list[int], str]:
        """The jobs that go on, and why they are more than one in `halving`."""
        steps = {report.job: report.steps for report in paused}
        if None not in steps.values() and all(self._steps.get(job) == steps[job] for job in steps):
            return list(steps), " (no step was taken since the last choice)"
        losses = {report.job: report.loss() for report in paused}
        ranked = sorted(losses, key=lambda job: (losses[job], job))
        count = math.ceil(len(ranked) / halving)
        border = losses[ranked[count - 1]]
        if border == math.inf:
            return ranked[:count], ""
        # A choice between equals would go by the order in which they were named.
        kept = [job for job in ranked if losses[job] <= border]
        return kept, " (some are equal)" if len(kept) > count else ""


def closing_lines(reports: Sequence[Report]) -> list[str]:
    """What is said at the end of a sweep about jobs that failed, each error once."""
    by_error: dict[str, list[Report]] = {}
    for report in sorted(reports, key=lambda report: report.job):
        by_error.setdefault(report.error or "", []).append(report)
    lines = []
    for error, failed in by_error.items():
        name = f"jobs {', '.join(str(report.job) for report in failed)}"
        if len(failed) == 1:
            (one,) = failed
            name = f"job {one.job} ({one.overrides})" if one.overrides else f"job {one.job}"
        lines.append(f"{name}: {error}")
    return lines
