"""One question after the other about a database: the SQL, and what the database returns for it.

Everything that runs there runs as a judge runs it: in a child process that can only read, within its limits
of time and rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from qc_experiments.data.contexts import ContextMaker
from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Execution, Limits
from qc_experiments.databases.locate import Databases
from qc_experiments.generation.choosing import Predicted
from qc_experiments.generation.saved import SavedPredictor
from qc_experiments.judging.judge import Judge
from qc_experiments.models.saved import SavedPrompting
from qc_experiments.sql.table_names import table_names
from qc_experiments.sql.tokens import tokens


@dataclass(frozen=True)
class Answered:
    """What came of a question.

    Attributes:
        predicted: the SQL, with its confidence and its candidates.
        prompt_tokens: length of the prompt.
        tables: that the SQL reads.
        of_tables: how many tables the database has.
    """

    predicted: Predicted
    prompt_tokens: int
    tables: tuple[str, ...]
    of_tables: int


class Asker:
    """Answers questions about one database; used as a context manager.

    Args:
        folder: ``adapter/`` or ``model/`` of a run.
        databases: a single one.
        load: gives the model of that folder; called once the database was read.
        named: what the user calls the database, for messages.

    Raises:
        UserError: if the database cannot be read, or the model not be loaded.
    """

    def __init__(
        self, folder: Path, databases: Databases, load: Callable[[], SavedPredictor], named: str
    ) -> None:
        self.folder, self._named = folder, named
        self._reader = SavedPrompting.load(folder).schemas()
        self._judge = Judge(databases, Limits(), cache=None)
        self._contexts = ContextMaker(self._reader, databases, always=True)
        try:
            self._row("")
            self._predictor = load()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._judge.close()
        self._reader.__exit__()

    def ask(self, question: str) -> Answered:
        """The SQL to a question, with how it was got.

        Raises:
            UserError: if its prompt leaves no room for an answer.
        """
        row = self._row(question)
        (prompt,) = self._predictor.prompts([row], ["the question"])
        (predicted,) = self._predictor.answer_by(self._judge, [row])
        dialect = self._judge.dialect(row)
        names = table_names(row.schema, dialect)
        there = () if names is None else tuple(names.tables)
        read = _read_by(predicted.sql, there, dialect)
        return Answered(predicted, len(prompt), read, len(there))

    def run(self, *queries: str) -> list[Execution]:
        """What the database returns for queries, or why it returns nothing."""
        row = self._row("")
        return self._judge.run_all([(row, sql) for sql in queries])

    def _row(self, question: str) -> Row:
        asked = Row(1, question, "", "", evidence="")
        (row,) = self._contexts.fill([asked], self._named)
        return row


def _read_by(sql: str, tables: tuple[str, ...], dialect: str) -> tuple[str, ...]:
    """The tables, in lower case, that stand after FROM, JOIN, a comma or a schema's dot."""
    read = tokens(sql, dialect)
    named = {
        token.name()
        for before, token in pairwise(read)
        if before.is_word("from", "join") or before.text in (",", ".")
    }
    return tuple(name for name in tables if name in named)
