"""Verdicts on predictions, the rates made of them, and what counts as the same query."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from qc_experiments.data.table import Row
from qc_experiments.evaluation.metrics import Judged, Rate, figures, judge, rate
from qc_experiments.evaluation.query_shape import SHAPES, exact_match, query_shape

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, price REAL);"
FIGURES = {
    "execution_accuracy",
    "execution_accuracy_low",
    "execution_accuracy_high",
    "execution_correct",
    "execution_count",
    "exact_match",
    "valid_sql",
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


def judge_one(gold: str, predicted: str, databases: Path | None, context: str = SCHEMA) -> Judged:
    [judged] = judge([row(gold, context)], [predicted], databases, 5)
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
        ("SELECT name FROM t ORDER BY id", "SELECT name FROM t ORDER BY id DESC", "wrong_rows"),
        ("SELECT name FROM t", "SELECT name FROM t LIMIT 2", "wrong_rows"),
        ("SELECT name, price FROM t", "SELECT price, name FROM t", "wrong_rows"),
        ("SELECT name FROM t", "SELECT name FROM t UNION ALL SELECT 'a'", "wrong_rows"),
        ("SELECT name FROM t", "SELECT nam FROM t", "error"),
        ("SELECT name FROM t", "I do not know.", "error"),
        ("SELECT name FROM t", "", "error"),
        ("SELECT name FROM t", "DROP TABLE t", "error"),
        ("SELECT nam FROM t", "SELECT name FROM t", "gold_error"),
        ("SELECT nam FROM t", "SELECT nam FROM t", "gold_error"),
    ],
)
def test_the_verdict_on_a_database(databases, gold, predicted, verdict):
    judged = judge_one(gold, predicted, databases)
    expected = {"correct": True, "gold_error": None}.get(verdict, False)
    assert (judged.verdict, judged.correct) == (verdict, expected)
    assert judged.seconds is not None


@pytest.mark.parametrize(
    ("predicted", "valid", "error_class"),
    [
        ("SELECT name FROM t", True, None),
        ("SELECT 1", True, None),
        ("SELECT nam FROM t", False, "no_such_column"),
        ("SELECT name FROM u", False, "no_such_table"),
        ("DELETE FROM t", False, "forbidden"),
        ("SELECT name FROM", False, "syntax"),
    ],
)
def test_validity_and_error_class_on_a_database(databases, predicted, valid, error_class):
    judged = judge_one("SELECT name FROM t", predicted, databases)
    assert (judged.valid, judged.error_class) == (valid, error_class)


def test_judging_leaves_the_database_as_it_is(databases):
    path = databases / "shop" / "shop.sqlite"
    before = path.read_bytes()
    destroying = ["DROP TABLE t", "DELETE FROM t", "SELECT 1; DROP TABLE t", "VACUUM"]
    judged = judge([row("SELECT count(*) FROM t")] * 4, destroying, databases, 5)
    assert [one.verdict for one in judged] == ["error"] * 4
    assert path.read_bytes() == before


def test_a_prediction_that_never_ends_is_an_error_and_the_next_is_judged(databases):
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT count(*) FROM n"
    one, two = judge([row("SELECT 1")] * 2, [endless, "SELECT 1"], databases, 0.2)
    assert (one.verdict, one.error_class, one.correct) == ("error", "timeout", False)
    assert two.verdict == "correct"


def test_a_gold_query_that_nests_deeply_does_not_end_the_evaluation(databases):
    gold = "SELECT " + "(" * 60 + "1" + ")" * 60
    assert judge_one(gold, "SELECT 1", databases).verdict == "correct"


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
    assert judged.valid is valid
    assert (judged.verdict, judged.correct, judged.seconds) == ("not_executed", None, None)


def test_each_prediction_belongs_to_its_row(databases):
    rows = [row("SELECT 1", number=2), row("SELECT name FROM t", number=3)]
    judged = judge(rows, ["SELECT 1", "select name\nfrom T;"], databases, 5)
    assert [(one.row.number, one.exact, one.shape) for one in judged] == [
        (2, True, "plain"),
        (3, True, "plain"),
    ]
    with pytest.raises(ValueError, match="argument 2"):
        judge(rows, ["SELECT 1"], databases, 5)


def test_the_figures_of_an_evaluation(databases):
    gold = ["SELECT name FROM t"] * 4 + ["SELECT nam FROM t"]
    predicted = [
        "SELECT name FROM t",
        "SELECT name FROM t ORDER BY 1",
        "SELECT id FROM t",
        "SELECT nam FROM t",
        "SELECT name FROM t",
    ]
    found = figures(judge([row(query) for query in gold], predicted, databases, 5))
    assert set(found) == FIGURES
    assert (found["execution_correct"], found["execution_count"]) == (2, 4)  # not the broken gold
    assert found["execution_accuracy"] == 0.5
    low, high = Rate(2, 4).interval()
    assert (found["execution_accuracy_low"], found["execution_accuracy_high"]) == (low, high)
    assert found["exact_match"] == 1 / 5
    assert found["valid_sql"] == 4 / 5


def test_what_was_not_measured_is_none_not_zero():
    rows = [row("SELECT name FROM t"), row("SELECT name FROM t", "no schema")]
    found = figures(judge(rows, ["SELECT nam FROM t", "SELECT name FROM t"], None, 5))
    assert {key for key, value in found.items() if value is None} == {
        "execution_accuracy",
        "execution_accuracy_low",
        "execution_accuracy_high",
        "execution_correct",
        "execution_count",
    }
    assert found["exact_match"] == 0.5
    assert found["valid_sql"] == 0.0  # of the one whose schema SQLite runs
    assert set(figures([]).values()) == {None}


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


EXAMPLES = {
    "set operation": "SELECT a FROM t UNION SELECT a FROM u ORDER BY a",
    "nested": "SELECT a FROM t WHERE b > (SELECT avg(b) FROM t)",
    "group by": "SELECT a, count(*) FROM t JOIN u ON t.id = u.id GROUP BY a ORDER BY a LIMIT 1",
    "join": "SELECT a FROM t JOIN u ON t.id = u.id WHERE b = 1 ORDER BY a",
    "order or limit": "SELECT a FROM t WHERE b = 1 ORDER BY a",
    "aggregate": "SELECT count(*) FROM t WHERE b = 1",
    "filter": "SELECT a FROM t WHERE b = 1",
    "plain": "SELECT DISTINCT a FROM t",
    "other": "UPDATE t SET a = 1",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_by_an_example(shape):
    assert query_shape(EXAMPLES[shape]) == shape


@pytest.mark.parametrize(
    ("query", "shape"),
    [
        ("SELECT a FROM t WHERE b IN (SELECT b FROM u UNION SELECT 1)", "set operation"),
        ("SELECT a FROM t EXCEPT SELECT a FROM u", "set operation"),
        ("WITH x AS (SELECT a FROM t) SELECT a FROM x", "nested"),
        ("SELECT a FROM (SELECT a FROM t) JOIN u", "nested"),
        ("SELECT a FROM t, u WHERE t.id = u.id", "join"),
        ("SELECT a FROM t LIMIT 1", "order or limit"),
        ("SELECT max(a) FROM t ORDER BY 1", "order or limit"),
        ("SELECT 'UNION JOIN GROUP BY' FROM t", "plain"),
        ("no SQL at all (", "other"),
        ("", "other"),
    ],
)
def test_a_query_counts_under_the_most_involved_shape(query, shape):
    assert query_shape(query) == shape


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
        assert (judged.valid, judged.exact) == (False, False)
        assert judged.correct is (False if place else None)
