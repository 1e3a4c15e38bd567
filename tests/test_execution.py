"""Running SQL that a model wrote: it only reads, it ends, and results are compared fairly."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from qc_experiments.errors import UserError
from qc_experiments.execution.databases import check_databases, database_file
from qc_experiments.execution.equivalence import orders_rows, same_result
from qc_experiments.execution.sqlite import (
    MAX_ROWS,
    classify,
    empty_database,
    open_readonly,
    run_query,
    schema_of,
)

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database whose path needs quoting in a URI."""
    path = tmp_path / "50% of? it#1.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT);"
            "CREATE TABLE book (id INTEGER, author_id INTEGER, price REAL);"
            "INSERT INTO author VALUES (1, 'Ada'), (2, 'Bob');"
            "INSERT INTO book VALUES (1, 1, 2.5), (2, 1, NULL);"
        )
        connection.execute("INSERT INTO author VALUES (3, CAST(x'4dfc6c' AS TEXT))")
        connection.commit()
    return path


@pytest.fixture
def connection(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_readonly(database)) as opened:
        yield opened


def test_a_query_returns_its_rows_and_columns(connection):
    found = run_query(connection, "SELECT id, name AS called FROM author WHERE id < 3", 5)
    assert found.rows == [(1, "Ada"), (2, "Bob")]
    assert found.columns == ("id", "called")
    assert (found.error, found.error_class) == (None, None)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT 1;", [(1,)]),
        ("SELECT 1; -- done", [(1,)]),
        ("  \n/* first */ SELECT 1", [(1,)]),
        ("SELECT id FROM author WHERE id > 9", []),
        ("WITH a AS (SELECT 2 AS x) SELECT x FROM a", [(2,)]),
        (f"{ENDLESS} SELECT x FROM n LIMIT 2", [(1,), (2,)]),
        ("SELECT upper(name) FROM author WHERE id = 1", [("ADA",)]),
        ("SELECT price FROM book WHERE price IS NULL", [(None,)]),
    ],
)
def test_what_only_reads_runs(connection, sql, rows):
    assert run_query(connection, sql, 5).rows == rows


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO author VALUES (9, 'x')",
        "REPLACE INTO author VALUES (1, 'x')",
        "UPDATE author SET name = 'x'",
        "DELETE FROM author",
        "WITH a AS (SELECT 1) DELETE FROM author",
        "DROP TABLE author",
        "CREATE TABLE other (a)",
        "CREATE TEMP TABLE other (a)",
        "CREATE VIEW other AS SELECT 1",
        "CREATE INDEX other ON author (name)",
        "ALTER TABLE author RENAME TO other",
        "ATTACH DATABASE 'other.sqlite' AS other",
        "DETACH DATABASE main",
        "VACUUM",
        "VACUUM INTO 'other.sqlite'",
        "PRAGMA user_version = 7",
        "PRAGMA journal_mode = WAL",
        "PRAGMA writable_schema = ON",
        "PRAGMA query_only = OFF",
        "BEGIN",
        "BEGIN EXCLUSIVE",
        "ANALYZE",
        "SELECT load_extension('other')",
    ],
)
def test_whatever_could_write_is_forbidden_and_changes_nothing(
    database, connection, sql, monkeypatch
):
    monkeypatch.chdir(database.parent)
    before = database.read_bytes()
    found = run_query(connection, sql, 5)
    assert (found.rows, found.error_class) == (None, "forbidden")
    assert found.error
    assert run_query(connection, "SELECT count(*) FROM author", 5).rows == [(3,)]
    connection.close()
    assert database.read_bytes() == before
    assert [path.name for path in database.parent.iterdir()] == [database.name]


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1; SELECT 2", "SELECT 1; DROP TABLE author", "DROP TABLE author; SELECT 1"],
)
def test_only_one_statement_runs(database, connection, sql):
    found = run_query(connection, sql, 5)
    assert found.rows is None
    assert found.error_class in ("not_a_query", "forbidden")
    assert run_query(connection, "SELECT count(*) FROM author", 5).rows == [(3,)]


def test_an_endless_query_is_ended_and_the_next_one_runs(connection):
    found = run_query(connection, f"{ENDLESS} SELECT count(*) FROM n", 0.2)
    assert (found.rows, found.error_class) == (None, "timeout")
    long = f"SELECT max(x) FROM ({ENDLESS} SELECT x FROM n LIMIT 50000)"
    assert run_query(connection, long, 60).rows == [(50_000,)]
    assert connection.execute(long).fetchone() == (50_000,)


