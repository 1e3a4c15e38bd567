"""`qc predict`: let a saved adapter answer one question, or a CSV of questions.

    qc predict --adapter outputs/RUN/adapter --db shop.sqlite --question "How many customers?"
    qc predict --adapter outputs/RUN/adapter --input questions.csv --output predictions.csv

Everything needed stands beside the adapter: template, wrap, tokenizer, and which base model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from qc_experiments.databases.engine import HELP
from qc_experiments.errors import UserError
from qc_experiments.models.saved import check_vocabulary, load_saved
from qc_experiments.system.console import told_to_users
from qc_experiments.system.memory import out_of_memory
from qc_experiments.system.processes import quiet_libraries
from qc_experiments.system.signals import GOES_ON, StopRequests


def main(arguments: Sequence[str]) -> None:
    """Answer; exits with 2 where the user has to mend something."""
    quiet_libraries()
    with told_to_users():
        options = _parser().parse_args(arguments)
    with told_to_users(GOES_ON if options.input else "interrupted"), StopRequests().listening():
        try:
            _predict(options)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                f"out of memory: try a --batch-size below {options.batch_size}, or a machine with more"
            ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qc predict", description="Let a saved adapter turn questions into SQL."
    )
    parser.add_argument(
        "--adapter", required=True, metavar="DIR", help="adapter/ (or model/) of a run"
    )
    parser.add_argument(
        "--db",
        metavar="FILE_OR_URL",
        help="database whose schema is the context: SQLite, DuckDB or postgresql://",
    )
    parser.add_argument("--engine", metavar="NAME", help=HELP)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--question", metavar="TEXT", help="one question; the SQL is printed")
    asked.add_argument(
        "--input",
        metavar="CSV",
        help="a question column, and a context column unless --db is given",
    )
    for column in ("question", "context"):
        parser.add_argument(
            f"--{column}-column",
            default=column,
            metavar="NAME",
            help=f"what --input calls its {column}s",
        )
    parser.add_argument("--output", metavar="CSV", help="where --input's rows and predictions go")
    parser.add_argument("--batch-size", type=int, default=16, help="questions at once (16)")
    parser.add_argument(
        "--cache", default=None, metavar="DIR", help="cache folder, as paths.cache in training"
    )
    parser.add_argument(
        "--base-model",
        metavar="PATH_OR_ID",
        help="where the base model is now, if it is not where it was in training",
    )
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="let code run that comes with the base model or the tokenizer; read it first",
    )
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="read weights from pickles (.bin) where there are no safetensors",
    )
    return parser


def _predict(options: argparse.Namespace) -> None:
    from qc_experiments.databases.schema import read_schema
    from qc_experiments.system.paths import folder_problem, output_file_problem, user_path

    # Check what the user gave before anything heavy is imported.
    folder = user_path(options.adapter, "--adapter")
    if problem := folder_problem(folder):
        raise UserError(f"--adapter {folder}: {problem}; name the adapter/ of a run")
    if options.batch_size < 1:
        raise UserError(f"--batch-size {options.batch_size}: must be at least 1")
    schema = None if options.db is None else read_schema(options.db, "--db", options.engine)
    if options.question is not None:
        if schema is None:
            raise UserError("--question needs --db: the database that it is about")
        if options.output is not None:
            raise UserError("--output goes with --input; one question's SQL is printed")
        if not options.question.strip():
            raise UserError("--question is empty")
        asked = _Asked(folder, [(schema, options.question.strip())], options)
        print(asked.answer([0])[0])
        return
    if options.output is None:
        raise UserError("--input needs --output: the CSV to write")
    source = user_path(options.input, "--input")
    target = user_path(options.output, "--output")
    if problem := output_file_problem(target):
        raise UserError(f"--output {target}: {problem}")
    from qc_experiments.data.table import read_cells

    header, numbered = read_cells(source)
    pairs = _pairs(source, header, numbered, schema, options)
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(f"--output {target}: is the input; choose another name")
    from qc_experiments.system.files import csv_text, write_whole
    from qc_experiments.system.unfinished import kept_at, written

    option = f"--output {target}"
    unfinished = target.parent / f".{target.name}.partial"
    with kept_at(unfinished, option):
        asked = _Asked(folder, pairs, options, [number for number, _ in numbered])
        answers = asked.answers(unfinished, option)
        kept = [place for place, name in enumerate(header) if name != "prediction"]
        columns = [header[place] for place in kept] + ["prediction"]
        cells = [
            [row[p] for p in kept] + [answer]
            for (_, row), answer in zip(numbered, answers, strict=True)
        ]
        with written(option):
            write_whole(target, csv_text(columns, cells))
            unfinished.unlink()
    print(f"{len(answers)} predictions in {target}")


def _pairs(
    path: Path,
    header: Sequence[str],
    numbered: Sequence[tuple[int, Sequence[str]]],
    schema: str | None,
    options: argparse.Namespace,
) -> list[tuple[str, str]]:
    """Pairs (context, question) of a CSV; a database given by --db takes the context's place."""
    from qc_experiments.data.table import column_place

    advice = "name it with --question-column"
    question = column_place(path, header, options.question_column, advice)
    place = 0
    if schema is None:
        advice = "name it with --context-column, or give --db"
        place = column_place(path, header, options.context_column, advice)
    pairs = []
    for number, row in numbered:
        context = row[place].strip() if schema is None else schema
        if not row[question].strip() or not context:
            raise UserError(f"{path}: row {number} has an empty question or context: fill it")
        pairs.append((context, row[question].strip()))
    return pairs


