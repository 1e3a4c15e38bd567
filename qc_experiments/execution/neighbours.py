"""Neighbours of a database: copies with other rows, on which a right answer holds as well.

One database often cannot tell two queries apart: ``age > 20`` and ``age >= 20`` give the same rows
where nobody is 20. So a database gets perturbed copies (the idea of the test suites of Zhong, Yu
and Klein, 2020): keys, types, constraints and references stay whole; other cells get other
plausible values, and some rows go.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby, permutations
from pathlib import Path
from random import Random

from qc_experiments.execution.sqlite import open_readonly

RULES = "v1"
"""Version of the rules below; part of the folder's name, so that other rules make other files."""

STRENGTHS = ((0.15, 0.1), (0.4, 0.2), (0.7, 0.33), (0.25, 0.3), (0.85, 0.15))
"""Share of cells changed and of rows deleted, by a neighbour's index (then from the front again)."""

MAX_ROWS = 20_000
"""How many rows of a table are perturbed; the others of a larger table stay as they are."""

MOVE_SHARE = 0.4  # of changed numbers get a nearby or a round value, the rest another cell's
ROUND_SHARE = 0.5  # of those get a round value
RESPELL_SHARE = 0.05  # of changed texts get another spelling, the rest another cell's
MOST_CODES = 5  # a text column of 2 to this many values holds codes, which have one spelling
EXACT = 2**50  # beyond, an integer may overflow and a float have no v + 1

LOOKS_LIKE_ID = re.compile(r"(?i:(?:^|_)id)$|[a-z]I[dD]$")

Value = object
Row = tuple[Value, ...]

UNREADABLE: Value = object()
"""A text that is not UTF-8. Python could only write it back as a BLOB, so such a cell stays."""


@dataclass(frozen=True, eq=False)
class _Table:
    """An ordinary table; plain names are in lower case, quoted ones ready for SQL.

    Attributes:
        name: quoted.
        columns: quoted by plain name.
        computed: plain names of the generated columns.
        primary: plain names of the primary key's columns, in its order.
        identity: SQL that tells rows apart: the rowid or the primary key; empty if nothing does.
        keys: plain names of the columns that stay as they are.
    """

    name: str
    columns: dict[str, str]
    computed: frozenset[str]
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
class _Reference:
    """Rows of the child refer to rows of the parent; plain names, columns side by side."""

    child: str
    child_columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


class _Pool:
    """The values of a column, and how another value for one of its cells is drawn."""

    def __init__(self, cells: Sequence[Value]) -> None:
        self.cells = [cell for cell in cells if cell is not UNREADABLE]
        self.values = list(dict.fromkeys(self.cells))
        self.numbers = [cell for cell in self.values if isinstance(cell, int | float)]
        self.low, self.high = min(self.numbers, default=0), max(self.numbers, default=0)

    def another(self, value: Value, random: Random) -> Value:
        """A value for the cell that holds this one; now and then the same.

        NULL is drawn only where the column has NULLs.
        """
        if isinstance(value, int | float) and random.random() < MOVE_SHARE:
            return self._moved(value, random)
        if isinstance(value, str) and random.random() < RESPELL_SHARE:
            return self._respelled(value, random)
        # Half of the time by frequency; else the rare values, too, come to be seen.
        return random.choice(random.choice((self.cells, self.values)))

    def _moved(self, value: int | float, random: Random) -> int | float:
        """One more or less, or something round between two of the column's values."""
        if not -EXACT < self.low <= self.high < EXACT:
            return value
        if random.random() < ROUND_SHARE:
            between = random.uniform(random.choice(self.numbers), random.choice(self.numbers))
            moved = float(f"{between:.{random.choice((1, 2, 3))}g}")
        else:
            moved = value + random.choice((1, -1))
        if not self.low <= moved <= self.high:
            moved = value + 1 if self.low == self.high else value
        if isinstance(value, int):
            return int(moved)
        # In most columns SQLite turns a whole REAL into an INTEGER.
        return value if moved.is_integer() and not value.is_integer() else moved

    def _respelled(self, text: str, random: Random) -> str:
        """With the first letter in the other case, or with a letter more; words only."""
        if 2 <= len(self.values) <= MOST_CODES or not text[:1].isalpha():
            return text
        return random.choice((text[0].swapcase() + text[1:], f"{text}s", f"{text[0]}{text}"))


