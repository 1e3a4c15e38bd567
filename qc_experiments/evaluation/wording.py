"""What may be said of two systems on the same questions, in plain words with the numbers behind them."""

from __future__ import annotations

from qc_experiments.evaluation.statistics import LEVEL, Paired
from qc_experiments.system.words import counted, noun_for

FEWEST = 6
"""Questions from which a difference can show at all: with 5, all won and none lost, p is 2 / 2^5 = 0.0625."""
LEAST = 0.03
"""The smallest difference for which the questions are named that would show it."""


def verdict(
    found: Paired, first: str, second: str, p_holm: float | None = None, tests: int = 1
) -> str:
    """Whether the second of two systems is better, worse or neither, in one line.

    Args:
        found: the 2x2 table.
        first: name of the first system.
        second: name of the second.
        p_holm: p corrected for several comparisons; None where there is this one.
        tests: how many comparisons there are.
    """
    difference, p = found.difference(), found.p_value()
    low, high = found.interval()
    if difference is None or p is None or low is None or high is None:
        return "nothing was measured for both"
    asked = counted(found.count, "question")
    counts = f"{found.only_second} won, {found.only_first} lost"
    if found.count < FEWEST:
        are = noun_for(found.count, "is", "are")
        return (
            f"{asked} {are} too few to judge ({counts}): with fewer than {FEWEST} any difference may be "
            "chance"
        )
    what, p = ("McNemar's exact p", p) if p_holm is None else ("Holm-corrected p", p_holm)
    value = "< 0.001" if p < 0.001 else f"= {p:.3g}"
    points = f"{100 * difference:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f})"
    if p < LEVEL:
        better = "better" if difference > 0 else "worse"
        return f"{second} is {better} than {first}: {points}, {counts} of {asked}, {what} {value}"
    return (
        f"no winner: {asked} cannot tell {first} and {second} apart: {points}, {counts}, "
        f"{what} {value}; {_what_would(found, abs(difference), tests)}"
    )


def _what_would(found: Paired, seen: float, tests: int) -> str:
    """How many questions would show a difference as large as the one seen, or one worth knowing."""
    difference = max(seen, LEAST)
    count = found.needed(difference, tests)
    points = f"a difference of {100 * difference:.1f}".removesuffix(".0") + " points"
    if count <= found.count:
        return f"{points} would have shown in most cases"
    return f"{points} would need about {float(f'{count:.2g}'):,.0f} questions"
