"""What SQLite itself says of a table whose CREATE statement sqlglot cannot read; rows are never made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import NamedTuple

from qc_experiments.sql.tokens import tokens


class DescribedColumn(NamedTuple):
    """A column: its place in the primary key counts from 1, and is 0 outside it."""

    name: str
    type: str
    place_in_key: int
    computed: bool


class DescribedTable(NamedTuple):
    """A table; a reference is own columns, the parent and its columns (none: its primary key)."""

    name: str
    columns: tuple[DescribedColumn, ...]
    references: tuple[tuple[tuple[str, ...], str, tuple[str, ...]], ...]


def described_table(statement: str) -> DescribedTable | None:
    """The table that a statement makes; None where it makes none, or is no plain CREATE TABLE."""
    read = tokens(statement)
    outer = [token for token in read if not token.depth]
    begins = len(read) > 2 and read[0].is_word("create") and read[1].is_word("table")
    # CREATE TABLE ... AS runs a query, which may take for ever.
    if not begins or any(token.is_word("as", "select", "virtual") for token in outer):
        return None
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute(statement)
            return _described(connection)
        except (sqlite3.Error, sqlite3.Warning, ValueError):
            return None


def _described(connection: sqlite3.Connection) -> DescribedTable:
    (name,) = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchone()
    columns = connection.execute(
        "SELECT name, type, pk, hidden > 0 FROM pragma_table_xinfo(?) ORDER BY cid", (name,)
    )
    found: dict[int, tuple[list[str], str, list[str]]] = {}
    for number, parent, own, other in connection.execute(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq',
        (name,),
    ):
        owns, _, others = found.setdefault(number, ([], parent, []))
        owns.append(own)
        others += [other] if other is not None else []
    return DescribedTable(
        name,
        tuple(DescribedColumn(*column) for column in columns.fetchall()),
        tuple((tuple(own), parent, tuple(other)) for own, parent, other in found.values()),
    )
