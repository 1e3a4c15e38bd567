"""PostgreSQL's and DuckDB's queries are read as their own SQL, not as SQLite's."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from helpers.slow import then_slow

from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import Database, Databases
from qc_experiments.databases.pool import SqlPool
from qc_experiments.evaluation.metrics import Judged, assess
from qc_experiments.judging.gold import Gold, run_gold
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.ordering import read_ordering
from qc_experiments.judging.published_rules import without_distinct
from qc_experiments.sql.parsing import exact_match
from qc_experiments.sql.structure import features, hardness
from qc_experiments.sql.tokens import calls_random, tokens

TABLES = """
CREATE TABLE person (id INTEGER, name VARCHAR, age INTEGER);
INSERT INTO person VALUES (1, 'Ann', 25), (2, 'Bob', 25), (3, 'Cem', 30), (4, 'Dan', 30), (5, 'Eve', 41);
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("databases")
    for name in ("duck", "lite"):
        (folder / name).mkdir()
    with duckdb.connect(str(folder / "duck" / "duck.duckdb")) as duck:
        duck.execute(TABLES)
    with closing(sqlite3.connect(folder / "lite" / "lite.sqlite")) as lite:
        lite.executescript(TABLES)
    return folder


@pytest.fixture(scope="module")
def judge(folder) -> Iterator[Judge]:
    with Judge(Databases(str(folder)), Limits(), cache=None, processes=1) as made:
        yield made


@pytest.fixture(scope="module")
def pool() -> Iterator[SqlPool]:
    with SqlPool(1) as made:
        yield made


def judged(judge: Judge, db_id: str, gold: str, predicted: str) -> Judged:
    (found,) = assess([Row(2, "?", gold, "", db_id)], [predicted], judge)
    return found


@pytest.mark.parametrize(
    ("dialect", "query", "level", "used"),
    [
        ("postgres", "SELECT a FROM t WHERE b @> '{}'::jsonb", "easy", ("where",)),
        ("postgres", "SELECT a FROM t WHERE b ~* '^x' AND c = 1", "medium", ("where",)),
        ("postgres", "SELECT a FROM t WHERE b ILIKE 'x%'", "medium", ("where", "like")),
        ("postgres", "TABLE t", "easy", ()),
        ("postgres", "SELECT a FROM t LIMIT ALL", "easy", ()),
        ("postgres", "SELECT a FROM t ORDER BY b LIMIT NULL", "easy", ("order by",)),
        (
            "postgres",
            "SELECT a FROM t ORDER BY a NULLS FIRST FETCH FIRST 3 ROWS ONLY",
            "medium",
            ("order by", "limit"),
        ),
        (
            "postgres",
            "SELECT DISTINCT ON (a) a FROM t ORDER BY a, b DESC",
            "easy",
            ("order by", "distinct"),
        ),
        (
            "postgres",
            "SELECT a FROM t WHERE EXTRACT(YEAR FROM d) = 2020 AND d > DATE '2020-01-01'",
            "medium",
            ("where",),
        ),
        (
            "duckdb",
            "SELECT a FROM t QUALIFY row_number() OVER (PARTITION BY a ORDER BY b) = 1",
            "easy",
            ("window function",),
        ),
        ("duckdb", "FROM t SELECT a WHERE b = 1", "easy", ("where",)),
        ("duckdb", "SELECT a FROM t WHERE b IN [1, 2]", "easy", ("where", "in")),
        ("duckdb", "SELECT list_transform(a, x -> x + 1) FROM t", "easy", ("arithmetic",)),
        ("sqlite", "SELECT [a b] FROM t WHERE c GLOB 'x*'", "easy", ("where", "like")),
    ],
)
def test_hardness_and_features(dialect, query, level, used):
    assert (hardness(query, dialect), features(query, dialect)) == (level, used)


