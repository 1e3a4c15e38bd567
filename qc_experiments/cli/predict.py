"""`qc predict`: let a saved adapter answer one question, or a CSV of questions.

    qc predict --adapter latest --db shop.sqlite --question "How many customers?"
    qc predict --adapter outputs/RUN --input questions.csv --output predictions.csv
    qc predict --endpoint http://localhost:8000/v1 --model NAME --input questions.csv --output predictions.csv

Everything needed stands beside the adapter: template, wrap, tokenizer, and which base model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qc_experiments.cli.asked_model import (
    add_model_options,
    checked_text,
    load_model,
    memory_told,
    model_folder,
    unsure_line,
)
from qc_experiments.cli.parser import Parser
from qc_experiments.cli.predict_endpoint import add_options, endpoint_predictor
from qc_experiments.config.evaluation import EvaluationConfig
from qc_experiments.databases.engine import HELP
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.processes import quiet_libraries
from qc_experiments.system.signals import StopRequests
from qc_experiments.system.words import counted

if TYPE_CHECKING:
    from qc_experiments.data.table import Row
    from qc_experiments.databases.locate import Databases
    from qc_experiments.generation.choosing import Predicted
    from qc_experiments.generation.endpoint import EndpointPredictor
    from qc_experiments.generation.saved import SavedPredictor
    from qc_experiments.models.saved import SavedPrompting

WRITTEN = ("prediction", "confidence")
"""Columns of the output, in the place of the input's own of these names."""


def main(arguments: Sequence[str]) -> None:
    """Answer; exits with 2 where the user has to mend something."""
    quiet_libraries()
    with told_to_users(), StopRequests().listening():
        options = parser().parse_args(arguments)
        size = options.batch_size or EvaluationConfig.batch_size
        advice = f"try a --batch-size below {size}, or a machine with more"
        with memory_told(advice):
            _predict(options)


def parser() -> argparse.ArgumentParser:
    """What may be typed."""
    made = Parser(
        prog="qc predict", description="Let a saved adapter, or a server, turn questions into SQL."
    )
    add_model_options(made)
    add = made.add_argument
    add(
        "--db",
        metavar="FILE_OR_URL",
        help="database whose schema is the context: SQLite, DuckDB or postgresql://; or, with --input and a "
        "db_id column, a folder of them",
    )
    add("--engine", metavar="NAME", help=f"{HELP}; without --db whose SQL is written")
    asked = made.add_mutually_exclusive_group(required=True)
    asked.add_argument("--question", metavar="TEXT", help="one question; the SQL is printed")
    add("--evidence", metavar="TEXT", help="hint that comes with --question")
    needed = "a question column, and a context column unless --db is given"
    asked.add_argument("--input", metavar="CSV", help=needed)
    for column in ("question", "context", "db_id"):
        what = f"what --input calls its {column}s ({column})"
        add(f"--{column.replace('_', '-')}-column", metavar="NAME", help=what)
    add("--output", metavar="CSV", help="where --input's rows and predictions go")
    size = f"questions at once ({EvaluationConfig.batch_size})"
    add("--batch-size", type=int, metavar="N", help=size)
    add_options(made)
    return made


def _predict(options: argparse.Namespace) -> None:
    from qc_experiments.data.table import Row

    # Check what the user gave before the model is loaded.
    model: Path | EndpointPredictor | None = endpoint_predictor(options)
    if model is None:
        if options.adapter is None:
            raise UserError("qc predict needs --adapter: a run, or latest; or --endpoint: a server")
        model = model_folder(options)
    if options.batch_size is not None and options.batch_size < 1:
        raise UserError(f"--batch-size {options.batch_size}: must be at least 1")
    databases = _databases(options)
    if options.question is None:
        _check_for_many(options, databases)
        _answer_all(model, databases, options)
        return
    if databases is None or databases.single is None:
        raise UserError("--question needs --db: the one database that it is about")
    for name in ("output", "question_column", "context_column", "db_id_column"):
        if getattr(options, name) is not None:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} goes with --input; one question's SQL is printed")
    question = checked_text(options.question, "--question")
    if not question:
        raise UserError("--question is empty")
    evidence = checked_text(options.evidence or "", "--evidence")
    saved = _prompting(model)
    if evidence and not saved.template.takes_evidence and saved.linking is None:
        raise UserError(
            f"--evidence: {saved.template.source} has no {{evidence}}: put it into the question, or train "
            "with a template that has it"
        )
    asked = Row(1, question, "", "", evidence=evidence)
    rows = _with_contexts([asked], model, databases, "--db")
    if not isinstance(model, Path):
        _say(model.answer_one(rows[0], databases), options)
        return
    predictor = load_model(model, options, options.batch_size)
    predictor.prompts(rows, ["the question"])  # which refuses one that is too long
    _say(predictor.answer(rows, databases)[0], options)


def _check_for_many(options: argparse.Namespace, databases: Databases | None) -> None:
    """Refuse what would do nothing for a CSV of questions."""
    if options.evidence is not None:
        raise UserError("--evidence goes with --question; hints of --input are its column evidence")
    if options.context_column is not None and databases is not None:
        raise UserError("--context-column goes without --db, whose schema is the context")
    if options.db_id_column is not None and (databases is None or databases.single is not None):
        raise UserError("--db-id-column goes with a folder of databases as --db")


def _prompting(model: Path | EndpointPredictor) -> SavedPrompting:
    from qc_experiments.models.saved import SavedPrompting

    return SavedPrompting.load(model) if isinstance(model, Path) else model.prompting


