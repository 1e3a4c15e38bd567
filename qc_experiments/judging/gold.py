"""Run gold queries, find out which of their rows tie, and keep the results, in memory and on disk.

A result is kept under a hash of the database's content, the query and the rules, so that it is never
taken for another's. What may be the moment's, such as a lock or a timeout, is not kept.
"""

from __future__ import annotations

import os
import pickle
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from qc_experiments.databases.engine import Execution, Limits, Row
from qc_experiments.databases.engine import engine as engine_of
from qc_experiments.databases.locate import Database
from qc_experiments.databases.pool import SqlPool, load_plain
from qc_experiments.judging.equivalence import JUDGE, Expected, Group, compare, keyed
from qc_experiments.judging.ordering import Ordering, ranked_queries, read_ordering
from qc_experiments.sql.tokens import asks_the_clock, calls_random
from qc_experiments.sql.views import names_in, view_made_by, with_readers
from qc_experiments.system.paths import hash_texts

TIES = "ranks"  # version of how ties are found out; part of the key under which a result is kept
KEPT_BYTES = 20_000_000  # results that take more on disk are computed again
MEMORY_BYTES = 256_000_000
"""What results take in memory at most; those that were not asked for the longest go first."""
CELL_BYTES = 64
"""About what a cell takes in memory, besides its text."""
MOMENTARY = ("timeout", "memory", "other")
"""Classes of failures that need not come again."""


@dataclass(frozen=True)
class Gold:
    """What a gold query returns and what a right answer looks like.

    Attributes:
        expected: the rows a right result has; None if it failed.
        ambiguous: whether its LIMIT cuts through a tie, so that several results are right.
        ties_known: False where rows may tie but the database could not be asked which; then only
            the very order of the gold's own result is right.
        random: whether it draws random numbers, itself or by a view.
        clock: whether it asks for the time, likewise.
    """

    execution: Execution
    expected: Expected | None
    ambiguous: bool = False
    ties_known: bool = True
    random: bool = False
    clock: bool = False


def run_gold(pool: SqlPool, database: Database, sql: str, limits: Limits) -> Gold:
    """Run a gold query and find the rows that tie."""
    execution = pool.run(database.engine, database.target, sql, limits)
    rows, columns = execution.rows, execution.columns
    if rows is None:
        return Gold(execution, None)
    whole = Expected((Group(rows, len(rows)),), len(columns), columns)
    ordering = read_ordering(sql, database.dialect)
    if not rows or not (ordering.keys or ordering.limited):
        return Gold(execution, whole)
    known_cut = ordering.offset is not None
    for query in ranked_queries(ordering, columns, len(rows)) if known_cut else ():
        ranked = pool.run(database.engine, database.target, query, limits)
        expected = None
        if ranked.rows is not None:
            expected = _expected(ranked.rows, ordering, len(rows), columns)
        # The ranked query must be the gold's own but for the cut; else its ranks mean nothing.
        if expected is not None and compare(expected, rows, columns).difference is None:
            ambiguous = any(
                len(group.rows) > group.take and len(set(keyed(group.rows))) > 1
                for group in expected.groups
            )
            return Gold(execution, expected, ambiguous)
    if ordering.keys:
        whole = Expected(tuple(Group([row], 1) for row in rows), len(columns), columns)
    return Gold(execution, whole, ties_known=False)


def _expected(
    ranked: Sequence[Row], ordering: Ordering, count: int, columns: tuple[str, ...]
) -> Expected | None:
    """Cut ranked rows (each with its rank at the end, in any order) as the gold does, which has ``count``."""
    first = ordering.offset or 0
    if len(ranked) < first + count or (not ordering.limited and len(ranked) != count):
        return None
    if ordering.distinct and len(set(keyed(row[:-1] for row in ranked))) < len(ranked):
        return None  # the keys made different rows of what DISTINCT takes for one
    tied: dict[int, list[Row]] = {}
    for row in ranked:
        rank = row[-1]
        if not isinstance(rank, int):
            return None
        tied.setdefault(rank, []).append(row[:-1])
    groups = []
    place = 0
    for _, rows in sorted(tied.items()):
        take = min(place + len(rows), first + count) - max(place, first)
        if take > 0:
            groups.append(Group(rows, take))
        place += len(rows)
    return Expected(tuple(groups), len(columns), columns)


