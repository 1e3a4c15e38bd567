"""Run a SQL query on a SQLite file, reading only.

The database is opened read-only, nothing can be attached, an authorizer lets reading through and
nothing else, and a progress handler ends what runs too long. (One opcode that runs forever is not
stopped by it; that takes a process of its own.)
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ALLOWED_ACTIONS = frozenset(
    (
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    )
)
OUTSIDE_ACTIONS = frozenset((sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA))
SCHEMA_SECONDS = 2.0
SCHEMA_MAX_BYTES = 10_000_000
PROGRESS_OPCODES = 10_000
MAX_ROWS = 100_000
"""A result with more rows is an error of class ``too_many_rows``."""


@dataclass(frozen=True)
class Execution:
    """What came of a query.

    Attributes:
        rows: the result, or None if it failed.
        columns: names of the result's columns.
        error: the database's message, or None.
        error_class: ``syntax``, ``no_such_table``, ``no_such_column``, ``forbidden``, ``timeout``,
            ``too_many_rows``, ``not_a_query`` or ``other``; None if it succeeded.
        seconds: how long it took.
    """

    rows: list[tuple[object, ...]] | None
    columns: tuple[str, ...]
    error: str | None
    error_class: str | None
    seconds: float


def _decode(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw  # real databases hold text that is not UTF-8; it compares by its bytes


def _authorize(
    action: int, first: str | None, second: str | None, database: str | None, source: str | None
) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() == "load_extension":
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in ALLOWED_ACTIONS else sqlite3.SQLITE_DENY


def _authorize_schema(
    action: int, first: str | None, second: str | None, database: str | None, source: str | None
) -> int:
    """A schema comes from a CSV and is trusted no more than a query: it may not leave its memory."""
    return sqlite3.SQLITE_DENY if action in OUTSIDE_ACTIONS else sqlite3.SQLITE_OK


def open_readonly(path: Path) -> sqlite3.Connection:
    """Open a SQLite file for reading only.

    Raises:
        sqlite3.Error: if it cannot be opened.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    connection.text_factory = _decode
    return connection


def empty_database(schema: str) -> sqlite3.Connection | None:
    """A database in memory with the tables of a schema and no rows.

    Args:
        schema: CREATE TABLE statements.

    Returns:
        The connection, or None where the text is no schema that SQLite runs.
    """
    connection = sqlite3.connect(":memory:")
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, SCHEMA_MAX_BYTES)
    connection.set_authorizer(_authorize_schema)
    deadline = time.perf_counter() + SCHEMA_SECONDS
    connection.set_progress_handler(lambda: time.perf_counter() > deadline, PROGRESS_OPCODES)
    try:
        connection.executescript(schema)
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except (sqlite3.Error, ValueError):
        tables = 0
    connection.set_progress_handler(None, 0)
    if tables:
        return connection
    connection.close()
    return None


def run_query(connection: sqlite3.Connection, sql: str, timeout: float) -> Execution:
    """Run one query.

    Args:
        connection: an open database; afterwards it allows reading only.
        sql: one statement.
        timeout: seconds after which it is ended.
    """
    started = time.perf_counter()
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.set_authorizer(_authorize)
    deadline = started + timeout
    connection.set_progress_handler(lambda: time.perf_counter() > deadline, PROGRESS_OPCODES)
    rows: list[tuple[object, ...]] | None = None
    columns: tuple[str, ...] = ()
    error = error_class = None
    try:
        cursor = connection.execute(sql)
        if cursor.description is None:
            error, error_class = "the statement returns no rows", "not_a_query"
        else:
            columns = tuple(column[0] for column in cursor.description)
            rows = cursor.fetchmany(MAX_ROWS + 1)
            if len(rows) > MAX_ROWS:
                rows, error = None, f"more than {MAX_ROWS} rows"
                error_class = "too_many_rows"
    except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError) as problem:
        rows, error = None, str(problem) or type(problem).__name__
        error_class = classify(error)
    finally:
        connection.set_progress_handler(None, 0)
    return Execution(rows, columns, error, error_class, time.perf_counter() - started)


def classify(message: str) -> str:
    """Name the class of one of SQLite's error messages (see `Execution.error_class`)."""
    text = message.lower()
    for needle, name in (
        ("interrupted", "timeout"),
        ("no such table", "no_such_table"),
        ("no such column", "no_such_column"),
        ("ambiguous column", "ambiguous_column"),
        ("not authorized", "forbidden"),
        ("authorization denied", "forbidden"),
        ("prohibited", "forbidden"),
        ("one statement at a time", "not_a_query"),
        ("syntax error", "syntax"),
        ("unrecognized token", "syntax"),
        ("incomplete input", "syntax"),
    ):
        if needle in text:
            return name
    return "other"


def schema_of(connection: sqlite3.Connection) -> str:
    """The CREATE TABLE statements of a database, one a line, as a prompt's context."""
    statements: Sequence[tuple[str]] = connection.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
        "AND sql IS NOT NULL ORDER BY rowid"
    ).fetchall()
    return "\n".join(f"{str(sql).strip()};" for (sql,) in statements)