def test_an_endless_result_is_ended(connection):
    found = run_query(connection, f"{ENDLESS} SELECT x FROM n", 60)
    assert (found.rows, found.error_class) == (None, "too_many_rows")
    most = run_query(connection, f"{ENDLESS} SELECT x FROM n LIMIT {MAX_ROWS}", 60)
    assert most.rows is not None
    assert len(most.rows) == MAX_ROWS


@pytest.mark.parametrize(
    ("sql", "error_class"),
    [
        ("SELEC 1", "syntax"),
        ("SELECT", "syntax"),
        ("SELECT max(id FROM author", "syntax"),
        ("SELECT 'open", "syntax"),
        ("This is no SQL at all.", "syntax"),
        ("SELECT * FROM nowhere", "no_such_table"),
        ("SELECT absent FROM author", "no_such_column"),
        ("SELECT author.absent FROM author", "no_such_column"),
        ("SELECT id FROM author JOIN book ON author.id = author_id", "ambiguous_column"),
        ("", "not_a_query"),
        (" \n", "not_a_query"),
        ("-- nothing", "not_a_query"),
        (";", "not_a_query"),
        ("SELECT absent()", "other"),
        ("SELECT ?", "other"),
        ("SELECT '\0'", "other"),
        ("SELECT '\ud800'", "other"),
    ],
)
def test_a_failure_is_named_by_its_class(connection, sql, error_class):
    found = run_query(connection, sql, 5)
    assert (found.rows, found.columns, found.error_class) == (None, (), error_class)
    assert found.error


def test_an_unknown_message_is_of_class_other():
    assert classify("database disk image is malformed") == "other"


def test_text_that_is_not_utf_8_is_a_result_like_any_other(connection):
    one = run_query(connection, "SELECT name FROM author WHERE id = 3", 5)
    two = run_query(connection, "SELECT name FROM author ORDER BY id DESC LIMIT 1", 5)
    other = run_query(connection, "SELECT name FROM author WHERE id = 2", 5)
    assert one.rows is not None
    assert two.rows is not None
    assert other.rows is not None
    assert same_result(one.rows, two.rows, ordered=False)
    assert not same_result(one.rows, other.rows, ordered=False)


def test_a_missing_database_is_an_error_and_is_not_made(tmp_path):
    with pytest.raises(sqlite3.Error), closing(open_readonly(tmp_path / "none.sqlite")) as opened:
        run_query(opened, "SELECT 1", 5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [
        ([(1, "a"), (2, "b")], [(2, "b"), (1, "a")]),
        ([(1,)], [(1.0,)]),
        ([(None,)], [(None,)]),
        ([(1, None), (2, None)], [(2, None), (1, None)]),
        ([(0.3,)], [(0.1 + 0.2,)]),
        ([(2.0,)], [(1.9999999999999998,)]),
        ([(12345678901.3,)], [(12345678901.300002,)]),
        ([(12345678901.0,)], [(12345678901.000002,)]),
        ([(12345678901,)], [(12345678901.000002,)]),
        ([(12345678901,)], [(12345678901.0,)]),
        ([(float("inf"),)], [(float("inf"),)]),
        ([(b"\xff",)], [(b"\xff",)]),
        ([], []),
    ],
)
def test_results_that_are_the_same(gold, predicted):
    assert same_result(gold, predicted, ordered=False)
    assert same_result(predicted, gold, ordered=False)


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [
        ([(1,), (1,)], [(1,)]),
        ([(1,), (1,), (2,)], [(1,), (2,), (2,)]),
        ([(1, 2)], [(2, 1)]),
        ([(1,)], [(1, 1)]),
        ([(1,)], []),
        ([], [(None,)]),
        ([(None,)], [(0,)]),
        ([(None,)], [("",)]),
        ([(1,)], [("1",)]),
        ([("a",)], [("A",)]),
        ([("a",)], [(b"a",)]),
        ([(1.5,)], [(1.6,)]),
        ([(2**53,)], [(2**53 + 1,)]),
        ([(1e-9,)], [(2e-9,)]),
    ],
)
def test_results_that_differ(gold, predicted):
    assert not same_result(gold, predicted, ordered=False)
    assert not same_result(gold, predicted, ordered=True)


def test_the_order_counts_only_where_asked():
    gold, predicted = [(1,), (2,)], [(2,), (1,)]
    assert same_result(gold, predicted, ordered=False)
    assert not same_result(gold, predicted, ordered=True)
    assert same_result(gold, [(1.0,), (2.0,)], ordered=True)


