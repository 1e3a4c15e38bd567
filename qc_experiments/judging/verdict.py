"""What a prediction is worth, and what else may be said of a query that was run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from qc_experiments.data.table import Row
from qc_experiments.databases.engine import ERROR_CLASSES, Execution, Limits
from qc_experiments.databases.engine import Row as Cells
from qc_experiments.databases.locate import Databases
from qc_experiments.judging.equivalence import JUDGE
from qc_experiments.system.paths import hash_texts

WRONG_RESULTS = ("wrong_rows", "wrong_order", "wrong_columns", "empty_result")
ALL_ERROR_CLASSES = (*ERROR_CLASSES, *WRONG_RESULTS)  # every reason for which a prediction is wrong


@dataclass(frozen=True)
class Verdict:
    """What a prediction is worth.

    Attributes:
        correct: whether it returns the right rows; None where that was not measured.
        verdict: ``correct``, ``wrong``, ``gold_error`` or ``not_executed``.
        error_class: one of `ALL_ERROR_CLASSES`; with ``gold_error`` the gold's; None if correct.
        warning: what is to be looked at though it may be right.
        valid: whether the database runs it; None where there is none to ask.
        ambiguous: whether the gold's LIMIT cuts through a tie.
        ex_bird, ex_test_suite: by BIRD's and Spider's rules; None where the gold failed or nothing ran.
        fuzz: whether it is right on all perturbed databases as well; None if they were not asked.
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


class Memory(Protocol):
    """Keeps verdicts, by the place of their row, over several starts of a command."""

    known: dict[int, Verdict]

    def add(self, place: int, verdict: Verdict) -> None:
        """Keep a verdict; called by several threads."""


@dataclass(frozen=True)
class Tried:
    """What came of running a query, without its rows.

    ``result`` is a hash, the same for results that are the same but for order; None if there is none.
    """

    error: str | None
    error_class: str | None
    result: str | None


@dataclass(frozen=True)
class FirstRows:
    """The beginning of what a query returned, which is small where the whole may not be.

    ``count`` is of all rows; ``rows`` is None where the query failed, and ``error`` says why.
    """

    rows: list[Cells] | None
    columns: tuple[str, ...] = ()
    count: int = 0
    error: str | None = None

    @classmethod
    def of(cls, ran: Execution, most: int) -> FirstRows:
        """At most so many rows of a result."""
        if ran.rows is None:
            return cls(None, error=ran.error)
        return cls(ran.rows[:most], ran.columns, len(ran.rows))


def result_hash(execution: Execution) -> str:
    """A hash that is the same for results with the same rows in any order.

    2 and 2.0 are alike, and so are other numbers that agree in nine digits.
    """
    rows = sorted(repr(tuple(map(_plain, row))) for row in execution.rows or ())
    return hash_texts(str(len(execution.columns)), *rows)


def _plain(cell: object) -> object:
    if not isinstance(cell, float):
        return cell
    number = cell if cell.is_integer() else float(f"{cell:.9g}")
    return int(number) if number.is_integer() else number


def judged_on(
    rows: Iterable[Row], databases: Databases | str | None, limits: Limits
) -> dict[str, str]:
    """Hashes (questions, golds, databases, judge) of all that a verdict depends on besides the prediction.

    ``databases`` as `Judge` takes them.
    """
    asked = list(rows)
    contents = [one.schema for one in asked]
    if isinstance(databases, str) and databases != "sqlite":
        contents.append(databases)
    elif isinstance(databases, Databases):
        contents = []
        for db_id in sorted({one.db_id for one in asked if one.db_id is not None}):
            database = databases.find(db_id)
            contents.append(db_id if database is None else f"{db_id} {database.content_hash()}")
    parts = {
        "questions": [f"{one.db_id}\n{one.question}" for one in asked],
        "golds": [one.query for one in asked],
        "databases": contents,
        "judge": [JUDGE, str(limits)],
    }
    return {key: hash_texts(*texts) for key, texts in parts.items()}
