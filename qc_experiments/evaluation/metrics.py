"""Predictions with their verdicts, and what is made of them, in all and by kind."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qc_experiments.config.metrics import EXACT, EXECUTION, METRICS, Metric, plain_metric
from qc_experiments.data.table import Row
from qc_experiments.errors import RAISED, in_one_line
from qc_experiments.evaluation.confidence import pairs, separation
from qc_experiments.evaluation.query_analysis import Analysis, analyse
from qc_experiments.evaluation.statistics import Mean, Rate, rate
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.verdict import ALL_ERROR_CLASSES, Memory, Verdict
from qc_experiments.sql.structure import FEATURES

log = logging.getLogger(__name__)

HARDNESS = ("easy", "medium", "hard", "extra", "unknown")
"""Spider's levels, in their order; ``unknown`` where the gold could not be parsed."""

VERDICT_COLUMNS = ("correct", "verdict", "warning", "error_class", "seconds")
"""Columns of ``judged.csv`` and ``predictions.csv`` after the prediction."""
FUZZ_COLUMN = "fuzz_correct"
"""One more, where answers had to hold on perturbed copies as well."""
ROW_COLUMNS = ("gold_rows", "predicted_rows")
"""Two more, where it was asked for what wrong answers return."""


@dataclass(frozen=True)
class Judged:
    """One prediction and what it is worth.

    Attributes:
        row: the question and its gold query.
        prediction: the SQL that was predicted.
        verdict: what came of running it.
        exact: whether it is the gold query but for spelling.
        hardness: one of `HARDNESS`, of the gold query.
        features: SQL features of the gold query.
        after_repair: the query after a repair of what failed, and its verdict; None where no repair
            was asked for.
        recalled: whether any of the candidates is right; None where there was one alone.
        confidence: in the prediction; None where it is not known.
        first_rows: cells of `ROW_COLUMNS`, empty unless it is wrong; None where they were not asked for.
    """

    row: Row
    prediction: str
    verdict: Verdict
    exact: bool
    hardness: str
    features: tuple[str, ...]
    after_repair: tuple[str, Verdict] | None = None
    recalled: bool | None = None
    confidence: float | None = None
    first_rows: tuple[str, str] | None = None

    @property
    def correct(self) -> bool | None:
        """Whether it returns the right rows; None where that was not measured."""
        return self.verdict.correct


def assess(
    rows: Sequence[Row],
    predictions: Sequence[str],
    judge: Judge,
    on_done: Callable[[int], None] | None = None,
    *,
    repaired: Sequence[str] | None = None,
    memory: Memory | None = None,
) -> list[Judged]:
    """Judge predictions and look at their parts.

    Args:
        rows: questions with gold queries.
        predictions: one SQL text per row.
        judge: runs them.
        on_done: called with 1 after each verdict, for progress.
        repaired: the predictions after a repair of those that fail, or None.
        memory: keeps the verdicts over several starts, or None.
    """
    verdicts = judge.judge(rows, predictions, on_done, memory)
    after: list[tuple[str, Verdict] | None] = [None] * len(rows)
    if repaired is not None:
        after = list(zip(repaired, verdicts, strict=True))
        changed = [i for i, query in enumerate(repaired) if query != predictions[i]]
        again = judge.judge([rows[i] for i in changed], [repaired[i] for i in changed])
        for i, verdict in zip(changed, again, strict=True):
            after[i] = (repaired[i], verdict)
    analyses = analyse(rows, predictions, judge)
    return [
        Judged(row, text, _warned(verdict, of), of.exact, of.hardness, of.features, mended)
        for row, text, verdict, of, mended in zip(
            rows, predictions, verdicts, analyses, after, strict=True
        )
    ]


