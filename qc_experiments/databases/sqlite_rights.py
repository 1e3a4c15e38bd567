"""What a statement may do on a SQLite database: read, also virtual tables, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import pairwise

from qc_experiments.sql.tokens import tokens

READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE)
LEAVING = (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)
WRITING_ROWS = (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)
DENIED_FUNCTIONS = ("load_extension", "fts3_tokenizer", "readfile", "writefile", "edit")
"""Most are not there in Python's SQLite; a distribution may have built them in."""
DESCRIBING = (
    *("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo"),
    *("foreign_key_list", "foreign_key_check", "collation_list", "function_list"),
    *("module_list", "pragma_list", "compile_options"),
)
"""Pragmas that tell something, whatever they are asked."""
ASKING = (
    *("user_version", "application_id", "schema_version", "data_version", "encoding"),
    *("page_count", "page_size", "freelist_count"),
)
"""Pragmas that tell something where no value is given, and else set it."""
MODULES = {
    **dict.fromkeys(("fts3", "fts4"), ("content", "docsize", "segdir", "segments", "stat")),
    "fts5": ("config", "content", "data", "docsize", "idx"),
    **dict.fromkeys(("rtree", "rtree_i32", "geopoly"), ("node", "parent", "rowid")),
    **dict.fromkeys(("fts4aux", "fts5vocab"), ()),
}
"""Kinds of virtual tables that may be read where a schema declares one.

Each keeps its content in shadow tables, called as it is and ``_`` with one of these ends."""
SHADOWS = (
    "SELECT lower(virtual.name || '_' || shadow.column2) FROM sqlite_master AS virtual JOIN (VALUES "
    + ", ".join(f"('{kind}', '{end}')" for kind, ends in MODULES.items() for end in ends)
    + ") AS shadow ON virtual.sql LIKE 'CREATE VIRTUAL %' || shadow.column1 || '%'"
)
"""SQL for the names of a schema's shadow tables in lower case (SQLite before 3.37 lists none)."""
TABLE_FUNCTIONS = (
    *("json_each", "json_tree", "jsonb_each", "jsonb_tree", "dbstat", "fts3tokenize"),
    *sorted(f"pragma_{name}" for name in (*DESCRIBING, *ASKING)),
)
"""Virtual tables that nobody declares."""
UNCONNECTED = "vtable constructor failed: "
DENIED = ("not authorized", "authorization denied")


def _authorizer(allows: Callable[[int], bool]) -> Callable[..., int]:
    """SQLite's callback that allows some actions, and what any text may.

    That is to call functions that reach nothing outside, and pragmas that only tell.
    """

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        allowed = allows(action)
        if action == sqlite3.SQLITE_FUNCTION:
            allowed = (second or "").lower() not in DENIED_FUNCTIONS
        elif action == sqlite3.SQLITE_PRAGMA:  # full-text tables ask for the page size
            name = (first or "").lower()
            allowed = name in DESCRIBING or (name in ASKING and second is None)
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    return authorize


authorize = _authorizer(READING.__contains__)  # of a statement
_authorize_connecting = _authorizer((*READING, *WRITING_ROWS).__contains__)
# A schema comes from a CSV and is trusted no more than a query: it may not leave its memory.
authorize_schema = _authorizer(lambda action: action not in LEAVING)


def start(connection: sqlite3.Connection, sql: str) -> sqlite3.Cursor:
    """Start a statement, with the virtual tables connected that it may read; raises `sqlite3.Error`."""
    try:
        return connection.execute(sql)
    except sqlite3.DatabaseError as problem:
        if not any(words in str(problem) for words in (UNCONNECTED, *DENIED)):
            raise
    failed = _connect_virtual_tables(connection)
    try:
        return connection.execute(sql)
    except sqlite3.DatabaseError as problem:
        before, _, name = str(problem).partition(UNCONNECTED)
        message = next((why for name, why in failed.items() if name in sql.lower()), None)
        if message is None and before:
            raise
        message = message or f"not authorized to read virtual table {name}"
        raise sqlite3.DatabaseError(message) from None


def _connect_virtual_tables(connection: sqlite3.Connection) -> dict[str, str]:
    """Connect virtual tables of the kinds that only read; why those cannot be that a schema declares.

    A virtual table asks for more than reading when it is connected, which happens once: it declares
    its columns, and prepares the statements by which it would write. They are not run: the file is
    open for reading. Whatever is run afterwards is authorized as before.
    """
    declared = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE rootpage = 0"
    ).fetchall()
    names = [name for name, sql in declared if isinstance(sql, str) and _module(sql) in MODULES]
    failed = {}
    connection.set_authorizer(_authorize_connecting)
    for name in (*names, *TABLE_FUNCTIONS):
        quoted = str(name).replace('"', '""')
        try:
            connection.execute(f'SELECT 1 FROM "{quoted}" LIMIT 0').close()
        except sqlite3.Error as problem:
            failed[str(name).lower()] = str(problem)
    connection.set_authorizer(authorize)
    return {name: why for name, why in failed.items() if name not in TABLE_FUNCTIONS}


def _module(sql: str) -> str | None:
    """The kind of virtual table that a CREATE statement makes; None for any other statement."""
    words = tokens(sql)
    if len(words) < 2 or not words[1].is_word("virtual"):
        return None
    return next((kind.name() for using, kind in pairwise(words) if using.is_word("using")), None)
