"""What a question is answered with, and how that is chosen among candidates; whoever wrote them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qc_experiments.config.schema import Choose
from qc_experiments.data.table import Row
from qc_experiments.errors import UserError
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.verdict import Tried

DIGITS = 6
"""Of a confidence that are kept, so that it is the same wherever it is written down."""


@dataclass(frozen=True)
class Predicted:
    """What a model answers a question with.

    Attributes:
        sql: the prediction.
        after_repair: the prediction, or what the model wrote when it was told why that fails; None
            where no repair was asked for.
        candidates: all that it was chosen from, each once; none where there was no choice.
        confidence: in the prediction, from 0 to 1 (see `predictor.Predictor`); None where it is not known.
    """

    sql: str
    after_repair: str | None = None
    candidates: tuple[str, ...] = ()
    confidence: float | None = None

    def is_unsure(self, least: float | None) -> bool:
        """Whether it is held back: its confidence is below the least that was asked for, or not known."""
        return least is not None and (self.confidence is None or self.confidence < least)


Answerer = Callable[[Sequence[Row], Callable[[int], None]], list[Predicted]]
"""Answers questions; calls a function with the number of those just answered."""


def check_confidence(least: float | None, named: str) -> None:
    """Refuse a least confidence that is none; ``named`` is what the user calls it."""
    if least is not None and not 0 <= least <= 1:
        raise UserError(f"{named} {least:g}: must be from 0 to 1")


def as_confidence(share: float) -> float:
    """A share as a confidence, with `DIGITS` digits."""
    return float(f"{share:.{DIGITS}g}")


def agreement(chosen: str, queries: Sequence[str], found: dict[str, Tried]) -> float:
    """The share of candidates, repeated ones included, that return the chosen one's rows; 0 if it fails."""
    result = found[chosen].result
    same = 0 if result is None else sum(found[query].result == result for query in queries)
    return as_confidence(same / len(queries))


def choose_by_running(
    rows: Sequence[Row], candidates: Sequence[Sequence[str]], how: Choose, judge: Judge
) -> tuple[list[str], list[float]]:
    """One of the candidates for each row, which ``judge`` runs where the choice depends on that.

    Returns:
        The queries; and how many agree with each, where the majority chooses.
    """
    if how is Choose.first:
        return [queries[0] for queries in candidates], []
    choose = first_valid if how is Choose.first_valid else majority
    different = [list(dict.fromkeys(queries)) for queries in candidates]
    pairs = zip(rows, different, strict=True)
    tried = iter(judge.try_all([(row, sql) for row, queries in pairs for sql in queries]))
    found = [{query: next(tried) for query in distinct} for distinct in different]
    chosen = [choose(*one) for one in zip(candidates, found, strict=True)]
    if choose is first_valid:
        return chosen, []
    triples = zip(chosen, candidates, found, strict=True)
    return chosen, [agreement(*one) for one in triples]


def first_valid(queries: Sequence[str], found: dict[str, Tried]) -> str:
    """The first candidate that runs, as `majority` takes them; the first of all where none does."""
    return next((query for query in queries if found[query].error is None), queries[0])


def majority(queries: Sequence[str], found: dict[str, Tried]) -> str:
    """The first candidate with the most frequent result; the first of all where none runs.

    Self-consistency by execution (Wang et al. 2023, arXiv:2203.11171; Ni et al. 2023,
    arXiv:2302.08468): queries that are written differently but return the same rows vote together.

    Args:
        queries: the candidates, repeated ones included, the likeliest first.
        found: what came of each.
    """
    results = [found[query].result for query in queries]
    votes = Counter(result for result in results if result is not None)
    if not votes:
        return queries[0]
    most = max(votes.values())
    return next(
        query
        for query, result in zip(queries, results, strict=True)
        if result is not None and votes[result] == most
    )
