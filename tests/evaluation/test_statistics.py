"""Rates, intervals and paired tests, against published values and definitions."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from qc_experiments.comparison.significance import mcnemar_p
from qc_experiments.evaluation.statistics import Paired, Rate, paired, rate


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0000),
        (35, 64, 0.4257, 0.6627),
    ],
)
def test_the_interval_is_wilsons(hits, count, low, high):
    found = Rate(hits, count).interval()
    assert found == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(("hits", "count"), [(35, 64), (1, 3), (999, 1000), (3, 10_000)])
def test_an_end_of_the_interval_is_as_far_from_the_share_as_95_percent_allow(hits, count):
    """Wilson's own definition: both ends p solve |hits / count - p| = z sqrt(p (1 - p) / count)."""
    for end in Rate(hits, count).interval():
        assert end is not None
        away = abs(hits / count - end)
        assert away == pytest.approx(1.959963985 * math.sqrt(end * (1 - end) / count), rel=1e-6)


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 500), (500, 500), (7, 11)])
def test_the_interval_holds_the_share_and_stays_between_0_and_1(hits, count):
    low, high = Rate(hits, count).interval()
    assert low is not None
    assert high is not None
    assert 0 <= low <= hits / count + 1e-12
    assert hits / count - 1e-12 <= high <= 1


def test_a_rate_counts_what_was_measured():
    assert rate([True, None, False, True]) == Rate(2, 3)
    assert rate([]).value is None
    assert rate([None, None]).interval() == (None, None)


@pytest.mark.parametrize(
    ("table", "difference", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10 (first less second there).
        ((36, 2, 12, 0), 0.2, 0.0569, 0.3404),
    ],
)
def test_the_interval_of_a_paired_difference_is_newcombes(table, difference, low, high):
    found = Paired(*table)
    assert found.difference() == pytest.approx(difference)
    assert found.interval() == pytest.approx((low, high), abs=6e-5)


def test_the_paired_interval_covers_the_truth_about_as_often_as_it_says():
    """2,000 made-up pairs of systems with a known difference: 95 % of intervals hold it, within 2 %."""
    draw = random.Random(0)
    held = 0
    for _ in range(2000):
        cells = [0, 0, 0, 0]
        for _ in range(100):
            cells[draw.choices(range(4), (0.4, 0.1, 0.2, 0.3))[0]] += 1
        low, high = Paired(*cells).interval()
        assert low is not None
        assert high is not None
        held += low <= 0.1 <= high
    assert 0.93 <= held / 2000 <= 0.97


@pytest.mark.parametrize("table", [(5, 0, 0, 5), (10, 0, 0, 0), (0, 0, 0, 10), (3, 4, 4, 3)])
def test_systems_that_are_equally_good_have_an_interval_around_zero_that_does_not_collapse(table):
    found = Paired(*table)
    low, high = found.interval()
    assert low is not None
    assert high is not None
    assert -1 <= low < 0 < high <= 1 or (low, high) == (0, 0)
    assert found.p_value() == 1.0


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (0, 1, 1.0),
        (0, 5, 2 / 2**5),
        (1, 9, 2 * (1 + 10) / 2**10),
        (6, 2, 2 * (1 + 8 + 28) / 2**8),
        (5, 5, 1.0),
        (400, 600, 2.7e-10),
    ],
)
def test_mcnemars_p_is_exact(only_first, only_second, p):
    for table in ((7, only_first, only_second, 9), (0, only_second, only_first, 0)):
        if sum(table):
            assert Paired(*table).p_value() == pytest.approx(p, rel=0.05)


def test_outcomes_are_paired_and_what_one_lacks_is_left_out():
    found = paired([True, True, False, False, None, True], [True, False, True, False, True, None])
    assert found == Paired(1, 1, 1, 1)
    empty = Paired(0, 0, 0, 0)
    assert (empty.difference(), empty.p_value(), empty.interval()) == (None, None, (None, None))
    with pytest.raises(ValueError, match="argument 2"):
        paired([True], [])


@pytest.mark.parametrize(
    ("differing", "difference"),
    [(0.1, 0.03), (0.2, 0.05), (0.3, 0.1), (0.5, 0.2), (0.9, 0.5)],
)
def test_with_the_questions_that_are_said_to_be_needed_four_of_five_comparisons_show_it(
    differing, difference
):
    """Random pairs of systems that differ so: the exact test finds 80 % of the differences, within 3 %."""
    won = round(1000 * (differing + difference) / 2)
    lost = round(1000 * differing) - won
    count = Paired(500, lost, won, 500 - lost - won).needed(difference)
    draw = np.random.default_rng(0)
    cells = draw.multinomial(count, [lost / 1000, won / 1000, 1 - differing], size=4000)
    found = [mcnemar_p(Paired(0, int(a), int(b), int(c))) < 0.05 for a, b, c in cells]
    assert 0.77 <= sum(found) / len(found) <= 0.83


def test_for_a_smaller_difference_or_more_comparisons_more_questions_are_needed():
    seen = Paired(20, 3, 5, 12)
    assert seen.needed(0.03) > seen.needed(0.05) > seen.needed(0.2)
    assert seen.needed(0.05, tests=11) > seen.needed(0.05)


def test_where_systems_never_differed_as_much_is_taken_as_that_allows():
    """Of 30 questions without a difference a tenth may still be one, of 3,000 a thousandth."""
    assert Paired(10, 0, 0, 20).needed(0.05) == Paired(10, 1, 2, 17).needed(0.05)
    assert Paired(1000, 0, 0, 2000).needed(0.05) == Paired(0, 0, 1, 19).needed(0.05)
    assert Paired(1, 0, 0, 0).needed(1.0) >= 6  # fewer show no difference, however large
