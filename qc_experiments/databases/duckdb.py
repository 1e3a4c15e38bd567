"""Run a SQL query on a DuckDB file, reading only.

Each statement has a database of its own, which reaches no other file, no network and no extension,
spills nothing to disk and has its settings locked. DuckDB's memory limit covers what its operators
keep, but not the rows being computed: the process needs a limit of its own, and to be killed where
a statement does not look at the interrupt.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from qc_experiments.databases.engine import (
    Execution,
    Failed,
    Limits,
    Row,
    Value,
    class_of,
    execution,
)
from qc_experiments.errors import UserError

DIALECT = "duckdb"
SUFFIX = ".duckdb"
LOGS = (".wal",)
LIBRARIES = ("duckdb",)
OF_SCHEMA = """CASE schema_name WHEN 'main' THEN '' ELSE '"' || replace(schema_name, '"', '""') || '".' END"""
"""What stands before a table's name, as in the statement that DuckDB itself writes."""
SCHEMA_QUERY = f"""
SELECT sql FROM (
    SELECT 1 AS kind, schema_name, table_name AS name, 0 AS place, sql, internal, database_name
    FROM duckdb_tables()
    UNION ALL SELECT 2, schema_name, view_name, 0, sql, internal, database_name FROM duckdb_views()
    UNION ALL SELECT 3, schema_name, table_name, 0, format(
        'COMMENT ON TABLE {{}}"{{}}" IS ''{{}}''', {OF_SCHEMA},
        replace(table_name, '"', '""'), replace(comment, '''', '''''')
    ), internal, database_name FROM duckdb_tables() WHERE comment IS NOT NULL
    UNION ALL SELECT 3, schema_name, table_name, column_index, format(
        'COMMENT ON COLUMN {{}}"{{}}"."{{}}" IS ''{{}}''', {OF_SCHEMA},
        replace(table_name, '"', '""'), replace(column_name, '"', '""'), replace(comment, '''', '''''')
    ), internal, database_name FROM duckdb_columns() WHERE comment IS NOT NULL
) WHERE NOT internal AND database_name = current_database() ORDER BY kind, schema_name, name, place
"""
CONFIG = {
    "enable_external_access": "false",  # nor does a table's name find variables of this process
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "512MB",
    "threads": "1",
    "temp_directory": "",
    "lock_configuration": "true",
}
READ_AS_IS = frozenset(
    (
        *("boolean", "tinyint", "smallint", "integer", "bigint", "hugeint"),
        *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"),
        *("float", "double", "decimal", "varchar", "enum", "blob", "date", "time", "interval"),
        *("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"),
    )
)
"""Types whose cells DuckDB hands to Python; it writes those of any other type as text itself."""
LOCKED = {"forbidden": ("read-only mode", "configuration has been locked")}
CLASSES_BY_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "CatalogException": {
        "no_such_function": ("Function with name",),
        "type": ("Type with name",),
    },
    "BinderException": {
        "ambiguous_column": ("mbiguous reference",),
        "no_such_table": ("Referenced table",),
        "no_such_column": ("Referenced column", "does not have a column"),
        "type": (
            *("No function matches", "Could not choose a best candidate"),
            *("Cannot compare values of type", "Cannot mix values of type"),
        ),
    },
}
CLASSES = {
    **dict.fromkeys(("ParserException", "SyntaxException", "UnicodeEncodeError"), "syntax"),
    **dict.fromkeys(("ConversionException", "InvalidTypeException"), "type"),
    **dict.fromkeys(("OutOfRangeException", "TypeMismatchException"), "type"),
    "CatalogException": "no_such_table",
    "InterruptException": "timeout",
    "OutOfMemoryException": "memory",
    "PermissionException": "forbidden",
}
"""Class of a failure by its exception, where words of its message do not tell it."""
INTERRUPT_AGAIN_SECONDS = 0.1


def run(target: str, sql: str, limits: Limits) -> Execution:
    """Run one SELECT statement (or what DuckDB takes for one: VALUES, FROM, DESCRIBE, ...) on a file."""
    try:
        import duckdb
    except ImportError:
        raise UserError("DuckDB is not installed: pip install 'qc_experiments[duckdb]'") from None
    try:
        connection = duckdb.connect(target, read_only=True, config=CONFIG)
    except duckdb.Error as problem:
        raise UserError(f"{target}: DuckDB cannot open this file: {problem}") from problem

    def fetch() -> tuple[list[str], Iterator[Row]]:
        sql.encode()  # half a surrogate pair: DuckDB would call it a wrong argument
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise Failed(
                f"the text holds {len(statements)} statements instead of one", "not_a_query"
            )
        kind = statements[0].type
        if kind != duckdb.StatementType.SELECT:
            # PIVOT without IN makes a type first, of the values that it finds
            said = (
                ", nor PIVOT ... ON without IN (...)"
                if kind.name == "MULTI"
                else f", not {kind.name}"
            )
            raise Failed(f"only SELECT may run{said}", "forbidden")
        return _fetch(connection, statements[0])

    # not only duckdb.Error: an interval, say, may be longer than Python's timedelta holds
    failures = (duckdb.Error, ArithmeticError, RuntimeError, ValueError)
    with closing(connection), _interrupted_after(connection, limits.seconds):
        return execution(fetch, limits, failures, _explain)


@contextmanager
def _interrupted_after(connection: Any, seconds: float) -> Iterator[None]:
    """Interrupt a connection after a time, and again until the block has ended.

    Once is not enough: DuckDB forgets an interrupt that comes between two steps.
    """
    ended = threading.Event()

    def watch() -> None:
        left = seconds
        while not ended.wait(left):
            connection.interrupt()
            left = INTERRUPT_AGAIN_SECONDS

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def _fetch(connection: Any, statement: Any) -> tuple[list[str], Iterator[Row]]:
    """Run a SELECT statement and give its names and rows."""
    query: Any = statement
    relation = connection.sql(statement)  # binds it and runs nothing
    kinds = [kind.id for kind in relation.types]
    if not READ_AS_IS.issuperset(kinds):
        # Python would need pytz for a time with a zone, and hold a list of millions as objects.
        cells = ", ".join(_cell(number, kind) for number, kind in enumerate(kinds, 1))
        literal = statement.query.replace("'", "''")
        query = f"SELECT {cells} FROM query('{literal}')"
    cursor = connection.execute(query)
    rows = iter(cursor.fetchone, None)  # one at a time: DuckDB buffers, and rows may be large
    return relation.columns, (tuple(map(_value, row)) for row in rows)


def _cell(number: int, kind: str) -> str:
    """The SQL that reads a column by its number."""
    if kind in READ_AS_IS:
        return f"#{number}"
    text = f"CAST(#{number} AS VARCHAR)"
    return f"replace({text}, ' ', 'T')" if kind == "timestamp with time zone" else text


def _value(cell: object) -> Value:
    if cell is None or isinstance(cell, float | str | bytes):
        return cell
    if isinstance(cell, int):
        return int(cell)  # a bool, too
    if isinstance(cell, Decimal):
        return int(cell) if cell == cell.to_integral_value() else float(cell)
    if isinstance(cell, date | datetime | time):
        return cell.isoformat()
    return str(cell)  # a timedelta


def _explain(problem: Exception) -> tuple[str, str]:
    kind, message = type(problem).__name__, str(problem).partition("\n\nLINE ")[0]
    words = LOCKED | CLASSES_BY_WORDS.get(kind, {})
    return message, class_of(message, words) or CLASSES.get(kind, "other")
