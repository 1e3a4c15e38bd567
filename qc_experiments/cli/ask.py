"""`qc ask`: a question in, SQL and its rows out; again and again, with the model loaded once.

    qc ask --db shop.sqlite "How many customers?"
    qc ask --db shop.sqlite
    qc ask --db shop.sqlite --sql-only < questions.txt
    qc ask --db shop.sqlite --endpoint http://localhost:8000/v1 --model NAME

Nothing that a model writes can change the database: it runs in a child process that only reads.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from qc_experiments.cli.asked_model import (
    add_model_options,
    cache_folder,
    checked_text,
    confidence_text,
    load_model,
    memory_told,
    model_folder,
    unsure_line,
)
from qc_experiments.cli.parser import Parser
from qc_experiments.cli.predict_endpoint import add_options, endpoint_predictor
from qc_experiments.databases.engine import HELP
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.processes import quiet_libraries
from qc_experiments.system.signals import StopRequests

if TYPE_CHECKING:
    from qc_experiments.generation.database_predictor import Answered, DatabasePredictor

PROMPT = "question> "
NO_QUESTION = "no question: give one as an argument, or one per line on the standard input"
FAREWELLS = ("exit", "quit")
CTRL_C = 130
"""Exit code of what ends by it."""


def main(arguments: Sequence[str]) -> None:
    """Answer; exits with 2 where the user has to mend something, with 1 where a query fails."""
    quiet_libraries()
    with told_to_users(), StopRequests().listening():
        options = parser().parse_args(arguments)
        with memory_told("try --decoding greedy, or a machine with more"):
            all_ran = _ask(options)
        if not all_ran:
            sys.stdout.flush()
            raise SystemExit(1)


def parser() -> argparse.ArgumentParser:
    """What may be typed."""
    made = Parser(
        prog="qc ask",
        description="Ask a database in words: the SQL and its rows. Without a question it asks for one "
        "after the other (from a pipe: one per line).",
    )
    add = made.add_argument
    add("question", nargs="?", metavar="QUESTION", help="what to answer; else a loop")
    kinds = "SQLite, DuckDB or postgresql://"
    add("--db", required=True, metavar="FILE_OR_URL", help=f"the database that is asked: {kinds}")
    add("--engine", metavar="NAME", help=HELP)
    how = made.add_mutually_exclusive_group()
    how.add_argument("--sql-only", action="store_true", help="print the SQL, without running it")
    explained = "say how the answer was got: candidates, confidence, tables"
    how.add_argument("--explain", action="store_true", help=explained)
    add_model_options(made, default="latest")
    made.set_defaults(adapter=None)  # with --endpoint it is not the prompt of the latest run
    add_options(made)
    return made


def _ask(options: argparse.Namespace) -> bool:
    """Answer one question or many; whether each query ran, of those that nobody waits for."""
    from qc_experiments.databases.locate import find_databases

    question = options.question
    if question is not None and not (question := checked_text(question, "QUESTION")):
        raise UserError("QUESTION is empty: leave it out to be asked for one")
    if question is None and sys.stdin is None:
        raise UserError(NO_QUESTION)
    server = endpoint_predictor(options)
    if server is None:
        options.adapter = "latest" if options.adapter is None else options.adapter
        folder = model_folder(options)
    databases = find_databases(options.db, "--db", options.engine)
    databases.only("--db", "name the file (or URL) of one of them")
    from qc_experiments.generation.database_predictor import DatabasePredictor
    from qc_experiments.models.saved import SavedPrompting

    if server is not None:
        asked = DatabasePredictor(server.prompting, databases, lambda: server, "--db")
    else:
        prompting = SavedPrompting.load(folder)
        asked = DatabasePredictor(
            prompting, databases, partial(load_model, folder, options), "--db"
        )
    with asked as predictor:
        if question is not None:
            return _answer(predictor, question, options)
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # which are refused, line by line
        if sys.stdin.isatty() and sys.stdout.isatty():
            _talk(predictor, options)
            return True
        return _answer_lines(predictor, options)


def _answer_lines(predictor: DatabasePredictor, options: argparse.Namespace) -> bool:
    """Answer the lines of the standard input as they come; whether all queries ran."""
    all_ran, asked = True, False
    for number, line in enumerate(sys.stdin, 1):
        line = line.removeprefix("\ufeff")  # with which files of Windows begin
        if not line.strip():
            continue
        asked = True
        try:
            question = checked_text(line, "the question")
            if not options.sql_only:
                print(f"-- {question}")
            all_ran &= _answer(predictor, question, options)
        except UserError as error:
            raise UserError(f"line {number}: {error}") from None
        sys.stdout.flush()  # whoever asks over a pipe waits for it
    if not asked:
        raise UserError(NO_QUESTION)
    return all_ran


def _talk(predictor: DatabasePredictor, options: argparse.Namespace) -> None:
    """Ask for questions until Ctrl-D; Ctrl-C ends the answer of the moment."""
    from qc_experiments.cli.line_editing import line_editing

    print("Ctrl-D ends, Ctrl-C ends an answer.")
    with line_editing(cache_folder(options) / "ask_history") as remember:
        while True:
            try:
                question = input(PROMPT).strip()
                if question in FAREWELLS:
                    return
                if question:
                    remember()
                    _answer(predictor, checked_text(question, "the question"), options)
            except EOFError:
                print()
                return
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
            except KeyboardInterrupt as interrupt:
                if getattr(interrupt, "exit_code", CTRL_C) != CTRL_C:
                    raise  # SIGTERM means all of it
                print("\ninterrupted")


def _answer(predictor: DatabasePredictor, question: str, options: argparse.Namespace) -> bool:
    """Print the answer to a question; whether its query ran, as far as it was to run."""
    from qc_experiments.cli.ask_shown import rows_text, width

    answered = predictor.ask(question)
    found = answered.predicted
    if options.explain:
        print(_explained(predictor, answered))
    if found.is_unsure(options.not_below):
        print(unsure_line(found, options.not_below))
        return True
    print(found.sql)
    if options.sql_only:
        return True
    (ran,) = predictor.run(found.sql)
    print(f"{rows_text(ran, width())}; confidence {confidence_text(found)}")
    return ran.error is None


def _explained(predictor: DatabasePredictor, answered: Answered) -> str:
    """How an answer was got: the lines of --explain, as comments of SQL."""
    from qc_experiments.cli.ask_shown import MOST_SQL, outcome
    from qc_experiments.evaluation.shown import line_text
    from qc_experiments.system.words import counted

    found = answered.predicted
    candidates = found.candidates or (found.sql,)
    lines = [f"model: {predictor.model.name}"]
    if answered.prompt_tokens is not None:
        lines.append(f"prompt: {counted(answered.prompt_tokens, 'token')}")
    lines.append(f"{counted(len(candidates), 'different candidate')}:")
    for place, (sql, ran) in enumerate(zip(candidates, predictor.run(*candidates), strict=True), 1):
        taken = " (taken)" if sql == found.sql else ""
        lines.append(f"  {place}. {line_text(sql, MOST_SQL)} -> {outcome(ran)}{taken}")
    lines += [
        f"confidence: {confidence_text(found)}, {predictor.model.confidence_is}",
        f"tables: {_tables(predictor, found.sql)}",
    ]
    return "\n".join(f"-- {line}" for line in lines)


def _tables(predictor: DatabasePredictor, sql: str) -> str:
    """The tables that a query reads, and of how many."""
    from qc_experiments.inspection.query_facts import query_facts
    from qc_experiments.sql.table_names import table_names

    row = replace(predictor.row(""), query=sql)
    (facts,) = query_facts([row], predictor.judge)
    if facts.problem is not None:
        return f"not known ({facts.problem})"
    names = table_names(row.schema, predictor.judge.dialect(row))
    there = () if names is None else tuple(names.tables)
    read = [name for name in there if name in facts.tables]
    return f"{', '.join(read) or 'none'} (of {len(there)})"