def with_recall(
    judged: Sequence[Judged], candidates: Sequence[Sequence[str]], judge: Judge
) -> list[Judged]:
    """Say of each question whether any candidate is right: the most that a better choice could reach.

    Args:
        judged: the predictions.
        candidates: what each was chosen from; empty where there was no choice.
        judge: runs them.
    """
    waiting = [
        (place, sql)
        for place, (one, queries) in enumerate(zip(judged, candidates, strict=True))
        for sql in queries
        if one.correct is False and sql != one.prediction
    ]
    verdicts = judge.judge([judged[place].row for place, _ in waiting], [sql for _, sql in waiting])
    right = {
        place for (place, _), verdict in zip(waiting, verdicts, strict=True) if verdict.correct
    }
    return [
        replace(one, recalled=one.correct or place in right)
        if queries and one.correct is not None
        else one
        for place, (one, queries) in enumerate(zip(judged, candidates, strict=True))
    ]


def with_confidence(judged: Sequence[Judged], confidences: Sequence[float | None]) -> list[Judged]:
    """The predictions with the confidence in each."""
    return [replace(one, confidence=sure) for one, sure in zip(judged, confidences, strict=True)]


def _warned(verdict: Verdict, found: Analysis) -> Verdict:
    """A verdict that says, too, which text was too much to parse."""
    warnings = [] if verdict.warning is None else [verdict.warning]
    for whose, problem, without in (
        ("gold", found.gold_problem, "its hardness is unknown"),
        ("prediction", found.problem, "no exact match"),
    ):
        if problem is not None:
            warnings.append(f"the {whose} was not parsed ({problem}): {without}")
    return replace(verdict, warning="; ".join(warnings) or None)


def verdict_columns(judged: Sequence[Judged]) -> tuple[str, ...]:
    """`VERDICT_COLUMNS`, and `FUZZ_COLUMN` and `ROW_COLUMNS` where they were asked for."""
    fuzzed = any(one.verdict.fuzz is not None or one.verdict.not_fuzzed for one in judged)
    rows = any(one.first_rows is not None for one in judged)
    return (*VERDICT_COLUMNS, *[FUZZ_COLUMN] * fuzzed, *ROW_COLUMNS[: 2 * rows])


def verdict_cells(one: Judged, columns: Sequence[str]) -> list[str | int | float | None]:
    """The cells of verdict columns: ``correct`` is 1, 0 or None where it was not measured."""
    verdict = one.verdict
    cells = {
        "correct": None if verdict.correct is None else int(verdict.correct),
        "verdict": verdict.verdict,
        "warning": verdict.warning,
        "error_class": verdict.error_class,
        "seconds": None if verdict.seconds is None else round(verdict.seconds, 6),
        FUZZ_COLUMN: None if verdict.fuzz is None else int(verdict.fuzz),
        **dict(zip(ROW_COLUMNS, one.first_rows or ("", ""), strict=True)),
    }
    return [cells[name] for name in columns]


def taken(metric: Metric, judged: Sequence[Judged]) -> Rate | Mean:
    """A metric of predictions; not measured, with a warning, where a user's own function fails.

    Args:
        metric: with a function to measure it.
        judged: the predictions with their verdicts.
    """
    try:
        return measured(metric, judged)
    except RAISED as error:  # a user's code, which must not cost the run its other figures
        log.warning("evaluation.metrics: %s was not measured (%s)", metric.key, in_one_line(error))
        return Mean(None, 0)


def measured(metric: Metric, judged: Sequence[Judged]) -> Rate | Mean:
    """As `taken`, but raises what the metric's function raises, and `ValueError` for what is no metric."""
    if metric.measure is None:
        raise TypeError("not made of predictions")
    outcomes = _plain(metric.measure(judged))
    if outcomes is None:
        return Mean(None, 0)
    if isinstance(outcomes, int | float):
        found = Mean(float(outcomes), len(judged))
    else:
        if len(outcomes) != len(judged):
            raise ValueError(f"gave {len(outcomes)} outcomes of {len(judged)} predictions")
        known = [_plain(one) for one in outcomes if one is not None]
        if all(isinstance(one, bool) for one in known):
            return rate(map(bool, known))
        found = Mean(sum(map(float, known)) / len(known), len(known))
    if found.value is None or not math.isfinite(found.value):
        raise ValueError(f"is {found.value}")
    if metric.share and not 0 <= found.value <= 1:
        raise ValueError(f"is {found.value:g}, not a share from 0 to 1: say share=False")
    return found


