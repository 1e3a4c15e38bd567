"""Running SQL that a model wrote on DuckDB: it only reads, it ends, and cells become values."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.schemas import read_schema

from qc_experiments.data.table import Row
from qc_experiments.databases.duckdb import run
from qc_experiments.databases.engine import ERROR_CLASSES, Limits
from qc_experiments.databases.locate import Database, Databases, named_database
from qc_experiments.errors import UserError
from qc_experiments.judging.judge import Judge

duckdb = pytest.importorskip("duckdb")

SHORT = Limits(seconds=1.0, rows=5_000, bytes=1_000_000)
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A database between files that it must not read, in a folder where it must not write."""
    folder = tmp_path_factory.mktemp("it's a folder")
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE author (id INTEGER PRIMARY KEY, name VARCHAR NOT NULL);"
            "CREATE TABLE book (id INTEGER, author_id INTEGER REFERENCES author (id),"
            " price DECIMAL(8, 2), sold TIMESTAMP WITH TIME ZONE);"
            "CREATE SCHEMA store; CREATE TABLE store.shelf (tags VARCHAR[]);"
            "CREATE VIEW cheap AS SELECT * FROM book WHERE price < 5;"
            "CREATE SEQUENCE counter;"
            "INSERT INTO author VALUES (1, 'Ada'), (2, 'Bob'), (3, 'Cleo');"
            "INSERT INTO book VALUES (1, 1, 2.50, NULL), (2, 1, 7.00, NULL);"
        )
    with duckdb.connect(str(folder / "other.duckdb")) as connection:
        connection.execute("CREATE TABLE secret AS SELECT 'hidden' AS word")
    (folder / "secret.csv").write_text("word\nhidden\n")
    return folder


@pytest.fixture(scope="module")
def database(folder: Path) -> str:
    return str(folder / "shop.duckdb")