def neighbour_databases(path: Path, count: int, seed: int, cache: Path) -> list[Path]:
    """Copies of a SQLite file with other rows, made once and then reused.

    The same original, seed and index give the same rows, however many neighbours are asked for.

    Args:
        path: the original, which is only read.
        count: how many neighbours.
        seed: another seed makes other ones.
        cache: folder that keeps them.

    Returns:
        Their files, each of them complete.

    Raises:
        sqlite3.DatabaseError: if the original is no database that SQLite can read.
        OSError: if a file cannot be read or written.
    """
    digest = _digest(path)
    folder = cache / f"{digest}-{RULES}-s{seed}"
    files = [folder / f"{index}.sqlite" for index in range(count)]
    missing = [(index, file) for index, file in enumerate(files) if not file.exists()]
    if not missing:
        return files
    with closing(open_readonly(path)) as original:
        original.text_factory = str
        tables, references = _read_layout(original)
        folder.mkdir(parents=True, exist_ok=True)
        for index, file in missing:
            # In a folder of its own, so that what SQLite puts beside a file goes away with it.
            with tempfile.TemporaryDirectory(dir=folder) as workshop:
                unfinished = Path(workshop, file.name)
                with closing(sqlite3.connect(unfinished, isolation_level=None)) as copy:
                    copy.execute("PRAGMA synchronous = OFF")  # once, at the end, is enough
                    original.backup(copy)
                    _perturb(copy, tables, references, f"{digest}:{seed}:{index}", index)
                with unfinished.open("rb") as written:
                    os.fsync(written.fileno())
                os.replace(unfinished, file)
    return files


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    log = Path(f"{path}-wal")
    if log.exists():  # it holds changes that the file itself does not show yet
        digest.update(log.read_bytes())
    return digest.hexdigest()[:16]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _read_layout(connection: sqlite3.Connection) -> tuple[dict[str, _Table], list[_Reference]]:
    """The ordinary tables by plain name, children before their parents, and their references."""
    listed = connection.execute(
        "SELECT lower(name), name, sql LIKE 'CREATE VIRTUAL %' FROM sqlite_master "
        "WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
    ).fetchall()
    # A virtual table keeps its content in tables of its own, named after it.
    shadows = tuple(f"{plain}_" for plain, _, virtual in listed if virtual)
    tables = {
        plain: _read_table(connection, name)
        for plain, name, virtual in listed
        if not virtual and not plain.startswith(shadows)
    }
    references = [*_declared(connection, tables), *_guess_joins(connection, tables)]
    rank = dict.fromkeys(tables, 0)
    for reference in references * len(tables):  # often enough; in a circle any order will do
        tables[reference.child].keys.update(reference.child_columns)
        tables[reference.parent].keys.update(reference.parent_columns)
        if reference.child != reference.parent:
            rank[reference.parent] = max(rank[reference.parent], rank[reference.child] + 1)
    return {name: tables[name] for name in sorted(tables, key=rank.__getitem__)}, references


def _read_table(connection: sqlite3.Connection, name: str) -> _Table:
    described = connection.execute(
        "SELECT lower(name), name, pk, hidden FROM pragma_table_xinfo(?) ORDER BY pk, cid", (name,)
    ).fetchall()
    columns = {plain: _quoted(column) for plain, column, _, _ in described}
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
    identity: tuple[str, ...] = ()
    if rowid:
        try:
            connection.execute(f"SELECT {rowid} FROM {_quoted(name)} LIMIT 0")
            identity = (rowid,)
        except sqlite3.OperationalError:
            identity = tuple(columns[plain] for plain in primary)
    computed = frozenset(plain for plain, _, _, hidden in described if hidden)
    return _Table(_quoted(name), columns, computed, primary, identity, keys)


def _declared(connection: sqlite3.Connection, tables: dict[str, _Table]) -> Iterator[_Reference]:
    """Foreign keys, less those that name what is not there."""
    listed = connection.execute(
        'SELECT lower(m.name), f.id, lower(f."table"), lower(f."from"), lower(f."to") '
        "FROM sqlite_master AS m, pragma_foreign_key_list(m.name) AS f "
        "WHERE m.type = 'table' ORDER BY m.rowid, f.id, f.seq"
    )
    for (child, _, parent), group in groupby(listed, key=lambda row: row[:3]):
        if child not in tables or parent not in tables:
            continue
        pairs = [(source, target) for *_, source, target in group]
        sources = tuple(source for source, _ in pairs)
        # A foreign key that names no columns of the parent means its primary key.
        targets = tuple(target for _, target in pairs if target) or tables[parent].primary
        if len(sources) == len(targets) and tables[parent].columns.keys() >= set(targets):
            yield _Reference(child, sources, parent, targets)


def _guess_joins(connection: sqlite3.Connection, tables: dict[str, _Table]) -> Iterator[_Reference]:
    """Add columns that share name and values to the keys; find references that nothing declares.

    Such a column refers to a table in which it is unique, and a ``pet_id`` to ``pets.id``.
    """
    is_unique = cache(partial(_is_unique, connection))
    for (place, child), (other_place, parent) in permutations(enumerate(tables), 2):
        own, other = tables[child], tables[parent]
        for column in own.columns:
            named = (f"{stem}{end}" for stem in (parent, parent[:-1]) for end in ("_id", "id"))
            if column in named and is_unique(other, "id"):
                yield _Reference(child, (column,), parent, ("id",))
            if column not in other.columns or not _any(connection, own, "IN", other, column):
                continue
            own.keys.add(column)
            if column == "id" or not is_unique(other, column):
                continue  # an id numbers the rows of its own table
            # Unique in both: then the later table tells more about rows of the earlier one.
            if not is_unique(own, column) or (
                place > other_place and not _any(connection, own, "NOT IN", other, column)
            ):
                yield _Reference(child, (column,), parent, (column,))