class _Asked:
    """Questions with the model that answers them.

    Args:
        folder: the adapter's.
        pairs: context and question of each.
        options: the command's.
        numbers: their rows, for messages; 0 for a question of the command line.

    Raises:
        UserError: if there is no such model, or a prompt leaves no room for an answer.
    """

    def __init__(
        self,
        folder: Path,
        pairs: Sequence[tuple[str, str]],
        options: argparse.Namespace,
        numbers: Sequence[int] = (0,),
    ) -> None:
        from qc_experiments.config.schema import PathsConfig
        from qc_experiments.data.encode import Encoder
        from qc_experiments.system.paths import user_path

        cache = options.cache or PathsConfig().cache
        tokenizer, self._model, self._saved = load_saved(
            folder,
            user_path(cache, "--cache"),
            options.base_model,
            trust_remote_code=options.trust_remote_code,
            allow_pickle=options.allow_pickle,
        )
        self._encoder = Encoder(tokenizer, self._saved.template, self._saved.wrap)
        self._prompts = self._encoder.prompts(pairs)
        check_vocabulary(self._prompts, self._encoder, self._model, folder)
        self._batch_size = options.batch_size
        window = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        room = self._saved.max_new_tokens
        for number, prompt in zip(numbers, self._prompts, strict=True):
            if window and len(prompt) + room > window:
                where = f"row {number}" if number else "the question"
                raise UserError(
                    f"{where} has a prompt of {len(prompt)} tokens: with {room} for the answer it "
                    f"exceeds the model's window of {window}; shorten the context"
                )

    def answers(self, unfinished: Path, option: str) -> list[str]:
        """The SQL to all questions, in parts that are kept until all are there.

        Args:
            unfinished: file with the parts that an earlier start has answered.
            option: what the user calls the output, with its value, for messages.
        """
        from qc_experiments.evaluation.journal import Journal
        from qc_experiments.generation.generate import SHARED_BATCH
        from qc_experiments.generation.predictor import Predicted
        from qc_experiments.system.progress import progress
        from qc_experiments.system.unfinished import written

        # What is answered together depends on the questions alone: so does each answer, to the last bit.
        ordered = sorted(range(len(self._prompts)), key=lambda place: list(self._prompts[place]))
        size = SHARED_BATCH * self._batch_size
        parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        journal = Journal(unfinished, self._work())
        if journal.dropped:
            print(
                "The unfinished work beside it was another's (questions, model or settings): starts anew"
            )
        if len(journal):
            print(f"Goes on: {len(journal)} of {len(ordered)} were answered before", flush=True)
        found: dict[int, str] = {}
        with progress(f"Answering {len(ordered)} questions", len(ordered)) as advance:
            for part in parts:
                known = journal.answers(part)
                if known is None:
                    known = [Predicted(sql, None) for sql in self.answer(part, advance)]
                    with written(option):
                        journal.add(part, known)
                else:
                    advance(len(part))
                found.update(zip(part, (one.sql for one in known), strict=True))
        return [found[place] for place in range(len(ordered))]

    def answer(
        self, places: Sequence[int], on_answer: Callable[[int], None] | None = None
    ) -> list[str]:
        """The SQL to some of the questions.

        Args:
            places: which ones.
            on_answer: called with the number of questions just answered.
        """
        from qc_experiments.generation.decoding import Decoding
        from qc_experiments.generation.generate import write_answers
        from qc_experiments.sql.extraction import extract_sql

        texts = write_answers(
            self._model,
            [self._prompts[place] for place in places],
            tokenizer=self._encoder.tokenizer,
            stop_ids=self._encoder.stop_ids,
            max_new_tokens=self._saved.max_new_tokens,
            batch_size=self._batch_size,
            decoding=Decoding(),
            on_answer=on_answer,
        )
        after = self._saved.template.after_query()
        return [extract_sql(text, after) for (text,) in texts]

    def _work(self) -> str:
        """Tells what is answered, by which model and how: by content, wherever it is read from."""
        from qc_experiments.models.base import weights_hash
        from qc_experiments.system.paths import hash_bytes
        from qc_experiments.system.unfinished import code_hash

        saved, settings = self._saved, self._model.config.to_dict()
        settings.pop("_name_or_path", None)
        scaling = {
            name: (one.r, one.lora_alpha, one.use_rslora)
            for name, one in getattr(self._model, "peft_config", {}).items()
        }
        what = [
            [list(prompt) for prompt in self._prompts],
            sorted(self._encoder.stop_ids),
            saved.template.after_query(),
            saved.max_new_tokens,
            self._batch_size,
            str(settings),
            str(scaling),
            weights_hash(self._model),
            code_hash(),
        ]
        return hash_bytes(json.dumps(what).encode())
