"""Running SQL that a model wrote on PostgreSQL: it only reads, it ends, and cells become values.

A real server is started for these tests, in a temporary folder and on a Unix socket.
"""

from __future__ import annotations

import csv
import math
import re
import socket
import sys
import threading
import time

import pytest
from helpers.postgresql import PASSWORD, Server
from helpers.schemas import read_schema

from qc_experiments.config.data import SchemaConfig, SchemaFormat
from qc_experiments.databases.engine import ERROR_CLASSES, Limits
from qc_experiments.databases.locate import named_database
from qc_experiments.databases.pool import SqlPool
from qc_experiments.databases.postgresql import TABLES, content_hash, run, safe_name
from qc_experiments.databases.schema import SchemaReader
from qc_experiments.errors import UserError
from qc_experiments.judging.gold import GoldCache
from qc_experiments.sql.ddl import read_ddl

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("sqlalchemy")

SHORT = Limits(seconds=1.0, rows=5_000, bytes=1_000_000)


@pytest.fixture(scope="session")
def database(server: Server) -> str:
    return server.url("reader")


def schema(url: str) -> str:
    return read_schema(url)


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
        ("-- first\nSELECT 1 -- last", [(1,)]),
        ("SELECT id FROM author WHERE id > 9", []),
        ("SELECT name FROM author ORDER BY name DESC", [("Cleo",), ("Bob",), ("Ada",)]),
        ("WITH a AS (SELECT 2 AS x) SELECT x, x FROM a", [(2, 2)]),
        ("VALUES (1, 'a'), (2, NULL)", [(1, "a"), (2, None)]),
        ("TABLE cheap", [(1, 2.5)]),
        ("SELECT count(*) FROM store.shelf", [(0,)]),
        ("SELECT '100%', 7 % 4, '%s' WHERE 'abc' LIKE 'a%'", [("100%", 3, "%s")]),
        ('SELECT "Odd name%" FROM book WHERE id = 1', [("{a,b}",)]),
        ("SELECT '$1', E'\\'', $$;$$, ':x'", [("$1", "'", ";", ":x")]),
    ],
)
def test_what_only_reads_runs(database, sql, rows):
    found = run(database, sql, SHORT)
    assert found.rows == rows, found.error


def test_a_result_without_rows_still_has_columns(database):
    found = run(database, "SELECT id, id AS again FROM author WHERE false", SHORT)
    assert (found.rows, found.columns) == ([], ("id", "again"))


def test_a_result_of_many_rows_comes_whole_and_in_order(database):
    sql = "SELECT i, i * 1.5, 'n' || i FROM generate_series(1, 50000) AS i ORDER BY i DESC"
    rows = run(database, sql, Limits(seconds=60)).rows
    assert [row[0] for row in rows] == list(range(50_000, 0, -1))
    assert rows[0] == (50_000, 75_000, "n50000")


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("true", 1),
        ("7::smallint", 7),
        ("9223372036854775807", 2**63 - 1),
        ("0.1::double precision", 0.1),
        ("1.5::real", 1.5),
        ("2.50::numeric(8, 2)", 2.5),
        ("-7.00", -7),
        ("10::numeric ^ 50", 10**50),
        ("'infinity'::numeric", math.inf),
        ("'é'", "é"),
        ("'a'::char(3)", "a  "),
        ("'\\xff00'::bytea", b"\xff\x00"),
        ("date '2024-02-29'", "2024-02-29"),
        ("time '01:02:03.5'", "01:02:03.500000"),
        ("timestamp '2024-02-29 01:02:03'", "2024-02-29T01:02:03"),
        ("timestamptz '2024-02-29 01:02:03+00' AT TIME ZONE 'UTC'", "2024-02-29T01:02:03"),
        ("timetz '01:02:03+02'", "01:02:03+02:00"),
        ("'infinity'::timestamp", "infinity"),
        ("'0044-03-15 BC'::date", "0044-03-15 BC"),
        ("interval '1 day 2 hours'", "1 day 02:00:00"),
        ("'00000000-0000-0000-0000-0000000000FF'::uuid", "00000000-0000-0000-0000-0000000000ff"),
        ("ARRAY[1, NULL, 2]", "{1,NULL,2}"),
        ("ROW(1, 'a')", "(1,a)"),
        ("'{\"b\":1}'::json", '{"b":1}'),
        ("'{\"b\":1}'::jsonb", '{"b": 1}'),
        ("int4range(1, 3)", "[1,3)"),
        ("B'101'", "101"),
        ("NULL", None),
    ],
)
def test_a_cell_becomes_a_value(database, sql, value):
    found = run(database, f"SELECT {sql} AS cell", SHORT)
    assert found.rows == [(value,)], found.error
    assert [type(cell) for cell in found.rows[0]] == [type(value)]


