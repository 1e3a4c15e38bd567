"""Verdicts: run a gold query and a prediction, compare their results, and name what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

from qc_experiments.data.table import Row
from qc_experiments.databases.engine import ERROR_CLASSES, Execution, Limits
from qc_experiments.databases.locate import Database, Databases
from qc_experiments.databases.perturbed_copies import PerturbedCopies
from qc_experiments.databases.pool import PROCESS, Gone, SqlPool
from qc_experiments.errors import UserError
from qc_experiments.judging.equivalence import JUDGE, compare
from qc_experiments.judging.gold import Gold, GoldCache
from qc_experiments.judging.published_rules import (
    ex_bird,
    ex_test_suite,
    order_matters_in_test_suite,
    without_distinct,
)
from qc_experiments.sql.tokens import Token, tokens
from qc_experiments.system.paths import hash_texts

Found = TypeVar("Found")

WRONG_RESULTS = ("wrong_rows", "wrong_order", "wrong_columns", "empty_result")
ALL_ERROR_CLASSES = (*ERROR_CLASSES, *WRONG_RESULTS)
"""Every reason for which a prediction is wrong."""


@dataclass(frozen=True)
class Verdict:
    """What a prediction is worth.

    Attributes:
        correct: whether it returns the right rows; None where that was not measured.
        verdict: ``correct``, ``wrong``, ``gold_error`` or ``not_executed``.
        error_class: one of `ALL_ERROR_CLASSES`; with ``gold_error`` the gold's; None if correct.
        error: the database's message, or None.
        warning: what is to be looked at though it may be right, or None.
        valid: whether the database runs it; None where there is none to ask.
        ambiguous: whether the gold's LIMIT cuts through a tie.
        ex_bird: the verdict of BIRD's rule; None where the gold failed or nothing was run.
        ex_test_suite: the verdict of Spider's test-suite rule on this one database.
        fuzz: whether it is right on all neighbour databases as well; None if they were not asked.
        not_fuzzed: database and reason, where they were to be asked and could not.
        seconds: how long the prediction ran; None where it did not run.
    """

    correct: bool | None
    verdict: str
    error_class: str | None = None
    error: str | None = None
    warning: str | None = None
    valid: bool | None = None
    ambiguous: bool = False
    ex_bird: bool | None = None
    ex_test_suite: bool | None = None
    fuzz: bool | None = None
    not_fuzzed: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Tried:
    """What came of running a query, without its rows.

    Attributes:
        error: why it failed, or None.
        error_class: one of `ERROR_CLASSES`, or None.
        result: a hash of the result, the same for results that are the same but for order; None if
            there is none.
    """

    error: str | None
    error_class: str | None
    result: str | None


class Memory(Protocol):
    """Keeps verdicts over several starts of a command."""

    @property
    def known(self) -> Mapping[int, Verdict]:
        """Verdicts by the place of their row."""

    def add(self, place: int, verdict: Verdict) -> None:
        """Keep a verdict; called by several threads."""


class Judge:
    """Runs and compares; used as a context manager, which ends its processes.

    Args:
        databases: where they stand, or None: predictions are then only tried on empty tables.
        limits: what one statement may use.
        cache: folder for gold results and neighbour databases; None keeps nothing.
        neighbours: how many perturbed copies of each database an answer must hold on as well.
        seed: fixes those copies.
        processes: child processes that run SQL; by default one for each core.
    """

    def __init__(
        self,
        databases: Databases | None,
        limits: Limits,
        *,
        cache: Path | None,
        neighbours: int = 0,
        seed: int = 0,
        processes: int | None = None,
    ) -> None:
        self._databases = databases
        self._limits = limits
        # Children work elsewhere, so that a relative folder would not be found there.
        cache = None if cache is None else cache.absolute()
        self._golds = GoldCache(None if cache is None else cache / "gold.sqlite")
        self._pool = SqlPool(processes)
        self._readable: set[Database] = set()
        self._copies: PerturbedCopies | None = None
        if neighbours and cache is not None:
            self._copies = PerturbedCopies(self._pool, cache / "neighbours", neighbours, seed)

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; the judge may be used again and then starts new ones."""
        self._pool.close()

    def judge(
        self,
        rows: Sequence[Row],
        predictions: Sequence[str],
        on_done: Callable[[int], None] | None = None,
        memory: Memory | None = None,
    ) -> list[Verdict]:
        """Judge one prediction for each row.

        Args:
            rows: what was asked, with gold queries.
            predictions: SQL texts, one a row.
            on_done: called with the number of verdicts that have just come, for progress.
            memory: verdicts of an earlier start, which are not looked for again, and keeps new ones.

        Raises:
            UserError: if a database cannot be reached or read.
        """
        pairs = list(zip(rows, predictions, strict=True))
        known = {} if memory is None else dict(memory.known)
        if on_done is not None and known:
            on_done(len(known))

        def judged(place: int) -> Verdict:
            verdict = self._one(*pairs[place])
            # A process that somebody ended, perhaps with this one, says nothing of its statement.
            ended = self._pool.aborted or (verdict.error or "").startswith(PROCESS)
            if memory is not None and not ended:
                memory.add(place, verdict)
            return verdict

        waiting = [place for place in range(len(pairs)) if place not in known]
        found = self._each(judged, [(place,) for place in waiting], on_done)
        known |= zip(waiting, found, strict=True)
        return [known[place] for place in range(len(pairs))]

    def try_all(self, pairs: Sequence[tuple[Row, str]]) -> list[Tried]:
        """Run SQL on the databases of rows, without comparing anything.

        Args:
            pairs: row, whose database (or, without databases, context) is meant, and SQL.

        Raises:
            UserError: if a database cannot be reached.
        """
        return self._each(self._try, pairs, None)

    def try_golds(
        self, rows: Sequence[Row], on_done: Callable[[int], None] | None = None
    ) -> list[Tried]:
        """Run the gold queries of rows and keep what they return, for `judge`.

        Args:
            rows: questions with databases.
            on_done: called with 1 after each query, for progress.

        Raises:
            UserError: if a database cannot be reached or read.
        """

        def try_one(row: Row) -> Tried:
            found = self._golds.get(self._pool, self._database(row), row.query, self._limits)
            return Tried(found.execution.error, found.execution.error_class, None)

        return self._each(try_one, [(row,) for row in rows], on_done)

    def call_each(
        self, module: str, calls: Sequence[tuple[Any, ...]], seconds: float
    ) -> list[tuple[Any, ...] | str]:
        """Call a module's ``answer`` in the child processes.

        Args:
            module: its full name.
            calls: the arguments of each call, plain values.
            seconds: time after which a call's process is killed.

        Returns:
            For each call what it gives; a message where its process ended before.
        """

        def call(*arguments: Any) -> tuple[Any, ...] | str:
            try:
                return self._pool.call(module, arguments, seconds)
            except Gone as gone:
                return str(gone.args[0])

        return self._each(call, calls, None)

    def dialect(self, row: Row) -> str:
        """What sqlglot calls the SQL of a row's database; SQLite's where there is none."""
        return "sqlite" if self._databases is None else self._database(row).dialect

    def _try(self, row: Row, sql: str) -> Tried:
        found = self._run_for(row, sql)
        if found is None:
            return Tried("the context is not a schema that SQLite runs", None, None)
        result = None if found.rows is None else result_hash(found)
        return Tried(found.error, found.error_class, result)

    def _each(
        self,
        do: Callable[..., Found],
        pairs: Sequence[tuple[Any, ...]],
        on_done: Callable[[int], None] | None,
    ) -> list[Found]:
        """Do something for each pair, as many at once as there are processes, results in order."""
        try:
            with ThreadPoolExecutor(self._pool.size) as threads:
                waiting = [threads.submit(do, *pair) for pair in pairs]
                try:
                    for done in as_completed(waiting):
                        done.result()
                        if on_done is not None:
                            on_done(1)
                except BaseException:
                    for one in waiting:
                        one.cancel()
                    self._pool.abort()
                    raise
                return [done.result() for done in waiting]
        finally:
            self._pool.resume()

    def _run_for(self, row: Row, sql: str) -> Execution | None:
        if self._databases is None:
            return self._pool.run_on_schema(row.context, sql, self._limits)
        return self._run(self._database(row), sql)

    def _database(self, row: Row) -> Database:
        assert self._databases is not None
        assert row.db_id is not None  # check_rows has seen to both
        database = self._databases.find(row.db_id)
        assert database is not None
        if database.engine == "sqlite" and database not in self._readable:
            self._check_readable(database)
        return database

    def _check_readable(self, database: Database) -> None:
        """Refuse a file that is no database, so that this is not booked as a fault of its golds."""
        found = self._run(database, "SELECT 1 FROM sqlite_master LIMIT 1")
        error = found.error or ""
        of_the_moment = "locked" in error or error.startswith(PROCESS) or self._pool.aborted
        if of_the_moment or found.error_class not in (None, "other"):
            return  # a writer, a busy machine: its golds say what comes of that
        if not found.rows:
            problem = (
                f"is not a SQLite database that can be read ({error})" if error else "has no tables"
            )
            raise UserError(f"{database.target}: {problem}: put the whole file there")
        self._readable.add(database)

    def _one(self, row: Row, prediction: str) -> Verdict:
        if self._databases is None:
            tried = self._run_for(row, prediction)
            valid = None if tried is None else tried.error is None
            error = None if tried is None else tried.error
            return Verdict(None, "not_executed", error=error, valid=valid)
        database = self._database(row)
        gold = self._golds.get(self._pool, database, row.query, self._limits)
        predicted = self._run(database, prediction)
        return self._verdict(database, row, prediction, gold, predicted)

    def _run(self, database: Database, sql: str) -> Execution:
        return self._pool.run(database.engine, database.target, sql, self._limits)

    def _verdict(
        self,
        database: Database,
        row: Row,
        prediction: str,
        gold: Gold,
        predicted: Execution,
    ) -> Verdict:
        valid = predicted.error is None
        if gold.expected is None or gold.execution.rows is None:
            why = gold.execution.error_class, gold.execution.error
            more = predicted.warning, valid
            return Verdict(None, "gold_error", *why, *more, seconds=predicted.seconds)
        warnings = [] if predicted.warning is None else [predicted.warning]
        if gold.ambiguous:
            warnings.append("the gold's LIMIT cuts through a tie: any legal cut counts as correct")
        elif not gold.ties_known:
            warnings.append("the gold's ties are unknown: its own order was asked for")
        if calls_random(row.query, database.dialect):
            warnings.append("the gold calls a random function: it may return other rows each time")
        error_class = predicted.error_class
        if predicted.rows is not None:
            found = compare(gold.expected, predicted.rows, predicted.columns)
            error_class = found.difference
            if found.undecided:
                warnings.append("too many ways to assign the columns: not shown to be right")
        correct = error_class is None
        bird = suite = False
        if predicted.rows is not None:
            bird = ex_bird(gold.execution.rows, predicted.rows)
            suite = self._test_suite(database, row.query, prediction, gold, predicted)
        fuzz, not_fuzzed = self._holds(database, row, prediction, correct)
        return Verdict(
            correct=correct,
            verdict="correct" if correct else "wrong",
            error_class=error_class,
            error=predicted.error,
            warning="; ".join(warnings) or None,
            valid=valid,
            ambiguous=gold.ambiguous,
            ex_bird=bird,
            ex_test_suite=suite,
            fuzz=fuzz,
            not_fuzzed=not_fuzzed,
            seconds=predicted.seconds,
        )

    def _test_suite(
        self, database: Database, query: str, prediction: str, gold: Gold, predicted: Execution
    ) -> bool:
        """Spider's rule, which takes DISTINCT out of both queries before it runs them."""
        gold_rows, rows = gold.execution.rows, predicted.rows
        plain_gold, plain = (without_distinct(sql, database.dialect) for sql in (query, prediction))
        if plain_gold != query:
            found = self._golds.get(self._pool, database, plain_gold, self._limits)
            gold_rows = found.execution.rows
        if plain != prediction:
            rows = self._run(database, plain).rows
        if gold_rows is None or rows is None:
            return False
        return ex_test_suite(gold_rows, rows, order_matters=order_matters_in_test_suite(query))

    def _holds(
        self, database: Database, row: Row, prediction: str, correct: bool
    ) -> tuple[bool | None, str | None]:
        """Whether a prediction is right on all neighbours as well, or why that is not known."""
        if self._copies is None:
            return None, None
        copies = self._copies.of(database, row.query, prediction)
        if isinstance(copies, str):
            return None, f"{row.db_id}: {copies}"
        asked = False
        for copy in copies:
            neighbour = Database("sqlite", str(copy))
            gold = self._golds.get(self._pool, neighbour, row.query, self._limits)
            if gold.expected is None:
                continue  # nothing to hold on to there
            if not correct:
                return False, None
            asked = True
            predicted = self._run(neighbour, prediction)
            if predicted.rows is None:
                return False, None
            if compare(gold.expected, predicted.rows, predicted.columns).difference is not None:
                return False, None
        return (True, None) if asked else (None, f"{row.db_id}: the gold fails on all copies")


