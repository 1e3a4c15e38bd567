"""Run a SQL query on a PostgreSQL database, reading only.

Each statement has a connection and a read-only transaction of its own, which is rolled back. It
runs as ``DECLARE ... CURSOR FOR <sql>``, which takes queries and nothing else, by the extended
protocol, which takes one statement and no more. A role that could reach the server's files is
refused; what else a query may read and call is what its role may. PostgreSQL limits a statement's
time, but neither its memory nor (unless its owner sets ``temp_file_limit``) its temporary files.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from datetime import time as time_of_day
from typing import TYPE_CHECKING, Any

from qc_experiments.databases.engine import Execution, Limits, Row, Value, execution
from qc_experiments.errors import UserError

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import URL

DIALECT = "postgres"
SCHEMES = ("postgresql", "postgres")
LIBRARIES = ("sqlalchemy", "psycopg")
ENVIRONMENT = ("PG",)
INSTALL = "PostgreSQL's drivers are not installed: pip install 'qc_experiments[postgresql]'"
URL_FORM = "write postgresql://user@host:5432/database, the password in PGPASSWORD"
READER = "CREATE ROLE qc_reader LOGIN PASSWORD 'choose one'; GRANT pg_read_all_data TO qc_reader;"
"""A role as which predictions may run (from PostgreSQL 14 on)."""
CONNECT_SECONDS = 10
FIRST_ROWS, MOST_ROWS = 16, 8192
DECLARE = b"DECLARE qc_result NO SCROLL CURSOR FOR "
# cursor_tuple_fraction: else a cursor's plan is made for the first rows, not for all of them.
BEGIN = """
SELECT session_user, (
    SELECT CASE WHEN rolsuper THEN 'superuser ' ELSE '' END || rolname FROM pg_catalog.pg_roles
    WHERE pg_has_role(session_user, oid, 'MEMBER') AND (rolsuper OR rolname IN (
        'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))
    ORDER BY rolsuper DESC, rolname LIMIT 1
), set_config('statement_timeout', %s, true), set_config('cursor_tuple_fraction', '1', true),
    set_config('datestyle', 'ISO', true), set_config('intervalstyle', 'postgres', true),
    set_config('bytea_output', 'hex', true), set_config('extra_float_digits', '1', true),
    set_config('timezone', 'UTC', true)
"""
# to_jsonb: servers before version 12 have no attgenerated, and a query that names it does not run.
# Of a virtual column (from version 18 on) nothing more is said: sqlglot does not read VIRTUAL.
TABLES = """
SELECT c.oid::regclass::text, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
    string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
        || CASE to_jsonb(a)->>'attgenerated'
            WHEN 's' THEN ' GENERATED ALWAYS AS (' || pg_get_expr(g.adbin, g.adrelid) || ') STORED'
            WHEN 'v' THEN ' GENERATED ALWAYS AS (' || pg_get_expr(g.adbin, g.adrelid) || ')'
            ELSE '' END
        || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END, ', ' ORDER BY a.attnum)
    || coalesce((
        SELECT string_agg(', ' || pg_get_constraintdef(k.oid), '' ORDER BY contype DESC, conname)
        FROM pg_catalog.pg_constraint k WHERE conrelid = c.oid AND contype IN ('p', 'f')), '')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_attrdef g ON g.adrelid = c.oid AND g.adnum = a.attnum
WHERE c.relkind IN ('r', 'p', 'f', 'm') AND NOT c.relispartition
    AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    AND has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT')
GROUP BY c.oid, n.nspname, c.relname ORDER BY n.nspname, c.relname
"""
"""Name, columns and definition of each table (and materialized view) that the role may read."""
VIEWS = """
SELECT schemaname, viewname, definition FROM pg_catalog.pg_views
WHERE schemaname NOT LIKE 'pg\\_%' AND schemaname <> 'information_schema' ORDER BY 1, 2
"""
VIEW_STATEMENTS = """
SELECT c.oid::regclass::text, pg_get_viewdef(c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend WHERE objid = c.oid AND deptype = 'e')
ORDER BY n.nspname, c.relname
"""
"""Name and query of each view of which the role may read something, but for those of extensions."""
COMMENTS = """
SELECT 'COMMENT ON ' || CASE WHEN objsubid = 0 THEN 'TABLE ' || c.oid::regclass::text ELSE
    'COLUMN ' || c.oid::regclass::text || '.' || quote_ident(a.attname) END
    || ' IS ' || quote_literal(description)
FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = objsubid AND objsubid > 0
WHERE d.classoid = 'pg_catalog.pg_class'::regclass
    AND c.relkind IN ('r', 'p', 'f', 'm') AND NOT c.relispartition
    AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
    AND (objsubid = 0 OR has_column_privilege(c.oid, a.attnum, 'SELECT'))
ORDER BY n.nspname, c.relname, objsubid
"""
"""What is said of those tables and their columns."""
MATERIALIZED = ", 'm'"
"""Kind of relation that has rows of its own, but is a view to those who are told the schema."""
SCHEMA_QUERY = (
    "SELECT 'CREATE TABLE ' || name || ' (' || definition || ')' "
    f"FROM ({TABLES.replace(MATERIALIZED, '')}) AS tables (name, columns, definition) "
    "UNION ALL SELECT 'CREATE VIEW ' || name || ' AS' || query "
    f"FROM ({VIEW_STATEMENTS}) AS views (name, query) "
    f"UNION ALL SELECT * FROM ({COMMENTS}) AS comments"
)
CLASSES = {
    "42601": "syntax",
    "42P01": "no_such_table",
    "42703": "no_such_column",
    **dict.fromkeys(("42702", "42P09"), "ambiguous_column"),
    "42883": "no_such_function",
    **dict.fromkeys(("42725", "42804", "42846", "42P18"), "type"),
    **dict.fromkeys(("22003", "22007", "22008", "22P02"), "type"),
    **dict.fromkeys(("25001", "25006", "42501"), "forbidden"),
    **dict.fromkeys(("53100", "53200", "53400", "54000"), "memory"),
    "57014": "timeout",
}
"""Class of a failure by its SQLSTATE."""
SESSION_ENDED, CANCELED = "57P01", "57014"
"""SQLSTATEs of what another session of the same role may do to a statement."""
FORBIDDEN_BY = ("transformDeclareCursorStmt", "_SPI_execute_plan")
"""The server's functions that refuse what writes as a feature that is not supported."""


def _number(text: str) -> int | float:
    whole, _, fraction = text.partition(".")
    return float(text) if fraction.strip("0") or whole[-1:].isalpha() else int(whole)


CONVERT: dict[str, Callable[[str], Value]] = {
    "bool": lambda text: int(text == "t"),
    **dict.fromkeys(("int2", "int4", "int8", "oid"), int),
    **dict.fromkeys(("float4", "float8"), float),
    "numeric": _number,
    "bytea": lambda text: bytes.fromhex(text.removeprefix("\\x")),
    **dict.fromkeys(
        ("timestamp", "timestamptz"), lambda text: datetime.fromisoformat(text).isoformat()
    ),
    **dict.fromkeys(("time", "timetz"), lambda text: time_of_day.fromisoformat(text).isoformat()),
}
"""How the server's text of a type becomes a `Value`; any other type stays text."""


def _url(target: str) -> URL:
    try:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError:
        raise UserError(INSTALL) from None
    _, _, password = target.partition("://")[2].partition(":")
    # SQLAlchemy would take what follows the first one for the server's name, which is shown.
    if password.count("@") > 1:
        raise UserError(
            "a database's URL cannot be read: an @ in its password is written %40, a / %2F; better "
            f"{URL_FORM}"
        )
    try:
        url = make_url(target)
    except (ArgumentError, ValueError):  # whose messages may hold the password
        raise UserError(f"a database's URL cannot be read: {URL_FORM}") from None
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise UserError(f"{url.drivername} runs no untrusted SQL, only psycopg does: {URL_FORM}")
    return url.set(drivername="postgresql+psycopg")


def safe_name(target: str) -> str:
    """The URL of a database without its password, for messages and records."""
    url = _url(target).difference_update_query(("password", "sslpassword"))
    return url._replace(drivername="postgresql", password=None).render_as_string()


def database_name(target: str) -> str:
    """The name of the database in a URL; empty if it has none."""
    return _url(target).database or ""


def _milliseconds(seconds: float) -> str:
    return str(max(1, math.ceil(1000 * seconds)))


@contextmanager
def _transaction(target: str, timeout: str) -> Iterator[psycopg.Connection[Any]]:
    """A fresh connection in a read-only transaction, rolled back and closed in the end.

    ``timeout`` is in milliseconds for each statement, 0 for none.
    """
    url = _url(target)
    try:
        import psycopg
    except ImportError:
        raise UserError(INSTALL) from None
    options: dict[str, Any] = {
        **url.get_dialect()().create_connect_args(url)[1],
        "prepare_threshold": 0,  # the extended protocol: several statements in a text are refused
        "client_encoding": "utf8",
        "connect_timeout": url.query.get("connect_timeout", CONNECT_SECONDS),
        "autocommit": False,  # whatever the URL says
    }
    connection: Any
    try:
        with closing(psycopg.connect(**options)) as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            # After a first query the server lets nobody make the transaction read-write.
            role, power, *_ = connection.execute(BEGIN, (timeout,)).fetchone()
            if power:
                raise UserError(
                    f"{safe_name(target)}: role {role} may act as {power}, which can reach the "
                    f"server's files: make a role that can only read tables, {READER}, and name it in "
                    "the URL"
                )
            yield connection
            with suppress(psycopg.Error):  # the statement may have ended its own session
                connection.rollback()
    except psycopg.Error as problem:
        raise UserError(f"{safe_name(target)}: {problem}") from problem


class _EndedByAnother(Exception):
    """A statement was ended, before its time was up, by another session or by itself."""


def run(target: str, sql: str, limits: Limits) -> Execution:
    """Run one statement that only reads; once more, within its time, where another one ended it."""
    started = time.perf_counter()
    try:
        return _run(target, sql, limits)
    except _EndedByAnother:
        left = max(0.0, limits.seconds - (time.perf_counter() - started))
        return _run(target, sql, replace(limits, seconds=left), last=True)


def _run(target: str, sql: str, limits: Limits, last: bool = False) -> Execution:
    timeout = _milliseconds(limits.seconds)
    with _transaction(target, timeout) as connection:
        import psycopg

        deadline = time.perf_counter() + limits.seconds

        def fetch() -> tuple[list[str], Iterator[Row]]:
            if "\0" in sql:
                raise ValueError("the SQL holds a NUL character, where the server would cut it off")
            connection.execute(DECLARE + sql.encode())
            columns: list[str] = []  # filled with the first rows
            return columns, _fetch(connection, columns, deadline)

        def explain(problem: Exception) -> tuple[str, str]:
            state = problem.sqlstate if isinstance(problem, psycopg.Error) else None
            early = state == CANCELED and time.perf_counter() < deadline
            if not last and (early or state == SESSION_ENDED):
                raise _EndedByAnother from problem
            return _explain(connection, sql, timeout, problem)

        return execution(fetch, limits, (psycopg.Error, ValueError), explain)


def _fetch(
    connection: psycopg.Connection[Any], columns: list[str], deadline: float
) -> Iterator[Row]:
    """Fetch the cursor's rows: few at first, for the server keeps all that a FETCH asks for."""
    from psycopg.types.string import TextLoader

    cursor = connection.cursor()
    types = connection.adapters.types
    for kind in types:  # as the server writes it: psycopg refuses 'infinity' and dates BC
        cursor.adapters.register_loader(kind.oid, TextLoader)
        cursor.adapters.register_loader(kind.array_oid, TextLoader)
    count = FIRST_ROWS
    while True:
        # A timeout is that of one command, and the query itself may have changed it.
        left = _milliseconds(deadline - time.perf_counter())
        connection.execute("SELECT set_config('statement_timeout', %s, true)", (left,))
        cursor.execute(f"FETCH {count} FROM qc_result")
        described = cursor.description or []
        columns[:] = [column.name for column in described]
        kinds = [types.get(column.type_code) for column in described]
        convert = [CONVERT.get(kind.name, str) if kind else str for kind in kinds]
        for row in cursor:
            yield tuple(map(_value, row, convert))
        if cursor.rowcount < count:
            return
        count = min(2 * count, MOST_ROWS)


def _value(text: str | None, convert: Callable[[str], Value]) -> Value:
    if text is None:
        return None
    try:
        return convert(text)
    except ValueError:
        return text  # what Python has no value for (24:00, infinity, BC) compares as it is written


def _class_of(problem: psycopg.Error) -> str:
    if problem.diag.source_function == "exec_parse_message":
        return "not_a_query"  # several statements
    if problem.diag.source_function in FORBIDDEN_BY:
        return "forbidden"
    if problem.sqlstate == "42883" and "operator" in str(problem).lower():
        return "type"
    if problem.sqlstate is None and "memory" in str(problem):
        return "memory"  # of this process: the message is libpq's
    return CLASSES.get(problem.sqlstate or "", "other")


def _explain(
    connection: psycopg.Connection[Any], sql: str, timeout: str, problem: Exception
) -> tuple[str, str]:
    import psycopg
    from psycopg.pq import DiagnosticField

    if not isinstance(problem, psycopg.Error):  # SQL that is no text; or it changed the encoding
        return str(problem), "other" if isinstance(problem, UnicodeDecodeError) else "syntax"
    error, error_class = problem.diag.message_primary or str(problem), _class_of(problem)
    place = problem.diag.statement_position
    if error_class != "syntax" or not place:
        return error, error_class
    # Wrong SQL, or right SQL that is no query? The server parses it alone, not running it.
    connection.rollback()
    connection.execute(BEGIN, (timeout,))
    parsed = connection.pgconn.prepare(b"", sql.encode())
    if parsed.error_field(DiagnosticField.SQLSTATE) == b"42601":
        return error, "syntax"
    start = int(place) - 1 - len(DECLARE)
    if sql[start : start + 1] in ("", ";"):
        return "the text holds no statement", "not_a_query"
    return f"only queries may run ({error})", "forbidden"


def content_hash(target: str) -> str:
    """SHA-256 over the definitions and rows (in any order) of all tables that the role may read."""
    with _transaction(target, "0") as connection:
        digest = hashlib.sha256(repr(connection.execute(VIEWS).fetchall()).encode())
        for table in connection.execute(TABLES).fetchall():
            # A sum does not depend on the order and, unlike string_agg, has no limit of 1 GB.
            rows = connection.execute(
                "SELECT count(*), sum(('x' || left(md5(line), 16))::bit(64)::bigint) "
                f"FROM (SELECT ROW({table[1]})::text AS line FROM {table[0]}) AS lines"
            ).fetchone()
            digest.update(repr((table, rows)).encode())
    return digest.hexdigest()
