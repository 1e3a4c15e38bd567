"""Our rule and two published ones say of each decidable case what the case expects of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from helpers.equivalence_cases import CASES, Case

from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Limits, Value
from qc_experiments.databases.locate import Databases
from qc_experiments.judging import published_rules
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.verdict import Verdict


def _decode(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _rows(case: Case, sql: str) -> list[tuple[Value, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.text_factory = _decode
        connection.executescript(case.database)
        return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """What our judge says, by the case's name."""
    folder: Path = tmp_path_factory.mktemp("databases")
    rows = []
    for number, case in enumerate(CASES):
        path = folder / f"case{number}" / f"case{number}.sqlite"
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(case.database)
            connection.execute("CREATE TABLE IF NOT EXISTS unused (x)")  # an empty file is refused
        rows.append(Row(number, case.name, case.gold, "", f"case{number}"))
    with Judge(Databases(str(folder)), Limits(), cache=None) as judge:
        found = judge.judge(rows, [case.prediction for case in CASES])
    return {case.name: verdict for case, verdict in zip(CASES, found, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_ours_decides_as_expected(case, verdicts):
    found = verdicts[case.name]
    assert (found.correct, found.ambiguous) == (case.correct, case.ambiguous), case.reason
    assert (found.ex_bird, found.ex_test_suite) == (case.ex_bird, case.ex_test_suite)


def test_cases_have_names_of_their_own():
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_birds_rule_decides_as_expected(case):
    gold, predicted = (_rows(case, sql) for sql in (case.gold, case.prediction))
    assert published_rules.ex_bird(gold, predicted) is case.ex_bird


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_test_suites_rule_decides_as_expected(case):
    gold, predicted = (
        _rows(case, published_rules.without_distinct(sql)) for sql in (case.gold, case.prediction)
    )
    order_matters = published_rules.order_matters_in_test_suite(case.gold)
    verdict = published_rules.ex_test_suite(gold, predicted, order_matters=order_matters)
    assert verdict is case.ex_test_suite


def test_the_published_rules_err_both_ways_on_these_cases():
    for verdict in ("ex_bird", "ex_test_suite"):
        wrong = {case.correct for case in CASES if getattr(case, verdict) is not case.correct}
        assert wrong == {True, False}, verdict