def _plain(outcome: Any) -> Any:
    """Python's own bool, number or list in place of NumPy's or torch's."""
    return outcome.tolist() if hasattr(outcome, "tolist") else outcome


def measures(judged: Sequence[Judged], own: Sequence[Metric] = ()) -> dict[str, Rate | Mean]:
    """Each metric that is made of predictions, by its key.

    Args:
        judged: the predictions with their verdicts.
        own: the user's own metrics.
    """
    return {m.key: taken(m, judged) for m in (*METRICS, *own) if m.measure is not None}


def figures(judged: Sequence[Judged], own: Sequence[Metric] = ()) -> dict[str, float | int | None]:
    """What of ``result.json`` predictions give; arguments as in `measures`."""
    found = measures(judged, own)
    execution = found[EXECUTION.key]
    low, high = execution.interval()
    return {
        **{key: one.value for key, one in found.items()},
        "execution_accuracy_low": low,
        "execution_accuracy_high": high,
        "execution_correct": execution.hits if execution.count else None,
        "execution_count": execution.count or None,
    }


def report(
    judged: Sequence[Judged], hashes: dict[str, str], own: Sequence[Metric] = ()
) -> dict[str, Any]:
    """Everything that predictions tell, as ``report.json`` holds it.

    Every share stands with its hits, its count and its 95 % interval.

    Args:
        judged: the predictions with their verdicts.
        hashes: of what they were judged on (see `judging.verdict.judged_on`).
        own: the user's own metrics.
    """
    classes = Counter(one.verdict.error_class for one in judged if one.verdict.verdict == "wrong")
    executed = sum(one.correct is not None for one in judged)
    databases = sorted({one.row.db_id for one in judged if one.row.db_id})
    failed = [one for one in judged if one.verdict.verdict == "gold_error"]
    sure = separation(pairs(judged))
    return {
        "count": len(judged),
        "judged_on": hashes,
        "figures": {key: one.plain() for key, one in measures(judged, own).items()},
        **({} if sure is None else {"confidence": sure}),
        **({"metrics": {one.key: plain_metric(one) for one in own}} if own else {}),
        "by_hardness": by(judged, HARDNESS, lambda one: (one.hardness,)),
        "by_database": by(judged, databases, lambda one: (one.row.db_id or "",)),
        "by_feature": by(judged, tuple(FEATURES), lambda one: one.features),
        "by_error_class": {
            name: Rate(classes[name], executed).plain()
            for name in ALL_ERROR_CLASSES
            if classes[name]
        },
        "errors": [
            {"row": one.row.number, **_error(one)}
            for one in judged
            if one.verdict.verdict == "wrong" and one.verdict.error is not None
        ],
        "gold_errors": [{**_gold(one), **_error(one)} for one in failed],
        "ambiguous_golds": [_gold(one) for one in judged if one.verdict.ambiguous],
        "not_fuzzed": dict(
            Counter(one.verdict.not_fuzzed for one in judged if one.verdict.not_fuzzed is not None)
        ),
        "warnings": sum(one.verdict.warning is not None for one in judged),
    }


def _gold(one: Judged) -> dict[str, Any]:
    return {"row": one.row.number, "db_id": one.row.db_id, "query": one.row.query}


def _error(one: Judged) -> dict[str, Any]:
    return {"error_class": one.verdict.error_class, "error": one.verdict.error}


def by(
    judged: Sequence[Judged], names: Iterable[str], kinds: Callable[[Judged], Sequence[str]]
) -> dict[str, Any]:
    """Execution accuracy (exact match where nothing was run) of each kind that occurs.

    Args:
        judged: the predictions with their verdicts.
        names: the kinds, in the order in which they are shown.
        kinds: which kinds a prediction belongs to.
    """
    executed = any(one.verdict.verdict != "not_executed" for one in judged)
    grouped: dict[str, list[Judged]] = {}
    for one in judged:
        for kind in kinds(one):
            grouped.setdefault(kind, []).append(one)
    metric = EXECUTION if executed else EXACT
    return {name: taken(metric, grouped[name]).plain() for name in names if name in grouped}
