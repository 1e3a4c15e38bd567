"""The perturbed copies of each database that a judge asks as well, made where they can be stopped."""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path

from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import Database
from qc_experiments.databases.perturbation import CannotPerturb, is_whole, perturbed_databases
from qc_experiments.databases.pool import SqlPool
from qc_experiments.databases.sqlite_rights import SHADOWS
from qc_experiments.sql.tokens import tokens

log = logging.getLogger(__name__)

SECONDS = 30.0
"""Time in which one copy of one database is made, or is not made at all."""
BYTES = 1_000_000_000
"""Largest database of which copies are made, and largest copy."""

APART = (
    f"SELECT *, 'shadow', '' FROM ({SHADOWS}) UNION ALL SELECT name, "
    "CASE type WHEN 'view' THEN type ELSE 'virtual' END, sql FROM sqlite_master "
    "WHERE type = 'view' OR sql LIKE 'CREATE VIRTUAL %'"
)
"""SQL for name, kind and definition of shadow and virtual tables and of views."""


class PerturbedCopies:
    """Makes and keeps as many copies of each database as are asked for, fixed by a seed."""

    def __init__(self, pool: SqlPool, folder: Path, count: int, seed: int) -> None:
        self._pool = pool
        self._folder = folder
        self._count = count
        self._seed = seed
        self._lock = threading.Lock()
        self._made: dict[str, list[Path] | str] = {}
        self._unperturbed: dict[str, set[str]] = {}

    def of(self, database: Database, *queries: str) -> list[Path] | str:
        """The copies of a database, or in words why there are none on which some queries can be asked.

        Raises:
            UserError: if it cannot be read, or there is no room for what that takes.
        """
        if database.engine != "sqlite":
            return "copies are made of SQLite databases only"
        content = database.content_hash()
        with self._lock:
            made = self._made.get(content)
            if made is None or (isinstance(made, list) and not all(map(is_whole, made))):
                made = self._make(Path(database.target), content)
                if not self._pool.aborted:
                    self._made[content] = made
        same = self._unperturbed.get(content)
        if same and isinstance(made, list) and (read := same & _names(*queries)):
            return f"{min(read)} is the same in all copies (a virtual table, or made of one)"
        return made

    def _same_in_all(self, path: Path) -> set[str]:
        """Names of what no copy perturbs: virtual tables, their shadow tables, and views of these."""
        found = self._pool.run("sqlite", str(path), APART, Limits(SECONDS))
        if found.rows is None:
            raise CannotPerturb(str(found.error))
        rows = [(str(name).lower(), kind, str(sql)) for name, kind, sql in found.rows]
        same = {name for name, kind, _ in rows if kind != "view"}
        views = {name: _names(sql) for name, kind, sql in rows if kind == "view"}
        if virtual := sorted(name for name, kind, _ in rows if kind == "virtual"):
            log.warning(
                "%s: virtual tables are the same in all perturbed copies, where nothing that names them "
                "is asked: %s",
                path,
                ", ".join(virtual),
            )
        while more := {name for name, read in views.items() if read & same} - same:
            same |= more
        return same

    def _make(self, path: Path, content: str) -> list[Path] | str:
        try:
            if path.stat().st_size > BYTES:
                raise CannotPerturb(f"it is larger than {BYTES // 1_000_000:,} MB")
            made = perturbed_databases(path, self._count, self._seed, self._folder, self._one)
            self._unperturbed[content] = self._same_in_all(path)
            return made
        except (CannotPerturb, sqlite3.DatabaseError, OSError) as problem:
            if not self._pool.aborted:  # else nobody waits for it any more
                log.warning("%s: no perturbed copies: %s", path, problem)
            return str(problem)

    def _one(self, path: Path, file: Path, seed: str, index: int) -> None:
        done = self._pool.perturb(path, file, seed, index, Limits(SECONDS, bytes=BYTES))
        if done.error_class == "timeout":
            raise CannotPerturb(f"a copy takes more than {SECONDS:g} s")
        if done.rows is None:
            raise CannotPerturb(str(done.error))


def _names(*queries: str) -> set[str]:
    """What queries may call a table: SQLite takes strings for names, too."""
    found = (token for query in queries for token in tokens(query))
    return {token.name() or token.text.strip("'").lower() for token in found}