def test_not_a_number_stays_what_it_is(database):
    ((first, second),) = run(database, "SELECT 'nan'::float8, 'nan'::numeric", SHORT).rows
    assert math.isnan(first)
    assert math.isnan(second)


def test_a_number_too_long_to_print_is_text(database):
    ((cell,),) = run(database, "SELECT trunc(10::numeric ^ 5000)", SHORT).rows
    assert cell == "1" + "0" * 5000


@pytest.mark.parametrize(
    ("sql", "error_class"),
    [
        ("SELEC 1", "syntax"),
        ("Here is the query: SELECT 1", "syntax"),
        ("SELECT * FROM", "syntax"),
        ("SELECT 'a", "syntax"),
        ("SELECT 1 /* a", "syntax"),
        ("SELECT 1 UNION SELECT 1, 2", "syntax"),
        ("SELECT '\ud800'", "syntax"),
        ("SELECT 1\0; DROP TABLE author", "syntax"),
        ("SELECT query_to_xml('selec', true, true, '')", "syntax"),
        ("SELECT * FROM nosuch", "no_such_table"),
        ("SELECT nosuch.id FROM author", "no_such_table"),
        ("SELECT nosuch FROM author", "no_such_column"),
        ("SELECT id FROM author, book", "ambiguous_column"),
        ("SELECT nosuch(1)", "no_such_function"),
        ("SELECT 1 + name FROM author", "type"),
        ("SELECT json '1' = json '1'", "type"),
        ("SELECT name::integer FROM author", "type"),
        ("SELECT date '2024-02-30'", "type"),
        ("SELECT 2147483647 + 1", "type"),
        ("SELECT CASE WHEN true THEN 1 ELSE date '2024-01-01' END", "type"),
        ("DELETE FROM author", "forbidden"),
        ("DELETE FROM nosuch", "forbidden"),
        ("EXPLAIN SELECT 1", "forbidden"),
        ("SELECT * FROM private", "forbidden"),
        ("SELECT margin FROM book", "forbidden"),
        ("", "not_a_query"),
        (" ; ", "not_a_query"),
        ("-- nothing", "not_a_query"),
        ("SELECT 1; SELECT 2", "not_a_query"),
        ("SELECT pg_sleep(60)", "timeout"),
        ("SELECT repeat('x', 2000000000)", "memory"),
        ("SELECT generate_series(1, 1000000000)", "result_too_large"),
        ("SELECT repeat('x', 1000) FROM generate_series(1, 2000)", "result_too_large"),
        ("SELECT id, count(*) FROM author", "other"),
        ("SELECT 1 / 0", "other"),
        ("SELECT $1", "other"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "other"),
    ],
)
def test_each_failure_has_its_class(database, sql, error_class):
    seconds = 1 if error_class == "timeout" else 30
    found = run(database, sql, Limits(seconds, SHORT.rows, SHORT.bytes))
    assert found.error_class == error_class, found.error
    assert found.error_class in ERROR_CLASSES
    assert found.rows is None
    assert found.error
    assert "qc_result" not in found.error


