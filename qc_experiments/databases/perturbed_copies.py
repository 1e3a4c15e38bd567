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

log = logging.getLogger(__name__)

SECONDS = 30.0
"""Time in which one copy of one database is made, or is not made at all."""
BYTES = 1_000_000_000
"""Largest database of which copies are made, and largest copy."""


class PerturbedCopies:
    """Makes and keeps as many copies of each database as are asked for, fixed by a seed."""

    def __init__(self, pool: SqlPool, folder: Path, count: int, seed: int) -> None:
        self._pool = pool
        self._folder = folder
        self._count = count
        self._seed = seed
        self._lock = threading.Lock()
        self._made: dict[str, list[Path] | str] = {}

    def of(self, database: Database) -> list[Path] | str:
        """The copies of a database, or in words why there are none; of SQLite files only.

        Raises:
            UserError: if it cannot be read, or there is no room for what that takes.
        """
        if database.engine != "sqlite":
            return "copies are made of SQLite databases only"
        content = database.content_hash()
        with self._lock:
            made = self._made.get(content)
            if made is None or (isinstance(made, list) and not all(map(is_whole, made))):
                made = self._make(Path(database.target))
                if not self._pool.aborted:
                    self._made[content] = made
            return made

    def _make(self, path: Path) -> list[Path] | str:
        try:
            if path.stat().st_size > BYTES:
                raise CannotPerturb(f"it is larger than {BYTES // 1_000_000:,} MB")
            return perturbed_databases(path, self._count, self._seed, self._folder, self._one)
        except (CannotPerturb, sqlite3.DatabaseError, OSError) as problem:
            if self._pool.aborted:  # nobody waits for it any more
                return str(problem)
            log.warning("%s: no perturbed copies: %s", path, problem)
            return str(problem)

    def _one(self, path: Path, file: Path, seed: str, index: int) -> None:
        done = self._pool.perturb(path, file, seed, index, Limits(SECONDS, bytes=BYTES))
        if done.error_class == "timeout":
            raise CannotPerturb(f"a copy takes more than {SECONDS:g} s")
        if done.rows is None:
            raise CannotPerturb(str(done.error))
