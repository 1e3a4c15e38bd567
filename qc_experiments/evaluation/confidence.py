"""How well confidence separates right answers from wrong ones: selective prediction.

Whoever answers only the questions of which it is surest errs less, and answers fewer: its risk against its
coverage (El-Yaniv and Wiener 2010, JMLR 11:1605). Equal confidences are never told apart: figures are what
any order of them gives on average, and who answers one of them answers all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qc_experiments.data.table import column_place
from qc_experiments.errors import UserError
from qc_experiments.evaluation.statistics import Rate
from qc_experiments.system.words import counted

if TYPE_CHECKING:
    from qc_experiments.evaluation.metrics import Judged

Sure = tuple[float, bool]
"""A confidence, and whether the answer is right."""

CONFIDENCE_COLUMN = "confidence"
"""Of CSVs of predictions."""
COVERAGES = (100, 90, 80, 50, 25)
"""Per cent of the questions that are to be answered at least, the surest first."""
FEWEST = 20
"""Questions below which people are told nothing of it: one answer would move all figures."""


def read_confidences(
    source: Path, header: Sequence[str], numbered: Sequence[tuple[int, list[str]]]
) -> list[float | None]:
    """The numbers of a CSV's column confidence, row by row; None where there is none."""
    if CONFIDENCE_COLUMN not in header:
        return [None] * len(numbered)
    place = column_place(source, header, CONFIDENCE_COLUMN, "rename one of them")
    found: list[float | None] = []
    for number, cells in numbered:
        try:
            sure = float(cells[place]) if cells[place].strip() else None
        except ValueError:
            sure = math.nan
        if sure is not None and not math.isfinite(sure):
            raise UserError(
                f"{source}: row {number}: confidence is {cells[place][:20]!r}, not a number: mend it, or "
                "give the column another name"
            )
        found.append(sure)
    return found


def pairs(judged: Sequence[Judged]) -> list[Sure]:
    """The confidences that are known, with verdicts: exact match where nothing was run.

    Answers that were held back have a confidence but no text: of what a model is sure they say nothing.
    """
    executed = any(one.verdict.verdict != "not_executed" for one in judged)
    answered = (one for one in judged if one.prediction.strip())
    found = ((one.confidence, one.correct if executed else one.exact) for one in answered)
    return [(sure, right) for sure, right in found if sure is not None and right is not None]


def groups(found: Iterable[Sure]) -> list[tuple[float, int, int]]:
    """Each confidence with the number of right answers and of all that have it, the highest first."""
    ordered = sorted(found, reverse=True)
    parts = [(sure, [right for _, right in of]) for sure, of in groupby(ordered, lambda o: o[0])]
    return [(sure, sum(rights), len(rights)) for sure, rights in parts]


def auroc(found: Sequence[Sure]) -> float | None:
    """Chance that a right answer is surer than a wrong one, a tie counting half; None without both."""
    rights = sum(right for _, right in found)
    wrongs = len(found) - rights
    if not rights or not wrongs:
        return None
    above, wins = 0, 0.0  # right answers that are surer, and what they win
    for _, hits, count in groups(found):
        wins += (count - hits) * (above + hits / 2)
        above += hits
    return wins / (rights * wrongs)


def risks(found: Sequence[Sure]) -> list[float]:
    """The share of wrong ones among the 1, 2, ... surest answers."""
    curve: list[float] = []
    wrong = 0.0
    for _, hits, count in groups(found):
        share = (count - hits) / count  # of each of the equally sure, on average
        for _ in range(count):
            wrong += share
            curve.append(wrong / (len(curve) + 1))
    return curve


def aurc(found: Sequence[Sure]) -> float:
    """Area under risk against coverage: the mean of `risks`; 0 at best, the share of wrong ones by chance."""
    curve = risks(found)
    return sum(curve) / len(curve)


def separation(found: Sequence[Sure]) -> dict[str, Any] | None:
    """What ``report.json`` has under ``confidence``; None where no confidence is known."""
    if not found:
        return None
    by_oracle = [(float(right), right) for _, right in found]
    return {
        "count": len(found),
        "auroc": auroc(found),
        "aurc": aurc(found),
        "aurc_best": aurc(by_oracle),
        "aurc_chance": 1 - sum(right for _, right in found) / len(found),
        "coverage": {f"{percent}": _answered(found, percent / 100) for percent in COVERAGES},
    }


def _answered(found: Sequence[Sure], coverage: float) -> dict[str, float | int | None]:
    """Accuracy where the surest are answered, a share of all at least, and the confidence that it takes."""
    hits = count = 0
    for sure, right, of in groups(found):
        hits, count = hits + right, count + of
        if count >= coverage * len(found):
            return {"not_below": sure, **Rate(hits, count).plain()}
    raise ValueError(f"coverage {coverage} is above 1")


def confidence_lines(content: Mapping[str, Any] | None) -> list[str]:
    """What `separation` found, for people; nothing where there is nothing, or too little."""
    if content is None or content["count"] < FEWEST:
        return []
    lines = [f"confidence, {counted(content['count'], 'question')}: {_told(content)}"]
    parts = []
    for percent, one in content["coverage"].items():
        accuracy = f"{100 * one['value']:.1f} % ({one['hits']} of {one['count']})"
        parts.append(f"{percent} % -> {accuracy}")
    return [*lines, f"answering the surest: {', '.join(parts)}"]


def _told(content: Mapping[str, Any]) -> str:
    area = (
        f"risk over coverage {content['aurc']:.3f} (perfect order {content['aurc_best']:.3f}, "
        f"none {content['aurc_chance']:.3f})"
    )
    if content["auroc"] is None:
        return f"{area}; all answers are {'right' if not content['aurc_chance'] else 'wrong'}"
    return f"a right answer is surer than a wrong one in {100 * content['auroc']:.1f} %; {area}"