@pytest.mark.parametrize(
    ("dialect", "gold", "predicted", "same"),
    [
        ("postgres", "SELECT a::int FROM t", "SELECT CAST(a AS INT) FROM t", True),
        ("postgres", "SELECT a FROM t LIMIT 3", "SELECT a FROM t FETCH FIRST 3 ROWS ONLY", True),
        ("postgres", "SELECT a FROM t LIMIT 1", "SELECT a FROM t FETCH NEXT ROW ONLY", True),
        (
            "postgres",
            "SELECT a FROM t LIMIT 3",
            "SELECT a FROM t FETCH FIRST 3 ROWS WITH TIES",
            False,
        ),
        ("postgres", "SELECT a FROM t", "SELECT a FROM t LIMIT ALL", True),
        ("postgres", "SELECT a FROM t WHERE d = DATE '2020-01-01'", None, True),
        ("postgres", 'SELECT "a" FROM T', "SELECT A FROM t", True),
        ("postgres", 'SELECT "Name" FROM t', "SELECT Name FROM t", False),
        ("duckdb", 'SELECT "Name" FROM t', "SELECT nAME FROM t", True),
        ("duckdb", 'SELECT "a b" FROM t', 'SELECT "A B" FROM t', True),
        ("duckdb", "SELECT a FROM t WHERE b = 'X'", "SELECT a FROM t WHERE b = 'x'", False),
        ("sqlite", 'SELECT a FROM t WHERE b = "X"', 'SELECT a FROM t WHERE b = "x"', False),
    ],
)
def test_exact_match(dialect, gold, predicted, same):
    assert exact_match(gold, predicted or f" {gold.lower()} ", dialect) is same


def test_predictions_are_read_as_their_database_reads_them(judge):
    found = judged(judge, "duck", "FROM person", "SELECT * FROM person")
    assert (found.correct, found.exact, found.hardness) == (True, True, "easy")
    cast = judged(
        judge, "duck", "SELECT age::VARCHAR FROM person", "SELECT CAST(age AS TEXT) FROM person"
    )
    assert (cast.correct, cast.exact) == (True, True)
    in_order = judged(
        judge,
        "duck",
        "SELECT DISTINCT ON (age) name FROM person ORDER BY age, name DESC",
        "SELECT max(name) AS name FROM person GROUP BY age ORDER BY age",
    )
    assert (in_order.correct, in_order.verdict.warning) == (True, None)
    suite = judged(judge, "duck", in_order.row.query, in_order.row.query).verdict
    assert (suite.correct, suite.ex_test_suite) == (True, True)


def test_without_databases_sql_is_sqlites():
    with Judge(None, Limits(), cache=None, processes=1) as judge:
        row = Row(2, "?", "SELECT [a] FROM t", "CREATE TABLE t (a, b)")
        (found,) = assess([row], ["SELECT `a` FROM t"], judge)
    assert found.exact


EACH = [(1, 1)]


@pytest.mark.parametrize(
    ("sql", "groups"),
    [
        ("SELECT name FROM person ORDER BY age FETCH FIRST 1 ROW ONLY", [(2, 1)]),
        ("SELECT name FROM person ORDER BY age LIMIT 40%", [(2, 2)]),
        ("SELECT age FROM person ORDER BY ALL DESC", [(1, 1), (2, 2), (2, 2)]),
        ("SELECT DISTINCT ON (age) age > 26 FROM person ORDER BY age", EACH * 3),
        ("SELECT DISTINCT ON (age) name FROM person ORDER BY age, name DESC LIMIT 2", EACH * 2),
        ("SELECT name FROM person ORDER BY [age, 1], id", EACH * 5),
        (
            "SELECT name AS n FROM person QUALIFY row_number() OVER (PARTITION BY age ORDER BY id) = 1 "
            "ORDER BY age NULLS FIRST",
            EACH * 3,
        ),
        ("SELECT E'it\\'s ORDER BY (' || name FROM person ORDER BY age LIMIT 2", [(2, 2)]),
        ("SELECT name /* a /* b */ ORDER BY */ FROM person LIMIT 1", [(5, 1)]),
    ],
)
def test_rows_that_tie_in_duckdb_stand_together(pool, folder, sql, groups):
    database = Database("duckdb", str(folder / "duck" / "duck.duckdb"))
    found: Gold = run_gold(pool, database, sql, Limits())
    assert found.expected is not None, found.execution.error
    assert [(len(group.rows), group.take) for group in found.expected.groups] == groups
    assert found.ties_known