@pytest.mark.parametrize(
    ("sql", "orders"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t ORDER BY a DESC LIMIT 3", True),
        ("WITH x AS (SELECT a FROM t) SELECT a FROM x ORDER BY a", True),
        ("SELECT a FROM t UNION SELECT b FROM u ORDER BY 1", True),
        ("SELECT a FROM t", False),
        ("SELECT a FROM t LIMIT 3", False),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", False),
        ("WITH x AS (SELECT a FROM t ORDER BY a) SELECT a FROM x", False),
        ("SELECT a FROM t WHERE a = (SELECT b FROM u ORDER BY b LIMIT 1)", False),
        ("SELECT row_number() OVER (ORDER BY a) FROM t", False),
        ("SELECT 'ORDER BY' FROM t", False),
        ("this is no SQL (", False),
        ("SELECT " + "(" * 300 + "1" + ")" * 300, False),
    ],
)
def test_the_outermost_query_decides_whether_rows_are_ordered(sql, orders):
    assert orders_rows(sql) is orders


def test_a_context_becomes_an_empty_database():
    connection = empty_database(
        "CREATE TABLE a (x INTEGER);\nCREATE TABLE b (y TEXT REFERENCES a);"
    )
    assert connection is not None
    with closing(connection):
        assert run_query(connection, "SELECT x, y FROM a, b", 5).rows == []
        assert run_query(connection, "SELECT z FROM a", 5).error_class == "no_such_column"
        assert run_query(connection, "DROP TABLE a", 5).error_class == "forbidden"


@pytest.mark.parametrize(
    "context",
    ["", "Some words about the tables.", "CREATE TABLE a (x", "-- nothing", "a(x, y), b(z)"],
)
def test_a_context_that_is_no_schema_makes_no_database(context):
    assert empty_database(context) is None


@pytest.mark.parametrize(
    "context",
    [
        "ATTACH 'other.sqlite' AS o; CREATE TABLE o.b (x); CREATE TABLE a (x);",
        "CREATE TABLE a (x); VACUUM INTO 'other.sqlite';",
    ],
)
def test_a_context_writes_no_files(tmp_path, monkeypatch, context):
    """A CSV from anywhere is read; its contexts are SQL, and run."""
    monkeypatch.chdir(tmp_path)
    connection = empty_database(context)
    if connection is not None:
        connection.close()
    assert list(tmp_path.iterdir()) == []


def test_a_context_that_never_ends_is_given_up():
    code = (
        "from qc_experiments.execution.sqlite import empty_database\n"
        f"empty_database('CREATE TABLE a (x); {ENDLESS} SELECT count(*) FROM n')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=10)


def test_the_schema_of_a_database_is_its_create_statements_in_order(connection):
    assert schema_of(connection) == (
        "CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT);\n"
        "CREATE TABLE book (id INTEGER, author_id INTEGER, price REAL);"
    )


def test_the_schema_leaves_out_what_is_no_table_of_the_user_and_makes_the_same_tables(tmp_path):
    path = tmp_path / "x.sqlite"
    with closing(sqlite3.connect(path)) as made:
        made.executescript(
            'CREATE TABLE "Order Details" (id INTEGER PRIMARY KEY AUTOINCREMENT, "my name" TEXT);'
            "CREATE INDEX i ON \"Order Details\" ('my name'); CREATE VIEW v AS SELECT 1;"
        )
        schema = schema_of(made)
    assert schema.count("CREATE") == 1
    again = empty_database(schema)
    assert again is not None
    with closing(again):
        assert schema_of(again) == schema
        assert run_query(again, 'SELECT "my name" FROM "Order Details"', 5).rows == []


def test_databases_stand_in_folders_of_their_own(tmp_path):
    path = database_file(tmp_path, "shop")
    assert path == tmp_path / "shop" / "shop.sqlite"
    path.parent.mkdir()
    path.touch()
    check_databases(tmp_path, [(2, "shop"), (3, "shop")], "rows.csv")


@pytest.mark.parametrize(
    ("db_id", "reason"), [("clinic", "names db_id clinic"), (None, "has no db_id")]
)
def test_a_row_without_a_database_is_refused_by_row(tmp_path, db_id, reason):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "shop.sqlite").touch()
    with pytest.raises(UserError, match=reason) as caught:
        check_databases(tmp_path, [(2, "shop"), (5, db_id)], "rows.csv")
    assert str(caught.value).startswith("rows.csv: row 5 ")
