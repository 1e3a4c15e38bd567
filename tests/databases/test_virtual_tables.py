"""JSON, table-valued functions, full-text search and R-trees are read; a schema may call what a query may."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from helpers.schemas import read_schema

from qc_experiments.databases.engine import Execution, Limits
from qc_experiments.databases.pool import SqlPool
from qc_experiments.databases.sqlite import empty_database
from qc_experiments.databases.sqlite import run as run_here
from qc_experiments.databases.sqlite_rights import SHADOWS

SCHEMA = """
CREATE TABLE js (d TEXT);
INSERT INTO js VALUES ('{"a": [1, 2]}');
CREATE TABLE city (id INTEGER PRIMARY KEY, name TEXT REFERENCES js (d));
INSERT INTO city VALUES (1, 'Rome by night');
CREATE VIRTUAL TABLE old USING fts3 (body);
CREATE VIRTUAL TABLE letter USING fts4 (body, tokenize=porter);
CREATE VIRTUAL TABLE "my notes" USING fts5 (body, tokenize='porter unicode61');
CREATE VIRTUAL TABLE "x USING fts5 y" /* using */ USING rtree (id, low, high);
CREATE VIRTUAL TABLE words USING fts5vocab ("my notes", row);
CREATE VIRTUAL TABLE terms USING fts4aux (letter);
CREATE VIRTUAL TABLE outside USING fts5 (name, content=city, content_rowid=id);
INSERT INTO old VALUES ('one day');
INSERT INTO letter VALUES ('one day');
INSERT INTO "my notes" VALUES ('one day');
INSERT INTO "x USING fts5 y" VALUES (7, 1, 2);
INSERT INTO outside (outside) VALUES ('rebuild');
CREATE VIEW flat AS SELECT value FROM js, json_each(js.d, '$.a');
CREATE VIEW found AS SELECT body FROM "my notes" WHERE "my notes" MATCH 'one';
CREATE INDEX by_name ON city (name);
"""

READ = {
    "SELECT value FROM js, json_each(js.d, '$.a')": [(1,), (2,)],
    "SELECT fullkey FROM js, json_tree(js.d) WHERE atom = 2": [("$.a[1]",)],
    "SELECT value FROM flat ORDER BY 1 DESC": [(2,), (1,)],
    "SELECT name FROM pragma_table_info('city')": [("id",), ("name",)],
    "SELECT m.name, c.name FROM sqlite_master m, pragma_table_xinfo(m.name) c WHERE m.name = 'js'": [
        ("js", "d")
    ],
    "SELECT name FROM pragma_index_list('city')": [("by_name",)],
    "SELECT name FROM pragma_index_info('by_name')": [("name",)],
    'SELECT "table", "to" FROM pragma_foreign_key_list(\'city\')': [("js", "d")],
    "SELECT name FROM pragma_table_list WHERE name LIKE 'c%'": [("city",)],
    "PRAGMA table_info(js)": [(0, "d", "TEXT", 0, None, 0)],
    "SELECT user_version FROM pragma_user_version": [(0,)],
    "SELECT body FROM old WHERE body MATCH 'day'": [("one day",)],
    "SELECT snippet(letter) FROM letter WHERE letter MATCH 'days'": [("one <b>day</b>",)],
    "SELECT count(*) FROM letter": [(1,)],
    "SELECT highlight(\"my notes\", 0, '<', '>') FROM \"my notes\" ('ones') ORDER BY rank": [
        ("<one> day",)
    ],
    "SELECT body FROM found": [("one day",)],
    "SELECT name FROM outside ('rome')": [("Rome by night",)],
    "SELECT term FROM words ORDER BY 1": [("dai",), ("on",)],
    "SELECT term FROM terms WHERE col = '*' ORDER BY 1": [("dai",), ("on",)],
    'SELECT id FROM "x USING fts5 y" WHERE low < 2': [(7,)],
    "SELECT min(name) FROM dbstat WHERE name = 'city'": [("city",)],
    "SELECT token FROM fts3tokenize WHERE input = 'ab cd'": [("ab",), ("cd",)],
}

CALLING = {
    "a generated column": "CREATE TABLE a (d TEXT, k AS (json_extract(d, '$.k')))",
    "a stored column": "CREATE TABLE a (d TEXT, k AS (json_extract(d, '$.k')) STORED)",
    "an index": "CREATE TABLE a (d TEXT); CREATE INDEX i ON a (json_extract(d, '$.k'))",
    "a partial index": "CREATE TABLE a (d TEXT); CREATE INDEX i ON a (d) WHERE json_valid(d)",
    "a constraint": "CREATE TABLE a (d TEXT CHECK (json_valid(d)))",
    "a default": "CREATE TABLE a (d TEXT, k DEFAULT (json_array(1)))",
    "a trigger": "CREATE TABLE a (d TEXT); CREATE TRIGGER t AFTER INSERT ON a "
    "BEGIN SELECT json_extract(new.d, '$.k'); END",
    "a view": "CREATE TABLE a (d TEXT); "
    "CREATE VIEW v AS SELECT upper(d), json_extract(d, '$.k') AS k FROM a",
}


@pytest.fixture(scope="module")
def pool() -> Iterator[SqlPool]:
    with SqlPool(1) as made:
        yield made


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("one"), SCHEMA)


def made(folder: Path, script: str) -> Path:
    path = folder / "x.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


def ask(pool: SqlPool, path: Path, sql: str) -> Execution:
    found = pool.run("sqlite", str(path), sql, Limits())
    assert found is not None
    return found


@pytest.mark.parametrize("sql", READ)
def test_virtual_tables_are_read_and_nothing_is_written(pool, database, sql):
    before = database.read_bytes()
    found = ask(pool, database, sql)
    assert found.rows == READ[sql], found.error
    assert database.read_bytes() == before
    assert [path.name for path in database.parent.iterdir()] == ["x.sqlite"]


@pytest.mark.parametrize("case", CALLING)
def test_a_schema_that_calls_json_functions_keeps_nothing_from_being_read(pool, tmp_path, case):
    path = made(
        tmp_path,
        f"{CALLING[case]}; INSERT INTO a (d) VALUES ('{{\"k\": 3}}'); CREATE TABLE b (x);"
        "INSERT INTO b VALUES (5);",
    )
    assert ask(pool, path, "SELECT x FROM b").rows == [(5,)]
    assert ask(pool, path, "SELECT json_extract(d, '$.k') FROM a").rows == [(3,)]
    if "AS k" in CALLING[case] or " k AS" in CALLING[case]:
        table = "v" if "VIEW" in CALLING[case] else "a"
        assert ask(pool, path, f"SELECT k FROM {table}").rows == [(3,)]


def test_the_context_of_a_row_may_hold_such_a_schema():
    from qc_experiments.databases.sqlite import run_on_schema

    for schema in (CALLING["a generated column"], "CREATE VIRTUAL TABLE a USING fts5 (d);"):
        found = run_on_schema(schema, "SELECT d FROM a", Limits())
        assert found is not None
        assert found.rows == [], found.error


@pytest.mark.parametrize(
    "call", ["load_extension('x')", "fts3_tokenizer('simple')", "readfile('x')"]
)
@pytest.mark.parametrize(
    "forged",
    [
        "CREATE TABLE a (d, k AS ({}))",
        "CREATE TABLE a (d CHECK ({}))",
        "CREATE VIEW a AS SELECT {} d",
    ],
)
def test_a_forged_schema_cannot_call_what_is_dangerous(pool, tmp_path, call, forged):
    """SQLite would refuse to make it; a hostile file just holds it."""
    path = made(tmp_path, "CREATE TABLE a (d); INSERT INTO a VALUES (1); CREATE TABLE b (x);")
    sql = forged.format(call)
    with closing(sqlite3.connect(path)) as connection:
        kind = "view" if "VIEW" in sql else "table"
        root = ", rootpage = 0" if kind == "view" else ""
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            f"UPDATE sqlite_master SET sql = ?, type = ?{root} WHERE name = 'a'", (sql, kind)
        )
        connection.commit()
    for query in ("SELECT * FROM a", "SELECT count(*) FROM a"):
        found = ask(pool, path, query)
        assert found.rows in (None, [(1,)]), found  # a constraint is not looked at in reading
        if found.rows is None:
            assert found.error_class in ("forbidden", "no_such_function", "other"), found


@pytest.mark.parametrize("module", ["csv(filename='/etc/passwd')", "sqlite_stmt", "fsdir('/')"])
def test_other_kinds_of_virtual_tables_are_not_opened(pool, tmp_path, module):
    path = made(
        tmp_path,
        "CREATE TABLE b (x); INSERT INTO b VALUES (5); PRAGMA writable_schema = ON;"
        "INSERT INTO sqlite_master VALUES ('table', 'a', 'a', 0, "
        f"'CREATE VIRTUAL TABLE a USING {module.replace(chr(39), chr(39) * 2)}');",
    )
    assert ask(pool, path, "SELECT * FROM a").rows is None
    assert ask(pool, path, "SELECT x FROM b").rows == [(5,)]


@pytest.mark.parametrize("table", ["my notes_data", "letter_segdir", "x USING fts5 y_node"])
def test_broken_tables_behind_a_virtual_one_are_an_error_of_their_own(pool, tmp_path, table):
    path = made(tmp_path, SCHEMA)
    with closing(sqlite3.connect(path)) as connection:
        columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
        changes = ", ".join(f"\"{name}\" = x'ff00ffff'" for name in columns[1:])
        connection.execute(f'UPDATE "{table}" SET {changes}')
        connection.commit()
    for sql in READ:
        found = ask(pool, path, sql)
        assert found.rows is not None or found.error_class != "forbidden", found
    assert ask(pool, path, "SELECT id FROM city").rows == [(1,)]


def test_a_write_is_forbidden_after_a_virtual_table_was_connected(database):
    """What a virtual table may prepare while it is connected, no statement may."""
    for sql in (
        "INSERT INTO letter SELECT value FROM json_each('[1]')",
        'DELETE FROM "x USING fts5 y_node" WHERE nodeno IN (SELECT id FROM "x USING fts5 y")',
        "UPDATE sqlite_master SET sql = (SELECT value FROM json_each('[1]'))",
    ):
        assert run_here(str(database), sql, Limits()).error_class == "forbidden"


def test_shadow_tables_are_those_that_sqlite_calls_so(database):
    if sqlite3.sqlite_version_info < (3, 37):
        pytest.skip("this SQLite does not list them")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            "CREATE TABLE old_archive (x); CREATE TABLE letter_data (x); CREATE TABLE outside_stat (x);"
            "CREATE VIRTUAL TABLE Whole USING rtree_i32 (i, a, b);"
        )
        listed = connection.execute(
            "SELECT lower(name) FROM pragma_table_list WHERE type = 'shadow'"
        )
        names = connection.execute("SELECT lower(name) FROM sqlite_master")
        ours = set(connection.execute(SHADOWS)) & set(names)
        assert ours == set(listed)
        assert len(ours) > 20


def test_a_context_runs_again_with_its_views_and_virtual_tables(tmp_path):
    path = made(tmp_path, SCHEMA.replace("'one';", "'one' -- the end\n;"))
    context = read_schema(str(path))
    assert "notes_data" not in context
    assert "CREATE VIEW found" in context
    again = empty_database(context)
    assert again is not None
    with closing(again), closing(sqlite3.connect(path)) as first:
        names = "SELECT type, name FROM sqlite_master WHERE type <> 'index' ORDER BY 1, 2"
        assert again.execute(names).fetchall() == first.execute(names).fetchall()