def test_a_result_ends_at_its_limits_and_not_before(database):
    limits = Limits(seconds=30, rows=100, bytes=10_000)
    series = "FROM generate_series(1, {}) AS i"
    assert len(run(database, f"SELECT i {series.format(100)}", limits).rows) == 100
    assert run(database, f"SELECT i {series.format(101)}", limits).error == "more than 100 rows"
    assert len(run(database, f"SELECT repeat('x', 100) {series.format(100)}", limits).rows) == 100
    found = run(database, f"SELECT repeat('x', 101) {series.format(100)}", limits)
    assert found.error == "more than 10000 bytes"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_sleep(60)",
        "SELECT pg_sleep(0.01) FROM generate_series(1, 1000000)",  # rows come, on and on
        "SELECT set_config('statement_timeout', '0', false), pg_sleep(60)",
        "SELECT set_config('statement_timeout', '0', false), pg_sleep(0.01)"
        " FROM generate_series(1, 1000000)",
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b",
    ],
)
def test_a_statement_ends_when_its_time_is_over(database, sql):
    started = time.perf_counter()
    found = run(database, sql, Limits(seconds=0.3, rows=10**9, bytes=10**12))
    assert found.error_class == "timeout", found.error
    assert 0.3 <= found.seconds < 8
    assert time.perf_counter() - started < 10