class GoldCache:
    """Gold results in a SQLite file of our own, shared by runs and processes; without a path in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._memory: OrderedDict[str, tuple[Gold, int]] = OrderedDict()
        self._bytes = 0
        self._views: dict[str, tuple[set[str], set[str]]] = {}

    def get(self, pool: SqlPool, database: Database, sql: str, limits: Limits) -> Gold:
        """The result of a gold query: from memory, from disk, or by running it."""
        content = self._content(database)
        key = hash_texts(JUDGE, TIES, content, str(limits), sql)
        with self._lock:
            if key in self._memory:
                self._memory.move_to_end(key)
                return self._memory[key][0]
            known = self._load(key)
        if known is None:
            known, keep = self._run(pool, database, content, sql, limits)
            # If somebody writes to the database, the rows are of another content.
            if not keep or self._content(database) != content:
                return known
            with self._lock:
                self._store(key, known)
        with self._lock:
            self._remember(key, known)
        return known

    def _content(self, database: Database) -> str:
        """What it holds; in memory a server's name will do, which would read all its rows to say that."""
        if self._path is None and "://" in database.target:
            return f"{database.engine} {database.target}"
        return database.content_hash()

    def _run(
        self, pool: SqlPool, database: Database, content: str, sql: str, limits: Limits
    ) -> tuple[Gold, bool]:
        """Run a gold query; also says whether it would have the same result the next time."""
        gold = run_gold(pool, database, sql, limits)
        if gold.expected is None:
            return gold, gold.execution.error_class not in MOMENTARY
        dialect = database.dialect
        views = self._views.get(content)
        if views is None:
            query = engine_of(database.engine).schema_query
            found = pool.run(database.engine, database.target, query, Limits()).rows
            if found is None:
                return gold, False
            views = self._views[content] = _changing_views([str(row[0]) for row in found], dialect)
        read = names_in(sql, dialect) if any(views) else set()
        random = calls_random(sql, dialect) or not read.isdisjoint(views[0])
        clock = asks_the_clock(sql, dialect) or not read.isdisjoint(views[1])
        return replace(gold, random=random, clock=clock), not clock

    def _remember(self, key: str, gold: Gold) -> None:
        if key in self._memory:
            return
        self._memory[key] = gold, _memory_of(gold)
        self._bytes += self._memory[key][1]
        while self._bytes > MEMORY_BYTES:
            self._bytes -= self._memory.popitem(last=False)[1][1]

    def _load(self, key: str) -> Gold | None:
        if self._path is None or not os.path.exists(self._path):
            return None
        try:
            with closing(sqlite3.connect(self._path, timeout=10)) as file:
                found = file.execute("SELECT packed FROM gold WHERE key = ?", (key,)).fetchone()
            if found is None:
                return None
            fields, groups, ambiguous, ties_known, random, clock = load_plain(found[0])
            run = Execution(*fields)
            expected = Expected(tuple(Group(*g) for g in groups), len(run.columns), run.columns)
            return Gold(run, expected, ambiguous, ties_known, random, clock)
        except (sqlite3.Error, pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError):
            return None  # damaged, or another version's: computed again

    def _store(self, key: str, gold: Gold) -> None:
        if self._path is None or gold.expected is None:
            return
        groups = [(list(group.rows), group.take) for group in gold.expected.groups]
        fields = tuple(vars(gold.execution).values())
        plain = (fields, groups, gold.ambiguous, gold.ties_known, gold.random, gold.clock)
        packed = pickle.dumps(plain, protocol=pickle.HIGHEST_PROTOCOL)
        if len(packed) > KEPT_BYTES:
            return
        # A cache that cannot be written costs time only; a broken one holds nothing that is missed.
        with suppress(OSError):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(self._path, timeout=10)) as file, file:
                    file.execute(
                        "CREATE TABLE IF NOT EXISTS gold (key TEXT PRIMARY KEY, packed BLOB)"
                    )
                    file.execute("INSERT OR REPLACE INTO gold VALUES (?, ?)", (key, packed))
            except sqlite3.DatabaseError as problem:
                if "malformed" in str(problem) or "not a database" in str(problem):
                    self._path.unlink(missing_ok=True)


def _changing_views(statements: Sequence[str], dialect: str) -> tuple[set[str], set[str]]:
    """The views that draw random numbers, and those that ask for the time, by the schema's statements."""
    found = ((view_made_by(one, dialect), one) for one in statements)
    views = {name: text for name, text in found if name is not None}
    read = {name: names_in(text, dialect) for name, text in views.items()}
    random, clock = (
        {name for name, text in views.items() if changes(text, dialect)}
        for changes in (calls_random, asks_the_clock)
    )
    return with_readers(random, read), with_readers(clock, read)


def _memory_of(gold: Gold) -> int:
    """About how many bytes a result takes."""
    groups = () if gold.expected is None else gold.expected.groups
    return sum(
        CELL_BYTES + (len(cell) if isinstance(cell, str | bytes) else 0)
        for rows in (gold.execution.rows or (), *(group.rows for group in groups))
        for row in rows
        for cell in row
    )
