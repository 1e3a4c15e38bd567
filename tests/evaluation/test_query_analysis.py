"""Texts are parsed where they can do no harm, within limits, for golds and predictions alike."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Limits
from qc_experiments.evaluation import query_analysis
from qc_experiments.evaluation.query_analysis import Analysis, analyse, answer
from qc_experiments.judging.judge import Judge
from qc_experiments.sql.parsing import MAX_OPEN_JOINS, parse

GOLD = "SELECT a, b FROM t WHERE c = 1"
SLOW = "SELECT 1 FROM a " + "JOIN (SELECT DISTINCT ON (x) 1) " * 25
"""Its ONs close no JOIN, which only the grammar could tell."""


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(None, Limits(), cache=None, processes=1) as made:
        yield made


def analysed(judge: Judge, gold: str, predicted: str) -> Analysis:
    (found,) = analyse([Row(2, "?", gold, "CREATE TABLE t (a)")], [predicted], judge)
    return found


@pytest.mark.parametrize(
    "join",
    [
        "JOIN b /* ON */ ",
        "JOIN b -- on author_id\n",
        'JOIN "ON" ',
        "JOIN b AS 'on' ",
        "JOIN b AS on ",
        "JOIN b$on ",
        "JOIN b.using ",
        "JO\u0131N b /* USING */ ",  # sqlglot takes a dotless i for an I
        "LEFT JOIN `b on` ",
        "STRAIGHT_JOIN b ",
        "JOIN NATURAL ",
    ],
)
def test_joins_whose_on_is_none_are_not_parsed(judge, join):
    text = "SELECT * FROM a " + join * 25
    found = analysed(judge, GOLD, text)
    assert (found.exact, found.hardness, found.gold_problem) == (False, "medium", None)
    assert "JOINs" in found.problem
    as_gold = analysed(judge, text, GOLD)
    assert (as_gold.exact, as_gold.hardness, as_gold.features) == (False, "unknown", ())
    assert "JOINs" in as_gold.gold_problem
    assert as_gold.problem is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"SELECT a FROM t WHERE a IN ({','.join(map(str, range(1_000_000)))})", "characters"),
        ("SELECT " + ",".join("a" * 12_000), "words"),
        ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "deeply"),
        ("SELECT " + "CASE WHEN 1 THEN " * 500 + "1" + " END" * 500, "deeply"),
        ("SELECT " + "f(" * 500 + "1" + ")" * 500, "deeply"),
        ("SELECT * FROM " + "(SELECT * FROM " * 900 + "t" + ")" * 900, "deeply"),
    ],
    ids=["size", "tokens", "parentheses", "cases", "calls", "subqueries"],
)
def test_size_and_depth_have_limits(judge, text, problem):
    found = analysed(judge, GOLD, text)
    assert problem in found.problem
    assert problem in analysed(judge, text, GOLD).gold_problem


def test_joins_that_take_no_on_are_parsed(judge):
    text = "SELECT a FROM t" + " CROSS JOIN u" * 30
    assert analysed(judge, text, text) == Analysis(True, "extra", ("join", "self join"))
    closed = "SELECT a FROM t" + " JOIN u ON t.i = u.i" * 30
    assert analysed(judge, closed, closed).problem is None
    below = "SELECT a FROM t" + " JOIN u" * MAX_OPEN_JOINS
    assert analysed(judge, below, below).exact


def test_what_no_limit_of_size_stops_is_ended_by_time(judge):
    started = time.perf_counter()
    found = analysed(judge, GOLD, SLOW)
    assert "takes more than" in found.problem
    assert (found.exact, found.hardness) == (False, "medium")
    again = time.perf_counter()
    assert analysed(judge, SLOW, GOLD).hardness == "unknown"
    assert time.perf_counter() - again < query_analysis.CPU_SECONDS, "remembered"
    assert time.perf_counter() - started < 20


def test_a_process_that_does_not_answer_is_killed_and_the_gold_is_not_lost(judge, monkeypatch):
    monkeypatch.setattr(query_analysis, "WALL_SECONDS", 0.2)
    slower = SLOW.replace("(x)", "(y)")
    found = analysed(judge, GOLD, slower)
    assert "killed" in found.problem
    assert (found.exact, found.hardness, found.gold_problem) == (False, "medium", None)
    lost = analysed(judge, slower, GOLD)
    assert lost.hardness == "unknown"
    assert "killed" in lost.gold_problem
    assert analysed(judge, GOLD, GOLD).exact, "the next is answered as ever"


def test_what_sqlglot_cannot_read_does_not_reach_the_terminal(caplog, capfd):
    for text in ("EXPLAIN SELECT 1", "SHOW TABLES", "VACUUM t", "CALL f(1)"):
        assert parse(text).tree is None
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


WORDS = """
SELECT FROM JOIN LEFT CROSS NATURAL STRAIGHT_JOIN ON USING DISTINCT WHERE CASE WHEN THEN END NOT IN ( )
( ) [ ] { } , . :: -> => * - || ' " ` $$ $a$ -- /* */ ; INTERVAL CAST AS STRUCT < > DATE EXTRACT YEAR OVER
PARTITION BY ORDER LIMIT ALL FETCH FIRST ROWS ONLY WITH RECURSIVE UNION VALUES PIVOT LATERAL UNNEST FILTER
BETWEEN AND LIKE ESCAPE IS NULL a b t 1 2.5 'x' "y" é \0
"""
words = st.sampled_from(WORDS.split())
texts = st.one_of(
    st.text(),
    st.lists(words, max_size=60).map(" ".join),
    st.tuples(st.lists(words, max_size=6), st.integers(1, 40)).map(
        lambda parts: "SELECT 1 FROM t " + " ".join(parts[0] * parts[1])
    ),
)


@settings(deadline=None, max_examples=60)
@given(texts, st.sampled_from(["sqlite", "postgres", "duckdb"]))
def test_every_text_has_an_answer_of_plain_values(text, dialect):
    exact, _, _, gold_problem, problem = answer(text, text, dialect)
    assert exact, "the same text is the same query, parsed or not"
    assert gold_problem == problem
    assert answer(GOLD, text, dialect)[1:3] == ("medium", ("where",))