ATTACKS = [
    "INSERT INTO author VALUES (9, 'x')",
    "UPDATE author SET name = 'x'",
    "DELETE FROM book",
    "DROP TABLE author",
    "TRUNCATE book",
    "MERGE INTO author a USING book b ON a.id = b.id WHEN MATCHED THEN UPDATE SET name = 'x'",
    "CREATE TABLE loot (a integer)",
    "CREATE TEMP TABLE loot (a integer)",
    "CREATE FUNCTION loot() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE EXTENSION plpython3u",
    "SELECT * INTO loot FROM author",
    "SELECT * INTO TEMP loot FROM author",
    "WITH gone AS (DELETE FROM book RETURNING *) SELECT * FROM gone",
    "WITH new AS (INSERT INTO author VALUES (9, 'x') RETURNING *) SELECT * FROM new",
    "SELECT * FROM author FOR UPDATE",
    "LOCK TABLE author",
    "SELECT 1; DROP TABLE author",
    "SELECT 1; COMMIT; DELETE FROM book",
    "COMMIT; DELETE FROM book",
    "COMMIT",
    "ROLLBACK",
    "SELECT 1; ROLLBACK; BEGIN READ WRITE; DELETE FROM book; COMMIT",
    "START TRANSACTION READ WRITE",
    "SET TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off",
    "RESET ALL",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT set_config('role', 'postgres', false)",
    "SELECT set_config('session_authorization', 'postgres', false)",
    "SELECT query_to_xml('DELETE FROM book', true, true, '')",
    "SELECT query_to_xml('COMMIT', true, true, '')",
    "SELECT query_to_xml('SET TRANSACTION READ WRITE', true, true, '')",
    "SELECT cursor_to_xml('qc_result', 1, true, true, '')",
    "DECLARE other CURSOR WITH HOLD FOR SELECT 1",
    "FETCH ALL FROM qc_result",
    "PREPARE p AS DELETE FROM book",
    "EXECUTE p",
    "DO $$ BEGIN DELETE FROM book; END $$",
    "CALL loot()",
    "COPY author TO '{folder}/loot'",
    "COPY author TO PROGRAM 'touch {folder}/loot'",
    "COPY author FROM '/etc/passwd'",
    "COPY author TO STDOUT",
    "COPY author FROM STDIN",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('PG_VERSION')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(lo_from_bytea(0, 'x'), '{folder}/loot')",
    "SELECT nextval('counter')",
    "SELECT setval('counter', 99)",
    "SELECT pg_reload_conf()",
    "SELECT pg_switch_wal()",
    "SELECT * FROM pg_authid",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "ALTER ROLE reader SUPERUSER",
    "ALTER ROLE reader SET work_mem = '1GB'",
    "LOAD 'plpgsql'",
    "LISTEN loot",
    "VACUUM",
    "CHECKPOINT",
    "EXPLAIN ANALYZE DELETE FROM book",
    "SELECT pg_sleep(60)",
    "SELECT pg_terminate_backend(pg_backend_pid())",
    "SELECT pg_cancel_backend(pg_backend_pid())",
    "SELECT i FROM generate_series(1, 10000000000) AS i",
    "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b",
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n",
    "SELECT repeat('x', 1000000000)",
    "SELECT repeat('x', 1000000) FROM generate_series(1, 100)",
    "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    "SELECT " + "1 + " * 20_000 + "1",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_changes_and_reveals_nothing(server, attack):
    before = server.state()
    found = run(server.url("writer"), attack.replace("{folder}", str(server.folder)), SHORT)
    assert found.rows is None
    assert found.error_class in ERROR_CLASSES
    assert found.error
    assert server.state() == before
    assert run(server.url("writer"), "SELECT count(*) FROM author", SHORT).rows == [(3,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT pg_notify('a', 'b')",
        "SELECT pg_advisory_lock(1)",
        "SELECT set_config('default_transaction_read_only', 'off', false)",
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT set_config('bytea_output', 'escape', false), '\\xff'::bytea",
        "SELECT set_config('client_encoding', 'LATIN1', false), 'é'",
        "SELECT set_config('datestyle', 'German', false), now()",
        "SELECT pg_export_snapshot()",
        "SELECT xmlparse(DOCUMENT '<!DOCTYPE a [<!ENTITY b SYSTEM \"/etc/passwd\">]><a>&b;</a>')",
    ],
)
def test_what_a_query_may_call_leaves_no_trace(server, sql):
    before = server.state()
    found = run(server.url("writer"), sql, SHORT)
    assert "root:" not in str(found.rows)
    assert server.state() == before
    again = run(server.url("writer"), "SELECT '\\xff'::bytea, current_setting('datestyle')", SHORT)
    assert again.rows == [(b"\xff", "ISO, MDY")]


def test_golds_tell_their_ties_and_views_that_ask_for_the_time(server, database):
    server.execute(
        "CREATE VIEW \"Late\" AS SELECT id, name FROM author WHERE now() > '2024-01-01';"
        'GRANT SELECT ON "Late" TO reader'
    )
    try:
        with SqlPool(1) as pool:
            found, late = (
                GoldCache(None).get(pool, named_database(database, "db"), sql, Limits())
                for sql in (
                    "SELECT id FROM book ORDER BY author_id OFFSET 1 LIMIT 1",
                    'SELECT name FROM "Late" ORDER BY id / 2 LIMIT 1',
                )
            )
    finally:
        server.execute('DROP VIEW "Late"')
    for gold, rows, take, clock in ((found, 2, 1, False), (late, 1, 1, True)):
        assert gold.expected is not None, gold.execution.error
        assert [(len(group.rows), group.take) for group in gold.expected.groups] == [(rows, take)]
        assert (gold.ties_known, gold.clock) == (True, clock)


@pytest.mark.parametrize("end", ["pg_terminate_backend", "pg_cancel_backend"])
def test_a_statement_that_another_session_ends_runs_once_more(server, database, end):
    ended = []

    def end_it() -> None:
        for _ in range(100):
            at_work = "usename = 'reader' AND state = 'active' AND query LIKE 'FETCH%'"
            ended[:] = server.execute(f"SELECT {end}(pid) FROM pg_stat_activity WHERE {at_work}")
            if ended:
                return
            time.sleep(0.01)

    ending = threading.Thread(target=end_it)
    ending.start()
    found = run(database, "SELECT 1 FROM pg_sleep(0.3)", Limits())
    ending.join()
    assert ended == [(True,)]
    assert found.rows == [(1,)], found.error


@pytest.mark.parametrize(
    ("role", "power"),
    [
        ("postgres", "superuser postgres"),
        ("deputy", "superuser postgres"),
        ("files", "pg_read_server_files"),
        ("distant", "pg_execute_server_program"),
    ],
)
def test_a_role_that_could_reach_the_servers_files_is_refused(server, role, power):
    for use in (lambda url: run(url, "SELECT 1", SHORT), content_hash, schema):
        with pytest.raises(UserError) as caught:
            use(server.url(role))
        assert f"role {role} may act as {power}" in str(caught.value)
        assert "make a role that can only read tables, CREATE ROLE" in str(caught.value)
        assert PASSWORD not in str(caught.value)


def test_the_role_that_is_then_named_reads_every_table_and_nothing_else(server):
    """The SQL is run as the message shows it."""
    with pytest.raises(UserError) as caught:
        schema(server.url("postgres"))
    sql = re.search(r"CREATE ROLE .*qc_reader;", str(caught.value))
    assert sql is not None
    server.execute(sql[0])
    reader = server.url("qc_reader", "choose%20one")
    try:
        assert schema(reader) == schema(server.url("writer"))
        assert run(reader, "SELECT count(*) FROM private", SHORT).rows is not None
        assert run(reader, "SELECT pg_read_file('/etc/passwd')", SHORT).rows is None
    finally:
        server.execute("DROP ROLE qc_reader")


def test_a_training_takes_the_url_as_the_readme_writes_it(server, tmp_path, tiny_model, capsys):
    from qc_experiments.cli import plan as plan_command

    (tmp_path / "it.csv").write_text(
        "question,query,context,db_id\n"
        + "".join(f"q{n},SELECT id FROM author,CREATE TABLE author(id),shop\n" for n in range(20))
    )
    url = server.url("reader", database="{db_id}")
    plan_command.main(
        [
            *("data=csv", f"data.train={tmp_path / 'it.csv'}", f"data.databases={url}"),
            *("model=hub", f"model.name_or_path={tiny_model}", f"paths.output={tmp_path}"),
        ]
    )
    assert "18 to train on, 2 held out" in capsys.readouterr().out


def test_the_schema_is_what_a_prompt_needs_and_the_role_may_read(server, database):
    tables, *views = schema(database).split("\nCREATE VIEW ")
    assert [" ".join(view.split()) for view in views] == [
        "cheap AS SELECT book.id, book.price FROM book WHERE (book.price < (5)::numeric);"
    ]
    assert tables.splitlines() == [
        "CREATE TABLE author (id integer NOT NULL, name text NOT NULL, PRIMARY KEY (id));",
        "CREATE TABLE book (id integer, author_id integer, price numeric(8,2), "
        'sold timestamp with time zone, "Odd name%" text[], '
        "FOREIGN KEY (author_id) REFERENCES author(id));",
        'CREATE TABLE store.shelf ("row" integer NOT NULL, place integer NOT NULL, '
        'PRIMARY KEY ("row", place));',
    ]
    assert "CREATE TABLE private (word text);" in schema(server.url("writer"))


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_of_which_a_column_may_be_read_is_there(server, database, kind):
    server.execute(f"CREATE {kind} seen AS SELECT id, word FROM author, private")
    try:
        assert "seen" not in schema(database)
        server.execute("GRANT SELECT (id) ON seen TO reader")
        assert run(database, "SELECT id FROM seen", SHORT).rows is not None
        assert "CREATE VIEW seen AS" in schema(database)
    finally:
        server.execute(f"DROP {kind} seen")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("attgenerated", " GENERATED ALWAYS AS ((price * 2)) STORED"),
        # as PostgreSQL 18 tells of virtual columns
        (
            "CASE attgenerated WHEN 's' THEN 'v' ELSE attgenerated END AS attgenerated",
            " GENERATED ALWAYS AS ((price * 2))",
        ),
        ("0 AS nothing", ""),  # as before PostgreSQL 12
    ],
)
def test_servers_of_other_versions_tell_of_computed_columns_otherwise(server, told, said):
    known = "attrelid, attnum, attname, atttypid, atttypmod, attnotnull, attisdropped"
    attributes = f"(SELECT {known}, {told} FROM pg_catalog.pg_attribute) a"
    query = TABLES.replace("pg_catalog.pg_attribute a", attributes)
    assert query != TABLES
    server.execute(
        "CREATE TABLE offer (price integer, twice integer GENERATED ALWAYS AS (price * 2) STORED NOT NULL)"
    )
    try:
        definitions = {name: definition for name, _, definition in server.execute(query)}
    finally:
        server.execute("DROP TABLE offer")
    assert definitions["offer"] == f"price integer, twice integer{said} NOT NULL"
    (table,) = read_ddl(f"CREATE TABLE offer ({definitions['offer']})", "postgres")
    assert [column.computed for column in table.columns] == [False, bool(said)]


