"""`qc data check` finds what is wrong with a query, and says nothing of what it could not look at."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing

import pytest

from qc_experiments.cli import data as command

CITY = "CREATE TABLE city (code TEXT PRIMARY KEY, name TEXT, pop INTEGER) WITHOUT ROWID;"
SHOP = "CREATE TABLE shop (id INTEGER PRIMARY KEY, nm TEXT, city TEXT, tags TEXT, rev REAL, status TEXT);"
WIDE = f"CREATE TABLE wide (id INTEGER, {', '.join(f'c{n} TEXT' for n in range(80))});"
LETTERS = "".join(map(chr, (*range(0x3B1, 0x3C2), *range(0x430, 0x450), *range(0x561, 0x587))))
"""Lower case, of three scripts."""
CONTENT = f"""
{CITY}{SHOP}{WIDE}
INSERT INTO city VALUES ('BER', 'Berlin', 3600000), ('MUC', 'München', 1500000);
INSERT INTO shop VALUES (1, 'Apfel', 'BER', '["a"]', 10.5, 'OPEN'), (2, 'Brot', 'MUC', '["b"]', 20, 'SHUT'),
    (3, 'Chic', 'MUC', '[]', 20, 'OPEN');
CREATE VIEW open_shop AS SELECT id, nm, city AS place FROM shop WHERE status = 'OPEN';
CREATE VIRTUAL TABLE doc USING fts5(title, body);
INSERT INTO doc VALUES ('Alpha', 'words');
INSERT INTO wide (id, c70) VALUES (1, 'NEEDLE');
CREATE TABLE kind (name TEXT COLLATE NOCASE);
INSERT INTO kind VALUES ('Bakery');
CREATE TABLE word (it TEXT);
INSERT INTO word VALUES ('Straße [*?] - %_'), ('{LETTERS}');
"""


@pytest.fixture
def kinds(check, tmp_path):
    """The kinds of faults of one row, on the database or, given one, its context alone."""
    database = tmp_path / "shop.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(CONTENT)

    def kinds_of(query, question="Which?", context=None, databases=database):
        rows = tmp_path / "rows.csv"
        header = ["question", "query", *(["context"] if context else [])]
        with rows.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, [question, query, *([context] if context else [])]])
        found = tmp_path / "found.json"
        given = [] if databases is None else ["--databases", str(databases)]
        _, out = check(rows, *given, "--json", found)
        plain = {fault["kind"]: fault["what"] for fault in json.loads(found.read_text())["faults"]}
        lost = "not_in_context" in plain and databases is None
        runs = not lost and plain.keys().isdisjoint({"query_fails", "not_tried", "not_sql"})
        assert ("every query runs" in out) == runs
        return plain

    return kinds_of


@pytest.mark.parametrize(
    "query",
    [
        "SELECT DISTINCT value FROM shop, json_each(shop.tags)",
        "SELECT name FROM pragma_table_info('shop')",
        "SELECT name FROM sqlite_master WHERE type = 'table'",
        "SELECT column1 FROM (VALUES (1), (2))",
        "SELECT name FROM city WHERE code = 'BER'",
        "SELECT nm FROM open_shop WHERE place = 'BER'",
        "SELECT body FROM doc WHERE title = 'Alpha'",
        "SELECT id FROM wide WHERE c70 = 'NEEDLE'",
        "SELECT nm FROM shop WHERE nm LIKE '_rot'",
        "SELECT nm FROM shop WHERE rev > 12 OR city < 'N'",
        "SELECT g FROM (SELECT CASE WHEN rev > 15 THEN 'rich' END AS g FROM shop) WHERE g = 'rich'",
        "SELECT count(*) FROM kind WHERE name = 'bakery'",
        "SELECT count(*) FROM shop LIMIT 1",
        "SELECT nm FROM shop WHERE id = 1 LIMIT 1",
        "SELECT nm, rev / s FROM shop, (SELECT sum(rev) AS s FROM shop)",
        "SELECT s.nm, c.name FROM shop s CROSS JOIN city c",
        "SELECT a.rev - b.rev FROM shop a, shop b WHERE a.nm = 'Apfel' AND b.nm = 'Brot'",
        "SELECT nm FROM shop NATURAL JOIN (SELECT code AS city, name FROM city)",
        "SELECT count(*) FROM shop, city WHERE city = code",
        "SELECT count(*) FROM (SELECT nm FROM shop LIMIT 2)",
        "SELECT city FROM shop WHERE id IN (SELECT id FROM shop ORDER BY rev DESC LIMIT 1)",
        "SELECT count(*) FROM shop WHERE nm = 'TODO' OR id = 1",
    ],
)
def test_a_query_that_is_in_order_has_no_faults(kinds, query):
    asked = "Which [name] of the TODO list is it???"
    assert kinds(query, asked) == {}


@pytest.mark.parametrize(
    ("query", "kind", "what"),
    [
        ("SELECT count(*) FROM shop, city WHERE shop.rev > 1", "cross_join", ""),
        ("SELECT count(*) FROM shop JOIN city", "cross_join", ""),
        ("SELECT nm FROM shop LIMIT 2", "limit_without_order", ""),
        (
            "SELECT nm FROM shop WHERE id = (SELECT id FROM shop ORDER BY rev DESC LIMIT 1)",
            "tie",
            "",
        ),
        ("SELECT id FROM shop WHERE city = 'BRN' OR id = 1", "unknown_literal", "BRN"),
        ("SELECT nm FROM shop WHERE nm LIKE '_rott' OR id = 1", "unknown_literal", "_rott"),
        ("SELECT code FROM city WHERE name = 'MÜNCHEN' OR pop > 1", "literal_case", "MÜNCHEN"),
        ("SELECT count(*) FROM shop WHERE city = 'muc'", "literal_case", "muc"),
        (
            "SELECT count(*) FROM word WHERE it = 'STRAßE [*?] - %_'",
            "literal_case",
            "STRAßE [*?] - %_",
        ),
        ("SELECT count(*) FROM word WHERE it = 'straße [*?]'", "unknown_literal", "straße [*?]"),
        ("SELECT count(*) FROM word WHERE it LIKE '%Б__Д%ՖՖ'", "unknown_literal", "%Б__Д%ՖՖ"),
        ("SELECT count(*) FROM word WHERE it LIKE '%Б__Д%Ֆ'", "literal_case", "%Б__Д%Ֆ"),
        (
            f"SELECT count(*) FROM word WHERE it = '{LETTERS.upper()}'",
            "literal_case",
            LETTERS.upper(),
        ),
        (
            "SELECT zzz FROM shop",
            "query_fails",
            "its database (no_such_column: no such column: zzz)",
        ),
        ("SELECT nm FROM shop WHERE nm ILIKE 'x'", "query_fails", None),
    ],
)
def test_what_is_wrong_on_the_database_is_found(kinds, query, kind, what):
    found = kinds(query)
    assert found.keys() == {kind}
    assert what is None or found[kind] == what


def test_what_stands_in_the_database_but_not_in_the_context_is_named(kinds):
    assert kinds("SELECT rev FROM shop", context="CREATE TABLE shop (id INT)") == {
        "not_in_context": "rev"
    }
    assert kinds("SELECT pop FROM city", context=SHOP) == {"not_in_context": "city"}
    assert kinds("SELECT rev FROM shop", context="shop(rev)") == {}


@pytest.mark.parametrize(
    ("query", "context"),
    [
        ("SELECT value FROM shop, json_each(shop.tags)", SHOP),
        ("SELECT rank FROM doc WHERE doc MATCH 'x'", "CREATE VIRTUAL TABLE doc USING fts5(a, b)"),
        ("SELECT column1 FROM (VALUES (1), (2))", SHOP),
        ("SELECT name FROM sqlite_master", SHOP),
        ("SELECT nm FROM shop WHERE id = 1 LIMIT 1", SHOP),
    ],
)
def test_a_query_that_runs_on_its_context_lacks_nothing(kinds, query, context):
    assert kinds(query, context=context, databases=None) == {}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM shop WHERE nm ILIKE 'x'",
        "SELECT date_trunc('month', nm) FROM shop",
        "SELECT timestampdiff(YEAR, nm, tags) FROM shop",
        "SELECT n FROM generate_series(1, 3) AS t(n)",
        "SELECT table_name FROM information_schema.tables",
        "SELECT rev + 1 AS more, more * 2 FROM shop",
    ],
)
def test_sql_of_another_engine_is_not_tried_where_there_is_no_database(kinds, query):
    assert kinds(query, context=SHOP, databases=None).keys() == {"not_tried"}


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("SELEC id FRM shop", "not_sql"),
        ("SELECT owner FROM shop", "not_in_context"),
        ("SELECT id FROM owner", "not_in_context"),
        ("SELECT id FROM shop LIMIT 2", "limit_without_order"),
    ],
)
def test_what_a_context_alone_shows_to_be_wrong_is_found(kinds, query, kind):
    assert kinds(query, context=SHOP, databases=None).keys() == {kind}


def test_an_engine_without_databases_is_refused(tmp_path, capsys):
    rows = tmp_path / "rows.csv"
    rows.write_text('question,query,context\nq,SELECT 1,"CREATE TABLE t (a INT)"\n')
    with pytest.raises(SystemExit) as stopped:
        command.main(["check", str(rows), "--engine", "postgresql"])
    assert stopped.value.code == 2
    assert "--engine goes with --databases" in capsys.readouterr().err


def test_duckdbs_errors_are_one_line_and_its_own_sources_no_faults(kinds, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "it.duckdb"
    with closing(duckdb.connect(str(path))) as connection:
        connection.execute(
            "CREATE TABLE t (id INTEGER, l INTEGER[], st STRUCT(a INTEGER));"
            "INSERT INTO t VALUES (1, [1], {'a': 1})"
        )
    for query in (
        *(
            "SELECT range FROM range(10)",
            "SELECT st.a FROM t",
            "SELECT u FROM t, unnest(l) AS x(u)",
        ),
        "SELECT table_name FROM information_schema.tables",
    ):
        assert kinds(query, databases=path) == {}
    found = kinds("SELECT idd FROM t", databases=path)
    assert found.keys() == {"query_fails"}
    assert "\n" not in found["query_fails"]
