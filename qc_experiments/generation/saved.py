"""A model that a run has saved, with its template and tokenizer: asks it questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import Choose, Constrain, EvaluationConfig
from qc_experiments.data.contexts import ContextMaker
from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.engine import engine as engine_of
from qc_experiments.databases.locate import Databases, named_database
from qc_experiments.databases.schema import SchemaReader
from qc_experiments.errors import UserError
from qc_experiments.generation.choosing import Predicted, check_confidence
from qc_experiments.generation.predictor import Predictor
from qc_experiments.judging.judge import Judge
from qc_experiments.models.saved import check_vocabulary, load_saved
from qc_experiments.sql.ddl import is_ddl
from qc_experiments.system.paths import hash_bytes
from qc_experiments.system.words import counted, items

GUIDED = {
    "num_beams": 4,
    "candidates": 4,
    "choose": Choose.first_valid,
    "constrain": Constrain.schema,
}
"""How a model is asked that is used, not measured: of four beams under the schema, the first that runs."""


class SavedPredictor:
    """Turns questions into SQL.

    Args:
        folder: ``adapter/`` or ``model/`` of a run.
        cache: folder of what is made once per user.
        batch_size: questions that are computed at once; None: as ``evaluation.batch_size`` is by itself.
        guided: whether answers are held to the schema and tried (`GUIDED`); else the likeliest is taken.
        engine: whose SQL is written about contexts without a database; None: as in training.
        options: what `load_saved` takes besides.

    Raises:
        UserError: if the folder is not one that a run saved, or its base model cannot be loaded or is
            another one.
    """

    confidence_is = "the model's probability of this answer"

    def __init__(
        self,
        folder: Path,
        cache: Path,
        batch_size: int | None = None,
        *,
        guided: bool = True,
        engine: str | None = None,
        **options: Any,
    ) -> None:
        from qc_experiments.data.encode import Encoder

        self.folder, self.name = folder, str(folder)
        dialect = None if engine is None else engine_of(engine).dialect
        tokenizer, self._model, saved = load_saved(folder, cache, **options)
        self._saved = saved if dialect is None else replace(saved, dialect=dialect)
        self._precision = self._saved.precision()
        self._encoder = Encoder(tokenizer, self._saved.template, self._saved.wrap)
        settings: dict[str, Any] = GUIDED if guided else {}
        if batch_size is not None:
            settings = {**settings, "batch_size": batch_size}
        self._settings = EvaluationConfig(max_new_tokens=self._saved.max_new_tokens, **settings)

    def predict(
        self,
        questions: str | Sequence[str],
        *,
        context: str | None = None,
        database: str | Path | None = None,
        engine: str | None = None,
        evidence: str | Sequence[str] | None = None,
        not_below: float | None = None,
    ) -> list[str]:
        """The SQL to questions about one database.

        Args:
            questions: in words; a single text is one question.
            context: the database's schema, as ``CREATE TABLE`` statements.
            database: in place of it: an SQLite or DuckDB file, or a postgresql:// URL. Queries are then
                tried on it, else SQLite's on empty tables.
            engine: of the database, as ``data.engine`` in training; None: its suffix or URL tells, and of a
                context the training.
            evidence: hints for templates with ``{evidence}``: one for all questions, or one each.
            not_below: the least confidence, from 0 to 1; an answer with less is empty.

        Raises:
            UserError: for what the user has to mend, such as a prompt that leaves no room for an answer.
        """
        check_confidence(not_below, "not_below")
        found = self.predicted(
            questions, context=context, database=database, engine=engine, evidence=evidence
        )
        return ["" if one.is_unsure(not_below) else one.sql for one in found]

    def predicted(
        self,
        questions: str | Sequence[str],
        *,
        context: str | None = None,
        database: str | Path | None = None,
        engine: str | None = None,
        evidence: str | Sequence[str] | None = None,
    ) -> list[Predicted]:
        """As `predict`; each with its confidence, and with what it was chosen from."""
        if (context is None) == (database is None):
            raise UserError("predict: takes either a context or a database")
        questions = items(questions)
        hints = self._hints(evidence, len(questions))
        pairs = enumerate(zip(questions, hints, strict=True))
        rows = [Row(n, one, "", context or "", evidence=hint) for n, (one, hint) in pairs]
        found: Databases | None = None
        dialect: str | None = None
        if database is not None:
            one = named_database(str(database), "database", engine)
            found = Databases(one.target, one.engine)
        elif engine is not None:
            dialect = engine_of(engine).dialect
        again = found is not None or (self._saved.makes_contexts and is_ddl(context or ""))
        named = "context" if found is None else f"database {database}"
        with self.schemas() as reader:
            rows = ContextMaker(reader, found, always=again).fill(rows, named)
        self.prompts(rows, [f"question {row.number}" for row in rows])
        return self.answer(rows, found, dialect=dialect)

    def _hints(self, evidence: str | Sequence[str] | None, count: int) -> Sequence[str]:
        """The hint of each question."""
        saved = self._saved
        if evidence and not saved.template.takes_evidence and saved.linking is None:
            raise UserError(
                f"evidence: {saved.template.source} has no {{evidence}}: put it into the question, or train "
                "with a template that has it"
            )
        if evidence is None or isinstance(evidence, str):
            return [evidence or ""] * count
        if len(evidence) != count:
            raise UserError(
                f"evidence: {counted(len(evidence), 'hint')} for {counted(count, 'question')}: give one for "
                "all, or one each"
            )
        return evidence

    def schemas(self) -> SchemaReader:
        """Reads schemas in the form in which they were trained."""
        return self._saved.schemas()

    def prompts(self, rows: Sequence[Row], names: Sequence[str]) -> list[Sequence[int]]:
        """What the model reads, in tokens.

        Args:
            rows: whose queries are not looked at.
            names: of these, for messages.

        Raises:
            UserError: if a prompt leaves no room for an answer, or the tokenizer is another model's.
        """
        prompts: list[Sequence[int]] = list(self._encoder.prompts(rows))
        check_vocabulary(prompts, self._encoder, self._model, self.folder)
        window = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        room = self._saved.max_new_tokens
        for name, prompt in zip(names, prompts, strict=True):
            if window and len(prompt) + room > window:
                raise UserError(
                    f"{name} has a prompt of {len(prompt)} tokens: with {room} for the answer it "
                    f"exceeds the model's window of {window}; shorten the context"
                )
        return prompts

    def prompt_tokens(self, row: Row) -> int:
        """Length of a question's prompt; a `UserError` as in `prompts`."""
        (prompt,) = self.prompts([row], ["the question"])
        return len(prompt)

    def answer(
        self,
        rows: Sequence[Row],
        databases: Databases | None,
        on_answer: Callable[[int], None] | None = None,
        dialect: str | None = None,
    ) -> list[Predicted]:
        """The SQL to each row's question.

        Args:
            rows: whose prompts `prompts` has let through.
            databases: on which queries are tried; None: SQLite's on empty tables made from the contexts.
            on_answer: called with the number of questions just answered.
            dialect: of the SQL where there are no databases; None: that of training.
        """
        place = databases or dialect or self._saved.dialect
        with Judge(place, Limits(), cache=None) as judge:
            return self.answer_by(judge, rows, on_answer)

    def answer_by(
        self, judge: Judge, rows: Sequence[Row], on_answer: Callable[[int], None] | None = None
    ) -> list[Predicted]:
        """As `answer`, with a judge that goes on: its processes are started once."""
        predictor = Predictor(self._encoder, self._settings, None, judge)
        with self._precision():
            return predictor.predict(self._model, rows, on_answer)

    def parts(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """The prompts' places in parts to answer, and to keep, together: as small as costs no speed.

        They depend on the prompts alone: so does each answer, to the last bit.
        """
        from qc_experiments.generation.generate import SHARED_BATCH
        from qc_experiments.generation.prefixes import cannot_share_prefixes

        longest = max(map(len, prompts), default=0) + self._saved.max_new_tokens
        with self._precision():
            shared = cannot_share_prefixes(self._model, longest) is None
        size = (SHARED_BATCH if shared else 1) * self._settings.batch_size
        # Without a shared prefix a part is one batch, which is padded to its longest prompt.
        ordered = sorted(
            range(len(prompts)),
            key=lambda place: (0 if shared else len(prompts[place]), list(prompts[place])),
        )
        return [ordered[start : start + size] for start in range(0, len(ordered), size)]

    def work(self, prompts: Sequence[Sequence[int]], databases: Databases | None) -> str:
        """Tells what is answered, by which model and how: by content, wherever it is read from."""
        from qc_experiments.models.base import weights_hash
        from qc_experiments.system.unfinished import code_hash

        saved, settings = self._saved, self._model.config.to_dict()
        settings.pop("_name_or_path", None)
        scaling = {
            name: (one.r, one.lora_alpha, one.use_rslora)
            for name, one in getattr(self._model, "peft_config", {}).items()
        }
        what = [
            [list(prompt) for prompt in prompts],
            sorted(self._encoder.stop_ids),
            saved.template.after_query(),
            saved.max_new_tokens,
            str(self._settings),
            saved.dialect if databases is None else databases.place,
            str(settings),
            str(scaling),
            weights_hash(self._model),
            code_hash(),
        ]
        return hash_bytes(json.dumps(what).encode())