RANDOM_FUNCTIONS = {
    "sqlite": ("random", "randomblob"),
    "duckdb": ("random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7"),
    "postgres": (
        *("random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7"),
        *("uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4"),
    ),
}
_RANDOM_WORD = re.compile("random|uuid|sample", re.IGNORECASE)


def calls_random(sql: str, dialect: str = "sqlite") -> bool:
    """Whether a query calls a random function, or takes rows at random.

    Args:
        sql: the query.
        dialect: what sqlglot calls the SQL it is written in.
    """
    if _RANDOM_WORD.search(sql) is None:  # which saves the tokens of a query of megabytes
        return False
    found = tokens(sql, dialect)
    return any(
        (behind.text == "(" and token.name() in RANDOM_FUNCTIONS[dialect])
        or (token.is_word("tablesample", "using") and _samples(token, behind, dialect))
        for token, behind in pairwise(found)
    )


def _samples(token: Token, behind: Token, dialect: str) -> bool:
    if token.is_word("tablesample"):
        return dialect != "sqlite"
    return dialect == "duckdb" and behind.is_word("sample")


def result_hash(execution: Execution) -> str:
    """A hash that is the same for results with the same rows in any order.

    2 and 2.0 are alike, and so are fractions that agree in six digits.
    """
    rows = sorted(repr(tuple(map(_plain, row))) for row in execution.rows or ())
    return hash_texts(str(len(execution.columns)), *rows)


def _plain(cell: object) -> object:
    if not isinstance(cell, float):
        return cell
    number = cell if cell.is_integer() else float(f"{cell:.6g}")
    return int(number) if number.is_integer() else number


def judged_on(rows: Iterable[Row], databases: Databases | None, limits: Limits) -> dict[str, str]:
    """Hashes of everything a verdict depends on besides the prediction.

    Only figures with the same hashes compare.

    Args:
        rows: what is asked, in order.
        databases: where it is run, or None.
        limits: what a statement may use.

    Returns:
        Hashes under ``questions``, ``golds``, ``databases`` and ``judge``.

    Raises:
        UserError: if a database cannot be read.
    """
    asked = list(rows)
    if databases is not None:
        contents = []
        for db_id in sorted({one.db_id for one in asked if one.db_id is not None}):
            database = databases.find(db_id)
            contents.append(db_id if database is None else f"{db_id} {database.content_hash()}")
    else:
        contents = [one.context for one in asked]
    parts = {
        "questions": [f"{one.db_id}\n{one.question}" for one in asked],
        "golds": [one.query for one in asked],
        "databases": contents,
        "judge": [JUDGE, str(limits)],
    }
    return {key: hash_texts(*texts) for key, texts in parts.items()}
