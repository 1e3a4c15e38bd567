"""How well confidence separates right from wrong, where the answer is known beforehand."""

from __future__ import annotations

import random

import pytest

from qc_experiments.data.table import Row
from qc_experiments.evaluation.confidence import (
    FEWEST,
    aurc,
    auroc,
    confidence_lines,
    pairs,
    risks,
    separation,
)
from qc_experiments.evaluation.metrics import Judged
from qc_experiments.evaluation.plot import confidence_plot
from qc_experiments.evaluation.statistics import wilson
from qc_experiments.judging.verdict import Verdict

PERFECT = [(0.9, True), (0.8, True), (0.4, False), (0.2, False)]
REVERSED = [(0.1, True), (0.2, True), (0.4, False), (0.5, False)]
TIED = [(0.5, True), (0.5, True), (0.5, False), (0.5, False)]


@pytest.mark.parametrize(
    ("found", "area"),
    [
        (PERFECT, 1.0),
        (REVERSED, 0.0),
        (TIED, 0.5),
        ([(0.9, True), (0.5, True), (0.5, False)], 0.75),
        ([(0.9, True)], None),
        ([(0.9, False), (0.1, False)], None),
    ],
)
def test_auroc_is_the_chance_that_a_right_answer_is_surer(found, area):
    assert auroc(found) == area


def test_answers_that_were_held_back_do_not_count():
    def judged(text: str, sure: float, verdict: str) -> Judged:
        row = Row(1, "q", "SELECT 1", "")
        return Judged(
            row, text, Verdict(verdict == "correct", verdict), False, "easy", (), confidence=sure
        )

    kept = [judged("SELECT 1", 0.9, "correct"), judged("SELECT 2", 0.8, "wrong")]
    held_back = [judged("", 0.1, "wrong"), judged(" ", 0.2, "wrong")]
    assert pairs([*kept, *held_back]) == pairs(kept) == [(0.9, True), (0.8, False)]


def test_auroc_is_that_of_all_pairs():
    draw = random.Random(0)
    found = [(draw.randrange(6) / 5, draw.random() < 0.4) for _ in range(80)]
    rights = [sure for sure, right in found if right]
    wrongs = [sure for sure, right in found if not right]
    won = sum((a > b) + (a == b) / 2 for a in rights for b in wrongs)
    assert auroc(found) == pytest.approx(won / (len(rights) * len(wrongs)))


def test_risk_grows_only_where_wrong_answers_come():
    assert risks(PERFECT) == [0, 0, pytest.approx(1 / 3), 0.5]
    assert risks(REVERSED) == [1, 1, pytest.approx(2 / 3), 0.5]
    assert risks(TIED) == [0.5] * 4
    assert aurc(PERFECT) == pytest.approx((1 / 3 + 1 / 2) / 4)


def test_ties_give_what_their_orders_give_on_average():
    draw = random.Random(1)
    found = [(draw.randrange(4) / 3, draw.random() < 0.6) for _ in range(30)]
    total = 0.0
    for _ in range(4000):
        shuffled = [(sure + draw.random() / 100, right) for sure, right in found]
        total += aurc(shuffled)
    assert aurc(found) == pytest.approx(total / 4000, abs=2e-3)


def test_a_coverage_is_reached_by_the_highest_confidence_that_answers_as_many():
    found = separation([(n / 20, n > 6) for n in range(1, 21)])
    assert found is not None
    assert found["aurc"] == found["aurc_best"]
    assert found["aurc_chance"] == pytest.approx(0.3)
    coverage = found["coverage"]
    assert [coverage[percent]["count"] for percent in ("100", "90", "80", "50", "25")] == [
        *(20, 18, 16, 10),
        5,
    ]
    assert (coverage["80"]["hits"], coverage["80"]["not_below"]) == (14, 0.25)
    low, high = wilson(14, 16)
    assert (coverage["80"]["low"], coverage["80"]["high"]) == (low, high)
    lines = confidence_lines(found)
    assert "a right answer is surer than a wrong one in 100.0 %" in lines[0]
    assert "80 % -> 87.5 % (14 of 16)" in lines[1]


def test_equally_sure_answers_are_given_all_or_none():
    found = separation(TIED)
    assert found is not None
    assert {one["count"] for one in found["coverage"].values()} == {4}
    assert separation([]) is None
    assert confidence_lines(None) == []


def test_what_is_all_right_has_an_area_of_zero_and_says_so():
    found = separation([(0.5, True), (0.7, True)] * 10)
    assert found is not None
    assert (found["auroc"], found["aurc"]) == (None, 0)
    assert "all answers are right" in confidence_lines(found)[0]


def test_people_are_told_nothing_that_one_answer_would_move():
    few = [(0.5, True)] * (FEWEST - 1)
    assert confidence_lines(separation(few)) == []
    assert confidence_lines(separation([*few, (0.7, False)]))


def test_risk_is_drawn_against_coverage(capfd):
    for systems in ({"a": risks(PERFECT)}, {"商店 $x$": risks(PERFECT), "b": risks(TIED)}):
        assert confidence_plot(systems).startswith(b"\x89PNG")
    assert capfd.readouterr() == ("", "")
