"""Perturbed databases: copies with other rows, on which a right answer holds as well.

One database often cannot tell two queries apart: ``age > 20`` and ``age >= 20`` give the same rows
where nobody is 20. So a database gets perturbed copies (the idea of the test suites of Zhong, Yu
and Klein, 2020): keys, types, constraints and references stay whole; other cells get other
plausible values, and some rows go.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from random import Random

from qc_experiments.databases.content import content_hash
from qc_experiments.databases.engine import Call, Execution, Limits
from qc_experiments.databases.layout import Reference, Table, quoted, read_layout
from qc_experiments.databases.locate import Database
from qc_experiments.databases.pool import SqlPool
from qc_experiments.databases.sqlite import open_readonly
from qc_experiments.databases.sqlite_rights import SHADOWS
from qc_experiments.errors import UserError
from qc_experiments.sql.views import names_in, with_readers

log = logging.getLogger(__name__)

RULES = "v2"
"""Version of the rules below; part of the folder's name, so that other rules make other files."""
STRENGTHS = ((0.15, 0.1), (0.4, 0.2), (0.7, 0.33), (0.25, 0.3), (0.85, 0.15))
"""Share of cells changed and of rows deleted, by a copy's index (then from the front again)."""
MAX_ROWS = 20_000
"""How many rows of a table are perturbed; the others of a larger table stay as they are."""
MOVE_SHARE = 0.4  # of changed numbers get a nearby or a round value, the rest another cell's
ROUND_SHARE = 0.5  # of those get a round value
RESPELL_SHARE = 0.05  # of changed texts get another spelling, the rest another cell's
MOST_CODES = 5  # a text column of 2 to this many values holds codes, which have one spelling
EXACT = 2**50  # beyond, an integer may overflow and a float have no v + 1
HASH_DIGITS = 16
SECONDS = 30.0  # time in which one copy of one database is made, or is not made at all
BYTES = 1_000_000_000  # largest database of which copies are made, and largest copy
APART = (
    f"SELECT *, 'shadow', '' FROM ({SHADOWS}) UNION ALL SELECT name, "
    "CASE type WHEN 'view' THEN type ELSE 'virtual' END, sql FROM sqlite_master "
    "WHERE type = 'view' OR sql LIKE 'CREATE VIRTUAL %'"
)
"""SQL for name, kind and definition of shadow and virtual tables and of views."""
Make = Callable[[Path, Path, str, int], None]

Value = object
Row = tuple[Value, ...]
UNREADABLE: Value = object()
"""A text that is not UTF-8. Python could only write it back as a BLOB, so such a cell stays."""


class CannotPerturb(Exception):
    """A database cannot be perturbed within the limits; the message says why."""


class _Column:
    """The values of a column, and how another value for one of its cells is drawn."""

    def __init__(self, cells: Sequence[Value]) -> None:
        self.cells = [cell for cell in cells if cell is not UNREADABLE]
        self.values = list(dict.fromkeys(self.cells))
        self.numbers = [cell for cell in self.values if isinstance(cell, int | float)]
        self.low, self.high = min(self.numbers, default=0), max(self.numbers, default=0)

    def another(self, value: Value, random: Random) -> Value:
        """A value for the cell that holds this one; now and then the same."""
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


def perturbed_databases(
    path: Path, count: int, seed: int, cache: Path, make: Make | None = None
) -> list[Path]:
    """Copies of a SQLite file with other rows, made once and then reused.

    The same original, seed and index give the same rows, however many copies are asked for. A
    file's name tells its content's hash, so that a damaged one is seen, and made again.
    ``make`` makes one; by default `make_perturbed`, in this very process.

    Raises:
        CannotPerturb, sqlite3.DatabaseError, OSError, UserError: if it cannot be perturbed.
    """
    digest = _digest(path)
    folder = cache / f"{digest}-{RULES}-s{seed}"
    files = []
    for index in range(count):
        whole = [file for file in folder.glob(f"{index}-*.sqlite") if is_whole(file)]
        if not whole:
            for damaged in folder.glob(f"{index}-*"):
                if not is_whole(damaged):
                    damaged.unlink()
            whole = [_made(path, folder, f"{digest}:{seed}:{index}", index, make or make_perturbed)]
        files.append(whole[0])
    return files