def test_local_time_is_utc_in_duckdb(pool, folder):
    target = str(folder / "duck" / "duck.duckdb")
    found = pool.run("duckdb", target, "SELECT current_setting('TimeZone')", Limits())
    assert found.rows == [("UTC",)]


@pytest.mark.parametrize(
    ("sql", "sqlite", "others"),
    [
        ("a[1]", ["word", "quoted"], ["word", "mark", "number", "mark"]),
        ("E'a\\'b' c", ["word", "string", "word", "string"], ["string", "word"]),
        ("/* a /* b */ c */ d", ["word", "mark", "mark", "word"], ["word"]),
        ("$$ it's $$ a", ["string", "word"], ["string", "word"]),
        ("$1 + $name", ["word", "mark", "word"], ["word", "mark", "word"]),
    ],
)
def test_tokens_are_those_of_the_dialect(sql, sqlite, others):
    assert [token.kind for token in tokens(sql)] == sqlite
    for dialect in ("postgres", "duckdb"):
        assert [token.kind for token in tokens(sql, dialect)] == others


@pytest.mark.parametrize(
    "text",
    then_slow(
        "(" * 40_000 + "SELECT 1 LIMIT 1" + ")" * 40_000,
        "SELECT 1 " + "limit 1 " * 40_000 + "from",
        " ".join(f"$t{i}$" for i in range(40_000)) + " limit",
        "SELECT 1 ORDER BY " + "'" * 400_001,
        "SELECT '" + "\\'" * 100_000 + " limit",
        "/*" * 200_000 + " limit",
        "SELECT " + "distinct " * 40_000 + "limit",
    ),
    ids=["parentheses", "limits", "dollars", "quotes", "escapes", "comments", "distinct"],
)
def test_the_time_for_tokens_grows_with_the_length_alone(text):
    started = time.process_time()  # what other processes take does not count
    for dialect in ("sqlite", "postgres"):
        read_ordering(text, dialect)
        without_distinct(text, dialect)
        calls_random(text + "random", dialect)
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("dialect", "sql", "draws"),
    [
        ("sqlite", "SELECT a FROM t ORDER BY RANDOM()", True),
        ("sqlite", "SELECT hex(randomblob(4))", True),
        ("sqlite", "SELECT uuid, random FROM t", False),
        ("postgres", "SELECT random ( )", True),
        ("postgres", 'SELECT "random"()', True),
        ("postgres", "SELECT gen_random_uuid()", True),
        ("postgres", "SELECT a::uuid, uuid FROM t WHERE uuid IN (SELECT 1)", False),
        ("postgres", "SELECT a FROM t TABLESAMPLE SYSTEM (10)", True),
        ("postgres", "SELECT 'random()' -- random()", False),
        ("duckdb", "SELECT uuid()", True),
        ("duckdb", "SELECT [random()]", True),
        ("duckdb", "SELECT * FROM t USING SAMPLE 5", True),
        ("duckdb", "SELECT a FROM t JOIN u USING (sample)", False),
    ],
)
def test_what_draws_at_random_is_known_by_dialect(dialect, sql, draws):
    assert calls_random(sql, dialect) is draws


def test_distinct_on_is_left_to_postgresql_and_duckdb():
    sql = "SELECT DISTINCT ON (a) a, count(DISTINCT b[1]) FROM t"
    assert without_distinct(sql, "postgres") == "SELECT DISTINCT ON (a) a, count( b[1]) FROM t"