def state(folder: Path) -> dict[str, str]:
    """What stands in a folder, by name and content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_query_returns_its_rows_and_columns(database):
    found = run(database, "SELECT id, name AS called FROM author WHERE id < 3", Limits())
    assert found.rows == [(1, "Ada"), (2, "Bob")]
    assert found.columns == ("id", "called")
    assert (found.error, found.error_class, found.warning) == (None, None, None)
    assert 0 < found.seconds < 5


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT 1;", [(1,)]),
        ("SELECT 1; -- done", [(1,)]),
        ("  \n/* it's first */ SELECT 1;;", [(1,)]),
        ("SELECT id FROM author WHERE id > 9", []),
        ("SELECT name FROM author ORDER BY name DESC", [("Cleo",), ("Bob",), ("Ada",)]),
        ("WITH a AS (SELECT 2 AS x) SELECT x, x FROM a", [(2, 2)]),
        (f"{ENDLESS} SELECT x FROM n LIMIT 2", [(1,), (2,)]),
        ("VALUES (1, 'a'), (2, NULL)", [(1, "a"), (2, None)]),
        ("FROM cheap SELECT id, price", [(1, 2.5)]),
        ("SELECT count(*) FROM store.shelf", [(0,)]),
        ("SELECT '100%' WHERE 'abc' LIKE 'a%'", [("100%",)]),
    ],
)
def test_what_only_reads_runs(database, sql, rows):
    assert run(database, sql, SHORT).rows == rows


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("true", 1),
        ("7::UTINYINT", 7),
        ("170141183460469231731687303715884105727::HUGEINT", 2**127 - 1),
        ("1.5::FLOAT", 1.5),
        ("2.50::DECIMAL(8, 2)", 2.5),
        ("7.00::DECIMAL(8, 2)", 7),
        ("'é'", "é"),
        ("'a'::ENUM ('a', 'b')", "a"),
        ("'\\xFF'::BLOB", b"\xff"),
        ("DATE '2024-02-29'", "2024-02-29"),
        ("TIME '01:02:03.5'", "01:02:03.500000"),
        ("TIMESTAMP '2024-02-29 01:02:03'", "2024-02-29T01:02:03"),
        ("(TIMESTAMPTZ '2024-02-29 01:02:03+00')::TIMESTAMP IS NULL", 0),
        ("INTERVAL '1 month 1 hour'", "30 days, 1:00:00"),
        ("UUID '00000000-0000-0000-0000-0000000000ff'", "00000000-0000-0000-0000-0000000000ff"),
        ("[1, NULL, 2]", "[1, NULL, 2]"),
        ("{'a': 'it''s', 'b': DATE '2024-02-29'}", "{'a': 'it\\'s', 'b': 2024-02-29}"),
        ("MAP {'a': [1.5]}", "{a=[1.5]}"),
        ("array_value(1, 2)", "[1, 2]"),
        ("union_value(x := 1)", "1"),
        ("'101'::BIT", "101"),
        ("'{\"a\": 1}'::JSON", '{"a": 1}'),
        ("NULL", None),
    ],
)
def test_a_cell_becomes_a_value(database, sql, value):
    found = run(database, f"SELECT {sql} AS cell", SHORT)
    assert found.rows == [(value,)], found.error
    assert [type(cell) for cell in found.rows[0]] == [type(value)]


def test_not_a_number_stays_what_it_is(database):
    ((cell,),) = run(database, "SELECT 'nan'::DOUBLE", SHORT).rows
    assert math.isnan(cell)


def test_a_time_with_a_zone_is_read_without_pytz(database):
    found = run(database, "SELECT id, now() AS at, now() AS at FROM author ORDER BY id DESC", SHORT)
    assert [row[0] for row in found.rows] == [3, 2, 1]  # in the order asked for
    assert found.columns == ("id", "at", "at")
    assert found.rows[0][1] == found.rows[0][2]
    assert found.rows[0][1][10] == "T"


@pytest.mark.parametrize(
    ("sql", "error_class"),
    [
        ("SELEC 1", "syntax"),
        ("Here is the query: SELECT 1", "syntax"),
        ("SELECT 'a", "syntax"),
        ("SELECT '\ud800'", "syntax"),
        ("SELECT * FROM nosuch", "no_such_table"),
        ("SELECT * FROM nosuch.author", "no_such_table"),
        ("SELECT nosuch FROM author", "no_such_column"),
        ("SELECT a.nosuch FROM author a", "no_such_column"),
        ("SELECT id FROM author, book", "ambiguous_column"),
        ("SELECT nosuch(1)", "no_such_function"),
        ("SELECT name::INTEGER FROM author", "type"),
        ("SELECT sum(name) FROM author", "type"),
        ("SELECT 1::nosuch", "type"),
        ("SELECT 9223372036854775807 + 1", "type"),
        ("DELETE FROM author", "forbidden"),
        ("PIVOT author ON name USING count(*)", "forbidden"),
        ("", "not_a_query"),
        (" ; -- nothing", "not_a_query"),
        ("SELECT 1; SELECT 2", "not_a_query"),
        ("SELECT max(range) FROM range(1000000000000)", "timeout"),
        ("SELECT list(repeat('x', 1000000)) FROM range(3000)", "memory"),
        (f"{ENDLESS} SELECT x FROM n", "result_too_large"),
        ("SELECT repeat('x', 1000) FROM range(2000)", "result_too_large"),
        ("SELECT id, count(*) FROM author", "other"),
        ("SELECT INTERVAL '100000000 years'", "other"),
        ("SELECT ?", "other"),
    ],
)
def test_each_failure_has_its_class(database, sql, error_class):
    seconds = 1 if error_class == "timeout" else 30
    found = run(database, sql, Limits(seconds, SHORT.rows, SHORT.bytes))
    assert found.error_class == error_class, found.error
    assert found.error_class in ERROR_CLASSES
    assert found.rows is None
    assert found.error
    assert "LINE 1" not in found.error


def test_a_result_ends_at_its_limits_and_not_before(database):
    limits = Limits(seconds=5, rows=100, bytes=10_000)
    assert len(run(database, "SELECT range FROM range(100)", limits).rows) == 100
    assert run(database, "SELECT range FROM range(101)", limits).error == "more than 100 rows"
    assert len(run(database, "SELECT repeat('x', 100) FROM range(100)", limits).rows) == 100
    found = run(database, "SELECT repeat('x', 101) FROM range(100)", limits)
    assert found.error == "more than 10000 bytes"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT max(range) FROM range(1000000000000)",  # nothing comes
        "SELECT range FROM range(1000000000000)",  # rows come, on and on
        "SELECT [range] FROM range(1000000000000)",  # and are turned to text
    ],
)
def test_a_statement_ends_when_its_time_is_over(database, sql):
    started = time.perf_counter()
    found = run(database, sql, Limits(seconds=0.3, rows=10**9, bytes=10**12))
    assert found.error_class == "timeout", found.error
    assert 0.25 <= found.seconds < 8  # its own clock may be a little ahead
    assert time.perf_counter() - started < 10


ATTACKS = [
    "INSERT INTO author VALUES (9, 'x')",
    "UPDATE author SET name = 'x'",
    "DELETE FROM book",
    "DROP TABLE author",
    "TRUNCATE author",
    "CREATE TABLE loot (a INTEGER)",
    "CREATE TEMP TABLE loot AS SELECT 1",
    "CREATE MACRO name(x) AS 1",
    "WITH gone AS (DELETE FROM book RETURNING *) SELECT * FROM gone",
    "SELECT 1; DROP TABLE author",
    "SELECT 1; COMMIT; DELETE FROM book",
    "BEGIN",
    "COMMIT",
    "SELECT nextval('counter')",
    "COPY author TO '{folder}/loot.csv'",
    "COPY (SELECT 1) TO PROGRAM 'touch {folder}/loot'",
    "COPY author FROM '{folder}/secret.csv'",
    "EXPORT DATABASE '{folder}/loot'",
    "IMPORT DATABASE '{folder}'",
    "SELECT * FROM read_csv('{folder}/secret.csv')",
    "SELECT * FROM '{folder}/secret.csv'",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('{folder}/*')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM sniff_csv('{folder}/secret.csv')",
    "SELECT * FROM parquet_metadata('{folder}/secret.csv')",
    "SELECT * FROM read_json('http://127.0.0.1:9/x')",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query('DROP TABLE author')",
    "SELECT * FROM read_duckdb('{folder}/other.duckdb', table_name = 'secret')",
    "SELECT * FROM '{folder}/other.duckdb'",
    "ATTACH '{folder}/other.duckdb' AS other",
    "ATTACH '{folder}/loot.duckdb' AS loot",
    "DETACH shop",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SELECT * FROM duckdb_extensions()",
    "SELECT * FROM duckdb_secrets()",
    "CREATE SECRET s (TYPE s3)",
    "SET memory_limit = '100GB'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE p AS DELETE FROM author",
    "EXPLAIN ANALYZE DELETE FROM author",
    "SELECT getenv('HOME')",
    "SELECT * FROM folder",
    "SELECT * FROM pandas_scan(4096)",
    "SELECT * FROM arrow_scan(4096, 4096, 4096)",
    "SELECT list(range) FROM range(1000000000)",
    "SELECT string_agg(repeat('x', 1000000), '') FROM range(3000)",
    "SELECT count(*) FROM (SELECT DISTINCT range FROM range(1000000000))",
    "SELECT * FROM range(1000000000) ORDER BY hash(range)",
    "SELECT repeat('x', 1000000) FROM range(100)",
    "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c",
    f"{ENDLESS} SELECT max(x) FROM n",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_changes_and_reveals_nothing(folder, database, attack):
    before = state(folder)
    found = run(database, attack.replace("{folder}", str(folder).replace("'", "''")), SHORT)
    assert found.rows is None
    assert found.error_class in ERROR_CLASSES
    assert "hidden" not in str(found.error)
    assert state(folder) == before
    assert run(database, "SELECT count(*) FROM author", SHORT).rows == [(3,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT write_log('x')",
        "FROM enable_logging()",
        "PRAGMA database_list",
        "FROM duckdb_settings()",
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    ],
)
def test_what_a_query_may_call_leaves_no_trace(folder, database, sql):
    before = state(folder)
    run(database, sql, SHORT)
    assert state(folder) == before
    assert run(database, "SELECT count(*) FROM author", SHORT).rows == [(3,)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")
def test_a_process_with_a_memory_limit_survives_rows_that_exceed_it(database):
    script = f"""