def _is_unique(connection: sqlite3.Connection, table: _Table, column: str) -> bool:
    name = table.columns.get(column, "NULL")
    query = f"SELECT count({name}) AND count(DISTINCT {name}) = count({name}) FROM {table.name}"
    return bool(connection.execute(query).fetchone()[0])


def _any(
    connection: sqlite3.Connection, table: _Table, test: str, other: _Table, column: str
) -> bool:
    """Whether any value of a table's column is (not) in another table's of the same name."""
    values = (
        f"SELECT {other.columns[column]} FROM {other.name} WHERE {other.columns[column]} NOT NULL"
    )
    query = f"SELECT 1 FROM {table.name} WHERE {table.columns[column]} {test} ({values}) LIMIT 1"
    return connection.execute(query).fetchone() is not None


def _decode(raw: bytes) -> Value:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return UNREADABLE


def _perturb(
    copy: sqlite3.Connection,
    tables: dict[str, _Table],
    references: list[_Reference],
    seed: str,
    index: int,
) -> None:
    """Delete and change rows of a copy, as many as its index says."""
    copy.execute("PRAGMA journal_mode = MEMORY")  # which ends WAL mode, too
    copy.execute("PRAGMA foreign_keys = OFF")  # or deletions might cascade
    triggers = copy.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    copy.text_factory = _decode
    change, delete = STRENGTHS[index % len(STRENGTHS)]
    copy.execute("BEGIN")
    for name, _ in triggers:  # or they would fire
        copy.execute(f"DROP TRIGGER {_quoted(name)}")
    for name, table in tables.items():
        if table.identity:
            random = Random(f"{seed}:{name}")
            _delete_rows(copy, name, tables, references, delete, random)
            _change_rows(copy, table, change, random)
    for _, sql in triggers:
        copy.execute(sql)
    copy.execute("COMMIT")


def _sample(
    copy: sqlite3.Connection, table: _Table, columns: Sequence[str], random: Random
) -> list[tuple[Row, Row]]:
    """Identity and cells of at most `MAX_ROWS` rows, in random order."""
    identity = ", ".join(table.identity)
    found = copy.execute(f"SELECT {identity} FROM {table.name} ORDER BY {identity}").fetchall()
    # A row that an unreadable text identifies could not be found again.
    rows = [row for row in found if UNREADABLE not in row]
    query = f"SELECT {', '.join(columns)} FROM {table.name} WHERE {_where(table)}"
    return [
        (row, copy.execute(query, row).fetchone())
        for row in random.sample(rows, min(len(rows), MAX_ROWS))
    ]


def _where(table: _Table) -> str:
    return " AND ".join(f"{column} = ?" for column in table.identity)


def _delete_rows(
    copy: sqlite3.Connection,
    name: str,
    tables: dict[str, _Table],
    references: list[_Reference],
    share: float,
    random: Random,
) -> None:
    """Delete rows that no row refers to: any, or together those that refer to the same row."""
    table = tables[name]
    referred: set[Row] = set()
    groupings = [table.identity]
    for reference in references:
        columns = [tables[reference.child].columns[c] for c in reference.child_columns]
        if reference.child == name:
            groupings.append(tuple(columns))
        if reference.parent == name:
            targets = ", ".join(table.columns[c] for c in reference.parent_columns)
            referred.update(
                copy.execute(
                    f"SELECT {', '.join(table.identity)} FROM {table.name} WHERE ({targets}) IN "
                    f"(SELECT {', '.join(columns)} FROM {tables[reference.child].name})"
                )
            )
    sample = _sample(copy, table, random.choice(groupings), random)
    # A parent of many rows is left without any only if they go together.
    ranks: dict[Row, float] = {}
    sample.sort(key=lambda row: ranks.setdefault(row[1], random.random()))
    most = min(int(len(sample) * share + random.random()), len(sample) - 1)
    # Not the first unreferred ones there are: those show what a LEFT JOIN does, so some must stay.
    doomed = [row for row, _ in sample[: max(most, 0)] if row not in referred]
    copy.executemany(f"DELETE FROM {table.name} WHERE {_where(table)}", doomed)


def _change_rows(copy: sqlite3.Connection, table: _Table, share: float, random: Random) -> None:
    """Change cells, but for those of a row that its table then does not take."""
    columns = table.changeable()
    sample = _sample(copy, table, columns, random) if columns else []
    pools = [_Pool(cells) for cells in zip(*(cells for _, cells in sample), strict=True)]
    for row, cells in sample:
        changed = {
            column: pool.another(cell, random)
            for column, cell, pool in zip(columns, cells, pools, strict=True)
            if cell is not UNREADABLE and random.random() < share
        }
        if not changed:
            continue
        assignments = ", ".join(f"{column} = ?" for column in changed)
        update = f"UPDATE OR ABORT {table.name} SET {assignments} WHERE {_where(table)}"
        with suppress(sqlite3.IntegrityError):
            copy.execute(update, (*changed.values(), *row))
