"""All runs of some folders, grouped, ranked and tested: what the table and the page show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qc_experiments.comparison.grouping import (
    Group,
    choose_objective,
    group_runs,
    losses_compare,
    order,
    own_metrics_of,
)
from qc_experiments.comparison.runs import Run, load_runs
from qc_experiments.config.metrics import EXECUTION, LOSS, Metric
from qc_experiments.records.state import PAUSED, STATUSES, LeftOut
from qc_experiments.system.words import counted


@dataclass(frozen=True)
class Study:
    """The runs of some folders, in groups that may be ranked together (the largest first) by a metric."""

    folders: tuple[Path, ...]
    runs: tuple[Run, ...]
    groups: tuple[Group, ...]
    objective: Metric
    left_out: tuple[LeftOut, ...] = ()

    @property
    def own_metrics(self) -> tuple[Metric, ...]:
        """The users' own metrics that some runs have."""
        return own_metrics_of(self.runs)

    @property
    def other_metrics(self) -> tuple[Metric, ...]:
        """What has a column of its own beside execution accuracy and loss: the objective, users' own."""
        other = {one.key: one for one in (self.objective, *self.own_metrics)}
        return tuple(one for one in other.values() if one not in (EXECUTION, LOSS))

    def counts(self) -> dict[str, int]:
        """How many runs there are of each status."""
        found = Counter(run.status for run in self.runs)
        return {status: found[status] for status in STATUSES}

    def counted(self) -> str:
        """The same in words: ``23 runs: 20 finished, 2 running, 1 failed``."""
        parts = [f"{count} {status}" for status, count in self.counts().items() if count]
        return f"{counted(len(self.runs), 'run')}: {', '.join(parts)}"

    def left_out_lines(self) -> list[str]:
        """What is said of runs that cannot be read: one line each."""
        return [f"Left out: {one.name}: {one.reason}" for one in self.left_out]

    def unfinished(self) -> list[Run]:
        """Runs that have not come to their end: those at work first, paused ones best first."""
        found = [run for run in self.runs if not run.finished]
        by_loss = losses_compare(found)
        return sorted(
            found,
            key=lambda run: (
                STATUSES.index(run.status),
                -(run.last_step or 0) if run.status == PAUSED else 0,
                order(run, self.objective, by_loss),
            ),
        )


def compare(folders: Sequence[Path], objective: str | None = None) -> Study:
    """Read and compare runs.

    Args:
        folders: runs, or folders that hold runs up to three levels down.
        objective: key of the metric that ranks them; None takes execution accuracy where it was measured,
            else the loss.
    """
    runs, left_out = load_runs(folders)
    chosen = choose_objective(objective, runs)
    groups = group_runs(runs, chosen)
    return Study(tuple(folders), tuple(runs), tuple(groups), chosen, tuple(left_out))
