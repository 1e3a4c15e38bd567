"""Which runs may be ranked together, in what they differ, and which are seeds of one configuration."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from qc_experiments.comparison.objectives import LOSS_KEYS, Objective, losses_compare
from qc_experiments.comparison.runs import Run
from qc_experiments.comparison.significance import Against, against_best
from qc_experiments.config.determining import Affects, affects
from qc_experiments.config.schema import DEFAULT_MICRO_BATCH
from qc_experiments.evaluation.comparison import WHAT
from qc_experiments.evaluation.statistics import wilson
from qc_experiments.records.results import Scalar

DATA, TEMPLATE, CODE = "training data", "template", "code"
"""Columns that stand for the content behind the config's paths, and for the commit."""

SEED = "seed"
MICRO_BATCH, EFFECTIVE_BATCH = "trainer.per_device_train_batch_size", "trainer.effective_batch_size"


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in nothing but their seed.

    Attributes:
        runs: the best first.
        facts: what they have in common, by key.
    """

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
        mean = self.mean("execution_accuracy")
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
        best: the run that leads; None where nothing may be ranked or the figure was not measured.
        against: comparisons of the best run with each other one.
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


Key = tuple[str | None, tuple[tuple[str, Scalar], ...]]


def group_runs(runs: Sequence[Run], objective: Objective) -> list[Group]:
    """Put runs that were measured alike together, the largest group first.

    Args:
        runs: finished or not.
        objective: the figure by which they are ranked.
    """
    found: dict[Key, list[Run]] = defaultdict(list)
    for run in runs:
        found[measured_by(run, objective)].append(run)
    ordered = sorted(
        found.items(), key=lambda one: (one[0][0] is None, -_finished(one[1]), -len(one[1]))
    )
    if not ordered:
        return []
    differing = _differing(dict(key[1]) for key, _ in ordered)
    names = _distinct_names([_name(key, of, differing) for key, of in ordered])
    return [
        _group(name, _apart(ordered[0], (key, of), differing), key[0] is not None, of, objective)
        for name, (key, of) in zip(names, ordered, strict=True)
    ]


def measured_by(run: Run, objective: Objective) -> Key:
    """What must be equal for two runs' figures to compare.

    Returns:
        The hash of questions, golds, databases and judge (None where it is not recorded), and the
        settings of decoding; for a ranking by loss also what the loss is counted on.
    """
    settings = {key: value for key, value in run.config.items() if Affects.JUDGING in affects(key)}
    if objective.is_loss:
        settings |= {key: run.config.get(key) for key in LOSS_KEYS}
        if run.config.get("data.loss_on") == "full":
            settings[TEMPLATE] = _short(run.template_hash)
    return run.evaluation_hash, tuple(sorted(settings.items()))


def facts(run: Run) -> dict[str, Scalar]:
    """Everything that determines a run's figures, by key, with contents in place of paths."""
    kept = {key: value for key, value in run.config.items() if affects(key) & ~Affects.CONTENT}
    kept |= dict.fromkeys(_without_effect(kept), None)
    kept |= _batch(run)
    kept[DATA] = f"{run.config.get('data.name')} {_short(run.data_hash)}"
    template = PurePath(str(run.config.get("data.template"))).stem
    kept[TEMPLATE] = f"{template} {_short(run.template_hash)}"
    kept[CODE] = _short_commit(run.code_commit)
    return kept


def _without_effect(config: Mapping[str, Scalar]) -> list[str]:
    """Keys whose values play no part, as what they belong to is switched off."""
    off = []
    if config.get("lora.enabled") is False:
        off.append("lora.")
    if config.get("quant.mode") == "none":
        off.append("quant.")
    kept = ("lora.enabled", "quant.mode")
    return [key for key in config if key.startswith(tuple(off)) and key not in kept] if off else []