import resource
from qc_experiments.databases.duckdb import run
from qc_experiments.databases.engine import Limits
run({database!r}, "SELECT 1", Limits())
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 600_000_000,) * 2)
print(run({database!r}, "SELECT repeat('x', 10000000) FROM range(10000)", Limits()).error_class)
print(run({database!r}, "SELECT range(100000000)", Limits()).error_class)
print(run({database!r}, "SELECT 42", Limits()).rows)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == ["memory", "memory", "[(42,)]"], done.stderr


def test_the_schema_is_what_a_prompt_needs(database):
    assert read_schema(database).splitlines() == [
        'CREATE TABLE author(id INTEGER PRIMARY KEY, "name" VARCHAR NOT NULL);',
        "CREATE TABLE book(id INTEGER, author_id INTEGER, price DECIMAL(8,2), "
        "sold TIMESTAMP WITH TIME ZONE, FOREIGN KEY (author_id) REFERENCES author(id));",
        "CREATE TABLE store.shelf(tags VARCHAR[]);",
        "CREATE VIEW cheap AS SELECT * FROM book WHERE (price < 5);",
    ]


@pytest.mark.parametrize("name", ["copy.db", "copy"])
def test_a_file_of_another_suffix_is_known_by_its_content(database, tmp_path, name):
    (tmp_path / name).write_bytes(Path(database).read_bytes())
    assert named_database(str(tmp_path / name), "db").engine == "duckdb"


