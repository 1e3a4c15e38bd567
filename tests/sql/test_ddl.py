"""Tables of CREATE statements, as SQLite takes them."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from qc_experiments.sql.ddl import create_statement, read_ddl

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