def _batch(run: Run) -> dict[str, Scalar]:
    """Micro-batch and effective batch as they were, where the config lets one follow from the other."""
    given, effective = run.config.get(MICRO_BATCH), run.config.get(EFFECTIVE_BATCH)
    shards = run.config.get("trainer.gradient_accumulation_steps")
    if not isinstance(shards, int) or shards < 1:
        return {}
    shards *= run.processes
    if isinstance(effective, int):
        return {MICRO_BATCH: effective // shards, EFFECTIVE_BATCH: effective}
    rows = given if isinstance(given, int) else DEFAULT_MICRO_BATCH
    return {MICRO_BATCH: rows, EFFECTIVE_BATCH: rows * shards}


def swept_keys(all_facts: Sequence[Mapping[str, Scalar]]) -> tuple[str, ...]:
    """The keys in which some runs differ: settings in the config's order, then contents, then the seed."""
    keys = dict.fromkeys(key for one in all_facts for key in one)
    swept = [key for key in keys if len({_hashable(one.get(key)) for one in all_facts}) > 1]
    last = [key for key in (DATA, TEMPLATE, CODE, SEED) if key in swept]
    return (*(key for key in swept if key not in last), *last)


def _hashable(value: Scalar) -> tuple[str, Scalar]:
    # True == 1 in Python, but not in a config; 1 and 1.0 are one value.
    return ("bool" if isinstance(value, bool) else "", value)


def _group(name: str, apart: str, ranked: bool, runs: Sequence[Run], objective: Objective) -> Group:
    known = {run.folder: facts(run) for run in runs}
    finished, repeated = _once([run for run in runs if run.finished], known)
    by_loss = losses_compare(finished)
    finished.sort(key=lambda run: objective.order(run, by_loss))
    swept = swept_keys(list(known.values()))
    configurations = pool_seeds(finished, known, objective)
    measured = bool(finished) and finished[0].figure(objective.key) is not None
    best = finished[0] if measured and ranked else None
    warnings = _warnings(finished, swept, known, repeated)
    values = [run.figure(objective.key) for run in finished]
    if measured and not by_loss and len(set(values)) < len(values):
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
        against={} if best is None else against_best(best, finished[1:]),
        warnings=tuple(warnings),
    )


def pool_seeds(
    runs: Iterable[Run], known: Mapping[Path, Mapping[str, Scalar]], objective: Objective
) -> list[Configuration]:
    """Runs with equal facts but for the seed, as one configuration each, the best mean first.

    Args:
        runs: finished ones of one group, best first.
        known: their facts by folder.
        objective: the figure whose mean counts.
    """
    pools: dict[tuple[tuple[str, Scalar], ...], list[Run]] = defaultdict(list)
    for run in runs:
        of = known[run.folder]
        pools[tuple(sorted((k, v) for k, v in of.items() if k != SEED))].append(run)
    found = [Configuration(tuple(pool), known[pool[0].folder]) for pool in pools.values()]

    def place(one: Configuration) -> tuple[bool, float]:
        mean = one.mean(objective.key)
        return mean is None, 0.0 if mean is None else objective.sign * mean

    return sorted(found, key=place)


SAME_OUTCOME = ("eval_loss", "execution_accuracy", "exact_match", "steps", "label_tokens")
"""Figures in which a run agrees with itself; runs with equal facts can still be of two models."""


def _once(runs: Sequence[Run], known: Mapping[Path, Mapping[str, Scalar]]) -> tuple[list[Run], int]:
    """The runs without repetitions of the same one, and how many those were.

    A repetition is a copy of a folder, or a run of which another one has all facts, the seed too, and
    all figures: its config says the same in other words (a micro-batch that follows from others).
    """
    kept: dict[tuple[object, ...], Run] = {}
    for run in runs:
        kept.setdefault((run.config_hash or run.folder, run.code_commit), run)
    once: dict[tuple[object, ...], Run] = {}
    for run in kept.values():
        outcome = tuple(run.figure(key) for key in SAME_OUTCOME)
        answers = None if run.outcomes is None else run.outcomes.bits
        facts_of = tuple(sorted((k, _hashable(v)) for k, v in known[run.folder].items()))
        measured = any(value is not None for value in outcome)
        once.setdefault((facts_of, outcome, answers) if measured else (run.folder,), run)
    return list(once.values()), len(runs) - len(once)


