"""One question after the other about a database: the SQL, and what the database returns for it.

Everything that runs there runs as a judge runs it: in a child process that can only read, within its limits
of time and rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from qc_experiments.data.contexts import ContextMaker
from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Execution, Limits
from qc_experiments.databases.locate import Databases
from qc_experiments.generation.choosing import Predicted
from qc_experiments.judging.judge import Judge
from qc_experiments.models.saved import SavedPrompting


@dataclass(frozen=True)
class Answered:
    """What came of a question.

    Attributes:
        predicted: the SQL, with its confidence and its candidates.
        prompt_tokens: length of the prompt; None where a server counts it.
    """

    predicted: Predicted
    prompt_tokens: int | None


class Model(Protocol):
    """What turns questions into SQL: a model that is loaded here, or one behind a server.

    Attributes:
        name: for people.
        confidence_is: what its confidence in an answer says.
    """

    name: str
    confidence_is: str

    def prompt_tokens(self, row: Row) -> int | None:
        """Length of the prompt; refuses one that leaves no room for an answer."""

    def answer_by(self, judge: Judge, rows: Sequence[Row]) -> list[Predicted]:
        """The SQL to each question, chosen by running candidates where there are several."""


class DatabasePredictor:
    """Answers questions about one database; used as a context manager.

    Args:
        prompting: how the model is told of the database.
        databases: a single one.
        load: gives the model; called once the database was read.
        named: what the user calls the database, for messages.

    Attributes:
        judge: runs queries there.
        model: that is asked.

    Raises:
        UserError: if the database cannot be read, or the model not be loaded.
    """

    def __init__(
        self, prompting: SavedPrompting, databases: Databases, load: Callable[[], Model], named: str
    ) -> None:
        self._named = named
        self._reader = prompting.schemas()
        self.judge = Judge(databases, Limits(), cache=None)
        self._contexts = ContextMaker(self._reader, databases, always=True)
        try:
            self.row("")
            self.model = load()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> DatabasePredictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.judge.close()
        self._reader.__exit__()

    def ask(self, question: str) -> Answered:
        """The SQL to a question, with how it was got.

        Raises:
            UserError: if its prompt leaves no room for an answer, or a server gives none.
        """
        row = self.row(question)
        tokens = self.model.prompt_tokens(row)
        (predicted,) = self.model.answer_by(self.judge, [row])
        return Answered(predicted, tokens)

    def run(self, *queries: str) -> list[Execution]:
        """What the database returns for queries, or why it returns nothing."""
        row = self.row("")
        return self.judge.run_all([(row, sql) for sql in queries])

    def row(self, question: str) -> Row:
        """A question with what the model is told of the database."""
        asked = Row(1, question, "", "", evidence="")
        (row,) = self._contexts.fill([asked], self._named)
        return row
