"""The tables of a SQLite database, and which rows refer to which, declared or by name and values."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby

from qc_experiments.databases.sqlite_rights import SHADOWS

LOOKS_LIKE_ID = re.compile(r"(?i:(?:^|_)id)$|[a-z]I[dD]$")
MOST_PAIRS = 10_000
"""Pairs of columns of the same name that are compared with each other, so that no schema takes for ever."""
MOST_PASSES = 100


@dataclass(frozen=True, eq=False)
class Table:
    """An ordinary table; plain names are in lower case, quoted ones ready for SQL.

    Attributes:
        columns: quoted by plain name.
        identity: SQL that tells rows apart: the rowid or the primary key; empty if nothing does.
        keys: plain names of the columns that stay as they are.
    """

    name: str
    columns: dict[str, str]
    computed: set[str]
    primary: tuple[str, ...]
    identity: tuple[str, ...]
    keys: set[str]

    def changeable(self) -> tuple[str, ...]:
        """Columns whose cells may change, quoted."""
        if self.keys & self.computed:  # such a key changes with the cells it is computed from
            return ()
        stay = self.keys | self.computed
        return tuple(quoted for name, quoted in self.columns.items() if name not in stay)


@dataclass(frozen=True)
class Reference:
    """Rows of the child refer to rows of the parent; plain names, columns side by side."""

    child: str
    child_columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def read_layout(connection: sqlite3.Connection) -> tuple[dict[str, Table], list[Reference]]:
    """The ordinary tables by plain name, children before their parents, and their references."""
    listed = connection.execute(
        "SELECT lower(name), name FROM sqlite_master "
        "WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        f"AND sql NOT LIKE 'CREATE VIRTUAL %' AND lower(name) NOT IN ({SHADOWS}) ORDER BY rowid"
    ).fetchall()
    tables = {plain: _read_table(connection, name) for plain, name in listed}
    references = [*_declared(connection, tables), *_guess_joins(connection, tables)]
    for reference in references:
        tables[reference.child].keys.update(reference.child_columns)
        tables[reference.parent].keys.update(reference.parent_columns)
    # How far each table stands above those that refer to it; in a circle any order will do.
    rank = dict.fromkeys(tables, 0)
    for _ in range(min(len(tables), MOST_PASSES)):
        before = dict(rank)
        for reference in references:
            if reference.child != reference.parent:
                rank[reference.parent] = max(rank[reference.parent], rank[reference.child] + 1)
        if rank == before:
            break
    return {name: tables[name] for name in sorted(tables, key=rank.__getitem__)}, references


def _read_table(connection: sqlite3.Connection, name: str) -> Table:
    described = connection.execute(
        "SELECT lower(name), name, pk, hidden FROM pragma_table_xinfo(?) ORDER BY pk, cid", (name,)
    ).fetchall()
    columns = {plain: quoted(column) for plain, column, _, _ in described}
    primary = tuple(plain for plain, _, position, _ in described if position)
    unique = connection.execute(
        "SELECT lower(k.name) FROM pragma_index_list(?) AS i, pragma_index_xinfo(i.name) AS k "
        'WHERE i."unique" AND k.key AND k.name IS NOT NULL',
        (name,),
    )
    keys = {*primary, *(plain for (plain,) in unique)}
    keys.update(plain for plain, column, _, _ in described if LOOKS_LIKE_ID.search(column))
    # Columns may take all of the rowid's names; a table WITHOUT ROWID has none.
    rowid = next((alias for alias in ("rowid", "_rowid_", "oid") if alias not in columns), None)
    identity: tuple[str, ...] = () if rowid is None else (rowid,)
    try:
        connection.execute(f"SELECT {rowid or 1} FROM {quoted(name)} LIMIT 0")
    except sqlite3.OperationalError:
        identity = tuple(columns[plain] for plain in primary)
    computed = {plain for plain, _, _, hidden in described if hidden}
    return Table(quoted(name), columns, computed, primary, identity, keys)


def _declared(connection: sqlite3.Connection, tables: dict[str, Table]) -> Iterator[Reference]:
    """Foreign keys, less those that name what is not there."""
    listed = connection.execute(
        'SELECT lower(m.name), f.id, lower(f."table"), lower(f."from"), lower(f."to") '
        "FROM sqlite_master AS m, pragma_foreign_key_list(m.name) AS f "
        "WHERE m.type = 'table' ORDER BY m.rowid, f.id, f.seq"
    )
    for (child, _, parent), group in groupby(listed, key=lambda row: row[:3]):
        pairs = [(source, target) for *_, source, target in group]
        if child not in tables or parent not in tables:
            continue
        sources = tuple(source for source, _ in pairs)
        # A foreign key that names no columns of the parent means its primary key.
        targets = tuple(target for _, target in pairs if target) or tables[parent].primary
        if len(sources) == len(targets) and tables[parent].columns.keys() >= set(targets):
            yield Reference(child, sources, parent, targets)


def _guess_joins(connection: sqlite3.Connection, tables: dict[str, Table]) -> Iterator[Reference]:
    """Add columns that share name and values to the keys; find references that nothing declares.

    Such a column refers to a table in which it is unique, and a ``pet_id`` to ``pets.id``.
    """
    is_unique = cache(partial(_is_unique, connection))
    names, in_order = list(tables), list(tables.values())
    by_id_name: dict[str, set[int]] = defaultdict(set)
    for place, name in enumerate(names):
        for called in (stem + end for stem in (name, name[:-1]) for end in ("_id", "id")):
            by_id_name[called].add(place)
    sharing = _tables_that_share(in_order, is_unique)
    for place, (child, own) in enumerate(tables.items()):
        columns = list(own.columns)
        pairs = [
            (other, number, shares)
            for number, column in enumerate(columns)
            for shares, others in (
                (False, by_id_name.get(column, ())),
                (True, sharing(place, column)),
            )
            for other in others
            if other != place
        ]
        for other_place, number, shares in sorted(pairs):
            column, parent, other = columns[number], names[other_place], in_order[other_place]
            if not shares:
                if is_unique(other, "id"):
                    yield Reference(child, (column,), parent, ("id",))
                continue
            if not _any(connection, own, "IN", other, column):
                continue
            own.keys.add(column)
            if column == "id" or not is_unique(other, column):
                continue  # an id numbers the rows of its own table
            # Unique in both: then the later table tells more about rows of the earlier one.
            if not is_unique(own, column) or (
                place > other_place and not _any(connection, own, "NOT IN", other, column)
            ):
                yield Reference(child, (column,), parent, (column,))


def _tables_that_share(
    tables: Sequence[Table], is_unique: Callable[[Table, str], bool]
) -> Callable[[int, str], Sequence[int]]:
    """Which tables a table's column is to be compared with: all that have one of that name.

    In a schema in which those are too many, it is the first table in which it is unique, for all of them.
    """
    sharing: dict[str, list[int]] = defaultdict(list)
    for place, table in enumerate(tables):
        for column in table.columns:
            sharing[column].append(place)
    hubs: dict[str, int] = {}
    if sum(len(places) * (len(places) - 1) for places in sharing.values()) > MOST_PAIRS:
        for column, places in sharing.items():
            unique = (place for place in places if is_unique(tables[place], column))
            hubs[column] = next(unique, places[0])

    def others(place: int, column: str) -> Sequence[int]:
        hub, places = hubs.get(column), sharing[column]
        if hub is None:
            return places
        return [hub] if place != hub else [p for p in places[:2] if p != place][:1]

    return others


def _is_unique(connection: sqlite3.Connection, table: Table, column: str) -> bool:
    name = table.columns.get(column, "NULL")
    query = f"SELECT count({name}) AND count(DISTINCT {name}) = count({name}) FROM {table.name}"
    return bool(connection.execute(query).fetchone()[0])


def _any(
    connection: sqlite3.Connection, table: Table, test: str, other: Table, column: str
) -> bool:
    """Whether any value of a table's column is (not) in another table's of the same name."""
    theirs = other.columns[column]
    values = f"SELECT {theirs} FROM {other.name} WHERE {theirs} NOT NULL"
    query = f"SELECT 1 FROM {table.name} WHERE {table.columns[column]} {test} ({values}) LIMIT 1"
    return connection.execute(query).fetchone() is not None
