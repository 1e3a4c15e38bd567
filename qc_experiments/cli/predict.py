"""`qc predict`: let a saved adapter answer one question, or a CSV of questions.

    qc predict --adapter outputs/RUN/adapter --db shop.sqlite --question "How many customers?"
    qc predict --adapter outputs/RUN/adapter --input questions.csv --output predictions.csv

Everything needed stands beside the adapter: template, wrap, tokenizer, and which base model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qc_experiments.databases.engine import HELP
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.memory import out_of_memory
from qc_experiments.system.processes import quiet_libraries
from qc_experiments.system.signals import StopRequests
from qc_experiments.system.words import counted

if TYPE_CHECKING:
    from qc_experiments.databases.locate import Database
    from qc_experiments.generation.saved import SavedPredictor

FOR_LOADING = ("base_model", "trust_remote_code", "allow_pickle")


def main(arguments: Sequence[str]) -> None:
    """Answer; exits with 2 where the user has to mend something."""
    quiet_libraries()
    with told_to_users(), StopRequests().listening():
        options = _parser().parse_args(arguments)
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
    add = parser.add_argument
    add("--adapter", required=True, metavar="DIR", help="adapter/ (or model/) of a run")
    add(
        "--db",
        metavar="FILE_OR_URL",
        help="database whose schema is the context: SQLite, DuckDB or postgresql://",
    )
    add("--engine", metavar="NAME", help=HELP)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--question", metavar="TEXT", help="one question; the SQL is printed")
    needed = "a question column, and a context column unless --db is given"
    asked.add_argument("--input", metavar="CSV", help=needed)
    for column in ("question", "context"):
        what = f"what --input calls its {column}s"
        add(f"--{column}-column", default=column, metavar="NAME", help=what)
    add("--output", metavar="CSV", help="where --input's rows and predictions go")
    add(
        "--decoding",
        choices=("guided", "greedy"),
        default="guided",
        help="guided: under the schema, the first of four beams that runs; greedy: the likeliest (guided)",
    )
    add("--batch-size", type=int, default=16, help="questions at once (16)")
    add("--cache", metavar="DIR", help="cache folder, as paths.cache in training")
    add(
        "--base-model",
        metavar="PATH_OR_ID",
        help="where the base model is now, if it is not where it was in training",
    )
    add(
        "--trust-remote-code",
        action="store_true",
        help="let code run that comes with the base model or the tokenizer; read it first",
    )
    add(
        "--allow-pickle",
        action="store_true",
        help="read weights from pickles (.bin) where there are no safetensors",
    )
    return parser


def _predict(options: argparse.Namespace) -> None:
    from qc_experiments.databases.schema import read_schema
    from qc_experiments.system.paths import folder_problem, user_path

    # Check what the user gave before anything heavy is imported.
    folder = user_path(options.adapter, "--adapter")
    if problem := folder_problem(folder):
        raise UserError(f"--adapter {folder}: {problem}; name the adapter/ of a run")
    if options.batch_size < 1:
        raise UserError(f"--batch-size {options.batch_size}: must be at least 1")
    schema = None if options.db is None else read_schema(options.db, "--db", options.engine)
    if options.question is None:
        _answer_all(folder, schema, options)
        return
    if schema is None:
        raise UserError("--question needs --db: the database that it is about")
    if options.output is not None:
        raise UserError("--output goes with --input; one question's SQL is printed")
    question = options.question.strip()
    if not question:
        raise UserError("--question is empty")
    predictor = _predictor(folder, options)
    predictor.prompts([(schema, question)], ["the question"])  # which refuses one that is too long
    print(predictor.answer([(schema, question)], _database(options))[0])


def _answer_all(folder: Path, schema: str | None, options: argparse.Namespace) -> None:
    """Answer the questions of a CSV and write it with the answers, in the place of older ones."""
    from qc_experiments.data.table import read_cells
    from qc_experiments.system.files import csv_text, write_whole
    from qc_experiments.system.paths import output_file_problem, user_path
    from qc_experiments.system.unfinished import kept_at, written

    if options.output is None:
        raise UserError("--input needs --output: the CSV to write")
    source, target = user_path(options.input, "--input"), user_path(options.output, "--output")
    option = f"--output {target}"
    if problem := output_file_problem(target):
        raise UserError(f"{option}: {problem}")
    header, numbered = read_cells(source)
    pairs = _pairs(source, header, numbered, schema, options)
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(f"{option}: is the input; choose another name")
    unfinished = target.parent / f".{target.name}.partial"
    with kept_at(unfinished, option):
        predictor = _predictor(folder, options)
        prompts = predictor.prompts(pairs, [f"row {number}" for number, _ in numbered])
        answers = _answers(predictor, pairs, prompts, _database(options), (unfinished, option))
        kept = [place for place, name in enumerate(header) if name != "prediction"]
        columns = [*(header[place] for place in kept), "prediction"]
        cells = [
            [*(row[place] for place in kept), answer]
            for (_, row), answer in zip(numbered, answers, strict=True)
        ]
        with written(option):
            write_whole(target, csv_text(columns, cells))
            unfinished.unlink()
    print(f"{counted(len(answers), 'prediction')} in {target}")


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
    question_at = column_place(path, header, options.question_column, advice)
    advice = "name it with --context-column, or give --db"
    context_at = -1
    if schema is None:
        context_at = column_place(path, header, options.context_column, advice)
    pairs = []
    for number, row in numbered:
        context = row[context_at].strip() if schema is None else schema
        question = row[question_at].strip()
        if not question or not context:
            raise UserError(f"{path}: row {number} has an empty question or context: fill it")
        pairs.append((context, question))
    return pairs


def _predictor(folder: Path, options: argparse.Namespace) -> SavedPredictor:
    from qc_experiments.config.schema import PathsConfig
    from qc_experiments.generation.saved import SavedPredictor
    from qc_experiments.system.paths import user_path

    given = {name: getattr(options, name) for name in FOR_LOADING}
    cache = user_path(options.cache or PathsConfig().cache, "--cache")
    guided = options.decoding == "guided"
    return SavedPredictor(folder, cache, options.batch_size, guided=guided, **given)


def _database(options: argparse.Namespace) -> Database | None:
    from qc_experiments.databases.locate import named_database

    return None if options.db is None else named_database(options.db, "--db", options.engine)


def _answers(
    predictor: SavedPredictor,
    pairs: Sequence[tuple[str, str]],
    prompts: Sequence[Sequence[int]],
    database: Database | None,
    kept_in: tuple[Path, str],
) -> list[str]:
    """The SQL to all questions, in parts that are kept until all are there.

    ``kept_in`` is the file of these parts and what the user calls the output.
    """
    from qc_experiments.evaluation.journal import Journal
    from qc_experiments.generation.predictor import Predicted
    from qc_experiments.system.console import progress
    from qc_experiments.system.unfinished import told_what_is_kept, written

    total = len(prompts)
    unfinished, option = kept_in
    journal = Journal(unfinished, predictor.work(prompts, database))
    if journal.dropped:
        print(
            "The unfinished work there had other questions, another model or settings: starts again"
        )
    if len(journal):
        print(f"Goes on: {len(journal)} of {total} were answered before", flush=True)
    found: dict[int, str] = {}
    with (
        told_what_is_kept(journal, total, "answers"),
        progress(f"Answering {counted(total, 'question')}", total) as advance,
    ):
        for part in predictor.parts(prompts):
            known = journal.answers(part)
            if known is None:
                texts = predictor.answer([pairs[place] for place in part], database, advance)
                known = [Predicted(sql) for sql in texts]
                with written(option):
                    journal.add(part, known)
            else:
                advance(len(part))
            found.update(zip(part, (one.sql for one in known), strict=True))
    return [found[place] for place in range(total)]
