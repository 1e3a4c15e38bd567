"""The metrics, and all that ``result.json`` holds, each said once.

The config, ``result.json`` and its readers, reports, closing tables, ``qc compare`` with its page, and W&B
read this table. A metric of the package is one entry here. A user's own is a `Metric` in a module of theirs,
named by ``evaluation.metrics=[my_module.my_metric]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from qc_experiments.config.plugins import load
from qc_experiments.errors import UserError
from qc_experiments.system.reading import AMOUNT, COUNT, NAME, NUMBER, SHARE, TEXT, WHOLE, Kind

Outcomes = Sequence[bool | float | None]


@dataclass(frozen=True)
class Recorded:
    """A key of ``result.json``: what it may hold, and what users are shown it as."""

    key: str
    kind: Kind
    title: str = ""


@dataclass(frozen=True)
class Cost:
    """What a run took: the head of its column; its unit ``s``, ``GiB`` (of bytes) or none for a count."""

    recorded: Recorded
    head: str
    unit: str = ""


@dataclass(frozen=True)
class Metric:
    """How good a model is by one measure.

    Attributes:
        key: its name in ``result.json`` and in ``objective``.
        title: what users are shown it as.
        measure: takes the judged predictions (see `qc_experiments.evaluation.metrics.Judged`) and gives one
            outcome for each: whether it is so, or a number, or None where that is not known; or a single
            number for all of them. None: it is not made of predictions.
        higher_is_better: whether a larger value is the better one.
        share: whether values are shares from 0 to 1, shown in %; else plain numbers.
        unit: of plain numbers.
        during_training: whether it is measured at each evaluation in training and of the base model, too, so
            that it can be the objective of a run and choose its checkpoint.
    """

    key: str
    title: str
    measure: Callable[[Sequence[Any]], Outcomes | float | None] | None
    higher_is_better: bool = True
    share: bool = True
    unit: str = ""
    during_training: bool = True

    @property
    def kind(self) -> Kind:
        """What ``result.json`` may hold under its key."""
        return SHARE if self.share else AMOUNT if self.measure is None else NUMBER

    @property
    def logged_as(self) -> str:
        """Its name in ``metrics.jsonl``, where the Trainer wants it to begin so."""
        return f"eval_{self.key.removeprefix('eval_')}"

    @property
    def long_title(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def shown(self, value: float | None, *, unit: bool = True) -> str:
        """A value for people; empty for None."""
        if value is None:
            return ""
        return f"{100 * value:.1f}{' %' if unit else ''}" if self.share else f"{value:.4f}"


def _each(
    key: str, title: str, outcome: Callable[[Any], bool | None], during_training: bool = True
) -> Metric:
    """A metric that asks each judged prediction for its outcome."""
    return Metric(
        key, title, lambda judged: [outcome(one) for one in judged], during_training=during_training
    )


_at_end = partial(_each, during_training=False)
LOSS = Metric("eval_loss", "validation loss", None, False, False, "nats per token")
EXECUTION = _each("execution_accuracy", "execution accuracy", lambda one: one.correct)
REPAIRED = _at_end(
    "repaired_execution_accuracy",
    "execution accuracy after one repair",
    lambda one: one.after_repair and one.after_repair[1].correct,
)
RECALL = _at_end("candidate_recall", "a candidate is right (recall@k)", lambda one: one.recalled)
FUZZ = _at_end(
    "fuzz_accuracy", "execution accuracy on all perturbed databases", lambda one: one.verdict.fuzz
)
BIRD = _at_end("ex_bird", "ex_bird (BIRD's rule)", lambda one: one.verdict.ex_bird)
TEST_SUITE = _at_end(
    "ex_test_suite", "ex_test_suite (Spider's rule)", lambda one: one.verdict.ex_test_suite
)
EXACT = _each("exact_match", "exact match", lambda one: one.exact)
VALID = _each("valid_sql", "valid SQL", lambda one: one.verdict.valid)

METRICS = (LOSS, EXECUTION, REPAIRED, FUZZ, BIRD, TEST_SUITE, RECALL, EXACT, VALID)

ALSO_LOSS = Recorded("also_loss", AMOUNT, "loss on data.also_evaluate")
"""In nats per token: what training costs elsewhere."""
OF_EXECUTION = (
    Recorded("execution_accuracy_low", SHARE),
    Recorded("execution_accuracy_high", SHARE),
    Recorded("execution_correct", COUNT),
    Recorded("execution_count", COUNT),
)
"""Ends of the 95 % interval of `EXECUTION`, and what it is taken over."""

COSTS = (
    Cost(Recorded("seconds_training", AMOUNT, "seconds of training"), "training s", "s"),
    Cost(Recorded("parameters_trainable", COUNT, "trainable parameters"), "trainable"),
    Cost(Recorded("peak_memory_bytes", COUNT, "peak memory, GiB"), "memory", "GiB"),
)
SECONDS, TRAINABLE, MEMORY = (cost.recorded for cost in COSTS)

CONTENT_HASHES = ("config_hash", "data_hash", "template_hash", "evaluation_hash")


def recorded(own: Sequence[Metric] = ()) -> dict[str, Recorded]:
    """What ``result.json`` holds, by its keys in their order; what was not measured is null.

    Args:
        own: the user's own metrics.
    """
    counts = ("parameters_total", "label_tokens", "examples", "steps")
    amounts = ("seconds_evaluation", "examples_per_second", "tokens_per_second")
    every = (
        Recorded("status", NAME),
        Recorded("objective", NUMBER),
        *(one for metric in (*METRICS, *own) for one in _of(metric)),
        ALSO_LOSS,
        Recorded(f"base_{ALSO_LOSS.key}", AMOUNT),
        TRAINABLE,
        *(Recorded(key, COUNT) for key in counts),
        Recorded("seed", WHOLE),
        *(Recorded(key, NAME) for key in (*CONTENT_HASHES, "code_commit")),
        Recorded("seconds_total", AMOUNT),
        SECONDS,
        *(Recorded(key, AMOUNT) for key in amounts),
        Recorded("pack_attention", NAME),
        Recorded("packed_difference", AMOUNT),
        MEMORY,
        Recorded("peak_reserved_bytes", COUNT),
        Recorded("error", TEXT),
    )
    return {one.key: one for one in every}


def _of(metric: Metric) -> Iterator[Recorded]:
    yield Recorded(metric.key, metric.kind, metric.title)
    if metric is EXECUTION:
        yield from OF_EXECUTION
    if metric.during_training:
        yield Recorded(f"base_{metric.key}", metric.kind)


RESULT = recorded()


def own_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """The user's own metrics by their dotted names, as ``evaluation.metrics`` holds them.

    Raises:
        UserError: if one cannot be imported, is no `Metric`, or takes the name of something else.
    """
    found: dict[str, Metric] = {}
    for name in names:
        metric = load("evaluation.metrics", name, {})
        key = f"evaluation.metrics={name}"
        if not isinstance(metric, Metric) or metric.measure is None:
            raise UserError(
                f"{key}: is {type(metric).__name__}, not a qc_experiments.config.metrics.Metric with a "
                "function to measure it"
            )
        if problem := "is named twice" if name in found else _taken(metric, tuple(found.values())):
            raise UserError(f"{key}: {problem}")
        found[name] = metric
    return tuple(found.values())


def _taken(metric: Metric, own: Sequence[Metric]) -> str | None:
    """What keeps a user's own metric from standing beside ours and their others; None if nothing does."""
    key, others = str(metric.key), (*METRICS, *own)
    taken = ", ".join(one.key for one in _of(metric) if one.key in recorded(own))
    logged = ", ".join(one.key for one in others if one.logged_as == metric.logged_as)
    titled = ", ".join(one.key for one in others if one.title == metric.title)
    problem = None
    if not key.isidentifier():
        problem = "is no identifier: take letters, digits and _"
    elif taken:
        problem = f"must be a name that nothing else has: result.json holds another {taken}"
    elif logged:
        problem = f"is logged as {metric.logged_as}, as {logged} is: take another"
    elif titled:
        problem = f"has the title {metric.title!r}, as {titled} has: take another"
    return problem and f"its key {key!r} {problem}"