def content_hash(path: str) -> str:
    return Database("duckdb", path).content_hash()


def test_the_content_hash_is_of_the_files_bytes(database, tmp_path):
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(Path(database).read_bytes())
    assert content_hash(str(copy)) == content_hash(database)
    with duckdb.connect(str(copy)) as connection:
        connection.execute("INSERT INTO author VALUES (4, 'Dan')")
    assert content_hash(str(copy)) != content_hash(database)


def test_the_content_hash_counts_changes_that_stand_in_the_log(database, tmp_path):
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(Path(database).read_bytes())
    script = (
        f"import duckdb, os; c = duckdb.connect({str(copy)!r}); "
        "c.execute(\"INSERT INTO author VALUES (4, 'Dan')\"); os._exit(0)"  # without a checkpoint
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert Path(f"{copy}.wal").exists()
    assert content_hash(str(copy)) != content_hash(database)
    assert run(str(copy), "SELECT count(*) FROM author", SHORT).rows == [(4,)]


def test_what_is_no_database_is_the_users_to_mend(folder, tmp_path):
    text = tmp_path / "text.duckdb"
    text.write_text("no database " * 1000)
    for target in (str(tmp_path / "missing.duckdb"), str(text), str(folder)):
        for use in (
            lambda path: run(path, "SELECT 1", SHORT),
            lambda path: read_schema(path),
        ):
            with pytest.raises(UserError) as caught:
                use(target)
            assert target in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.duckdb"]


def test_a_missing_library_names_what_to_install(database, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(UserError, match=r"pip install 'qc_experiments\[duckdb\]'"):
        run(database, "SELECT 1", SHORT)


def test_predictions_are_judged_on_duckdb_files(tmp_path, database):
    """Through child processes, with ties, dialect and all."""
    path = tmp_path / "shop" / "shop.duckdb"
    path.parent.mkdir()
    path.write_bytes(Path(database).read_bytes())
    pairs = {
        "SELECT name FROM author": "SELECT name FROM author ORDER BY id DESC",
        "SELECT id, price FROM book ORDER BY price": "SELECT price, id FROM book ORDER BY id",
        "SELECT name FROM author ORDER BY id > 1 DESC LIMIT 1": "SELECT 'Cleo'",
        "SELECT count(*) FROM author": "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT max(price) FROM book": "SELECT pric FROM book",
        "SELECT id FROM book ORDER BY price DESC": "SELECT id FROM book ORDER BY price",
    }
    rows = [Row(n, "q", gold, "", "shop") for n, gold in enumerate(pairs, start=2)]
    with Judge(Databases(str(tmp_path)), Limits(), cache=tmp_path / "cache") as judge:
        found = judge.judge(rows, list(pairs.values()))
    assert [one.correct for one in found] == [True, True, True, False, False, False]
    assert found[2].ambiguous
    assert [one.error_class for one in found[3:]] == ["forbidden", "no_such_column", "wrong_order"]
    assert [p.name for p in path.parent.iterdir()] == ["shop.duckdb"]
