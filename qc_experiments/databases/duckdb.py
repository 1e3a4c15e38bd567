"""Run a SQL query on a DuckDB file, reading only.

The file is opened read-only by a database of its own for each statement, which can reach no other
file, no network and no extension, spills nothing to disk and has its settings locked. Only one
SELECT statement runs, and it is interrupted when its time is over. DuckDB's memory limit covers
what its operators keep, but not the rows being computed: a process that runs untrusted SQL needs a
limit of its own (``RLIMIT_AS`` turns what exceeds it into an error of class ``memory``), and to be
killed where a statement does not look at the interrupt.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any

from qc_experiments.databases.engine import Execution, Limits, ResultTooLarge, Value, collect
from qc_experiments.errors import UserError

DIALECT = "duckdb"
SUFFIX = ".duckdb"
LOGS = (".wal",)
LIBRARIES = ("duckdb",)
SCHEMA_QUERY = (
    "SELECT sql FROM (SELECT 1 AS kind, schema_name, table_name AS name, sql "
    "FROM duckdb_tables() WHERE NOT internal AND database_name = current_database() UNION ALL "
    "SELECT 2, schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal "
    "AND database_name = current_database()) ORDER BY kind, schema_name, name"
)
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

INTERRUPT_AGAIN_SECONDS = 0.1


def _open(target: str) -> Any:
    """Open a DuckDB file as untrusted SQL may see it: a ``duckdb.DuckDBPyConnection``.

    Raises:
        UserError: if DuckDB is not installed or cannot open the file.
    """
    try:
        import duckdb
    except ImportError:
        raise UserError("DuckDB is not installed: pip install 'qc_experiments[duckdb]'") from None
    try:
        return duckdb.connect(target, read_only=True, config=CONFIG)
    except duckdb.Error as problem:
        raise UserError(f"{target}: DuckDB cannot open this file: {problem}") from problem


def run(target: str, sql: str, limits: Limits) -> Execution:
    """Run one SELECT statement (or what DuckDB takes for one: VALUES, FROM, DESCRIBE, ...) on a file.

    Raises:
        UserError: if DuckDB is not installed or cannot open the file.
    """
    rows: list[tuple[Value, ...]] | None = None
    columns: tuple[str, ...] = ()
    error = error_class = None
    with closing(_open(target)) as connection:
        import duckdb

        started = time.perf_counter()
        ended = threading.Event()
        watch = threading.Thread(target=_interrupt, args=(connection, limits.seconds, ended))
        watch.start()
        try:
            sql.encode()  # half a surrogate pair: DuckDB would call it a wrong argument
            statements = connection.extract_statements(sql)
            if len(statements) != 1:
                error = f"the text holds {len(statements)} statements instead of one"
                error_class = "not_a_query"
            elif statements[0].type != duckdb.StatementType.SELECT:
                error = f"only SELECT may run, not {statements[0].type.name}"
                error_class = "forbidden"
            else:
                columns, rows = _fetch(connection, statements[0], limits)
        except ResultTooLarge as problem:
            error, error_class = str(problem), "result_too_large"
        except (duckdb.Error, ArithmeticError, RuntimeError, ValueError) as problem:
            # not only duckdb.Error: an interval, say, may be longer than Python's timedelta holds
            error = str(problem).partition("\n\nLINE ")[0]
            error_class = _class_of(type(problem).__name__, error)
        except MemoryError:
            error, error_class = "out of memory", "memory"
        finally:
            ended.set()
            watch.join()
    return Execution(rows, columns, error, error_class, time.perf_counter() - started)


def _interrupt(connection: Any, seconds: float, ended: threading.Event) -> None:
    """Interrupt a connection after a time, and again until it has ended.

    Once is not enough: DuckDB forgets an interrupt that comes between two steps.
    """
    while not ended.wait(seconds):
        connection.interrupt()
        seconds = INTERRUPT_AGAIN_SECONDS


def _fetch(
    connection: Any, statement: Any, limits: Limits
) -> tuple[tuple[str, ...], list[tuple[Value, ...]]]:
    """Run a SELECT statement and fetch its names and rows within the limits."""
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
    return tuple(relation.columns), collect((tuple(map(_value, row)) for row in rows), limits)


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
    if isinstance(cell, date | datetime | time_of_day):
        return cell.isoformat()
    return str(cell)  # a timedelta


def _class_of(kind: str, message: str) -> str:
    """Which of `qc_experiments.databases.engine.ERROR_CLASSES` an exception of a kind is."""
    for needle, name in (
        ("read-only mode", "forbidden"),
        ("configuration has been locked", "forbidden"),
    ):
        if needle in message:
            return name
    if kind == "CatalogException":
        if "Function with name" in message:
            return "no_such_function"
        return "type" if "Type with name" in message else "no_such_table"
    if kind == "BinderException":
        for needle, name in (
            ("mbiguous reference", "ambiguous_column"),
            ("Referenced table", "no_such_table"),
            ("Referenced column", "no_such_column"),
            ("does not have a column", "no_such_column"),
            ("No function matches", "type"),
            ("Could not choose a best candidate", "type"),
            ("Cannot compare values of type", "type"),
            ("Cannot mix values of type", "type"),
        ):
            if needle in message:
                return name
    return {
        "ParserException": "syntax",
        "SyntaxException": "syntax",
        "UnicodeEncodeError": "syntax",
        "ConversionException": "type",
        "InvalidTypeException": "type",
        "OutOfRangeException": "type",
        "TypeMismatchException": "type",
        "InterruptException": "timeout",
        "OutOfMemoryException": "memory",
        "PermissionException": "forbidden",
    }.get(kind, "other")
