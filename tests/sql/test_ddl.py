"""Tables of CREATE statements, as SQLite takes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlglot import exp

from qc_experiments.sql.ddl import create_statement, name_in_sql, read_ddl

ODD = [
    "CREATE TABLE t (a TEXT PRIMARY KEY, b REAL) WITHOUT ROWID",
    "CREATE TABLE t (a TEXT PRIMARY KEY, b REAL) STRICT, WITHOUT ROWID",
    "CREATE TABLE t (a TEXT PRIMARY KEY, 'b' REAL)",
    "CREATE TABLE 't' ('a' TEXT PRIMARY KEY, b REAL)",
    "CREATE TABLE t (a TEXT PRIMARY KEY ON CONFLICT REPLACE, b REAL REFERENCES u (x) DEFERRABLE)",
    "CREATE TABLE t (a TEXT, b REAL, PRIMARY KEY (A COLLATE NOCASE))",
    "CREATE TABLE t (a TEXT, b REAL, PRIMARY KEY (A))",
]


@pytest.mark.parametrize("statement", ODD)
def test_whatever_sqlite_takes_for_a_table_has_its_columns_types_and_key(statement, capfd):
    (table,) = read_ddl(statement)
    assert table.written == "t"
    assert [(column.name, column.type) for column in table.columns] == [
        ("a", "TEXT"),
        ("b", "REAL"),
    ]
    assert table.keys == ("a",)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["REAL", "FLOAT", "DOUBLE", "INT8", "TINYINT(1)"])
def test_types_stay_what_they_are(kind):
    assert read_ddl(f'CREATE TABLE t (x INT, "größe" {kind} NOT NULL)')[0].columns[1].type == kind


def test_keys_are_spelled_as_their_columns():
    table = read_ddl(
        'CREATE TABLE t (ID INT, sub INT, up INT, PRIMARY KEY (id, "SUB"), FOREIGN KEY (UP) REFERENCES t)'
    )[0]
    assert (table.keys, table.foreign_keys[0].columns) == (("ID", "sub"), ("up",))


def test_a_statement_that_is_written_again_runs():
    text = (
        'CREATE TABLE "the order" ("order no" INT, "select" INT, PRIMARY KEY ("order no", "select"));'
        "CREATE TABLE t (a INT, b INT, "
        "FOREIGN KEY (a, b) REFERENCES 'the order' ('order no', \"select\"));"
    )
    again = [create_statement(table, "sqlite") for table in read_ddl(text)]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(f"PRAGMA foreign_keys = ON; {';'.join(again)};")
        connection.execute('INSERT INTO "the order" VALUES (1, 2)')
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT INTO t VALUES (3, 4)")


def test_a_query_that_makes_a_table_is_not_run():
    forever = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c"
    assert read_ddl(f"CREATE TABLE t AS {forever}")[0].columns == ()


def test_views_are_known_as_such():
    found = read_ddl("CREATE TABLE t (a INT); CREATE VIEW v (x) AS SELECT a FROM t")
    assert [table.is_view for table in found] == [False, True]


SQLITE_KEYWORDS = """
abort action add after all alter always analyze and as asc attach autoincrement before begin between by
cascade case cast check collate column commit conflict constraint create cross current current_date
current_time current_timestamp database default deferrable deferred delete desc detach distinct do drop each
else end escape except exclude exclusive exists explain fail false filter first following for foreign from
full generated glob group groups having if ignore immediate in index indexed initially inner insert instead
intersect into is isnull join key last left like limit match materialized natural no not nothing notnull
null nulls of offset on or order others outer over partition plan pragma preceding primary query raise range
recursive references regexp reindex release rename replace restrict returning right rollback row rows
savepoint select set table temp temporary then ties to transaction trigger true unbounded union unique
update using vacuum values view virtual when where window with without
"""
"""As https://sqlite.org/lang_keywords.html has them, and its two truth values."""


@pytest.fixture(params=["sqlite", "duckdb", "postgres"])
def keywords(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[str, list[str], Callable[[str], Any]]]:
    """A dialect, the words that may mean something else to its engine than a name, and the engine."""
    if request.param == "sqlite":
        with closing(sqlite3.connect(":memory:")) as connection:
            yield "sqlite", SQLITE_KEYWORDS.split(), connection.execute
        return
    if request.param == "duckdb":
        opened = pytest.importorskip("duckdb").connect(":memory:")
        words = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
    else:
        server = request.getfixturevalue("server")
        opened = pytest.importorskip("psycopg").connect(server.url("writer"), autocommit=True)
        words = "SELECT word FROM pg_get_keywords() WHERE catcode <> 'U'"
    with closing(opened) as connection:
        found = [word for (word,) in connection.execute(words).fetchall()]
        yield request.param, found, connection.execute


def test_a_name_that_is_a_keyword_is_written_so_that_it_is_read_as_a_name(keywords):
    dialect, words, execute = keywords
    assert len(words) > 50
    misread = []
    for word in words:
        execute(f'CREATE TEMPORARY TABLE "{word}" ("{word}" INTEGER)')
        execute(f'INSERT INTO "{word}" VALUES (7)')
        name = name_in_sql(exp.to_identifier(word, quoted=True), dialect)
        try:
            found = execute(f"SELECT {name}, t.{name} FROM {name} AS t WHERE {name} = 7").fetchall()
        except Exception as problem:
            found = problem
        execute(f'DROP TABLE "{word}"')
        if found != [(7, 7)]:
            misread.append((word, found))
    assert misread == []