def is_whole(file: Path) -> bool:
    """Whether a copy's file still holds what it was made with."""
    try:
        return _digest(file) == file.stem.partition("-")[2]
    except UserError:
        return False


def _made(path: Path, folder: Path, seed: str, index: int, make: Make) -> Path:
    digest = _digest(path)
    folder.mkdir(parents=True, exist_ok=True)
    # In a folder of its own, so that what SQLite puts beside a file goes away with it.
    with tempfile.TemporaryDirectory(dir=folder) as workshop:
        unfinished = Path(workshop, "perturbed.sqlite")
        make(path, unfinished, seed, index)
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        if _digest(path) != digest:
            raise CannotPerturb("it is being written to")
        file = folder / f"{index}-{_digest(unfinished)}.sqlite"
        os.replace(unfinished, file)
    return file


def make_perturbed(path: Path, file: Path, seed: str, index: int) -> None:
    """Make one copy of a SQLite file with other rows, as many as its index says (see `STRENGTHS`)."""
    with closing(open_readonly(path)) as original:
        original.text_factory = str
        tables, references = read_layout(original)
        with closing(sqlite3.connect(file, isolation_level=None)) as copy:
            copy.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            copy.execute("PRAGMA synchronous = OFF")  # once, at the end, is enough
            original.backup(copy)
            copy.execute("PRAGMA journal_mode = MEMORY")  # which ends WAL mode, too
            copy.execute("PRAGMA foreign_keys = OFF")  # or deletions might cascade
            triggers = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
            dropped = copy.execute(triggers).fetchall()
            copy.text_factory = _decode
            copy.execute("BEGIN")
            for name, _ in dropped:  # or they would fire
                copy.execute(f"DROP TRIGGER {quoted(name)}")
            change, delete = STRENGTHS[index % len(STRENGTHS)]
            for name, table in tables.items():
                if table.identity:
                    random = Random(f"{seed}:{name}")
                    _delete_rows(copy, name, tables, references, delete, random)
                    _change_rows(copy, table, change, random)
            for _, sql in dropped:
                copy.execute(sql)
            copy.execute("COMMIT")


def run(target: str, file: str, seed: str, index: int) -> Execution:
    """`make_perturbed` in a child process; gives no rows."""
    make_perturbed(Path(target), Path(file), seed, index)
    return Execution([])


def _digest(path: Path) -> str:
    return content_hash("sqlite", str(path))[:HASH_DIGITS]


def _decode(raw: bytes) -> Value:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return UNREADABLE


def _sample(
    copy: sqlite3.Connection, table: Table, columns: Sequence[str], random: Random
) -> list[tuple[Row, Row]]:
    """Identity and cells of at most `MAX_ROWS` rows, in random order."""
    identity = ", ".join(table.identity)
    found = copy.execute(f"SELECT {identity} FROM {table.name} ORDER BY {identity}")
    # A row that an unreadable text identifies could not be found again.
    rows = [row for row in found if UNREADABLE not in row]
    drawn = random.sample(rows, min(len(rows), MAX_ROWS))
    query = f"SELECT {', '.join(columns)} FROM {table.name} WHERE {_where(table)}"
    return [(row, copy.execute(query, row).fetchone()) for row in drawn]


def _where(table: Table) -> str:
    return " AND ".join(f"{column} = ?" for column in table.identity)


