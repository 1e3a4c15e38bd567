"""What is said of two systems, in words that anybody understands, with the numbers behind them."""

from __future__ import annotations

import pytest

from qc_experiments.evaluation.statistics import Paired
from qc_experiments.evaluation.wording import verdict


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            (400, 60, 190, 322),
            "adapter is better than base: +13.4 points (95 % interval +10.3 to +16.4), 190 won, 60 lost of "
            "972 questions, McNemar's exact p < 0.001",
        ),
        ((10, 9, 1, 20), "adapter is worse than base: -20.0 points"),
        (
            (20, 3, 5, 12),
            "no winner: 40 questions cannot tell base and adapter apart: +5.0 points (95 % interval -9.3 to "
            "+18.9), 5 won, 3 lost, McNemar's exact p = 0.727; a difference of 5 points would need about "
            "660 questions",
        ),
        ((500, 20, 24, 456), "a difference of 3 points would have shown in most cases"),
        ((20, 0, 0, 20), "a difference of 3 points would need about"),
        ((1, 0, 2, 0), "3 questions are too few to judge (2 won, 0 lost)"),
        ((1, 0, 0, 0), "1 question is too few to judge"),
        ((0, 0, 6, 0), "adapter is better"),
        ((0, 0, 0, 0), "nothing was measured for both"),
    ],
)
def test_the_verdict_says_who_is_better_or_what_it_would_take(table, said):
    assert said in verdict(Paired(*table), "base", "adapter")


def test_what_one_comparison_shows_many_may_not():
    found = Paired(30, 2, 10, 30)
    assert "the leader is better" in verdict(found, "the next one", "the leader")
    many = verdict(found, "the next one", "the leader", p_holm=0.39, tests=10)
    assert many.startswith("no winner")
    assert "Holm-corrected p = 0.39" in many
