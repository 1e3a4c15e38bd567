"""Hardness and features of queries."""

import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_experiments.sql.parsing import parse
from qc_experiments.sql.structure import FEATURES, features, hardness

ODD_TEXTS = [
    "",
    " ;",
    "I do not know.",
    "hello",
    "SELECT '",
    "\0",
    "\ud800",
    "é🙂" * 50,
    "(" * 5000,
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "DROP TABLE t",
    "DELETE FROM t WHERE a = 1",
    "VALUES (1)",
    "SELECT a FROM t" + " JOIN t" * 60,
    "SELECT a FROM t" + " STRAIGHT_JOIN t" * 60,
]

EASY = "SELECT a FROM t"
JOIN = "SELECT x.a FROM t AS x JOIN u AS y ON x.i = y.i"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        # at most one of WHERE, GROUP BY, ORDER BY, LIMIT, a join, OR, LIKE, and nothing else
        (EASY, "easy"),
        ("SELECT count(*) FROM t", "easy"),
        ("SELECT DISTINCT a FROM t", "easy"),
        ("SELECT a FROM t WHERE b = 1", "easy"),
        ("SELECT a FROM t ORDER BY b DESC", "easy"),
        ("SELECT a FROM t LIMIT 3", "easy"),
        (JOIN, "easy"),
        ("SELECT a FROM t, u", "easy"),
        ("(SELECT a FROM t)", "easy"),
        ("SELECT a FROM t;", "easy"),
        # one or two more
        ("SELECT a, b FROM t", "medium"),
        ("SELECT a FROM t WHERE b = 1 AND c = 2", "medium"),
        ("SELECT a FROM t WHERE b LIKE 'x%'", "medium"),
        ("SELECT a FROM t WHERE b NOT LIKE 'x%'", "medium"),
        ("SELECT a FROM t WHERE b = 1 OR c = 2", "medium"),
        (f"{JOIN} WHERE y.b = 1", "medium"),
        ("SELECT a, count(*) FROM t GROUP BY a", "medium"),
        ("SELECT max(a), min(a) FROM t", "medium"),
        ("SELECT a FROM t ORDER BY b LIMIT 1", "medium"),
        # three clauses, many small things, or one subquery
        (f"{JOIN} WHERE y.b = 1 GROUP BY x.a", "hard"),
        (f"{JOIN} GROUP BY x.a ORDER BY count(*)", "hard"),
        ("SELECT max(a), min(a) FROM t WHERE b = 1 AND c = 2", "hard"),
        ("SELECT a FROM t WHERE b = (SELECT max(b) FROM t)", "hard"),
        ("SELECT a FROM t WHERE i NOT IN (SELECT i FROM u)", "hard"),
        ("SELECT a FROM t UNION SELECT a FROM u", "hard"),
        ("SELECT a FROM t WHERE b LIKE 'x' OR c = 2", "hard"),
        # and what is left
        (f"{JOIN} GROUP BY x.a ORDER BY count(*) LIMIT 1", "extra"),
        ("SELECT a, b FROM t WHERE b = (SELECT max(b) FROM t)", "extra"),
        ("SELECT a FROM t WHERE b > (SELECT 1) AND c > (SELECT 2)", "extra"),
        ("SELECT a FROM t WHERE b = (SELECT 1) UNION SELECT a FROM u", "extra"),
        ("SELECT a, b FROM t UNION SELECT a, b FROM u", "extra"),
    ],
)
def test_hardness_follows_spider(query, expected):
    assert hardness(query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        # a set operation counts as one, and as its first SELECT, however many follow
        ("SELECT a FROM t UNION SELECT a FROM u UNION SELECT a FROM v", "hard"),
        ("SELECT a FROM t EXCEPT SELECT a, b FROM u WHERE c = 1 AND d = 2 OR e = 3", "hard"),
        ("SELECT a FROM t INTERSECT SELECT a FROM u ORDER BY a LIMIT 1", "hard"),
        # a subquery in FROM is a table
        ("SELECT count(*) FROM (SELECT a, b FROM t WHERE c LIKE 'x' OR d = 1)", "easy"),
        ("SELECT count(*) FROM (SELECT a FROM t UNION SELECT a FROM u)", "easy"),
        # both sides of BETWEEN, and ON, can nest
        ("SELECT a FROM t WHERE b BETWEEN (SELECT 1) AND 2", "hard"),
        ("SELECT a FROM t WHERE b BETWEEN (SELECT 1) AND (SELECT 2)", "extra"),
        ("SELECT a FROM t JOIN u ON t.i = (SELECT 1)", "hard"),
        ("SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE b = (SELECT 2))", "hard"),
        # NOT counts as an aggregate does: two such, and three in all
        ("SELECT count(*), a FROM t WHERE b NOT IN (1) AND c = 2", "hard"),
        ("SELECT count(*), a FROM t WHERE b IN (1) AND c = 2", "medium"),
        ("SELECT count(*), a FROM t WHERE b NOT BETWEEN 1 AND 3 AND c = 2", "hard"),
        ("SELECT count(*), a FROM t WHERE NOT b = 1 AND c = 2", "hard"),
        # in HAVING the connectors count as aggregates, and count(*) does not
        ("SELECT a, b FROM t GROUP BY a, b HAVING count(*) > 1", "medium"),
        ("SELECT a, b FROM t GROUP BY a, b HAVING count(*) > 1 AND sum(c) > 2", "medium"),
        (
            "SELECT a, b FROM t GROUP BY a, b HAVING count(*) > 1 AND sum(c) > 2 AND sum(d) > 2",
            "hard",
        ),
        # in ORDER BY both sides of arithmetic count, in SELECT only an aggregate on the outside
        ("SELECT a, b FROM t GROUP BY a, b ORDER BY sum(c) - sum(d)", "hard"),
        ("SELECT a, b FROM t GROUP BY a, b ORDER BY sum(c)", "extra"),
        ("SELECT max(a) - min(a) FROM t", "easy"),
        ("SELECT max(a - b) AS c, a FROM t", "medium"),
        # parentheses mean nothing, and other aggregates are none
        ("SELECT (a) FROM t WHERE ((b = 1))", "easy"),
        ("SELECT (a) FROM t WHERE ((b = 1) OR (c = 2 OR (d = 3)))", "hard"),
        ("SELECT total(a), group_concat(b) FROM t", "medium"),
        ("SELECT a FROM (t JOIN u ON t.i = u.i OR t.j = u.j) JOIN v ON t.i = v.i", "hard"),
    ],
)
def test_quirks_of_spiders_hardness(query, expected):
    assert hardness(query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (EASY, ()),
        ("SELECT a FROM t, u", ("join",)),
        (JOIN, ("join",)),
        ("SELECT a FROM t LEFT JOIN u ON t.i = u.i", ("join", "left join")),
        ("SELECT a FROM t FULL OUTER JOIN u USING (i)", ("join", "left join")),
        ("SELECT x.a FROM t AS x JOIN T AS y ON x.i = y.j", ("join", "self join")),
        ("SELECT a FROM (t JOIN u ON t.i = u.i)", ("join",)),
        (
            "SELECT a FROM t WHERE b = 1 GROUP BY a HAVING count(*) > 1 ORDER BY a LIMIT 1",
            ("where", "group by", "having", "order by", "limit", "aggregate"),
        ),
        ("SELECT DISTINCT a FROM t", ("distinct",)),
        ("SELECT count(DISTINCT a) FROM t", ("distinct", "aggregate")),
        ("SELECT max(a, 1), abs(b) FROM t", ()),
        ("SELECT a FROM (SELECT a FROM t)", ("subquery",)),
        ("SELECT (SELECT 1) FROM t", ("subquery",)),
        ("SELECT a FROM t WHERE b IN (SELECT b FROM u)", ("where", "subquery", "in")),
        ("SELECT a FROM t WHERE EXISTS (SELECT 1)", ("where", "subquery", "exists")),
        ("SELECT a FROM t UNION ALL SELECT a FROM u", ("set operation",)),
        ("(SELECT a FROM t) EXCEPT (SELECT a FROM u)", ("set operation",)),
        ("((SELECT a FROM t))", ()),
        ("SELECT a FROM (SELECT 1 UNION SELECT 2)", ("subquery", "set operation")),
        ("SELECT a FROM t WHERE a LIKE 'x'", ("where", "like")),
        ("SELECT a FROM t WHERE a GLOB 'x'", ("where", "like")),
        ("SELECT a FROM t WHERE a BETWEEN 1 AND 2", ("where", "between")),
        ("SELECT a FROM t WHERE a NOT IN (1, 2)", ("where", "in", "not")),
        ("SELECT a FROM t WHERE a = 1 OR a = 2", ("where", "or")),
        ("SELECT a FROM t WHERE a IS NULL", ("where", "null test")),
        ("SELECT a FROM t WHERE a IS NOT NULL", ("where", "null test")),
        ("SELECT CASE WHEN a THEN 1 ELSE 2 END FROM t", ("case",)),
        ("SELECT iif(a, 1, 2) FROM t", ("case",)),
        ("SELECT row_number() OVER (ORDER BY a) FROM t", ("window function",)),
        ("SELECT sum(a) OVER (PARTITION BY b) FROM t", ("window function",)),
        ("SELECT sum(a) FILTER (WHERE b = 1) FROM t", ("aggregate",)),
        ("WITH c AS (SELECT a FROM t) SELECT a FROM c", ("common table expression",)),
        ("SELECT a * 2 FROM t", ("arithmetic",)),
        ("SELECT -1, a || b FROM t", ()),
    ],
)
def test_features(query, expected):
    assert features(query) == expected


