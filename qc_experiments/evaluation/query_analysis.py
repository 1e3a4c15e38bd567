"""What the texts of a gold query and a prediction tell, found out where a text cannot do harm.

sqlglot parses a hostile text of a few hundred characters for ever. So texts are parsed in the child
processes in which SQL runs: `answer` is called there, `analyse` asks for it.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from qc_experiments.sql.parsing import exact_match, parse
from qc_experiments.sql.structure import Hardness, features, hardness

if TYPE_CHECKING:
    from qc_experiments.data.table import Row
    from qc_experiments.judging.judge import Judge

Found = TypeVar("Found")

CPU_SECONDS = 2.0
"""Processor time that one step may take: parsing a text, or comparing two."""
WALL_SECONDS = 30.0
"""Time after which the process is killed, should a step not look at its limit."""
TOO_LONG = f"it takes more than {CPU_SECONDS:g} s"


@dataclass(frozen=True)
class Analysis:
    """What the texts of a gold query and a prediction tell.

    Attributes:
        exact: whether the prediction is the gold query but for spelling.
        hardness: how hard the gold query is.
        features: SQL features of the gold query.
        gold_problem: the limit that parsing the gold query exceeds, or None.
        problem: the limit that parsing the prediction exceeds, or None.
    """

    exact: bool
    hardness: Hardness
    features: tuple[str, ...]
    gold_problem: str | None = None
    problem: str | None = None


def analyse(rows: Sequence[Row], predictions: Sequence[str], judge: Judge) -> list[Analysis]:
    """Analyse one prediction for each row.

    Args:
        rows: questions with their gold queries.
        predictions: SQL texts, one a row.
        judge: knows the dialect of each row's database, and has the child processes.
    """
    asked = [
        (row.query, prediction, judge.dialect(row))
        for row, prediction in zip(rows, predictions, strict=True)
    ]
    unique = list(dict.fromkeys(asked))
    answers = judge.call_each(__name__, unique, WALL_SECONDS)
    lost = [texts for texts, found in zip(unique, answers, strict=True) if isinstance(found, str)]
    # The gold query alone: what it tells must not depend on what it is compared with.
    golds = judge.call_each(
        __name__, [(gold, "", dialect) for gold, _, dialect in lost], WALL_SECONDS
    )
    alone = dict(zip(lost, golds, strict=True))
    known = {
        texts: _lost(found, alone[texts]) if isinstance(found, str) else Analysis(*found)
        for texts, found in zip(unique, answers, strict=True)
    }
    return [known[texts] for texts in asked]


def _lost(problem: str, gold: tuple[Any, ...] | str) -> Analysis:
    """What is left where the child process ended before it had answered."""
    if isinstance(gold, str):
        return Analysis(False, "unknown", (), gold_problem=gold, problem=problem)
    return replace(Analysis(*gold), exact=False, problem=problem)


def answer(gold: str, predicted: str, dialect: str) -> tuple[object, ...]:
    """Analyse two texts; called in a child process, whose answers are plain values.

    Args:
        gold: the gold query.
        predicted: the prediction.
        dialect: what sqlglot calls their SQL.
    """
    gold_problem, problem = _problem(gold, dialect), _problem(predicted, dialect)
    readable = "" if gold_problem else gold
    level, used = _in_time(lambda: (hardness(readable, dialect), features(readable, dialect))) or (
        "unknown",
        (),
    )
    exact = gold == predicted
    if not gold_problem and not problem:
        exact = _in_time(lambda: exact_match(gold, predicted, dialect)) or exact
    return (exact, level, used, gold_problem, problem)


@functools.lru_cache(maxsize=256)
def _problem(sql: str, dialect: str) -> str | None:
    """The limit that parsing a text exceeds, or None."""
    found = _in_time(lambda: parse(sql, dialect))
    return TOO_LONG if found is None else found.problem


def _in_time(do: Callable[[], Found]) -> Found | None:
    """What a function gives, or None if it takes more processor time or memory than it may."""
    try:
        with _cpu_limit():
            return do()
    except (_OutOfTime, MemoryError):
        return None


class _OutOfTime(BaseException):
    """Not an Exception, which sqlglot would catch."""


@contextmanager
def _cpu_limit() -> Iterator[None]:
    """Raise `_OutOfTime` in what takes more than `CPU_SECONDS` of processor time."""

    def end(number: int, frame: object) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGPROF, end)
    # Once more after a while, should the first be swallowed where Python cannot pass it on.
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS, 0.25)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
