"""Predictions with their verdicts, and the rates that are made of them, in all and by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qc_experiments.data.table import Row
from qc_experiments.evaluation.query_analysis import Analysis, analyse
from qc_experiments.evaluation.statistics import Rate, rate
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.verdict import ALL_ERROR_CLASSES, Memory, Verdict
from qc_experiments.sql.components import Components
from qc_experiments.sql.structure import FEATURES

HARDNESS = ("easy", "medium", "hard", "extra", "unknown")
"""Spider's levels, in their order; ``unknown`` where the gold could not be parsed."""

COMPONENTS = ("tables", "columns", "conditions", "joins")
"""Parts of a query that are compared by themselves."""


VERDICT_COLUMNS = ("correct", "verdict", "warning", "error_class", "seconds")
"""Columns of ``judged.csv`` and ``predictions.csv`` behind the prediction."""


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
        components: how far its parts are the gold's; None where the gold could not be parsed.
        after_repair: the query after a repair of what failed, and its verdict; None where no repair
            was asked for.
    """

    row: Row
    prediction: str
    verdict: Verdict
    exact: bool
    hardness: str
    features: tuple[str, ...]
    components: Components | None
    after_repair: tuple[str, Verdict] | None = None

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
        predictions: one SQL text a row.
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
    return [
        Judged(
            row,
            prediction,
            _warned(verdict, found),
            found.exact,
            found.hardness,
            found.features,
            found.components,
            mended,
        )
        for row, prediction, verdict, found, mended in zip(
            rows, predictions, verdicts, analyse(rows, predictions, judge), after, strict=True
        )
    ]


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


def verdict_cells(one: Judged) -> list[str | int | float | None]:
    """The cells of `VERDICT_COLUMNS`: ``correct`` is 1, 0 or None where it was not measured."""
    verdict = one.verdict
    return [
        None if verdict.correct is None else int(verdict.correct),
        verdict.verdict,
        verdict.warning,
        verdict.error_class,
        None if verdict.seconds is None else round(verdict.seconds, 6),
    ]


RATES: dict[str, Callable[[Judged], bool | None]] = {
    "execution_accuracy": lambda one: one.verdict.correct,
    "repaired_execution_accuracy": lambda one: (
        None if one.after_repair is None else one.after_repair[1].correct
    ),
    "ex_bird": lambda one: one.verdict.ex_bird,
    "ex_test_suite": lambda one: one.verdict.ex_test_suite,
    "fuzz_accuracy": lambda one: one.verdict.fuzz,
    "exact_match": lambda one: one.exact,
    "valid_sql": lambda one: one.verdict.valid,
}
"""What is counted of each prediction, by the name of its share."""


def rates(judged: Sequence[Judged]) -> dict[str, Rate]:
    """The share of each of `RATES`, with its count."""
    return {name: rate(map(of, judged)) for name, of in RATES.items()}


def figures(judged: Sequence[Judged]) -> dict[str, float | int | None]:
    """The figures of ``result.json`` that predictions give (see README, What a run leaves behind)."""
    found = rates(judged)
    execution = found["execution_accuracy"]
    low, high = execution.interval()
    return {
        **{name: share.value for name, share in found.items()},
        "execution_accuracy_low": low,
        "execution_accuracy_high": high,
        "execution_correct": execution.hits if execution.count else None,
        "execution_count": execution.count if execution.count else None,
    }


def report(judged: Sequence[Judged], hashes: dict[str, str]) -> dict[str, Any]:
    """Everything that predictions tell, as ``report.json`` holds it.

    Every share stands with its hits, its count and its 95 % interval.

    Args:
        judged: the predictions with their verdicts.
        hashes: of what they were judged on (see `judging.verdict.judged_on`).
    """
    classes = Counter(one.verdict.error_class for one in judged if one.verdict.verdict == "wrong")
    executed = [one for one in judged if one.correct is not None]
    return {
        "count": len(judged),
        "judged_on": hashes,
        "figures": {name: share.plain() for name, share in rates(judged).items()},
        "components": _component_scores(judged),
        "by_hardness": by(judged, HARDNESS, lambda one: (one.hardness,)),
        "by_database": by(
            judged,
            sorted({one.row.db_id for one in judged if one.row.db_id}),
            lambda one: (one.row.db_id or "",),
        ),
        "by_feature": by(judged, tuple(FEATURES), lambda one: one.features),
        "by_error_class": {
            name: Rate(classes[name], len(executed)).plain()
            for name in ALL_ERROR_CLASSES
            if classes[name]
        },
        "errors": [
            {
                "row": one.row.number,
                "error_class": one.verdict.error_class,
                "error": one.verdict.error,
            }
            for one in judged
            if one.verdict.verdict == "wrong" and one.verdict.error is not None
        ],
        "gold_errors": [
            {
                "row": one.row.number,
                "db_id": one.row.db_id,
                "query": one.row.query,
                "error_class": one.verdict.error_class,
                "error": one.verdict.error,
            }
            for one in judged
            if one.verdict.verdict == "gold_error"
        ],
        "ambiguous_golds": [
            {"row": one.row.number, "db_id": one.row.db_id, "query": one.row.query}
            for one in judged
            if one.verdict.ambiguous
        ],
        "not_fuzzed": dict(
            Counter(one.verdict.not_fuzzed for one in judged if one.verdict.not_fuzzed is not None)
        ),
        "warnings": sum(one.verdict.warning is not None for one in judged),
    }


def by(
    judged: Sequence[Judged],
    names: Iterable[str],
    kinds: Callable[[Judged], Sequence[str]],
) -> dict[str, Any]:
    """Execution accuracy (exact match where nothing was run) of each kind that occurs.

    Args:
        judged: the predictions with their verdicts.
        names: the kinds, in the order in which they are shown.
        kinds: which kinds a prediction belongs to.
    """
    executed = any(one.verdict.verdict != "not_executed" for one in judged)
    grouped: dict[str, list[bool | None]] = {}
    for one in judged:
        for kind in kinds(one):
            grouped.setdefault(kind, []).append(one.correct if executed else one.exact)
    return {name: rate(grouped[name]).plain() for name in names if name in grouped}


def _component_scores(judged: Sequence[Judged]) -> dict[str, Any]:
    """For each component the share of questions in which it is the gold's, and its mean F1."""
    found = [one.components for one in judged if one.components is not None]
    scores = {}
    for name in COMPONENTS:
        parts = [getattr(one, name) for one in found]
        mean = sum(part.f1 for part in parts) / len(parts) if parts else None
        scores[name] = {**rate(part.equal for part in parts).plain(), "mean_f1": mean}
    return scores