def _warnings(
    runs: Sequence[Run],
    swept: Sequence[str],
    known: Mapping[Path, Mapping[str, Scalar]],
    repeated: int,
) -> list[str]:
    lines = []
    for key, what in ((DATA, "training data"), (TEMPLATE, "templates"), (CODE, "versions of code")):
        versions = len({known[run.folder][key] for run in runs})
        if key in swept and versions > 1:
            lines.append(f"The runs used {versions} different {what}: see the column {key}.")
    changed = sum((run.code_commit or "").endswith("+changes") for run in runs)
    if changed:
        lines.append(
            f"{changed} of {len(runs)} run{'' if len(runs) == 1 else 's'} used code with uncommitted "
            "changes, which may differ though the commit is the same."
        )
    if repeated:
        lines.append(
            f"Copies and repetitions of runs that are here already are left out: {repeated}."
        )
    return lines


def _finished(runs: Iterable[Run]) -> int:
    return sum(run.finished for run in runs)


def _differing(settings: Iterable[Mapping[str, Scalar]]) -> tuple[str, ...]:
    every = list(settings)
    keys = dict.fromkeys(key for one in every for key in one)
    return tuple(key for key in keys if len({_hashable(one.get(key)) for one in every}) > 1)


def _name(key: Key, runs: Sequence[Run], differing: Sequence[str]) -> str:
    evaluation, settings = key
    counts = [run.figure("execution_count") for run in runs if run.finished]
    counts += [len(run.outcomes.bits) for run in runs if run.outcomes is not None]
    count = Counter(one for one in counts if one).most_common(1)
    names = sorted({str(run.config.get("data.name")) for run in runs})
    asked = round(count[0][0]) if count else None
    noun = "question" if asked == 1 else "questions"
    parts = [noun if asked is None else f"{asked} {noun}", "of", ", ".join(names)]
    where = f"(evaluation {_short(evaluation)})" if evaluation else "(evaluation not recorded)"
    given = [f"{one}={_shown(dict(settings).get(one))}" for one in differing]
    return ", ".join([" ".join([*parts, where]), *given])


def _distinct_names(names: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _apart(
    largest: tuple[Key, Sequence[Run]], this: tuple[Key, Sequence[Run]], differing: Sequence[str]
) -> str:
    """Why a group is not ranked with the largest one."""
    if this[0] == largest[0]:
        return "" if this[0][0] is not None else "it is not recorded on what they were measured"
    if this[0][0] is None:
        return "it is not recorded on what they were measured"
    reasons = []
    if this[0][0] != largest[0][0]:
        first, second = _judged_on(largest[1]), _judged_on(this[1])
        unlike = [what for key, what in WHAT.items() if first.get(key) != second.get(key)]
        reasons += unlike if first and second else ["questions, golds, databases or judge"]
    first_settings, settings = dict(largest[0][1]), dict(this[0][1])
    reasons += [key for key in differing if settings.get(key) != first_settings.get(key)]
    return f"it differs in {', '.join(reasons)}"


def _judged_on(runs: Sequence[Run]) -> Mapping[str, str]:
    return next((run.judged_on for run in runs if run.judged_on), {})


def _shown(value: Scalar) -> str:
    return "null" if value is None else str(value)


def _short(content: str | None) -> str:
    return content[:8] if content else "unknown"


def _short_commit(commit: str | None) -> str:
    if not commit:
        return "unknown"
    head, plus, rest = commit.partition("+")
    return head[:8] + plus + rest
