"""Which runs may be ranked together and by what, in what they differ, and which differ in the seed alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qc_experiments.comparison.facts import (
    SEED,
    TEMPLATE,
    Facts,
    differing,
    facts,
    hashable,
    short,
    swept_keys,
)
from qc_experiments.comparison.remarks import remarks
from qc_experiments.comparison.runs import Run
from qc_experiments.comparison.significance import Against, against_best
from qc_experiments.config.determining import Affects, affects, keys_affecting, meant
from qc_experiments.config.metrics import EXACT, EXECUTION, FUZZ, LOSS, Metric, metric_called
from qc_experiments.evaluation.comparison import WHAT
from qc_experiments.evaluation.statistics import wilson
from qc_experiments.records.results import Scalar
from qc_experiments.system.console import one_line
from qc_experiments.system.words import counted

UNKNOWN = "it is not recorded on what they were measured"
SAME_OUTCOME = (LOSS.key, EXECUTION.key, EXACT.key, "steps", "label_tokens")
"""Figures in which a run agrees with itself; runs with equal facts can still be of two models."""

LOSS_KEYS = keys_affecting(Affects.LOSS)
"""Losses per token compare only for one tokenizer and the same labelled tokens."""
COPIES_SEED = "evaluation.seed"
"""Fixes the perturbed copies."""


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in nothing but their seed, the best first, and what they have in common."""

    runs: tuple[Run, ...]
    facts: Mapping[str, Scalar]

    def values(self, key: str) -> list[float]:
        """A figure of each run that has it."""
        return [value for run in self.runs if (value := run.figure(key)) is not None]

    def mean(self, key: str) -> float | None:
        """Mean of a figure over the seeds."""
        values = self.values(key)
        return sum(values) / len(values) if values else None

    def spread(self, key: str) -> tuple[float, float] | None:
        """Smallest and largest value over the seeds; None for fewer than two."""
        values = self.values(key)
        return (min(values), max(values)) if len(values) > 1 else None

    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the execution accuracy, for the choice of questions.

        All seeds answer the same questions, so several seeds do not count as more questions: it is
        the Wilson interval at their mean.
        """
        counts = self.values("execution_count")
        mean = self.mean(EXECUTION.key)
        if mean is None or not counts:
            return None
        count = round(counts[0])
        return wilson(round(mean * count), count) if count else None


@dataclass(frozen=True)
class Group:
    """Runs that were measured alike.

    Attributes:
        name: says on what.
        apart: in what it differs from the largest group; empty for that one.
        ranked: false where the runs do not record on what they were measured.
        runs: the finished ones, best first.
        unfinished: the others.
        swept: keys in which the runs differ.
        configurations: the finished runs with their seeds pooled, best first.
        best: the best run of the best configuration; None where nothing may be ranked or the metric was not
            measured.
        against: tests of the best run against each other one.
        warnings: lines on differences that a ranking does not show.
    """

    name: str
    apart: str
    ranked: bool
    runs: tuple[Run, ...]
    unfinished: tuple[Run, ...]
    swept: tuple[str, ...]
    configurations: tuple[Configuration, ...]
    best: Run | None
    against: Mapping[Path, Against]
    warnings: tuple[str, ...]

    @property
    def members(self) -> tuple[Run, ...]:
        """All of them."""
        return (*self.runs, *self.unfinished)


@dataclass(frozen=True)
class Alike:
    """What must be equal for two runs' figures to compare.

    Attributes:
        evaluation: hash of questions, golds, databases and judge; None where it is not recorded.
        settings: of decoding; for a ranking by loss also what the loss is counted on.
    """

    evaluation: str | None
    settings: tuple[tuple[str, Scalar], ...]


def group_runs(runs: Sequence[Run], objective: Metric) -> list[Group]:
    """Put runs that were measured alike together, finished or not, the largest group first."""
    found: dict[Alike, list[Run]] = defaultdict(list)
    for run in runs:
        found[_measured_by(run, objective)].append(run)
    ordered = sorted(
        found.items(),
        key=lambda one: (one[0].evaluation is None, -sum(r.finished for r in one[1]), -len(one[1])),
    )
    unlike = differing([dict(alike.settings) for alike, _ in ordered])
    seen: Counter[str] = Counter()
    groups = []
    for alike, of in ordered:
        name = _name(alike, of, unlike)
        seen[name] += 1
        name += f" ({seen[name]})" if seen[name] > 1 else ""
        apart = _apart(ordered[0], (alike, of), unlike)
        groups.append(_group(name, apart, of, objective, ranked=alike.evaluation is not None))
    return groups


def _measured_by(run: Run, objective: Metric) -> Alike:
    """What must be equal for this run's figures to compare with another one's."""
    settings = {
        key: meant(key, value)
        for key, value in run.config.items()
        if Affects.JUDGING in affects(key)
    }
    if objective is LOSS:
        settings |= {key: run.config.get(key) for key in LOSS_KEYS}
        if run.config.get("data.loss_on") == "full":
            settings[TEMPLATE] = short(run.template_hash)
    if objective is FUZZ:
        settings[COPIES_SEED] = run.config.get(COPIES_SEED)
    return Alike(run.evaluation_hash, tuple(sorted(settings.items())))


def _group(name: str, apart: str, runs: Sequence[Run], objective: Metric, *, ranked: bool) -> Group:
    known = {run.folder: facts(run) for run in runs}
    finished, repeated = _once([run for run in runs if run.finished], known)
    by_loss = losses_compare(finished)
    finished.sort(key=lambda run: order(run, objective, by_loss))
    swept = swept_keys(list(known.values()))
    measured = bool(finished) and finished[0].figure(objective.key) is not None
    configurations, unlike = _pool_seeds(finished, known, objective)
    # Of the configuration that leads, whose other seeds count too; one lucky seed leads nothing.
    best = configurations[0].runs[0] if measured and ranked else None
    others = [run for run in finished if run is not best]
    warnings = remarks(finished, swept, known, repeated, unlike)
    equal = len({run.figure(objective.key) for run in finished}) < len(finished)
    if measured and equal and not by_loss:
        warnings.append(
            f"Runs of equal {objective.title} stand in the order of their names: losses of different "
            "models or labels do not compare."
        )
    if finished and not ranked:
        warnings.append("Not ranked: it is not recorded on what these runs were measured.")
    elif finished and not measured:
        warnings.append(f"Not ranked: {objective.title} was not measured.")
    return Group(
        name=name,
        apart=apart,
        ranked=ranked,
        runs=tuple(finished),
        unfinished=tuple(run for run in runs if not run.finished),
        swept=swept,
        configurations=tuple(configurations),
        best=best,
        against={} if best is None else against_best(best, others),
        warnings=tuple(warnings),
    )


def _pool_seeds(
    runs: Iterable[Run], known: Facts, objective: Metric
) -> tuple[list[Configuration], list[Run]]:
    """Runs with equal facts but for the seed, as one configuration each, the best mean first.

    Where two of them have the same seed, they differ in something that is none of the facts (a file that
    was changed, say): each is a configuration of its own, and they are named.
    """
    pools: dict[tuple[tuple[str, Scalar], ...], list[Run]] = defaultdict(list)
    for run in runs:
        of = known[run.folder]
        pools[tuple(sorted((k, v) for k, v in of.items() if k != SEED))].append(run)
    found: list[Configuration] = []
    unlike: list[Run] = []
    for pool in pools.values():
        if len({known[run.folder].get(SEED) for run in pool}) < len(pool):
            found += [Configuration((run,), known[run.folder]) for run in pool]
            unlike += pool
        else:
            found.append(Configuration(tuple(pool), known[pool[0].folder]))

    def place(one: Configuration) -> tuple[bool, float]:
        mean = one.mean(objective.key)
        return mean is None, 0.0 if mean is None else _smaller_first(objective, mean)

    return sorted(found, key=place), unlike


def _once(runs: Sequence[Run], known: Facts) -> tuple[list[Run], list[str]]:
    """The runs without repetitions of the same one, and the names of those, each with the one that stays.

    A repetition is a copy of a folder, or a run of which another one has all facts, the seed too, and
    all figures: its config says the same in other words (a micro-batch that follows from others). The one
    of which most files are there stays.
    """

    def folder(run: Run) -> tuple[object, ...]:
        return run.config_hash or run.folder, run.code_commit, run.code_mark

    def found(run: Run) -> tuple[object, ...]:
        outcome = tuple(run.figure(key) for key in SAME_OUTCOME)
        answers = None if run.outcomes is None else run.outcomes.bits
        facts_of = tuple(sorted((k, hashable(v)) for k, v in known[run.folder].items()))
        measured = any(value is not None for value in outcome)
        return (facts_of, outcome, answers) if measured else (run.folder,)

    def missing(run: Run) -> int:
        return (run.outcomes is None) + (run.curves.last_step is None) + (not run.by_hardness)

    kept = sorted(runs, key=missing)
    repeated = []
    for same in (folder, found):
        once: dict[tuple[object, ...], Run] = {}
        for run in kept:
            first = once.setdefault(same(run), run)
            if first is not run:
                repeated.append(f"{one_line(run.name)} (as {one_line(first.name)})")
        kept = list(once.values())
    return kept, repeated


def _name(alike: Alike, runs: Sequence[Run], unlike: Sequence[str]) -> str:
    counts = [run.figure("execution_count") for run in runs if run.finished]
    counts += [len(run.outcomes.bits) for run in runs if run.outcomes is not None]
    count = Counter(round(one) for one in counts if one).most_common(1)
    names = ", ".join(sorted({str(run.config.get("data.name")) for run in runs}))
    asked = counted(count[0][0], "question") if count else "questions"
    evaluation = "not recorded" if alike.evaluation is None else short(alike.evaluation)
    values = ((key, dict(alike.settings).get(key)) for key in unlike)
    given = [f"{key}={'null' if value is None else value}" for key, value in values]
    return ", ".join([f"{asked} of {names} (evaluation {evaluation})", *given])


def _apart(
    largest: tuple[Alike, Sequence[Run]], this: tuple[Alike, Sequence[Run]], unlike: Sequence[str]
) -> str:
    """Why a group is not ranked with the largest one; empty for that one."""
    (first, runs), (alike, own) = largest, this
    if alike.evaluation is None:
        return UNKNOWN
    reasons = []
    if alike.evaluation != first.evaluation:
        before, now = (next(filter(None, (r.judged_on for r in some)), {}) for some in (runs, own))
        parts = [what for key, what in WHAT.items() if before.get(key) != now.get(key)]
        reasons += parts if before and now else ["questions, golds, databases or judge"]
    reasons += [k for k in unlike if dict(alike.settings).get(k) != dict(first.settings).get(k)]
    return f"it differs in {', '.join(reasons)}" if alike != first else ""


def order(run: Run, objective: Metric, by_loss: bool = True) -> tuple[bool, float, float, str]:
    """Sort key: the best first, equal ones by name, unmeasured ones last.

    Losses order the runs as well where they compare, see `losses_compare`.
    """
    value, loss = run.figure(objective.key), run.figure(LOSS.key)
    compares = by_loss or objective is not LOSS
    return (
        value is None,
        _smaller_first(objective, value) if value is not None and compares else 0.0,
        loss if loss is not None and by_loss else float("inf"),
        run.name,
    )


def losses_compare(runs: Sequence[Run]) -> bool:
    """Whether the losses of some runs are of one tokenizer and the same labelled tokens."""
    return len({tuple(str(run.config.get(key)) for key in LOSS_KEYS) for run in runs}) < 2


def own_metrics_of(runs: Sequence[Run]) -> tuple[Metric, ...]:
    """The users' own metrics of some runs, each key once."""
    return tuple({metric.key: metric for run in runs for metric in run.own_metrics}.values())


def choose_objective(name: str | None, runs: Sequence[Run]) -> Metric:
    """The metric that was asked for, else execution accuracy, else (nothing was run) the loss."""
    if name is not None:
        own = own_metrics_of(runs)
        return metric_called(name, own, setting="--objective ", chosen=False)
    executed = any(run.figure(EXECUTION.key) is not None for run in runs)
    return EXECUTION if executed or not any(run.finished for run in runs) else LOSS


def _smaller_first(objective: Metric, value: float) -> float:
    return -value if objective.higher_is_better else value