def test_what_is_computed_from_a_private_column_shows_no_values(server):
    server.execute(
        "CREATE TABLE account (password_hash text, note text, "
        "code text GENERATED ALWAYS AS (lower(password_hash)) STORED); "
        "INSERT INTO account VALUES ('HIDDEN', 'shown'); "
        "CREATE MATERIALIZED VIEW seen AS SELECT password_hash AS word FROM account; "
        "GRANT SELECT ON account, seen TO reader"
    )
    try:
        with SchemaReader(SchemaFormat.m_schema, SchemaConfig()) as reader:
            found = reader.of_database(named_database(server.url("reader"), "db", None), "it").text
    finally:
        server.execute("DROP MATERIALIZED VIEW seen; DROP TABLE account")
    assert "shown" in found
    assert "seen" in found
    assert "hidden" not in found.lower()


def test_a_training_set_is_made_and_checked_from_a_server(server, database, tmp_path, capsys):
    """The way in: from a database and questions to contexts, faults, and a model's rows."""
    from qc_experiments.cli import data

    (tmp_path / "my.csv").write_text(
        "question,query\nWho is there?,SELECT name FROM author\n"
        "How many books cost 7?,SELECT count(*) FROM book WHERE price = 7\n"
        "What is hidden?,SELECT word FROM private\n"
        "Who is called ada?,SELECT id FROM author WHERE name = 'ada'\n"
    )
    server.execute(
        "COMMENT ON TABLE author IS 'who wrote'; COMMENT ON COLUMN author.name IS 'it''s'"
    )
    try:
        data.main(["context", "--db", database, "--format", "m_schema"])
    finally:
        server.execute("COMMENT ON TABLE author IS NULL; COMMENT ON COLUMN author.name IS NULL")
    shown = capsys.readouterr().out
    assert "# Table: author, who wrote\n[\n(id:INT, Primary Key, Examples: [1, 2, 3]),\n" in shown
    assert "(name:TEXT, it's, Examples: [Ada, Bob, Cleo])" in shown
    assert '("Odd name%":TEXT[]' in shown
    assert "# Table: store.shelf" in shown
    assert "book.author_id=author.id" in shown
    given = ["my.csv", "--db", database, "-o", "with.csv", "--format", "compact"]
    data.main(["context", *(str(tmp_path / x) if x.endswith(".csv") else x for x in given)])
    with (tmp_path / "with.csv").open(newline="") as file:
        contexts = {row["context"] for row in csv.DictReader(file)}
    assert len(contexts) == 1
    assert "author(id INT PRIMARY KEY, name TEXT)" in contexts.pop()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        data.main(["check", str(tmp_path / "my.csv"), "--databases", database])
    out = capsys.readouterr().out
    assert "query may not run there (permission denied for table private): row 4" in out
    assert "a value is spelled otherwise in the database (ada): row 5" in out
    assert "query returns no rows: row 5" in out
    assert PASSWORD not in shown + out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("s3cret", "wrong"), "password"),
        (("/shop", "/nowhere"), "nowhere"),
        (("@/", "@127.0.0.1:1/"), ""),
    ],
)
def test_a_server_that_cannot_be_asked_is_said_in_one_line(server, change, said, refused, tmp_path):
    from qc_experiments.cli import data

    url = server.url("reader").replace(*change)
    if change[0] == "@/":
        url = url.partition("?")[0]
    line = refused(data.main, ["context", "--db", url])
    assert said in line
    assert PASSWORD not in line
    assert "wrong" not in line or said != "password"


