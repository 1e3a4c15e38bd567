"""Is the best run better than another one? Paired tests on the same questions, corrected by Holm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from qc_experiments.comparison.predictions import RIGHT, WRONG
from qc_experiments.comparison.runs import Run
from qc_experiments.evaluation.statistics import LEVEL, Paired
from qc_experiments.system.words import counted


@dataclass(frozen=True)
class Against:
    """The best run against another one, in execution accuracy.

    Attributes:
        table: the 2x2 table; its first system is the other run, its second the best.
        p: of McNemar's exact test.
        p_holm: corrected for the number of runs that the best one is compared with.
    """

    table: Paired
    p: float
    p_holm: float

    @property
    def figures(self) -> tuple[float | None, ...]:
        """Difference of the accuracies with the ends of its 95 % interval, p, corrected p."""
        return (self.table.difference(), *self.table.interval(), self.p, self.p_holm)

    @property
    def verdict(self) -> str:
        """What may be said of the best run against the other one."""
        difference = self.table.difference() or 0.0
        if self.p_holm >= LEVEL or difference == 0:
            return "not distinguishable"
        return "better" if difference > 0 else "worse"


def against_best(best: Run, others: Sequence[Run]) -> dict[Path, Against]:
    """The best run against each other one that has verdicts on the same questions, by that one's folder."""
    tables: dict[Path, Paired] = {}
    for other in others:
        if best.outcomes and other.outcomes and other.outcomes.asked == best.outcomes.asked:
            table = pair_bits(other.outcomes.bits, best.outcomes.bits)
            if table.count:
                tables[other.folder] = table
    raw = [mcnemar_p(table) for table in tables.values()]
    corrected = holm(raw)
    return {
        folder: Against(table, p, p_holm)
        for (folder, table), p, p_holm in zip(tables.items(), raw, corrected, strict=True)
    }


def pair_bits(first: str, second: str) -> Paired:
    """The 2x2 table of two strings of verdicts; questions not measured for both are left out."""
    found = Counter(zip(first, second, strict=True))
    return Paired(
        both=found[RIGHT, RIGHT],
        only_first=found[RIGHT, WRONG],
        only_second=found[WRONG, RIGHT],
        neither=found[WRONG, WRONG],
    )


def mcnemar_p(table: Paired) -> float:
    """Two-sided exact p of McNemar's test; 1 where nothing was counted."""
    return _exact_p(*sorted((table.only_first, table.only_second)))


@cache
def _exact_p(fewer: int, more: int) -> float:
    # The test sees nothing but these two counts, and in a large sweep the same ones come again.
    return Paired(0, fewer, more, 1).p_value() or 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number, step-down (Holm 1979, Scand. J. Stat. 6:65), in their order.

    The smallest is taken times their number, the next times one less, and so on, each at least as
    large as the one before and at most 1.
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for done, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[place]))
        corrected[place] = largest
    return corrected


def in_words(best: Run, found: Mapping[Path, Against], others: int) -> str:
    """One line on what the tests say of the best run; ``others`` are all runs that it leads."""
    if not others:
        return f"{best.name} is the only finished run: there is nothing to compare it with."
    if not found:
        return (
            f"{best.name} leads, but no other run has verdicts on the same questions: "
            "whether it differs from them is not tested."
        )
    counts = Counter(one.verdict for one in found.values())
    questions = max(one.table.count for one in found.values())
    phrases = {"better": "than", "not distinguishable": "from", "worse": "than"}
    parts = [f"{one} {word} {counts[one]}" for one, word in phrases.items() if counts[one]]
    untested = others - len(found)
    if untested:
        parts.append(f"not tested against {untested}")
    return (
        f"In execution accuracy on the same {counted(questions, 'question')} {best.name} is "
        f"{', '.join(parts)} of {counted(others, 'other run')} (McNemar's exact test, Holm-corrected "
        f"for {len(found)}; a difference is claimed below p = {LEVEL:g} only)."
    )