def _say(answer: Predicted, options: argparse.Namespace) -> None:
    least = options.not_below
    print(unsure_line(answer, least) if answer.is_unsure(least) else answer.sql)


def _answer_all(
    model: Path | EndpointPredictor, databases: Databases | None, options: argparse.Namespace
) -> None:
    """Answer the questions of a CSV and write it with the answers, in the place of older ones."""
    from qc_experiments.data.table import read_cells
    from qc_experiments.system.files import csv_text, write_whole
    from qc_experiments.system.outputs import CSV, output_paths
    from qc_experiments.system.paths import user_path
    from qc_experiments.system.unfinished import kept_at, written

    if options.output is None:
        raise UserError("--input needs --output: the CSV to write")
    source = user_path(options.input, "--input")
    inputs = [source, options.db]
    target = output_paths([("--output", options.output, CSV)], inputs)["--output"]
    option = f"--output {target}"
    header, numbered = read_cells(source)
    rows = _rows(source, header, numbered, databases, options)
    rows = _with_contexts(rows, model, databases, source)
    unfinished = target.parent / f".{target.name}.partial"
    with kept_at(unfinished, option):
        if isinstance(model, Path):
            predictor = load_model(model, options, options.batch_size)
            prompts = predictor.prompts(rows, [f"row {row.number}" for row in rows])
            answers = _answers(predictor, rows, prompts, databases, (unfinished, option))
        else:
            answers = model.answer_all(rows, databases, (unfinished, option))
        kept = [place for place, name in enumerate(header) if name not in WRITTEN]
        columns = [*(header[place] for place in kept), *WRITTEN]
        least = options.not_below
        cells = [
            [
                *(row[place] for place in kept),
                "" if one.is_unsure(least) else one.sql,
                one.confidence,
            ]
            for (_, row), one in zip(numbered, answers, strict=True)
        ]
        with written(option):
            write_whole(target, csv_text(columns, cells))
            unfinished.unlink()
    unsure = sum(one.is_unsure(least) for one in answers)
    held = f"; not sure of {unsure}, which are empty" if unsure else ""
    print(f"{counted(len(answers), 'prediction')} in {target}{held}")


def _rows(
    path: Path,
    header: Sequence[str],
    numbered: Sequence[tuple[int, Sequence[str]]],
    databases: Databases | None,
    options: argparse.Namespace,
) -> list[Row]:
    """The questions of a CSV; databases given by --db take the context's place."""
    from qc_experiments.data.table import Row, column_place

    column, advice = options.question_column or "question", "name it with --question-column"
    places = {"question": column_place(path, header, column, advice)}
    if databases is None:
        column = options.context_column or "context"
        advice = "name it with --context-column, or give --db"
        places["context"] = column_place(path, header, column, advice)
    elif databases.single is None:
        column = options.db_id_column or "db_id"
        advice = "name it with --db-id-column, or give one database's file as --db"
        places["db_id"] = column_place(path, header, column, advice)
    rows = []
    for number, cells in numbered:
        found = {name: cells[place].strip() for name, place in places.items()}
        if empty := [name for name, text in found.items() if not text]:
            raise UserError(f"{path}: row {number} has an empty {empty[0]}: fill it")
        rows.append(
            Row(
                number,
                found["question"],
                "",
                found.get("context", ""),
                found.get("db_id"),
                evidence=cells[header.index("evidence")] if "evidence" in header else None,
            )
        )
    return rows


def _with_contexts(
    rows: Sequence[Row],
    model: Path | EndpointPredictor,
    databases: Databases | None,
    source: Path | str,
) -> list[Row]:
    """The rows with what the model is told of their databases, written as it was in training."""
    from qc_experiments.data.contexts import ContextMaker
    from qc_experiments.sql.ddl import is_ddl

    saved = _prompting(model)
    if saved.template.takes_evidence and rows[0].evidence is None:
        raise UserError(
            f"{source}: has no column evidence, which {saved.template.source} puts into the prompt: add it"
        )
    again = saved.makes_contexts and all(is_ddl(row.context) for row in rows)
    with saved.schemas() as reader:
        return ContextMaker(reader, databases, always=again).fill(rows, source)


def _databases(options: argparse.Namespace) -> Databases | None:
    from qc_experiments.databases.locate import find_databases

    return None if options.db is None else find_databases(options.db, "--db", options.engine)


def _answers(
    predictor: SavedPredictor,
    rows: Sequence[Row],
    prompts: Sequence[Sequence[int]],
    databases: Databases | None,
    kept_in: tuple[Path, str],
) -> list[Predicted]:
    """The SQL to all questions, in parts that are kept until all are there.

    ``kept_in`` is the file of these parts and what the user calls the output.
    """
    from qc_experiments.evaluation.journal import Journal
    from qc_experiments.system.console import progress
    from qc_experiments.system.unfinished import told_what_is_kept, written

    total = len(prompts)
    unfinished, option = kept_in
    journal = Journal(unfinished, predictor.work(prompts, databases))
    if journal.dropped:
        print(
            "The unfinished work there had other questions, another model or settings: starts again"
        )
    if len(journal):
        print(f"Goes on: {len(journal)} of {total} were answered before", flush=True)
    found: dict[int, Predicted] = {}
    with (
        told_what_is_kept(lambda: len(journal), total, "answers"),
        progress(f"Answering {counted(total, 'question')}", total) as advance,
    ):
        for part in predictor.parts(prompts):
            known = journal.answers(part)
            if known is None:
                known = predictor.answer([rows[place] for place in part], databases, advance)
                with written(option):
                    journal.add(part, known)
            else:
                advance(len(part))
            found.update(zip(part, known, strict=True))
    return [found[place] for place in range(total)]
