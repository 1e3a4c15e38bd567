"""Run a statement on a SQLite file, reading only.

The file is opened read-only, nothing can be attached, an authorizer lets reading through and nothing
else, and a progress handler ends what runs too long. One opcode that runs for ever is beyond all
that: it takes the child process, which the parent kills (see `qc_experiments.databases.pool`).
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from qc_experiments.databases.content import logs
from qc_experiments.databases.engine import Execution, Failed, Limits, class_of, execution
from qc_experiments.databases.sqlite_rights import SHADOWS, authorize, authorize_schema, start
from qc_experiments.sql.tokens import statement, tokens

DIALECT = "sqlite"
SUFFIX = ".sqlite"
LOGS = ("-wal", "-journal")
SCHEMA_QUERY = (  # of tables, then of views; shadow tables are made with their virtual one
    "SELECT sql FROM sqlite_master WHERE type IN ('table', 'view') AND sql IS NOT NULL "
    "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
    f"AND lower(name) NOT IN ({SHADOWS}) ORDER BY type, rowid"
)
COMPUTED = re.compile(r"\bGENERATED\s+ALWAYS\s+AS\b", re.IGNORECASE)
HEAP_BYTES = 512_000_000
SCHEMA_SECONDS = 2.0
SCHEMA_MAX_BYTES = 10_000_000
PROGRESS_OPCODES = 10_000
QUOTED_LOOKED_AT = 20
"""How many double-quoted words of a statement are asked for whether they are columns."""
WAL_VERSION = b"\x02\x02"
CLASSES = {
    "timeout": ("interrupted",),
    "no_such_table": ("no such table",),
    "no_such_column": ("no such column",),
    "ambiguous_column": ("ambiguous column",),
    "no_such_function": ("no such function", "wrong number of arguments"),
    "type": ("datatype mismatch",),
    "forbidden": (
        *("not authorized", "authorization denied", "prohibited", "unsafe use of"),
        *("may not be modified", "readonly database", "too many attached databases"),
    ),
    "not_a_query": ("one statement at a time",),
    "result_too_large": ("string or blob too big",),
    "memory": ("out of memory",),
    "syntax": ("syntax error", "unrecognized token", "incomplete input"),
}
"""Class of a failure by words of its message."""


def run(target: str, sql: str, limits: Limits) -> Execution:
    """Run one statement on a fresh read-only view of a database file."""
    with closing(open_readonly(Path(target))) as connection:
        return run_query(connection, sql, limits)


def run_on_schema(schema: str, sql: str, limits: Limits) -> Execution:
    """Run one statement on an empty database made of CREATE statements.

    Where these are not what SQLite runs, the error has no class.
    """
    connection = empty_database(schema)
    if connection is None:
        return Execution(None, (), "the context is not a schema that SQLite runs")
    with closing(connection):
        return run_query(connection, sql, limits)


def open_readonly(path: Path) -> sqlite3.Connection:
    """Open a SQLite file for reading only, leaving no files beside it; raises `sqlite3.Error`."""
    # Reading a database in WAL mode makes -wal and -shm files, unless it is said not to change.
    frozen = "&immutable=1" if _makes_files(path) and not logs("sqlite", str(path)) else ""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{frozen}", uri=True)
    connection.text_factory = _decode
    return connection


def _makes_files(path: Path) -> bool:
    """Whether SQLite may make or remove files beside this one when it reads it."""
    if os.path.lexists(f"{os.path.realpath(path)}-wal"):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        return False  # connect says what is wrong
    return not head or head[18:20] == WAL_VERSION


def _decode(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw  # real databases hold text that is not UTF-8; it compares by its bytes


def empty_database(schema: str) -> sqlite3.Connection | None:
    """A database in memory with the tables of a schema and no rows; None where SQLite does not run it."""
    connection = sqlite3.connect(":memory:")
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, SCHEMA_MAX_BYTES)
    connection.set_authorizer(authorize_schema)
    _end_after(connection, SCHEMA_SECONDS)
    try:
        connection.executescript(_without_computing(schema))
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except (sqlite3.Error, ValueError):
        tables = 0
    connection.set_progress_handler(None, 0)
    if tables:
        return connection
    connection.close()
    return None


def _without_computing(schema: str) -> str:
    """A schema with plain columns in place of computed ones, which another engine's SQL may compute.

    There are no rows of which they could be computed.
    """
    if COMPUTED.search(schema) is None:  # which saves the tokens
        return schema
    found = tokens(schema)
    kept, place = [], 0
    for at, token in enumerate(found):
        words = [one.text.lower() for one in found[at : at + 4]]
        if words != ["generated", "always", "as", "("] or token.start < place:
            continue
        ends = (k for k in range(at + 4, len(found)) if found[k].depth == token.depth)
        last = next(ends, len(found) - 1)
        if last + 1 < len(found) and found[last + 1].is_word("stored", "virtual"):
            last += 1
        kept.append(schema[place : token.start])
        place = found[last].end
    return "".join([*kept, schema[place:]])


def _end_after(connection: sqlite3.Connection, seconds: float) -> None:
    deadline = time.perf_counter() + seconds
    connection.set_progress_handler(lambda: time.perf_counter() > deadline, PROGRESS_OPCODES)


def run_query(connection: sqlite3.Connection, sql: str, limits: Limits) -> Execution:
    """Run one statement; afterwards the connection allows reading only."""
    if ";" in sql:
        sql = statement(sql)  # SQLite takes `SELECT 1;;` for two statements
    _confine(connection, limits)
    _end_after(connection, limits.seconds)

    def fetch() -> tuple[list[str], sqlite3.Cursor]:
        cursor = start(connection, sql)
        if cursor.description is None:
            raise Failed("the statement returns no rows", "not_a_query")
        return [column[0] for column in cursor.description], cursor

    found = execution(fetch, limits, (sqlite3.Error, sqlite3.Warning, ValueError), _explain)
    connection.set_progress_handler(None, 0)
    return found if found.rows is None else replace(found, warning=_forgiven(connection, sql))


def _confine(connection: sqlite3.Connection, limits: Limits) -> None:
    connection.set_authorizer(None)
    for pragma in (
        "temp_store = MEMORY",  # large sorts must not spill into files
        "query_only = ON",
        # A view, an index or a column may then call json_extract; what is dangerous SQLite lets no
        # schema call at all, and a view is asked about like a query.
        "trusted_schema = ON",
        f"hard_heap_limit = {HEAP_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limits.bytes)
    connection.set_authorizer(authorize)


def _forgiven(connection: sqlite3.Connection, sql: str) -> str | None:
    """Say which double-quoted words SQLite took for strings because no column is called so.

    Such a word is a column's name by the standard; a misspelt one silently becomes a text. SQLite is
    asked itself: between backticks the word can only be a name, and is refused if there is none.
    """
    if '"' not in sql:
        return None
    quoted = [token for token in tokens(sql) if token.kind == "quoted" and token.text[0] == '"']
    taken = []
    for token in quoted[:QUOTED_LOOKED_AT]:
        name = token.text[1:-1].replace('""', '"').replace("`", "``")
        try:
            connection.execute(f"EXPLAIN {sql[: token.start]}`{name}`{sql[token.end :]}").close()
        except (sqlite3.Error, sqlite3.Warning) as problem:
            if "no such column" in str(problem) and token.text not in taken:
                taken.append(token.text)
    verb = "names no column and was" if len(taken) == 1 else "name no columns and were"
    return f"{', '.join(taken)} {verb} taken as text" if taken else None


def _explain(problem: Exception) -> tuple[str, str]:
    message = str(problem) or type(problem).__name__
    return message, class_of(message.lower(), CLASSES) or "other"
