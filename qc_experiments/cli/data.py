"""`qc data`: check a CSV, show a row as the model sees it, print a database's schema.

For example:

    qc data check my.csv
    qc data show my.csv --row 2
    qc data context shop.sqlite
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from qc_experiments.config.schema import ColumnsConfig, DataConfig, OnInvalid
from qc_experiments.data.table import Table, name_rows, read_table
from qc_experiments.data.template import read_template
from qc_experiments.databases.engine import HELP
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.paths import resolve_path
from qc_experiments.system.words import counted


def main(arguments: Sequence[str]) -> None:
    """Run one of the three; exits with 2 where the user has to mend something."""
    with told_to_users():
        options = _parser().parse_args(arguments)
        {"check": _check, "show": _show, "context": _context}[options.action](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qc data", description="Look at data before training.")
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="read a CSV as training would and say what was found")
    show = actions.add_parser("show", help="print a row's prompt and completion")
    for action in (check, show):
        action.add_argument("csv", help="the CSV file")
        for column in ("question", "query", "context", "db_id"):
            what = f"name of the {column} column ({column})"
            action.add_argument(f"--{column}", default=column, metavar="COLUMN", help=what)
    check.add_argument("--databases", help="folder or URL, as data.databases in training")
    show.add_argument("--row", type=int, default=2, help="row of the CSV (the header is 1)")
    show.add_argument("--template", help="template file (default: the shipped one)")
    context = actions.add_parser("context", help="print a database's CREATE TABLE statements")
    context.add_argument("db", help="SQLite or DuckDB file, or postgresql:// URL")
    for action in (check, context):
        action.add_argument("--engine", metavar="NAME", help=HELP)
    return parser


def _table(options: argparse.Namespace) -> Table:
    columns = ColumnsConfig(options.question, options.query, options.context, options.db_id)
    return read_table(resolve_path(options.csv, "CSV"), columns, OnInvalid.drop)


def _check(options: argparse.Namespace) -> None:
    """Print what training would decide about the rows, and the queries that do not run (exit 1)."""
    from qc_experiments.databases.engine import Limits
    from qc_experiments.databases.locate import find_databases
    from qc_experiments.judging.judge import Judge

    table = _table(options)
    rows = table.rows
    contexts = counted(len({row.context for row in rows}), "context")
    db_ids = counted(len({row.db_id for row in rows if row.db_id is not None}), "db_id")
    print(f"{table.path}: {counted(len(rows), 'usable row')}, {contexts}, {db_ids}")
    for decision in table.decisions:
        print(f"  {decision.line(table.path)}")
    databases = None
    if options.databases is not None:
        databases = find_databases(options.databases, "--databases", options.engine)
        databases.check_rows(((row.number, row.db_id) for row in rows), table.path)
    with Judge(databases, Limits(), cache=None) as judge:
        tried = judge.try_all([(row, row.query) for row in rows])
    failing: dict[str, list[int]] = {}
    for row, found in zip(rows, tried, strict=True):
        if found.error is not None:
            kind = "" if found.error_class is None else f"{found.error_class}: "
            failing.setdefault(f"{kind}{found.error}", []).append(row.number)
    where = "an empty database made from its context" if databases is None else "its database"
    for problem, numbers in sorted(failing.items(), key=lambda item: -len(item[1])):
        print(f"  {table.path}: query fails on {where} ({problem}): {name_rows(numbers)}")
    if not failing:
        print(f"  every query runs on {where}")
    empty = any("empty" in decision.what for decision in table.decisions)
    if empty:
        print("  training refuses empty cells: fill them, or give data.on_invalid=drop")
    if failing or empty:
        raise SystemExit(1)


def _show(options: argparse.Namespace) -> None:
    """Print one row's prompt and completion, as text."""
    table = _table(options)
    row = next((row for row in table.rows if row.number == options.row), None)
    if row is None:
        raise UserError(f"{table.path}: there is no usable row {options.row}")
    template = read_template(resolve_path(options.template or DataConfig().template, "--template"))
    print(template.prompt(row.context, row.question), end="")
    print(f"[the model writes:]{template.completion(row.query)}[end]")


def _context(options: argparse.Namespace) -> None:
    from qc_experiments.databases.schema import read_schema

    print(read_schema(options.db, "db", options.engine))