def test_the_content_hash_is_of_the_rows_in_any_order(server, database):
    first = content_hash(database)
    assert len(first) == 64
    server.execute("UPDATE book SET price = price WHERE id = 1")  # moves the row to the end
    server.execute("ALTER ROLE reader SET timezone = 'Asia/Tokyo'")
    try:
        assert content_hash(database) == first
        assert run(database, "SELECT current_setting('timezone')", SHORT).rows == [("UTC",)]
    finally:
        server.execute("ALTER ROLE reader RESET timezone")
    for change, undo in (
        ("UPDATE book SET price = 3 WHERE id = 1", "UPDATE book SET price = 2.50 WHERE id = 1"),
        ("INSERT INTO author VALUES (4, 'Dan')", "DELETE FROM author WHERE id = 4"),
        ("ALTER TABLE author RENAME name TO title", "ALTER TABLE author RENAME title TO name"),
        (
            "CREATE OR REPLACE VIEW cheap AS SELECT id, price FROM book WHERE price < 9",
            "CREATE OR REPLACE VIEW cheap AS SELECT id, price FROM book WHERE price < 5",
        ),
    ):
        server.execute(change)
        try:
            assert content_hash(database) != first, change
        finally:
            server.execute(undo)
        assert content_hash(database) == first


def test_a_name_is_shown_without_its_password():
    named = safe_name("postgresql+psycopg://me:p%40ss@host:5433/shop?password=x&sslmode=require")
    assert named == "postgresql://me@host:5433/shop?sslmode=require"
    assert safe_name("postgres://me@host/shop") == "postgresql://me@host/shop"


