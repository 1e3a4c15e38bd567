"""`qc data import`: a CSV as training takes it, from a file or data set of another form."""

from __future__ import annotations

import argparse

from qc_experiments.data.other_formats import import_rows
from qc_experiments.data.source_rows import NAMES
from qc_experiments.data.table import name_rows
from qc_experiments.system.files import csv_text, write_whole
from qc_experiments.system.outputs import CSV, output_paths
from qc_experiments.system.words import counted


def add_import(parser: argparse.ArgumentParser) -> None:
    """The options of ``qc data import``."""
    add = parser.add_argument
    add(
        "source",
        help="JSON, JSON lines, Parquet, Excel, TSV; a data set's folder, or its id on the hub",
    )
    add("-o", "--output", required=True, metavar="CSV", help="the CSV to write")
    for column in NAMES:
        add(
            f"--{column}",
            metavar="NAME",
            help=f"what the source calls the {column} (common names are known)",
        )
    add("--split", metavar="NAME", help="part of a data set (train), sheet of a workbook")


def import_(options: argparse.Namespace) -> None:
    """Write the rows of the source as a CSV."""
    target = output_paths([("--output", options.output, CSV)], [options.source])["--output"]
    given = {column: getattr(options, column) for column in NAMES if getattr(options, column)}
    found = import_rows(options.source, given, options.split)
    write_whole(target, csv_text(list(found.columns), found.rows))
    columns = ", ".join(f"{ours} from {theirs}" for ours, theirs in found.columns.items())
    print(f"{target}: {counted(len(found.rows), 'row')}; {columns}")
    if found.left_out:
        rows = f"{counted(len(found.left_out), 'row')} without a question or a query left out"
        print(f"{options.source}: {rows} ({name_rows(found.left_out)}; the first is 1)")
    if "context" not in found.columns:
        print("without a context: give the databases (data.databases), from which it is made")