def test_features_come_in_one_order_and_all_are_explained():
    query = (
        "WITH c AS (SELECT 1) SELECT DISTINCT CASE WHEN 1 THEN 2 END, sum(a + 1), rank() OVER () "
        "FROM t LEFT JOIN t AS u ON t.i = u.i WHERE a LIKE 'x' OR b BETWEEN 1 AND 2 OR NOT c IN (1)"
        " OR d IS NULL OR EXISTS (SELECT 1) GROUP BY a HAVING 1 UNION SELECT 1 ORDER BY 1 LIMIT 1"
    )
    assert features(query) == tuple(FEATURES)
    assert all(FEATURES.values())


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_what_is_no_query_has_no_structure(text):
    assert parse(text).tree is None
    assert hardness(text) == "unknown"
    assert features(text) == ()


def test_a_query_too_deep_to_write_out_is_read():
    deep = "SELECT a FROM t WHERE b = " + " + ".join(["1"] * 3000)
    assert hardness(deep) == "easy"
    assert features(deep) == ("where", "arithmetic")


def test_a_model_that_repeats_itself_does_not_take_long():
    texts = [
        "SELECT a FROM t" + " JOIN t" * 12,
        "SELECT a FROM t" + " JOIN t AS x ON t.i = x.i" * 200,
        "SELECT a FROM t" + ", t" * 500,
        "SELECT a FROM t WHERE " + " AND ".join(["a = 1"] * 500),
        " UNION ".join(["SELECT a FROM t"] * 200),
    ]
    start = time.perf_counter()
    for text in texts:
        hardness(text), features(text)
    assert time.perf_counter() - start < 10


SQL_WORDS = """
SELECT FROM WHERE JOIN ON USING AND OR NOT IN LIKE BETWEEN IS NULL GROUP BY HAVING ORDER LIMIT UNION
EXCEPT WITH AS CASE WHEN THEN END OVER EXISTS count(*) max( ( ) , . * = < >= - + 1 2.50 'x' "y" t u
a b t.a u.b ; --
"""


def judge(text):
    assert hardness(text) in ("easy", "medium", "hard", "extra", "unknown")
    assert set(features(text)) <= set(FEATURES)


@settings(deadline=None, max_examples=150)
@given(st.text() | st.text(alphabet=string.printable))
def test_no_text_makes_them_fail(text):
    judge(text)


words = st.lists(st.sampled_from(SQL_WORDS.split()), max_size=12).map(" ".join)


@settings(deadline=None, max_examples=150)
@given(words, words)
def test_no_mixture_of_sql_words_makes_them_fail(some, more):
    judge(f"SELECT a {some} FROM t WHERE a = 1 {more}")