def test_a_server_that_cannot_be_reached_is_named_without_its_password(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for url, parts in (
        (f"postgresql://reader:{PASSWORD}@127.0.0.1:{port}/shop", ["127.0.0.1", "shop"]),
        (server.url("reader", database="nosuch"), ["nosuch"]),
        (server.url("nosuch"), ["nosuch"]),
        (server.url("reader", "wr0ng"), ["reader", "password authentication failed"]),
        (f"{server.url('reader')}&password={PASSWORD}&nosuch=1", ["nosuch"]),
    ):
        for use in (lambda url: run(url, "SELECT 1", SHORT), content_hash, schema):
            with pytest.raises(UserError) as caught:
                use(url)
            message = str(caught.value)
            assert all(part in message for part in parts), message
            assert PASSWORD not in message
            assert "wr0ng" not in message
            assert "\n" not in message


@pytest.mark.parametrize(
    "url",
    [
        f"nonsense {PASSWORD}",
        f"postgresql://me:{PASSWORD}@host:port/shop",
        f"postgresql+psycopg2://me:{PASSWORD}@host/shop",
        f"mysql://me:{PASSWORD}@host/shop",
        f"postgresql://me:a@{PASSWORD}@host/shop",
        f"postgresql://me:a@{PASSWORD}/b@host:1/{{db_id}}",
        f"postgresql://me:a@?{PASSWORD}@host/shop?sslmode=require",
        "",
    ],
)
def test_a_url_that_is_none_of_postgresqls_says_how_to_write_one(url):
    for use in (lambda url: run(url, "SELECT 1", SHORT), safe_name):
        with pytest.raises(UserError, match="postgresql://user@host") as caught:
            use(url)
        assert PASSWORD not in str(caught.value)


def test_a_url_cannot_switch_the_protection_off(server):
    options = "autocommit=1&prepare_threshold=none&options=-cdefault_transaction_read_only%3Doff"
    url = f"{server.url('writer')}&{options}"
    before = server.state()
    assert run(url, "SELECT count(*) FROM author", SHORT).rows == [(3,)]
    attacks = (
        "SELECT 1; COMMIT; DELETE FROM book",
        "DELETE FROM book",
        "SELECT nextval('counter')",
    )
    for attack in attacks:
        assert run(url, attack, SHORT).rows is None
    assert server.state() == before


def test_a_missing_library_names_what_to_install(monkeypatch):
    for library in ("sqlalchemy", "psycopg"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, library, None)
            with pytest.raises(UserError, match=r"pip install 'qc_experiments\[postgresql\]'"):
                run(f"postgresql://me@nohost/{library}", "SELECT 1", SHORT)


def test_predictions_are_judged_on_a_server(server, tmp_path, monkeypatch):
    """Through child processes; one URL names all databases, and its password is never written."""
    import json

    from qc_experiments.cli.evaluate import main

    monkeypatch.setenv("HOME", str(tmp_path))
    url = server.url("reader", database="{db_id}")
    pairs = {
        "SELECT name FROM author": "SELECT name FROM author ORDER BY id DESC",
        "SELECT id, price FROM cheap ORDER BY price": "SELECT price, id FROM cheap",
        "SELECT name FROM author ORDER BY id > 1 DESC LIMIT 1": "SELECT 'Cleo'",
        "SELECT count(*) FROM author": "DELETE FROM author RETURNING 3",
        "SELECT max(id) FROM author": "SELECT max(idd) FROM author",
        "SELECT id FROM author ORDER BY id DESC": "SELECT id FROM author ORDER BY id",
        "SELECT word FROM private": "SELECT 1",
    }
    source = tmp_path / "p.csv"
    with source.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["db_id", "question", "query", "prediction"])
        writer.writerows([["shop", "q", gold, sql] for gold, sql in pairs.items()])
    before = server.state()
    main([str(source), "--databases", url, "--output", str(tmp_path / "out")])
    assert server.state() == before
    with (tmp_path / "out" / "judged.csv").open(newline="") as file:
        judged = list(csv.DictReader(file))
    assert [row["correct"] for row in judged] == ["1", "1", "1", "0", "0", "0", ""]
    assert [row["error_class"] for row in judged[3:]] == [
        "forbidden",
        "no_such_column",
        "wrong_order",
        "forbidden",
    ]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [one["row"] for one in report["ambiguous_golds"]] == [4]
    for path in (tmp_path / "out").iterdir():
        assert PASSWORD.encode() not in path.read_bytes()


