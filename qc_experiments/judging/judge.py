"""Run gold queries and predictions, compare their results, and name what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Call, Execution, Failed, Limits
from qc_experiments.databases.locate import Database, Databases
from qc_experiments.databases.perturbation import PerturbedCopies
from qc_experiments.databases.pool import PROCESS, SqlPool
from qc_experiments.errors import UserError
from qc_experiments.judging.equivalence import compare
from qc_experiments.judging.gold import Gold, GoldCache
from qc_experiments.judging.published_rules import (
    ex_bird,
    ex_test_suite,
    order_matters_in_test_suite,
    without_distinct,
)
from qc_experiments.judging.verdict import FirstRows, Memory, Tried, Verdict, result_hash

Found = TypeVar("Found")


class Judge:
    """Runs and compares; used as a context manager, which ends its processes.

    Args:
        databases: where they stand. Without any: what sqlglot calls the SQL of predictions; None is SQLite's,
            and alone is tried, on empty tables.
        cache: folder for gold results and perturbed databases; None keeps nothing.
        perturbed: how many perturbed copies of each database an answer must be right on as well.
        seed: fixes those copies.
        processes: child processes that run SQL; by default one for each core.
    """

    def __init__(
        self,
        databases: Databases | str | None,
        limits: Limits,
        *,
        cache: Path | None,
        perturbed: int = 0,
        seed: int = 0,
        processes: int | None = None,
    ) -> None:
        self._databases = None if isinstance(databases, str) else databases
        self._dialect = databases if isinstance(databases, str) else "sqlite"
        self._limits = limits
        self._pool = SqlPool(processes)
        self._readable: set[Database] = set()
        self._golds = GoldCache(None)
        self._copies: PerturbedCopies | None = None
        if cache is not None:
            cache = cache.absolute()  # children work elsewhere
            self._golds = GoldCache(cache / "gold.sqlite")
            if perturbed:
                self._copies = PerturbedCopies(self._pool, cache / "perturbed", perturbed, seed)

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
        """Judge one prediction for each row; `UserError` if a database cannot be reached or read.

        ``on_done`` is called with the number of verdicts that have just come, for progress; ``memory``
        has verdicts of an earlier start, which are not looked for again, and keeps new ones.
        """
        pairs = list(zip(rows, predictions, strict=True))
        known = {} if memory is None else dict(memory.known)
        if on_done is not None and known:
            on_done(len(known))

        def judged(place: int) -> Verdict:
            verdict = self._verdict(*pairs[place])
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
        """Run SQL on the databases of rows (else on their contexts), without comparing anything."""

        def try_one(row: Row, sql: str) -> Tried:
            found = self._run_for(row, sql)
            result = None if found.rows is None else result_hash(found)
            return Tried(found.error, found.error_class, result)

        return self._each(try_one, pairs)

    def run_all(self, pairs: Sequence[tuple[Row, str]]) -> list[Execution]:
        """What SQL returns on the databases of rows (else on their contexts)."""
        return self._each(self._run_for, pairs)

    def first_rows(
        self,
        pairs: Sequence[tuple[Row, str]],
        most: int,
        on_done: Callable[[int], None] | None = None,
    ) -> list[FirstRows]:
        """As `run_all`, but of each result at most so many rows are kept; tells ``on_done`` of each."""
        return self._each(
            lambda row, sql: FirstRows.of(self._run_for(row, sql), most), pairs, on_done
        )

    def on_contexts(self, rows: Sequence[Row]) -> list[Execution]:
        """What the gold queries of rows return on empty tables made from their contexts."""

        def run(row: Row) -> Execution:
            return self._pool.run_on_schema(row.schema, row.query, self._limits)

        return self._each(run, [(row,) for row in rows])

    def try_golds(
        self, rows: Sequence[Row], on_done: Callable[[int], None] | None = None
    ) -> list[Tried]:
        """Run the gold queries of rows and keep what they return, for `judge`; tells ``on_done`` of each."""
        ran = [one.execution for one in self.golds(rows, on_done)]
        return [Tried(one.error, one.error_class, None) for one in ran]

    def golds(
        self, rows: Sequence[Row], on_done: Callable[[int], None] | None = None
    ) -> list[Gold]:
        """What the gold queries of rows return on their databases."""
        return self._each(
            lambda row: self._gold(self.database(row), row.query), [(row,) for row in rows], on_done
        )

    def call_each(
        self, module: str, calls: Sequence[tuple[Any, ...]], seconds: float
    ) -> list[tuple[Any, ...] | str]:
        """Call a module's ``answer`` in the child processes, each call with its arguments, plain values.

        Gives a message where a call's process ended, or was ended after ``seconds``.
        """

        def call(*arguments: Any) -> tuple[Any, ...] | str:
            try:
                return self._pool.call(Call(module, "answer", arguments, seconds))
            except Failed as failed:
                return str(failed.args[0])

        return self._each(call, calls)

    def dialect(self, row: Row) -> str:
        """What sqlglot calls the SQL of a row."""
        return self._dialect if self._databases is None else self.database(row).dialect

    def _each(
        self,
        do: Callable[..., Found],
        calls: Sequence[tuple[Any, ...]],
        on_done: Callable[[int], None] | None = None,
    ) -> list[Found]:
        """Do something with each arguments, as many at once as there are processes, results in order."""
        try:
            with ThreadPoolExecutor(self._pool.size) as threads:
                waiting = [threads.submit(do, *arguments) for arguments in calls]
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

    def _run_for(self, row: Row, sql: str) -> Execution:
        if self._databases is None and self._dialect != "sqlite":
            return Execution(None, error="there is no database on which it could be tried")
        if self._databases is None:
            return self._pool.run_on_schema(row.schema, sql, self._limits)
        return self._run(self.database(row), sql)

    def _run(self, database: Database, sql: str) -> Execution:
        return self._pool.run(database.engine, database.target, sql, self._limits)

    def _gold(self, database: Database, sql: str) -> Gold:
        return self._golds.get(self._pool, database, sql, self._limits)

    def database(self, row: Row) -> Database:
        """That of a row; `UserError` if it cannot be read."""
        assert self._databases is not None
        database = self._databases.find(row.db_id or "")
        assert database is not None  # check_rows has seen to it
        if database.engine == "sqlite" and database not in self._readable:
            self._check_readable(database)
        return database

    def _check_readable(self, database: Database) -> None:
        """Refuse a file that is no database, so that its golds are not blamed for it."""
        found = self._run(database, "SELECT 1 FROM sqlite_master LIMIT 1")
        error = found.error or ""
        of_the_moment = "locked" in error or error.startswith(PROCESS) or self._pool.aborted
        if of_the_moment or found.error_class not in (None, "other"):
            return  # a writer, a busy machine: its golds say what comes of that
        if not found.rows:
            unreadable = f"is not a SQLite database that can be read ({error})"
            problem = unreadable if error else "has no tables"
            raise UserError(f"{database.target}: {problem}: put the whole file there")
        self._readable.add(database)

    def _verdict(self, row: Row, prediction: str) -> Verdict:
        if self._databases is None:
            tried = self._run_for(row, prediction)
            if tried.error and not tried.error_class:
                return Verdict(None, "not_executed")  # nor is it known whether it is valid
            return Verdict(None, "not_executed", error=tried.error, valid=tried.error is None)
        database = self.database(row)
        gold = self._gold(database, row.query)
        predicted = self._run(database, prediction)
        valid = predicted.error is None
        if gold.expected is None:
            error_class, error = gold.execution.error_class, gold.execution.error
            said = (error_class, error, predicted.warning, valid)
            return Verdict(None, "gold_error", *said, seconds=predicted.seconds)
        warnings = _warnings(gold)
        if predicted.warning is not None:
            warnings.insert(0, predicted.warning)
        error_class = predicted.error_class
        bird = False
        if predicted.rows is not None:
            found = compare(gold.expected, predicted.rows, predicted.columns)
            error_class = found.difference
            if found.undecided:
                warnings.append("too many ways to assign the columns: not shown to be right")
            bird = ex_bird(gold.execution.rows or [], predicted.rows)
        suite = self._test_suite(database, row.query, prediction, gold, predicted)
        correct = error_class is None
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
    ) -> bool | None:
        """Spider's rule, which takes DISTINCT out of both queries before it runs them.

        None where the gold cannot be run so.
        """
        gold_rows, rows = gold.execution.rows, predicted.rows
        plain_gold, plain = (without_distinct(sql, database.dialect) for sql in (query, prediction))
        if plain_gold != query:
            gold_rows = self._gold(database, plain_gold).execution.rows
        if gold_rows is None:
            return None
        if rows is None or plain == plain_gold:
            return rows is not None
        if plain != prediction:
            rows = self._run(database, plain).rows
        if rows is None:
            return False
        return ex_test_suite(gold_rows, rows, order_matters=order_matters_in_test_suite(query))

    def _holds(
        self, database: Database, row: Row, prediction: str, correct: bool
    ) -> tuple[bool | None, str | None]:
        """Whether a prediction is right on all perturbed copies as well, or why that is not known."""
        if self._copies is None:
            return None, None
        copies = self._copies.of(database, row.query, prediction)
        if isinstance(copies, str):
            return None, f"{row.db_id}: {copies}"
        right: bool | None = None
        for path in copies:
            copy = Database("sqlite", str(path))
            expected = self._gold(copy, row.query).expected
            if expected is None:
                continue  # the gold fails there, so that nothing is expected
            predicted = self._run(copy, prediction) if correct else None
            if predicted is None or predicted.rows is None:
                return False, None
            if compare(expected, predicted.rows, predicted.columns).difference is not None:
                return False, None
            right = True
        return right, None if right else f"{row.db_id}: the gold fails on all copies"


def _warnings(gold: Gold) -> list[str]:
    """What makes a gold query doubtful, in words."""
    found = []
    if gold.ambiguous:
        found.append("the gold's LIMIT cuts through a tie: any legal cut counts as correct")
    elif not gold.ties_known:
        found.append("the gold's ties are unknown: its own order was asked for")
    if gold.random:
        found.append("the gold calls a random function: it may return other rows each time")
    if gold.clock:
        found.append("the gold asks for the time: at another time it may return other rows")
    return found
