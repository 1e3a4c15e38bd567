"""What a gold query asks for: its order, its ties, its cuts; and results kept on disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from qc_experiments.databases.engine import Execution, Limits
from qc_experiments.databases.locate import Database
from qc_experiments.databases.pool import SqlPool
from qc_experiments.judging.equivalence import Group
from qc_experiments.judging.gold import Gold, GoldCache, run_gold
from qc_experiments.judging.ordering import read_ordering
from qc_experiments.sql.tokens import asks_the_clock, statement, tokens


@pytest.fixture(scope="module")
def pool() -> Iterator[SqlPool]:
    with SqlPool(1) as made:
        yield made


@pytest.fixture
def database(tmp_path: Path) -> Database:
    path = tmp_path / "x.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE person (id INTEGER, name TEXT, city TEXT COLLATE NOCASE, age INTEGER,"
            ' "order" INTEGER, "limit" INTEGER);'
            "INSERT INTO person VALUES (1, 'Ada', 'Rome', 30, 1, 1), (2, 'Bob', 'rome', 25, 2, 1),"
            " (3, 'Cid', 'Paris', 30, 3, 2), (4, 'Dan', NULL, 41, 4, 2), (5, 'eve', 'Oslo', 25, 5, 3);"
        )
    return Database("sqlite", str(path))


def gold(pool: SqlPool, database: Database, sql: str) -> Gold:
    return run_gold(pool, database, sql, Limits())


@pytest.mark.parametrize(
    ("sql", "ordered", "limited"),
    [
        ("SELECT a FROM t ORDER BY a", True, False),
        ("select a from t order\n\t by a", True, False),
        ("SELECT a FROM t ORDER/* by */BY a", True, False),
        ("SELECT a FROM t ORDER -- x\n BY a DESC LIMIT 3", True, True),
        ("SELECT a FROM t ORDER BY a LIMIT 3 OFFSET 1;", True, True),
        ("WITH x AS (SELECT a FROM t) SELECT a FROM x ORDER BY a", True, False),
        ("SELECT a FROM t UNION SELECT b FROM u ORDER BY 1", True, False),
        ("(SELECT a FROM t ORDER BY a)", True, False),
        ("SELECT a FROM t", False, False),
        ("SELECT a FROM t LIMIT 3", False, True),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a LIMIT 3)", False, False),
        ("WITH x AS (SELECT a FROM t ORDER BY a LIMIT 1) SELECT a FROM x", False, False),
        ("SELECT a FROM t WHERE a = (SELECT b FROM u ORDER BY b LIMIT 1)", False, False),
        ("SELECT row_number() OVER (ORDER BY a) FROM t", False, False),
        ("SELECT row_number() OVER w FROM t WINDOW w AS (ORDER BY a)", False, False),
        ("SELECT group_concat(a ORDER BY b) FROM t", False, False),
        ("SELECT 'ORDER BY a LIMIT 1' FROM t", False, False),
        ("SELECT 'it''s' || ' ORDER BY a' FROM t", False, False),
        ("SELECT a FROM t -- ORDER BY a", False, False),
        ("SELECT a FROM t /* ORDER BY a LIMIT 1 */", False, False),
        ('SELECT "order by" FROM t', False, False),
        ("SELECT [order by], `limit` FROM t", False, False),
        ('SELECT "order" FROM t', False, False),
        ("SELECT limit FROM t", False, False),
        ("SELECT a FROM t WHERE t.limit > 3", False, False),
        ("SELECT a FROM t WHERE limit = 3 AND offset < 2", False, False),
        ("SELECT a FROM t ORDER BY offset", True, False),
        ("SELECT a FROM t fetch NATURAL JOIN u", False, False),
        ("SELECT a FROM t OFFSET 2 ROWS FETCH FIRST 3 ROWS ONLY", False, True),
        ("this is no SQL (", False, False),
        ("", False, False),
    ],
)
def test_only_the_outermost_query_orders_and_cuts(sql, ordered, limited):
    found = read_ordering(sql)
    assert (bool(found.keys), found.limited) == (ordered, limited)


@pytest.mark.parametrize(
    ("sql", "offset"),
    [
        ("SELECT a FROM t LIMIT 3", 0),
        ("SELECT a FROM t LIMIT 3 OFFSET 2", 2),
        ("SELECT a FROM t LIMIT 2, 3", 2),
        ("SELECT a FROM t LIMIT (SELECT 1)", 0),
        ("SELECT a FROM t LIMIT 3 OFFSET (1 + 1)", None),
        ("SELECT a FROM t OFFSET 2 ROWS FETCH FIRST 3 ROWS ONLY", 2),
        ("SELECT a FROM t OFFSET 2", 2),
        ("SELECT a FROM t OFFSET 2 LIMIT 3", 2),
    ],
)
def test_what_a_limit_skips(sql, offset):
    assert read_ordering(sql).offset == offset


def takes(found: Gold) -> list[tuple[int, int]]:
    assert found.expected is not None
    return [(len(group.rows), group.take) for group in found.expected.groups]


EACH = [(1, 1)]


@pytest.mark.parametrize(
    ("sql", "groups"),
    [
        ("SELECT name FROM person", [(5, 5)]),
        ("SELECT name FROM person ORDER BY id", EACH * 5),
        ("SELECT name FROM person ORDER BY age", [(2, 2), (2, 2), (1, 1)]),
        ("SELECT name FROM person ORDER BY age DESC, id", EACH * 5),
        ("SELECT name, age FROM person ORDER BY 2 DESC", [(1, 1), (2, 2), (2, 2)]),
        ("SELECT * FROM person ORDER BY 4", [(2, 2), (2, 2), (1, 1)]),
        ("SELECT *, age FROM person ORDER BY age", [(2, 2), (2, 2), (1, 1)]),
        ("SELECT age AS a FROM person ORDER BY a", [(2, 2), (2, 2), (1, 1)]),
        ("SELECT age + 1 AS a, name FROM person ORDER BY a * 2", [(2, 2), (2, 2), (1, 1)]),
        ("SELECT name FROM person ORDER BY age / 10", [(2, 2), (2, 2), (1, 1)]),
        ("SELECT name FROM person ORDER BY 'age'", [(5, 5)]),
        ("SELECT name FROM person ORDER BY NULL", [(5, 5)]),
        ("SELECT age, name FROM person ORDER BY (1)", [(2, 2), (2, 2), (1, 1)]),
        ("SELECT age, name FROM person ORDER BY +1 DESC", [(1, 1), (2, 2), (2, 2)]),
        ("SELECT name FROM person ORDER BY age <> 30", [(2, 2), (3, 3)]),
        ("SELECT name FROM person ORDER BY age>=30", [(2, 2), (3, 3)]),
        ("SELECT id FROM person ORDER BY 'a' || (age % 2)", [(2, 2), (3, 3)]),
        ("SELECT age a, name FROM person ORDER BY a * 2", [(2, 2), (2, 2), (1, 1)]),
        # "a" is the alias there, but would be a text among the columns; "Ada" is a text.
        ('SELECT age AS "a", name FROM person ORDER BY "a" * 2', [(2, 2), (2, 2), (1, 1)]),
        ('SELECT id FROM person ORDER BY name = "Ada" DESC', [(1, 1), (4, 4)]),
        (
            "SELECT id FROM person ORDER BY CASE WHEN name = 'EVE' COLLATE NOCASE THEN 1 ELSE 2 END",
            [(1, 1), (4, 4)],
        ),
        ("SELECT p.name FROM person AS p ORDER BY p.age", [(2, 2), (2, 2), (1, 1)]),
        # Collations, of the column and of the key: 'Rome' and 'rome' tie.
        ("SELECT name FROM person ORDER BY city", [(1, 1), (1, 1), (1, 1), (2, 2)]),
        ("SELECT city FROM person ORDER BY city", [(1, 1), (1, 1), (1, 1), (2, 2)]),
        ("SELECT name FROM person ORDER BY lower(city)", [(1, 1), (1, 1), (1, 1), (2, 2)]),
        ("SELECT name FROM person ORDER BY city COLLATE BINARY", EACH * 5),
        ("SELECT id FROM person ORDER BY name COLLATE NOCASE DESC", EACH * 5),
        ("SELECT name FROM person ORDER BY city NULLS LAST", [(1, 1), (1, 1), (2, 2), (1, 1)]),
        # Groups, sets, DISTINCT, WITH.
        ("SELECT age FROM person GROUP BY age ORDER BY count(*)", [(1, 1), (2, 2)]),
        ("SELECT age, count(*) AS n FROM person GROUP BY age ORDER BY n", [(1, 1), (2, 2)]),
        ("SELECT age FROM person GROUP BY 1 HAVING count(*) > 1 ORDER BY max(id)", EACH * 2),
        ("SELECT DISTINCT age FROM person ORDER BY age", EACH * 3),
        ("SELECT DISTINCT age FROM person ORDER BY age > 28", [(1, 1), (2, 2)]),
        ("SELECT age FROM person UNION ALL SELECT 25 ORDER BY age", [(3, 3), (2, 2), (1, 1)]),
        ("SELECT id FROM person UNION SELECT age FROM person ORDER BY 1", EACH * 8),
        (
            "WITH p AS (SELECT * FROM person) SELECT name FROM p ORDER BY age",
            [(2, 2), (2, 2), (1, 1)],
        ),
        (
            "SELECT (SELECT max(age) FROM person ORDER BY 1) FROM person ORDER BY age",
            [(2, 2), (2, 2), (1, 1)],
        ),
        ('SELECT "order" FROM person ORDER BY "limit"', [(2, 2), (2, 2), (1, 1)]),
        ("SELECT age IS DISTINCT FROM 25 FROM person ORDER BY age", [(2, 2), (2, 2), (1, 1)]),
        # Cuts.
        ("SELECT name FROM person ORDER BY age LIMIT 2", [(2, 2)]),
        ("SELECT name FROM person ORDER BY age LIMIT 1", [(2, 1)]),
        ("SELECT name FROM person ORDER BY age LIMIT 3", [(2, 2), (2, 1)]),
        ("SELECT name FROM person ORDER BY age LIMIT 2 OFFSET 1", [(2, 1), (2, 1)]),
        ("SELECT name FROM person ORDER BY age LIMIT 1, 2", [(2, 1), (2, 1)]),
        ("SELECT name FROM person ORDER BY age LIMIT 100", [(2, 2), (2, 2), (1, 1)]),
        ("SELECT name FROM person ORDER BY age LIMIT -1", [(2, 2), (2, 2), (1, 1)]),
        ("SELECT name FROM person ORDER BY age LIMIT (SELECT 1)", [(2, 1)]),
        ("SELECT name FROM person LIMIT 2", [(5, 2)]),
        ("SELECT max(age) FROM person LIMIT 1", [(1, 1)]),
        ("SELECT name FROM person ORDER BY age LIMIT 1; -- done", [(2, 1)]),
        ("SELECT name FROM person ORDER BY age -- LIMIT 1", [(2, 2), (2, 2), (1, 1)]),
        ("SELECT age FROM person GROUP BY age ORDER BY count(*) DESC LIMIT 1", [(2, 1)]),
        ("SELECT id FROM person UNION ALL SELECT 1 ORDER BY 1 LIMIT 1", [(2, 1)]),
    ],
)
def test_rows_that_tie_stand_together(pool, database, sql, groups):
    found = gold(pool, database, sql)
    assert takes(found) == groups
    assert found.ties_known


def test_rows_far_beyond_the_cut_do_not_count_against_the_limits(pool, database):
    sql = "SELECT name FROM person ORDER BY age LIMIT 1 OFFSET 1"
    found = run_gold(pool, database, sql, Limits(rows=3))
    assert takes(found) == [(2, 1)]
    assert found.ties_known


@pytest.mark.parametrize(
    ("sql", "ambiguous"),
    [
        ("SELECT name FROM person ORDER BY age LIMIT 1", True),
        ("SELECT name FROM person ORDER BY age DESC LIMIT 1", False),
        ("SELECT name FROM person LIMIT 2", True),
        ("SELECT name FROM person LIMIT 5", False),
        ("SELECT age FROM person ORDER BY age LIMIT 1", False),  # every cut gives the same row
        ("SELECT count(*) FROM person LIMIT 1", False),
        ("SELECT name FROM person ORDER BY age", False),
    ],
)
def test_a_gold_is_ambiguous_where_its_limit_leaves_a_choice(pool, database, sql, ambiguous):
    assert gold(pool, database, sql).ambiguous is ambiguous


@pytest.mark.parametrize(
    "sql",
    [
        # DISTINCT by one column, ordered by another: the rows' order is SQLite's own choice.
        "SELECT DISTINCT age FROM person ORDER BY name",
        "SELECT DISTINCT age FROM person ORDER BY id LIMIT 2",
        "SELECT name FROM person ORDER BY age LIMIT 2 OFFSET (SELECT 1)",
    ],
)
def test_where_ties_cannot_be_asked_for_the_golds_own_order_counts(pool, database, sql):
    found = gold(pool, database, sql)
    assert not found.ties_known
    assert set(takes(found)) == {(1, 1)}


def test_a_gold_that_fails_is_so_named(pool, database):
    found = gold(pool, database, "SELECT absent FROM person ORDER BY 1 LIMIT 1")
    assert found.expected is None
    assert found.execution.error_class == "no_such_column"


def test_a_gold_without_rows_expects_none(pool, database):
    found = gold(pool, database, "SELECT id, name FROM person WHERE id > 9 ORDER BY age LIMIT 3")
    assert found.expected is not None
    assert (found.expected.groups, found.expected.columns) == ((Group([], 0),), 2)


def test_results_are_kept_on_disk_until_the_database_changes(pool, database, tmp_path):
    path = tmp_path / "cache" / "gold.sqlite"
    sql = "SELECT name FROM person ORDER BY age LIMIT 3"
    first = GoldCache(path).get(pool, database, sql, Limits())
    target = Path(database.target)
    with SqlPool(1) as unused:
        kept = GoldCache(path).get(unused, database, sql, Limits())
        assert kept == first
        assert unused._idle.queue == [None]  # nothing had to be run
    with closing(sqlite3.connect(target)) as connection, connection:
        connection.execute("UPDATE person SET age = 99 WHERE id = 2")
    os.utime(target)
    changed = GoldCache(path).get(pool, database, sql, Limits())
    assert changed.execution.rows != first.execution.rows


def test_what_is_kept_in_memory_needs_no_reading_of_all_that_a_server_holds(monkeypatch):
    monkeypatch.setattr(Database, "content_hash", None)
    ran = []

    def run(_engine: str, target: str, sql: str, _limits: Limits) -> Execution:
        if sql != "SELECT 1":  # the schema, for its views
            return Execution([], ())
        ran.append(target)
        return Execution([(len(ran),)], ("n",))

    golds, pool = GoldCache(None), SimpleNamespace(run=run)
    for number, name in [(1, "shop"), (2, "zoo"), (1, "shop")]:
        server = Database("postgresql", f"postgresql://host/{name}")
        assert golds.get(pool, server, "SELECT 1", Limits()).execution.rows == [(number,)]
    assert len(ran) == 2


@pytest.mark.parametrize("sql", ["SELECT strftime('%f', 'now')", "SELECT t FROM later"])
def test_a_gold_that_asks_for_the_time_is_run_again_each_time(pool, database, tmp_path, sql):
    with closing(sqlite3.connect(database.target)) as connection:
        connection.executescript(
            "CREATE VIEW IF NOT EXISTS late AS SELECT strftime('%f', 'now') AS t;"
            'CREATE VIEW "Later" AS SELECT * FROM late'
        )
    golds = GoldCache(tmp_path / "gold.sqlite")
    first = golds.get(pool, database, sql, Limits())
    assert first.clock
    time.sleep(0.01)
    assert golds.get(pool, database, sql, Limits()).execution.rows != first.execution.rows


def test_a_view_that_draws_at_random_is_told_of(pool, database, tmp_path):
    with closing(sqlite3.connect(database.target)) as connection:
        connection.execute("CREATE VIEW dice (n) AS SELECT random() % 6")
    for _ in range(2):  # the second time from the disk
        found = GoldCache(tmp_path / "gold.sqlite").get(
            pool, database, "SELECT n FROM dice", Limits()
        )
        assert (found.random, found.clock) == (True, False)


def test_in_memory_stays_what_was_asked_for_last(pool, database, monkeypatch):
    monkeypatch.setattr("qc_experiments.judging.gold.MEMORY_BYTES", 300)
    golds = GoldCache(None)
    for number in (1, 2, 1, 3):
        golds.get(pool, database, f"SELECT {number}", Limits())
    kept = [one.execution.rows for one, _ in golds._memory.values()]
    assert kept == [[(1,)], [(3,)]]


@pytest.mark.parametrize(
    ("dialect", "sql", "asks"),
    [
        ("sqlite", "SELECT strftime('%Y', 'now') - year FROM t", True),
        ("sqlite", "SELECT julianday('NOW') - julianday(d) FROM t", True),
        ("sqlite", "SELECT a FROM t WHERE d > CURRENT_DATE", True),
        ("sqlite", "SELECT date()", True),
        ("sqlite", "SELECT strftime('%Y')", True),
        ("sqlite", 'SELECT julianday("now") - julianday(d) FROM t', True),
        ("sqlite", "SELECT date(d), strftime('%Y', d), time(d, '+1 day') FROM t", False),
        ("sqlite", "SELECT date, now, t.current_date FROM t WHERE s = 'now'", False),
        ("sqlite", 'SELECT "current_date" FROM t -- now()', False),
        ("duckdb", "SELECT today() - d FROM t", True),
        ("duckdb", "SELECT get_current_timestamp()", True),
        ("postgres", "SELECT now() - d FROM t", True),
        ("postgres", "SELECT age(born) FROM t", True),
        ("postgres", "SELECT 'today'::date, 1", True),
        ("postgres", "SELECT CAST('now' AS timestamp)", True),
        ("postgres", "SELECT a FROM t WHERE d >= 'Today'", True),
        ("postgres", "SELECT timestamp with time zone 'now'", True),
        ("postgres", "SELECT age, age(a, b) FROM t WHERE s = 'not today'", False),
        ("duckdb", "SELECT a FROM t WHERE s = 'today'", False),
    ],
)
def test_what_asks_for_the_time(dialect, sql, asks):
    assert asks_the_clock(sql, dialect) is asks


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 100])
def test_a_damaged_cache_costs_time_only(pool, database, tmp_path, damage):
    path = tmp_path / "gold.sqlite"
    path.write_bytes(damage)
    for _ in range(2):  # the first mends it
        found = GoldCache(path).get(pool, database, "SELECT 1", Limits())
        assert found.execution.rows == [(1,)]


def test_a_foreign_entry_in_the_cache_is_not_trusted(pool, database, tmp_path):
    import pickle

    path = tmp_path / "gold.sqlite"
    GoldCache(path).get(pool, database, "SELECT 1", Limits())
    for entry in (b"x", pickle.dumps(Path("x")), pickle.dumps((1, 2))):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE gold SET packed = ?", (entry,))
        found = GoldCache(path).get(pool, database, "SELECT 1", Limits())
        assert found.execution.rows == [(1,)]


def test_a_failure_of_the_moment_is_not_kept(pool, database, tmp_path):
    """Locked by a writer now; that must not count as a broken gold for ever."""
    path = tmp_path / "gold.sqlite"
    # In a process of its own: a lock is lost when its process reads the file once more, as we do.
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, database.target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "locked\n"
        brief = Limits(seconds=1.0)
        found = GoldCache(path).get(pool, database, "SELECT 1 FROM person", brief)
        assert found.expected is None
    found = GoldCache(path).get(pool, database, "SELECT 1 FROM person", brief)
    assert found.expected is not None


def test_a_timeout_is_not_kept(pool, database, tmp_path):
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    )
    golds = GoldCache(tmp_path / "gold.sqlite")
    found = golds.get(pool, database, endless, Limits(seconds=0.1))
    assert found.execution.error_class == "timeout"
    assert not golds._memory
    assert not (tmp_path / "gold.sqlite").exists()


@pytest.mark.parametrize(
    ("sql", "kinds"),
    [
        ("SELECT 1", ["word", "number"]),
        ("a.b", ["word", "mark", "word"]),
        ("'it''s' \"a\"\"b\" `c` [d e]", ["string", "quoted", "quoted", "quoted"]),
        ("-- x\n/* y */ 1.5e-3 0xFF", ["number", "number"]),
        ("'open", ["string"]),
        ("$tag$ it's $tag$", ["string"]),
    ],
)
def test_tokens(sql, kinds):
    assert [token.kind for token in tokens(sql)] == kinds


def test_a_statement_ends_before_its_semicolons_and_comments():
    assert statement("SELECT ';' ; -- done\n;") == "SELECT ';'"
    assert statement(" \n-- nothing") == ""