def _delete_rows(
    copy: sqlite3.Connection,
    name: str,
    tables: dict[str, Table],
    references: Sequence[Reference],
    share: float,
    random: Random,
) -> None:
    """Delete rows that no row refers to: any, or together those that refer to the same row."""
    table = tables[name]
    referred: set[Row] = set()
    groupings = [table.identity]
    for reference in references:
        if name not in (reference.child, reference.parent):
            continue
        columns = [tables[reference.child].columns[c] for c in reference.child_columns]
        if reference.child == name:
            groupings.append(tuple(columns))
        if reference.parent == name:
            targets = ", ".join(table.columns[c] for c in reference.parent_columns)
            referred |= set(
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


def _change_rows(copy: sqlite3.Connection, table: Table, share: float, random: Random) -> None:
    """Change cells, but for those of a row that its table then does not take."""
    columns = table.changeable()
    sample = _sample(copy, table, columns, random) if columns else []
    pools = [_Column(cells) for cells in zip(*(cells for _, cells in sample), strict=True)]
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


class PerturbedCopies:
    """Makes and keeps as many copies of each database as are asked for, fixed by a seed."""

    def __init__(self, pool: SqlPool, folder: Path, count: int, seed: int) -> None:
        self._pool = pool
        self._folder = folder
        self._count = count
        self._seed = seed
        self._lock = threading.Lock()
        self._made: dict[str, tuple[list[Path], set[str]] | str] = {}

    def of(self, database: Database, *queries: str) -> list[Path] | str:
        """The copies of a database, or in words why there are none on which some queries can be asked."""
        if database.engine != "sqlite":
            return "copies are made of SQLite databases only"
        content = database.content_hash()
        with self._lock:
            made = self._made.get(content)
            if made is None or not (isinstance(made, str) or all(map(is_whole, made[0]))):
                made = self._make(Path(database.target))
                if not self._pool.aborted:
                    self._made[content] = made
        if isinstance(made, str):
            return made
        copies, same = made
        read = {name for query in queries if same for name in names_in(query) if name in same}
        if read:
            return f"{min(read)} is the same in all copies (a virtual table, or made of one)"
        return copies

    def _same_in_all(self, path: Path) -> set[str]:
        """Names of what no copy perturbs: virtual tables, their shadow tables, and views of these."""
        found = self._pool.run("sqlite", str(path), APART, Limits(SECONDS))
        if found.rows is None:
            raise CannotPerturb(str(found.error))
        rows = [(str(name).lower(), kind, str(sql)) for name, kind, sql in found.rows]
        same = {name for name, kind, _ in rows if kind != "view"}
        views = {name: names_in(sql) for name, kind, sql in rows if kind == "view"}
        if virtual := sorted(name for name, kind, _ in rows if kind == "virtual"):
            log.warning(
                "%s: virtual tables are the same in all perturbed copies, where nothing that names them "
                "is asked: %s",
                path,
                ", ".join(virtual),
            )
        return with_readers(same, views)

    def _make(self, path: Path) -> tuple[list[Path], set[str]] | str:
        """Copies, and the names of what is the same in all of them; or why there are none."""
        try:
            if path.stat().st_size > BYTES:
                raise CannotPerturb(f"it is larger than {BYTES // 1_000_000:,} MB")
            made = perturbed_databases(path, self._count, self._seed, self._folder, self._one)
            return made, self._same_in_all(path)
        except (CannotPerturb, sqlite3.DatabaseError, OSError) as problem:
            if not self._pool.aborted:  # else nobody waits for it any more
                log.warning("%s: no perturbed copies: %s", path, problem)
            return str(problem)

    def _one(self, path: Path, file: Path, seed: str, index: int) -> None:
        arguments = (str(path), str(file), seed, index)
        done = self._pool.on_sqlite_file(Call(__name__, "run", arguments, SECONDS, written=BYTES))
        if done.error_class == "timeout":
            raise CannotPerturb(f"a copy takes more than {SECONDS:g} s")
        if done.rows is None:
            raise CannotPerturb(str(done.error))
