"""`qc evaluate`: judge any system's predicted SQL by running it.

For example:

    qc evaluate predictions.csv --databases my_databases --output judged
    qc evaluate other.csv --databases my_databases --output judged_other --against judged
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from qc_experiments.cli.parser import Parser
from qc_experiments.databases.engine import HELP
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.signals import StopRequests

COLUMNS = ("db_id", "question", "query", "prediction")


def main(arguments: Sequence[str]) -> None:
    """Judge; exits with 2 where the user has to mend something."""
    with told_to_users(), StopRequests().listening():
        _evaluate(parser().parse_args(arguments))


def parser() -> argparse.ArgumentParser:
    """Of the command's options."""
    found = Parser(
        prog="qc evaluate",
        description="Judge predicted SQL by running it: does it return the gold query's rows?",
    )
    add = found.add_argument
    add("predictions", metavar="CSV", help="columns db_id, question, query (the gold), prediction")
    add(
        "--databases",
        required=True,
        metavar="PLACE",
        help="a database's file (then db_id may be absent), a folder with <db_id>/<db_id>.sqlite or "
        "<db_id>.sqlite (or .duckdb), or postgresql://host/{db_id}",
    )
    add(
        "--golds",
        metavar="CSV",
        help="columns db_id, question, query; CSV then has row (place in this file, the first is 1) "
        "and prediction",
    )
    add("--engine", metavar="NAME", help=HELP)
    add("--output", required=True, metavar="DIR", help="where the verdicts go")
    add(
        "--against",
        metavar="DIR",
        help="an earlier evaluation's output, or a run's folder: compare with it question by question",
    )
    add("--timeout", type=float, default=5.0, metavar="SECONDS", help="for each statement (5)")
    copies = "an answer must hold on N perturbed copies of its database as well (0)"
    add("--fuzz", type=int, default=0, metavar="N", help=copies)
    add("--seed", type=int, default=0, help="fixes those copies (0)")
    add("--processes", type=int, metavar="N", help="that run SQL (one per core)")
    wrong = "wrong answers to show with both results, the easiest first (3)"
    add("--show", type=int, default=3, metavar="N", help=wrong)
    rows = "of both results that stand in judged.csv for each wrong answer (0)"
    add("--rows", type=int, default=0, metavar="N", help=rows)
    add("--cache", metavar="DIR", help="cache folder, as paths.cache in training")
    add(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        dest="metrics",
        help="dotted name of a metric of your own, as evaluation.metrics in training; may be repeated",
    )
    for column in COLUMNS:
        name, what = column.replace("_", "-"), f"what the CSV calls its column {column}"
        add(f"--{name}-column", default=column, metavar="NAME", help=what)
    return found


def _evaluate(options: argparse.Namespace) -> None:
    from qc_experiments.config.metrics import EXECUTION
    from qc_experiments.evaluation.predictions import Asked, evaluate
    from qc_experiments.evaluation.shown import report_text

    given = dict(vars(options))
    columns = {column: given.pop(f"{column}_column") for column in COLUMNS}
    found = evaluate(Asked(**given, columns=columns), partial(print, flush=True))
    print(report_text(found.report))
    known = found.report["figures"][EXECUTION.key]
    cut = known["count"] - known["hits"] > options.show
    more = "--show N shows more wrong answers" if found.wrong and cut else ""
    for block in filter(None, (found.wrong, more, "\n".join(found.lines))):
        print(f"\n{block}")
    seconds = found.report["seconds"]
    rate = found.report["count"] / seconds
    print(
        f"\n{seconds:.1f} s, {rate:.0f} per second. Files in {found.output}: {', '.join(found.files)}"
    )
    if known["value"] is None:
        raise UserError(
            f"{options.predictions}: there is no {EXECUTION.title}: all {found.report['count']} gold "
            "queries fail, as said above: mend them"
        )