def metric_called(key: str, own: Sequence[Metric] = (), *, setting: str, chosen: bool) -> Metric:
    """A metric by its key; a `UserError` if there is none.

    Args:
        key: as `Metric.key`.
        own: the user's own metrics.
        setting: that names it, for messages.
        chosen: whether it is to be measured during training, as what a run is chosen by.
    """
    known = {one.key: one for one in (*METRICS, *own) if one.during_training or not chosen}
    if key not in known:
        raise UserError(f"{setting}{key}: must be one of {', '.join(known)}")
    return known[key]


def indented(metric: Metric) -> str:
    """The title in a column of titles: what `EXECUTION` is taken after or on stands below it."""
    rest = metric.title.removeprefix(f"{EXECUTION.title} ")
    return metric.title if rest == metric.title else f"  {rest}"


def plain_metric(metric: Metric) -> dict[str, str | bool]:
    """What readers who cannot import a user's own metric need to know of it."""
    names = ("title", "higher_is_better", "share", "unit")
    return {name: getattr(metric, name) for name in names}


def metric_of(key: str, plain: Mapping[str, Any]) -> Metric:
    """The metric with this key of which `plain_metric` was written down."""
    title, unit = str(plain.get("title") or key), str(plain.get("unit") or "")
    higher, share = plain.get("higher_is_better") is not False, plain.get("share") is True
    return Metric(key, title, lambda _: None, higher, share, unit)
