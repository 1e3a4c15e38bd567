"""SQL on SQLite: it only reads, it ends, failures are named, and nothing is forgiven silently."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from qc_experiments.databases.engine import Limits
from qc_experiments.databases.sqlite import (
    SCHEMA_QUERY,
    _explain,
    empty_database,
    open_readonly,
    run_query,
)


def schema_of(statements) -> str:
    return "\n".join(f"{sql.strip()};" for (sql,) in statements)


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
    found = run_query(
        connection, "SELECT id, name AS called FROM author WHERE id < 3", Limits(seconds=5)
    )
    assert found.rows == [(1, "Ada"), (2, "Bob")]
    assert found.columns == ("id", "called")
    assert (found.error, found.error_class) == (None, None)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT 1;", [(1,)]),
        ("SELECT 1; -- done", [(1,)]),
        ("SELECT 1;;", [(1,)]),
        ("SELECT 1 ; /* x */ ;", [(1,)]),
        ("  \n/* first */ SELECT 1", [(1,)]),
        ("SELECT id FROM author WHERE id > 9", []),
        ("WITH a AS (SELECT 2 AS x) SELECT x FROM a", [(2,)]),
        (f"{ENDLESS} SELECT x FROM n LIMIT 2", [(1,), (2,)]),
        ("SELECT upper(name) FROM author WHERE id = 1", [("ADA",)]),
        ("SELECT price FROM book WHERE price IS NULL", [(None,)]),
    ],
)
def test_what_only_reads_runs(connection, sql, rows):
    assert run_query(connection, sql, Limits(seconds=5)).rows == rows


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
    found = run_query(connection, sql, Limits(seconds=5))
    assert (found.rows, found.error_class) == (None, "forbidden")
    assert found.error
    assert run_query(connection, "SELECT count(*) FROM author", Limits(seconds=5)).rows == [(3,)]
    connection.close()
    assert database.read_bytes() == before
    assert [path.name for path in database.parent.iterdir()] == [database.name]


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1; SELECT 2", "SELECT 1; DROP TABLE author", "DROP TABLE author; SELECT 1"],
)
def test_only_one_statement_runs(database, connection, sql):
    found = run_query(connection, sql, Limits(seconds=5))
    assert found.rows is None
    assert found.error_class in ("not_a_query", "forbidden")
    assert run_query(connection, "SELECT count(*) FROM author", Limits(seconds=5)).rows == [(3,)]


def test_an_endless_query_is_ended_and_the_next_one_runs(connection):
    found = run_query(connection, f"{ENDLESS} SELECT count(*) FROM n", Limits(seconds=0.2))
    assert (found.rows, found.error_class) == (None, "timeout")
    long = f"SELECT max(x) FROM ({ENDLESS} SELECT x FROM n LIMIT 50000)"
    assert run_query(connection, long, Limits(seconds=60)).rows == [(50_000,)]
    assert connection.execute(long).fetchone() == (50_000,)


def test_an_endless_result_is_ended(connection):
    found = run_query(connection, f"{ENDLESS} SELECT x FROM n", Limits(seconds=60))
    assert (found.rows, found.error_class) == (None, "result_too_large")
    most = run_query(
        connection, f"{ENDLESS} SELECT x FROM n LIMIT {Limits().rows}", Limits(seconds=60)
    )
    assert most.rows is not None
    assert len(most.rows) == Limits().rows


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
        ("SELECT absent()", "no_such_function"),
        ("SELECT ?", "other"),
        ("SELECT '\0'", "other"),
        ("SELECT '\ud800'", "other"),
    ],
)
def test_a_failure_is_named_by_its_class(connection, sql, error_class):
    found = run_query(connection, sql, Limits(seconds=5))
    assert (found.rows, found.columns, found.error_class) == (None, (), error_class)
    assert found.error


def test_an_unknown_message_is_of_class_other():
    problem = sqlite3.DatabaseError("database disk image is malformed")
    assert _explain(problem) == ("database disk image is malformed", "other")


def test_text_that_is_not_utf_8_is_a_result_like_any_other(connection):
    one = run_query(connection, "SELECT name FROM author WHERE id = 3", Limits(seconds=5))
    two = run_query(
        connection, "SELECT name FROM author ORDER BY id DESC LIMIT 1", Limits(seconds=5)
    )
    other = run_query(connection, "SELECT name FROM author WHERE id = 2", Limits(seconds=5))
    assert one.rows is not None
    assert two.rows is not None
    assert other.rows is not None
    assert one.rows == two.rows == [(b"M\xfcl",)]
    assert other.rows != one.rows


def test_a_missing_database_is_an_error_and_is_not_made(tmp_path):
    with pytest.raises(sqlite3.Error), closing(open_readonly(tmp_path / "none.sqlite")) as opened:
        run_query(opened, "SELECT 1", Limits(seconds=5))
    assert list(tmp_path.iterdir()) == []


def test_a_context_becomes_an_empty_database():
    connection = empty_database(
        "CREATE TABLE a (x INTEGER);\nCREATE TABLE b (y TEXT REFERENCES a);"
    )
    assert connection is not None
    with closing(connection):
        assert run_query(connection, "SELECT x, y FROM a, b", Limits(seconds=5)).rows == []
        assert (
            run_query(connection, "SELECT z FROM a", Limits(seconds=5)).error_class
            == "no_such_column"
        )
        assert run_query(connection, "DROP TABLE a", Limits(seconds=5)).error_class == "forbidden"


@pytest.mark.parametrize(
    "computed",
    [
        "GENERATED ALWAYS AS ((price * (qty)::numeric)) STORED",
        "generated always as (concat(price, ')'::text)) stored NOT NULL",
        "GENERATED ALWAYS AS (price + qty)",
    ],
)
def test_a_context_of_postgresql_that_computes_columns_becomes_an_empty_database(computed):
    connection = empty_database(
        f"CREATE TABLE a (price numeric, qty integer, total numeric {computed}, x integer);"
        f"CREATE TABLE b (price numeric, qty integer, total numeric {computed}, PRIMARY KEY (qty));"
    )
    assert connection is not None
    with closing(connection):
        sql = "SELECT a.total, a.x, b.* FROM a JOIN b USING (qty)"
        assert run_query(connection, sql, Limits(seconds=5)).rows == []


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
        "from qc_experiments.databases.sqlite import empty_database\n"
        f"empty_database('CREATE TABLE a (x); {ENDLESS} SELECT count(*) FROM n')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=10)


def test_the_schema_of_a_database_is_its_create_statements_in_order(connection):
    assert schema_of(connection.execute(SCHEMA_QUERY)) == (
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
        schema = schema_of(made.execute(SCHEMA_QUERY))
    assert schema.splitlines()[1:] == ["CREATE VIEW v AS SELECT 1;"]
    again = empty_database(schema)
    assert again is not None
    with closing(again):
        assert schema_of(again.execute(SCHEMA_QUERY)) == schema
        assert (
            run_query(again, 'SELECT "my name" FROM "Order Details"', Limits(seconds=5)).rows == []
        )


@pytest.mark.parametrize(
    ("sql", "warning"),
    [
        ('SELECT "name" FROM author', None),
        ('SELECT "nmae" FROM author', '"nmae" names no column and was taken as text'),
        ('SELECT id FROM author WHERE name = "Ada"', '"Ada" names no column and was taken as text'),
        ("SELECT id FROM author WHERE name = 'Ada'", None),
        ("SELECT '\"nmae\"' FROM author", None),
        ('SELECT id -- "nmae"\nFROM author', None),
        ('SELECT "a"."name" FROM author AS "a"', None),
        ('SELECT name AS "called" FROM author ORDER BY "called"', None),
        ('SELECT [name], `id` FROM "author"', None),
        (
            'SELECT "x", "y", "x" FROM author',
            '"x", "y" name no columns and were taken as text',
        ),
        ('SELECT "a""b" FROM author', '"a""b" names no column and was taken as text'),
    ],
)
def test_a_misspelt_column_that_sqlite_takes_for_text_is_pointed_out(connection, sql, warning):
    found = run_query(connection, sql, Limits())
    assert found.error is None
    assert found.warning == warning


def test_a_result_is_limited_in_rows_and_bytes(connection):
    few = Limits(rows=2, bytes=1000)
    assert run_query(connection, "SELECT id FROM author LIMIT 2", few).rows == [(1,), (2,)]
    for sql in ("SELECT id FROM author", f"SELECT '{'x' * 900}', '{'y' * 200}'"):
        found = run_query(connection, sql, few)
        assert (found.rows, found.error_class) == (None, "result_too_large"), sql