def test_a_role_that_can_reach_files_is_refused_in_one_line(server, tmp_path, refused):
    from qc_experiments.cli.evaluate import main

    source = tmp_path / "p.csv"
    source.write_text("db_id,question,query,prediction\nshop,q,SELECT 1,SELECT 1\n")
    arguments = [str(source), "--databases", server.url("files"), "--output", str(tmp_path / "o")]
    line = refused(main, arguments)
    assert "pg_read_server_files" in line
    assert PASSWORD not in line
    assert not (tmp_path / "o").exists()


def found_on(server, name: str):
    """The database of a db_id on the server."""
    from qc_experiments.databases.locate import Databases

    found = Databases(server.url("reader", database="{db_id}")).find(name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["my shop", "große Städte 商店", "100%", "a%20b", "v1.2", "it's"])
def test_a_db_id_is_the_very_name_of_a_database(server, name):
    """Also one that looks like an escape, or like another setting of the connection."""
    quoted = '"' + name + '"'
    server.execute(f"CREATE DATABASE {quoted}", "postgres")
    try:
        target = found_on(server, name).target
        assert run(target, "SELECT current_database()", SHORT).rows == [(name,)]
    finally:
        server.execute(f"DROP DATABASE {quoted}", "postgres")


@pytest.mark.parametrize("name", ["dbname=shop", "shop user=writer", "host=/tmp dbname=shop"])
def test_a_db_id_is_no_connection_string(server, name):
    with pytest.raises(UserError, match=r"does not exist|is no name"):
        run(found_on(server, name).target, "SELECT 1", SHORT)
