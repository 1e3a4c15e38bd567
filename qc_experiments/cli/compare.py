"""``qc compare``: rank the runs of a sweep, test what is better, and write a page to look at."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qc_experiments.cli.parser import Parser
from qc_experiments.config.metrics import EXECUTION, METRICS
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.paths import output_problem, user_path

if TYPE_CHECKING:
    from qc_experiments.comparison.study import Study

FILES = ("compare.csv", "compare.html")
NAMES = ", ".join(metric.key for metric in METRICS)


def main(arguments: Sequence[str]) -> None:
    """Compare; exits with 2 where the user has to mend something."""
    with told_to_users():
        parser = runs_parser(
            "qc compare",
            "Rank runs that were measured alike, test whether the best one is better, and write "
            "compare.csv and compare.html. Works while a sweep is running.",
        )
        where = "where the two files go (the first DIR, beside its runs)"
        parser.add_argument("--output", metavar="DIR", help=where)
        _compare(parser.parse_args(arguments))


def runs_parser(program: str, description: str) -> argparse.ArgumentParser:
    """A parser of folders with runs, and of the metric that ranks these."""
    parser = Parser(prog=program, description=description)
    parser.add_argument(
        "folders", nargs="+", metavar="DIR", help="a run, or a folder with runs up to 3 levels down"
    )
    parser.add_argument(
        "--objective",
        metavar="METRIC",
        help=f"what ranks the runs: {NAMES} ({EXECUTION.key} where it was measured)",
    )
    return parser


def studied(folders: Sequence[str], objective: str | None = None) -> Study:
    """The comparison of the runs in some folders, see `comparison.study.compare`.

    Raises:
        UserError: if there is no run, or none that can be read.
    """
    from qc_experiments.comparison.study import compare

    study = compare([user_path(folder, "DIR") for folder in folders], objective)
    if not study.runs:
        first, *others = study.left_out
        more = f"; {len(others)} more cannot be read either" if others else ""
        raise UserError(f"{first.name}: {first.reason}{more}")
    return study


def _compare(options: argparse.Namespace) -> None:
    from qc_experiments.comparison.views.page import page_html
    from qc_experiments.comparison.views.table import csv_table, table_text
    from qc_experiments.records.find import is_run
    from qc_experiments.system.files import csv_text, write_whole

    study = studied(options.folders, options.objective)
    if options.output:
        output = user_path(options.output, "--output")
    else:  # a sweep's own folder; for a single run the one around it, so that runs stay as they are
        first = study.folders[0]
        output = first.absolute().parent if is_run(first) else first
    if problem := output_problem(output):
        raise UserError(f"--output {output}: cannot be written ({problem}); name a folder")
    contents = (csv_text(*csv_table(study)), page_html(study))
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in zip(FILES, contents, strict=True):
            write_whole(output / name, content)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror})") from None
    print(table_text(study))
    print(f"\nFiles in {output}: {', '.join(FILES)} (open it in a browser)")
