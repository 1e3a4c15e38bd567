"""BIRD's and the test suites' rules, quirks included, and a search that always ends."""

from __future__ import annotations

import itertools
import random
import sqlite3
import time
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Limits, Value
from qc_experiments.databases.locate import Databases
from qc_experiments.judging import published_rules
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.published_rules import ex_bird, ex_test_suite, without_distinct

Rows = list[tuple[Value, ...]]


def shuffled(rows: Rows, seed: int) -> Rows:
    """The rows in another order, their columns permuted, all rows alike."""
    chance = random.Random(seed)
    columns = chance.sample(range(len(rows[0])), len(rows[0]))
    return [
        tuple(row[column] for column in columns) for row in chance.sample(list(rows), len(rows))
    ]


def by_brute_force(gold: Rows, predicted: Rows, *, order_matters: bool) -> bool:
    """The test suites' rule as the paper has it, for results without the quirk of sorted cells."""
    if not gold and not predicted:
        return True
    if len(gold) != len(predicted) or len(gold[0]) != len(predicted[0]):
        return False
    for columns in itertools.permutations(range(len(gold[0]))):
        left = list(predicted)
        for place, row in enumerate(gold):
            same = [
                index
                for index, other in enumerate(left)
                if row == tuple(other[column] for column in columns)
            ]
            if not same or (order_matters and same[0] != 0):
                break
            del left[same[0]]
            if place == len(gold) - 1:
                return True
    return False


def incidence(edges: list[tuple[int, int]]) -> Rows:
    """A row per edge of a graph, a column per node, 1 where the two meet."""
    nodes = sorted({node for edge in edges for node in edge})
    return [tuple(int(node in edge) for node in nodes) for edge in edges]


def circles(*lengths: int) -> list[tuple[int, int]]:
    """Edges of separate circles of the given lengths."""
    edges = []
    start = 0
    for length in lengths:
        edges += [(start + step, start + (step + 1) % length) for step in range(length)]
        start += length
    return edges


@pytest.mark.parametrize(
    ("gold", "predicted", "same"),
    [
        ([(1, "a"), (2, "b")], [(2, "b"), (1, "a")], True),
        ([(1,), (1,), (2,)], [(1,), (2,), (2,)], True),
        ([(1,), (1,)], [(1,)], True),
        ([(1, "a")], [("a", 1)], False),
        ([(1,)], [(1, 1)], False),
        ([(1,)], [(1.0,)], True),
        ([(0.3,)], [(0.1 + 0.2,)], False),
        ([(None,)], [(None,)], True),
        ([(None,)], [(0,)], False),
        ([("1",)], [(1,)], False),
        ([("a",)], [(b"a",)], False),
        ([(1,)], [], False),
        ([], [], True),
    ],
)
def test_birds_rule_compares_sets_of_rows(gold, predicted, same):
    assert ex_bird(gold, predicted) is same
    assert ex_bird(predicted, gold) is same


@pytest.mark.parametrize(
    ("gold", "predicted", "unordered", "ordered"),
    [
        ([(1, "a"), (2, "b")], [(1, "a"), (2, "b")], True, True),
        ([(1, "a"), (2, "b")], [("a", 1), ("b", 2)], True, True),
        ([(1, "a"), (2, "b")], [(2, "b"), (1, "a")], True, False),
        ([(1, "a"), (2, "b")], [("b", 2), ("a", 1)], True, False),
        ([(1, "a"), (2, "b")], [(1, "b"), (2, "a")], False, False),
        ([(1, 2), (3, 4)], [(1, 2), (4, 3)], False, False),
        ([(1, 2), (2, 1)], [(2, 1), (1, 2)], True, True),
        ([(1, 2), (3, 3), (2, 1)], [(2, 1), (3, 3), (1, 2)], True, True),
        ([(1,), (1,), (2,)], [(1,), (2,), (2,)], False, False),
        ([(1,), (1,), (2,)], [(1,), (2,), (1,)], True, False),
        ([(1,), (1,)], [(1,)], False, False),
        ([(1,)], [(1, 1)], False, False),
        ([(1, 1, 2)], [(1, 2, 2)], False, False),
        ([(1, 2, 3, 4)], [(4, 3, 2, 1)], True, True),
        ([(None, 1), (2, None)], [(1, None), (None, 2)], True, True),
        ([(None,)], [("None",)], False, False),
        ([(None,)], [(0,)], False, False),
        ([(1,)], [(1.0,)], True, True),
        ([(1, "a")], [("a", 1.0)], True, True),
        ([(0.3,)], [(0.1 + 0.2,)], False, False),
        ([("1",)], [(1,)], False, False),
        ([("a",)], [(b"a",)], False, False),
        ([(1,)], [], False, False),
        ([], [], True, True),
    ],
)
def test_the_test_suites_rule_finds_an_assignment_of_columns(gold, predicted, unordered, ordered):
    for left, right in ((gold, predicted), (predicted, gold)):
        assert ex_test_suite(left, right, order_matters=False) is unordered
        assert ex_test_suite(left, right, order_matters=True) is ordered


@pytest.mark.parametrize("order_matters", [False, True])
def test_the_test_suites_rule_refuses_equal_rows_whose_cells_sort_apart(order_matters):
    """As the original does: 1 sorts after 1.5, and 1.0 before it."""
    assert ex_test_suite([(1, 2.5)], [(1.0, 2.5)], order_matters=order_matters)
    assert not ex_test_suite([(1, 1.5)], [(1.0, 1.5)], order_matters=order_matters)


tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.tuples(*[st.sampled_from([0, 1, 2, "a", None])] * width), min_size=1, max_size=5
    )
)


@given(gold=tables, seed=st.integers(0, 99), order_matters=st.booleans())
def test_the_test_suites_rule_agrees_with_trying_everything(gold, seed, order_matters):
    chance = random.Random(seed)
    predicted = shuffled(gold, seed)
    changed = [tuple(chance.sample(row, len(row))) for row in predicted]
    for other in (predicted, changed):
        expected = by_brute_force(gold, other, order_matters=order_matters)
        assert ex_test_suite(gold, other, order_matters=order_matters) is expected


@pytest.mark.parametrize("rows", [1, 20, 2000])
def test_twelve_columns_of_zeros_and_ones_are_soon_decided(rows):
    chance = random.Random(rows)
    gold: Rows = [tuple(chance.choices((0, 1), k=12)) for _ in range(rows)]
    started = time.perf_counter()
    assert ex_test_suite(gold, shuffled(gold, 1), order_matters=False)
    mixed = [tuple(chance.sample(row, 12)) for row in gold]
    assert ex_test_suite(gold, mixed, order_matters=False) is (rows == 1)
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize(
    ("gold", "predicted", "same"),
    [
        (circles(12), circles(12), True),
        (circles(5, 7), circles(7, 5), True),
        (circles(12), circles(6, 6), False),
        (circles(3, 4, 5), circles(4, 4, 4), False),
        (circles(5, 7, 5, 7), circles(6, 6, 6, 6), False),
    ],
)
def test_columns_that_all_look_alike_are_soon_decided(gold, predicted, same):
    """Every column has two ones and every row too; only the whole tells them apart."""
    started = time.perf_counter()
    other = shuffled(incidence(predicted), 2)
    assert ex_test_suite(incidence(gold), other, order_matters=False) is same
    assert time.perf_counter() - started < 10


def test_a_search_that_takes_too_long_ends_with_false(monkeypatch):
    gold = incidence(circles(5, 7))
    predicted = incidence(circles(7, 5))
    assert ex_test_suite(gold, predicted, order_matters=False)
    monkeypatch.setattr(published_rules, "MAX_CELLS", 0)
    assert not ex_test_suite(gold, predicted, order_matters=False)
    # Without a wrong turn, no search takes too long.
    plain: Rows = [(1, "a", 0.5), (2, "b", 0.5)]
    assert ex_test_suite(plain, shuffled(plain, 3), order_matters=False)


@pytest.mark.parametrize(
    ("gold", "matters"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("select a from t order by a", True),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", True),
        ("SELECT row_number() OVER (ORDER BY a) FROM t", True),
        ("SELECT a FROM t -- order by", True),
        ("SELECT 'order by' FROM t", True),
        ("SELECT a FROM t ORDER  BY a", False),
        ("SELECT a FROM t ORDER\nBY a", False),
        ("SELECT a FROM t", False),
    ],
)
def test_the_words_order_by_decide_whether_order_matters(gold, matters):
    assert published_rules.order_matters_in_test_suite(gold) is matters


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT DISTINCT a FROM t", "SELECT  a FROM t"),
        ("SELECT distinct(a) FROM t", "SELECT (a) FROM t"),
        ("SELECT count(Distinct a), sum( DISTINCT b)", "SELECT count( a), sum(  b)"),
        ("SELECT a IS NOT DISTINCT FROM b", "SELECT a IS NOT  FROM b"),
        ("SELECT/**/DISTINCT/**/a", "SELECT/**//**/a"),
        ("SELECT 'it''s' , DISTINCT 'a'", "SELECT 'it''s' ,  'a'"),
        ("SELECT a -- DISTINCT\n, DISTINCT b", "SELECT a -- DISTINCT\n,  b"),
        (
            "SELECT a WHERE b > = 1 AND c < = 2 AND d ! = 3",
            "SELECT a WHERE b >= 1 AND c <= 2 AND d != 3",
        ),
        ("SELECT '> ='", "SELECT '>='"),
    ],
)
def test_distinct_and_blanks_within_operators_are_dropped(sql, expected):
    assert without_distinct(sql) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT a\n  FROM t  WHERE b >= 1;",
        "SELECT 'DISTINCT', 'it''s DISTINCT'",
        'SELECT "distinct", `distinct`, [distinct], "a "" distinct"',
        "SELECT a -- DISTINCT",
        "-- DISTINCT",
        "SELECT a /* DISTINCT\n DISTINCT */ FROM t",
        "SELECT a /* DISTINCT",
        "SELECT 'DISTINCT",
        "SELECT distinct_a, a_distinct, distinct1, éDISTINCT FROM t",
        "SELECT b >  = 1",
    ],
)
def test_a_query_without_distinct_stays_as_it_is(sql):
    assert without_distinct(sql) == sql


def test_a_gold_that_does_not_run_without_distinct_leaves_the_rule_out(tmp_path):
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as connection:
        connection.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1), (1), (2)")
    gold = "SELECT DISTINCT a FROM t"
    rows = [Row(number, "?", gold, "", "x") for number in (2, 3)]
    with Judge(Databases(str(tmp_path)), Limits(rows=2), cache=None, processes=1) as judge:
        found = judge.judge(rows, [gold, "SELECT absent FROM t"])
    assert [(one.correct, one.ex_test_suite) for one in found] == [(True, None), (False, None)]
