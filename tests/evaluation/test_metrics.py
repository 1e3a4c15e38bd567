"""Verdicts on predictions, the figures made of them, and what counts as the same query."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import Databases
from qc_experiments.evaluation.metrics import Judged, assess, figures, report
from qc_experiments.evaluation.statistics import Rate
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.verdict import judged_on
from qc_experiments.sql.parsing import exact_match

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, price REAL);"
FIGURES = {
    "execution_accuracy",
    "execution_accuracy_low",
    "execution_accuracy_high",
    "execution_correct",
    "execution_count",
    "exact_match",
    "valid_sql",
    "ex_bird",
    "ex_test_suite",
    "fuzz_accuracy",
    "repaired_execution_accuracy",
    "candidate_recall",
}


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    path = tmp_path / "shop" / "shop.sqlite"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            SCHEMA + "INSERT INTO t VALUES (1, 'a', 1.0), (2, 'b', 2.5), (3, 'c', NULL);"
        )
    return tmp_path


def row(query: str, context: str = SCHEMA, number: int = 2) -> Row:
    return Row(number, "q", query, context, "shop")


def judge(
    rows: list[Row], predictions: list[str], databases: Path | None, timeout: float = 5.0
) -> list[Judged]:
    place = None if databases is None else Databases(str(databases))
    with Judge(place, Limits(seconds=timeout), cache=None, processes=1) as made:
        return assess(rows, predictions, made)


def judge_one(gold: str, predicted: str, databases: Path | None, context: str = SCHEMA) -> Judged:
    [judged] = judge([row(gold, context)], [predicted], databases)
    return judged


@pytest.mark.parametrize(
    ("gold", "predicted", "verdict"),
    [
        ("SELECT name FROM t", "SELECT name FROM t", "correct"),
        ("SELECT name FROM t", "SELECT name FROM t ORDER BY id DESC", "correct"),
        ("SELECT price FROM t WHERE id = 1", "SELECT 1", "correct"),
        ("SELECT name FROM t WHERE price IS NULL", "SELECT name FROM t WHERE id = 3", "correct"),
        ("SELECT name FROM t WHERE id > 9", "SELECT price FROM t WHERE id < 0", "correct"),
        ("SELECT name FROM t ORDER BY id", "SELECT name FROM t ORDER BY name", "correct"),
        ("SELECT name FROM t ORDER BY id", "SELECT name FROM t ORDER BY id DESC", "wrong"),
        ("SELECT name FROM t", "SELECT name FROM t LIMIT 2", "wrong"),
        ("SELECT name FROM t", "SELECT name, id FROM t", "wrong"),
        ("SELECT name, price FROM t", "SELECT price, name FROM t", "correct"),
        ("SELECT name FROM t", "SELECT name FROM t UNION ALL SELECT 'a'", "wrong"),
        ("SELECT name FROM t", "SELECT nam FROM t", "wrong"),
        ("SELECT name FROM t", "I do not know.", "wrong"),
        ("SELECT name FROM t", "", "wrong"),
        ("SELECT name FROM t", "DROP TABLE t", "wrong"),
        ("SELECT nam FROM t", "SELECT name FROM t", "gold_error"),
        ("SELECT nam FROM t", "SELECT nam FROM t", "gold_error"),
    ],
)
def test_the_verdict_on_a_database(databases, gold, predicted, verdict):
    judged = judge_one(gold, predicted, databases)
    expected = {"correct": True, "gold_error": None}.get(verdict, False)
    assert (judged.verdict.verdict, judged.correct) == (verdict, expected)
    assert judged.verdict.seconds is not None


@pytest.mark.parametrize(
    ("predicted", "valid", "error_class"),
    [
        ("SELECT name FROM t", True, None),
        ("SELECT 1", True, "wrong_rows"),
        ("SELECT nam FROM t", False, "no_such_column"),
        ("SELECT name FROM u", False, "no_such_table"),
        ("DELETE FROM t", False, "forbidden"),
        ("SELECT name FROM", False, "syntax"),
    ],
)
def test_validity_and_error_class_on_a_database(databases, predicted, valid, error_class):
    judged = judge_one("SELECT name FROM t", predicted, databases)
    assert (judged.verdict.valid, judged.verdict.error_class) == (valid, error_class)


def test_judging_leaves_the_database_as_it_is(databases):
    path = databases / "shop" / "shop.sqlite"
    before = path.read_bytes()
    destroying = ["DROP TABLE t", "DELETE FROM t", "SELECT 1; DROP TABLE t", "VACUUM"]
    judged = judge([row("SELECT count(*) FROM t")] * 4, destroying, databases)
    assert [one.verdict.verdict for one in judged] == ["wrong"] * 4
    assert path.read_bytes() == before


def test_a_prediction_that_never_ends_is_an_error_and_the_next_is_judged(databases):
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT count(*) FROM n"
    one, two = judge([row("SELECT 1")] * 2, [endless, "SELECT 1"], databases, 0.2)
    assert (one.verdict.error_class, one.correct) == ("timeout", False)
    assert two.correct is True


def test_a_gold_query_that_nests_deeply_does_not_end_the_evaluation(databases):
    gold = "SELECT " + "(" * 60 + "1" + ")" * 60
    assert judge_one(gold, "SELECT 1", databases).correct is True


@pytest.mark.parametrize(
    ("predicted", "context", "valid"),
    [
        ("SELECT name FROM t WHERE price > 1", SCHEMA, True),
        ("SELECT nam FROM t", SCHEMA, False),
        ("SELECT name FROM u", SCHEMA, False),
        ("SELECT FROM t", SCHEMA, False),
        ("DROP TABLE t", SCHEMA, False),
        ("SELECT name FROM t", "Table t has columns id and name.", None),
    ],
)
def test_without_databases_a_prediction_is_valid_if_its_schema_takes_it(predicted, context, valid):
    judged = judge_one("SELECT name FROM t", predicted, None, context)
    assert judged.verdict.valid is valid
    assert (judged.verdict.verdict, judged.correct) == ("not_executed", None)


def test_each_prediction_belongs_to_its_row(databases):
    rows = [row("SELECT 1", number=2), row("SELECT name FROM t", number=3)]
    judged = judge(rows, ["SELECT 1", "select name\nfrom T;"], databases)
    assert [(one.row.number, one.exact, one.correct) for one in judged] == [
        (2, True, True),
        (3, True, True),
    ]
    with pytest.raises(ValueError, match="argument 2"):
        judge(rows, ["SELECT 1"], databases)


def test_the_figures_of_an_evaluation(databases):
    gold = ["SELECT name FROM t"] * 4 + ["SELECT nam FROM t"]
    predicted = [
        "SELECT name FROM t",
        "SELECT name FROM t ORDER BY 1",
        "SELECT id FROM t",
        "SELECT nam FROM t",
        "SELECT name FROM t",
    ]
    found = figures(judge([row(query) for query in gold], predicted, databases))
    assert set(found) == FIGURES
    assert (found["execution_correct"], found["execution_count"]) == (2, 4)  # not the broken gold
    assert found["execution_accuracy"] == 0.5
    low, high = Rate(2, 4).interval()
    assert (found["execution_accuracy_low"], found["execution_accuracy_high"]) == (low, high)
    assert found["exact_match"] == 1 / 5
    assert found["valid_sql"] == 4 / 5


def test_what_was_not_measured_is_none_not_zero():
    rows = [row("SELECT name FROM t"), row("SELECT name FROM t", "no schema")]
    found = figures(judge(rows, ["SELECT nam FROM t", "SELECT name FROM t"], None))
    assert {key for key, value in found.items() if value is None} == {
        "execution_accuracy",
        "execution_accuracy_low",
        "execution_accuracy_high",
        "execution_correct",
        "execution_count",
        "ex_bird",
        "ex_test_suite",
        "fuzz_accuracy",
        "repaired_execution_accuracy",
        "candidate_recall",
    }
    assert found["exact_match"] == 0.5
    assert found["valid_sql"] == 0.0  # of the one whose schema SQLite runs
    assert set(figures([]).values()) == {None}


@pytest.mark.parametrize(
    "predicted",
    [
        "SELECT name FROM t WHERE city = 'Bonn' AND price > 1.5",
        "select NAME from T where City='Bonn' and PRICE>1.5;",
        "SELECT name\nFROM t  -- the table\nWHERE city = 'Bonn'\n  AND price > 1.5 ;\n",
        'SELECT "name" FROM `t` WHERE [city] = \'Bonn\' AND "price" > 1.5',
    ],
    ids=["same", "case", "blanks, comment, semicolon", "quoted identifiers"],
)
def test_spelling_does_not_matter_to_exact_match(predicted):
    assert exact_match("SELECT name FROM t WHERE city = 'Bonn' AND price > 1.5", predicted)


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [
        ("SELECT a FROM t WHERE b = 'Bonn'", "SELECT a FROM t WHERE b = 'bonn'"),
        ("SELECT a FROM t WHERE b = 'New  York'", "SELECT a FROM t WHERE b = 'New York'"),
        ('SELECT a FROM t WHERE b = "Bonn"', 'SELECT a FROM t WHERE b = "bonn"'),
        ("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b = '1'"),
        ("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b = 2"),
        ("SELECT a FROM t", "SELECT b FROM t"),
        ("SELECT a, b FROM t", "SELECT b, a FROM t"),
        ("SELECT a FROM t", "SELECT DISTINCT a FROM t"),
        ("SELECT a FROM t", "SELECT a FROM t; DROP TABLE t"),
        ("SELECT a FROM t", "SELECT a FROM"),
        ("SELECT a FROM t", ""),
    ],
)
def test_anything_else_matters_to_exact_match(gold, predicted):
    assert not exact_match(gold, predicted)


@pytest.mark.parametrize(
    "text", ["", ";", "I do not know.", "SELECT '", "\0", "(" * 5000, "é🙂" * 50]
)
def test_whatever_a_model_writes_is_judged(databases, text):
    for place in (databases, None):
        judged = judge_one("SELECT name FROM t", text, place)
        assert (judged.verdict.valid, judged.exact) == (False, False)
        assert judged.correct is (False if place else None)


@pytest.mark.parametrize(
    ("gold", "predicted", "error_class"),
    [
        ("SELECT name FROM t", "SELECT name FROM t LIMIT 2", "wrong_rows"),
        ("SELECT name FROM t", "SELECT name, id FROM t", "wrong_columns"),
        ("SELECT name, id FROM t", "SELECT name FROM t", "wrong_columns"),
        ("SELECT name FROM t", "SELECT name FROM t WHERE id > 9", "empty_result"),
        ("SELECT name FROM t ORDER BY id", "SELECT name FROM t ORDER BY id DESC", "wrong_order"),
        ("SELECT name FROM t", "SELECT name FROM t AND", "syntax"),
        ("SELECT name FROM t", "SELECT t.id FROM t, t AS u WHERE id = 1", "ambiguous_column"),
        ("SELECT name FROM t", "SELECT absent(name) FROM t", "no_such_function"),
        ("SELECT name FROM t", "-- nothing", "not_a_query"),
    ],
)
def test_what_is_wrong_is_named(databases, gold, predicted, error_class):
    assert judge_one(gold, predicted, databases).verdict.error_class == error_class


def test_a_misspelt_column_in_double_quotes_is_warned_of_though_it_runs(databases):
    found = judge_one("SELECT name FROM t", 'SELECT "nmae" FROM t', databases).verdict
    assert (found.verdict, found.valid) == ("wrong", True)
    assert found.warning == '"nmae" names no column and was taken as text'


def test_an_ambiguous_gold_takes_any_legal_cut_and_says_so(databases):
    gold = "SELECT name FROM t ORDER BY price > 0 LIMIT 2"
    judged = judge_one(gold, "SELECT name FROM t WHERE id IN (2, 3) ORDER BY id DESC", databases)
    assert (judged.correct, judged.verdict.ambiguous) == (True, True)
    assert "cuts through a tie" in (judged.verdict.warning or "")


def test_the_report_of_an_evaluation(databases):
    golds = [
        "SELECT name FROM t",
        "SELECT count(*) FROM t",
        "SELECT name FROM t LIMIT 1",
        "SELECT x",
    ]
    predicted = ["SELECT name FROM t", "SELECT nam FROM t", "SELECT 'b'", "SELECT 1"]
    rows = [row(query, number=n) for n, query in enumerate(golds, start=2)]
    hashes = judged_on(rows, Databases(str(databases)), Limits())
    found = report(judge(rows, predicted, databases), hashes)
    assert found["count"] == 4
    assert found["judged_on"] == hashes
    accuracy = found["figures"]["execution_accuracy"]
    assert (accuracy["hits"], accuracy["count"], accuracy["value"]) == (2, 3, 2 / 3)
    assert 0 < accuracy["low"] < 2 / 3 < accuracy["high"] < 1
    assert {name: one["count"] for name, one in found["by_hardness"].items()} == {"easy": 3}
    assert found["by_database"]["shop"]["hits"] == 2
    assert found["by_feature"]["limit"]["hits"] == 1
    assert found["by_feature"]["aggregate"]["hits"] == 0
    assert {name: one["hits"] for name, one in found["by_error_class"].items()} == {
        "no_such_column": 1
    }
    [refused] = found["errors"]
    assert (refused["row"], refused["error"]) == (3, "no such column: nam")
    [failed] = found["gold_errors"]
    assert (failed["row"], failed["error_class"]) == (5, "no_such_column")
    assert [one["row"] for one in found["ambiguous_golds"]] == [4]


def test_an_answer_that_only_coincides_fails_on_perturbed_databases(databases, tmp_path):
    place = Databases(str(databases))
    rows = [row("SELECT name FROM t WHERE price > 2")] * 2
    predicted = ["SELECT name FROM t WHERE price > 2.0", "SELECT 'b'"]
    with Judge(place, Limits(), cache=tmp_path / "cache", perturbed=8) as made:
        judged = assess(rows, predicted, made)
    assert [one.correct for one in judged] == [True, True]
    assert [one.verdict.fuzz for one in judged] == [True, False]


def test_the_hashes_say_what_changed(databases):
    place, rows = Databases(str(databases)), [row("SELECT 1"), row("SELECT 2")]
    before = judged_on(rows, place, Limits())
    assert judged_on(rows, place, Limits()) == before

    def changed(after: dict[str, str]) -> set[str]:
        return {key for key in before if before[key] != after[key]}

    other = Row(2, "another question", "SELECT 1", SCHEMA, "shop")
    assert changed(judged_on([other, rows[1]], place, Limits())) == {"questions"}
    assert changed(judged_on([rows[0], row("SELECT 3")], place, Limits())) == {"golds"}
    assert changed(judged_on(rows, place, Limits(seconds=1))) == {"judge"}
    with closing(sqlite3.connect(databases / "shop" / "shop.sqlite")) as connection, connection:
        connection.execute("UPDATE t SET price = 9 WHERE id = 1")
    assert changed(judged_on(rows, place, Limits())) == {"databases"}


@pytest.mark.parametrize("join", [" JOIN t", " JOIN t /* ON */"])
def test_a_model_that_repeats_a_join_for_ever_is_judged_in_time(databases, join):
    """sqlglot takes twice as long for each further JOIN without ON; fifty would take for ever."""
    started = time.perf_counter()
    judged = judge_one("SELECT name FROM t", "SELECT name FROM t" + join * 50, databases)
    assert time.perf_counter() - started < 30
    assert (judged.correct, judged.exact, judged.hardness) == (False, False, "easy")
    assert "more than 10 JOINs without ON" in (judged.verdict.warning or "")


def test_what_is_too_large_to_parse_is_judged_by_running_it(databases):
    many = f"SELECT name FROM t WHERE price IN (2, 3, {', '.join(['9'] * 60_000)})"
    judged = judge_one("SELECT name FROM t WHERE price IN (2, 3)", many, databases)
    assert (judged.exact, judged.hardness, judged.verdict.valid) == (False, "easy", True)
    as_gold = judge_one(many, many, databases)
    assert (as_gold.correct, as_gold.hardness) == (True, "unknown")
    assert "100,000 characters" in (as_gold.verdict.warning or "")


def test_a_gold_that_draws_random_numbers_is_warned_of(databases):
    found = judge_one("SELECT name FROM t ORDER BY random() LIMIT 1", "SELECT 'a'", databases)
    assert "random" in (found.verdict.warning or "")


def test_golds_that_all_fail_leave_nothing_to_count(databases):
    rows = [row("SELECT absent FROM t")]
    found = report(judge(rows, ["SELECT 1"], databases), {})
    assert found["by_hardness"]["easy"]["count"] == 0
