"""`qc data`: make a CSV, give it contexts, check it, show a row as the model sees it.

For example:

    qc data import dev.json --output my.csv
    qc data context --db shop.sqlite
    qc data context questions.csv --db shop.sqlite --output my.csv
    qc data check my.csv --databases shop.sqlite --page check.html
    qc data show my.csv --row 2
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from qc_experiments.cli.data_check import check
from qc_experiments.cli.data_import import add_import, import_
from qc_experiments.cli.data_show import add_columns, show
from qc_experiments.cli.parser import Parser
from qc_experiments.config.data import PRIVATE
from qc_experiments.config.schema import (
    SchemaConfig,
    SchemaFormat,
)
from qc_experiments.databases.engine import HELP
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.words import counted

if TYPE_CHECKING:
    from qc_experiments.databases.locate import Databases
    from qc_experiments.databases.schema import SchemaReader

FLAGS = {"data.schema.": "--", "data.max_length": "--max-length", "model.name_or_path": "--model"}


def main(arguments: Sequence[str]) -> None:
    """Run one of the four; exits with 2 where the user has to mend something."""
    with told_to_users(), _told_by_flags():
        options = _parser().parse_args(arguments)
        {"check": check, "show": show, "context": _context, "import": import_}[options.action](
            options
        )


@contextmanager
def _told_by_flags() -> Iterator[None]:
    """Name what was typed, where a refusal begins with the setting of a training that it became."""
    try:
        yield
    except UserError as error:
        setting = next((one for one in FLAGS if str(error).startswith(one)), "")
        raise UserError(FLAGS.get(setting, "") + str(error).removeprefix(setting)) from None


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="qc data", description="Look at data before training.")
    actions = parser.add_subparsers(dest="action", required=True)
    checking = actions.add_parser("check", help="say what is wrong with a CSV, the worst first")
    showing = actions.add_parser("show", help="print a row as the model sees it")
    for action in (checking, showing):
        _add_rows(action)
    _add_check(checking)
    showing.add_argument("--row", type=int, default=2, help="row of the CSV (the header is 1)")
    showing.add_argument(
        "--collator", metavar="NAME", help="with --model: whose batch (shared_schema)"
    )
    showing.add_argument("--tokens", action="store_true", help="with --model: list the tokens, too")
    _add_context(
        actions.add_parser("context", help="print a database's schema, or add it to a CSV")
    )
    for action in (checking, showing, actions.choices["context"]):
        action.add_argument("--engine", metavar="NAME", help=HELP)
    add_import(actions.add_parser("import", help="make a CSV of another file or data set"))
    return parser


def _add_rows(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("csv", help="the CSV file")
    add_columns(parser)
    add("--databases", metavar="PLACE", help="file, folder or URL, as data.databases in training")
    add(
        "--model",
        metavar="NAME",
        help="whose tokens: an option of the group model, an id or a folder",
    )
    add("--template", help="template file (default: the shipped sql.txt)")
    add("--max-length", type=int, metavar="TOKENS", help="as data.max_length in training")


def _add_check(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--validation", metavar="CSV", help="held-out rows: which are known from training?")
    add("--like", metavar="CSV", help="questions as they will come: what is seldom among yours?")
    add("--page", metavar="HTML", help="write the report as a page with plots")
    add("--json", metavar="FILE", help="write it as JSON")
    add("--fix", metavar="CSV", help="write the rows again, with what is safe to mend mended")


def _add_context(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("csv", nargs="?", help="CSV to which the context is added (without --db: the database)")
    add("--db", metavar="FILE_OR_URL", help="database; or, for a CSV with db_id, a folder of them")
    add("-o", "--output", metavar="CSV", help="where the CSV with its contexts goes")
    add_columns(parser, ("context", "db_id"))
    add(
        "--format",
        choices=[one.value for one in SchemaFormat],
        default=SchemaFormat.ddl.value,
        help="CREATE statements, a line for each table, or M-Schema with sample values (ddl)",
    )
    for what in ("types", "keys", "comments"):
        add(f"--no-{what}", action="store_true", help=f"leave {what} out (compact, m_schema)")
    add("--values", type=int, metavar="N", help="sample values a column (m_schema 3, others 0)")
    add(
        "--private",
        action="append",
        default=[],
        metavar="PATTERN",
        help="no values of columns whose names match; besides e-mail, phone, card and password columns",
    )
    add("--seed", type=int, default=0, help="which values are drawn (0)")


def _context(options: argparse.Namespace) -> None:
    """Print the schema of a database, or write a CSV with those of its rows' databases."""
    from qc_experiments.databases.locate import find_databases
    from qc_experiments.databases.reflection import is_foreign
    from qc_experiments.databases.schema import SchemaReader

    place = options.db or options.csv
    if place is None:
        raise UserError("--db is missing: the database whose schema is to be printed")
    foreign = is_foreign(place)
    _refuse_unused(options, foreign)
    key = "--db" if options.db else "database"
    databases = None if foreign else find_databases(place, key, options.engine)
    style = SchemaConfig(
        not options.no_types,
        not options.no_keys,
        not options.no_comments,
        options.values,
        private=[*PRIVATE, *options.private],
        seed=options.seed,
    )
    with SchemaReader(SchemaFormat(options.format), style) as reader:
        if options.db is not None and options.csv is not None:
            _add_contexts(options, databases, reader)
            return
        if databases is None:
            print(_foreign_schema(place, reader))
            return
        advice = "name one of them, or give a CSV whose rows have a db_id, and --output"
        database = databases.only("--db", advice)
        try:
            text = reader.of_database(database, f"--db {place}" if options.db else place).text
        except UserError as error:
            if options.db:
                raise
            raise UserError(f"{error}; of a CSV the database is given as --db") from None
        reader.check_private("--private")
    if options.output is not None:
        raise UserError("--output goes with a CSV of questions; a schema alone is printed")
    print(text)


def _refuse_unused(options: argparse.Namespace, foreign: bool) -> None:
    """Refuse flags that would be passed over."""
    if foreign:
        given = {
            "--values": options.values,
            "--private": options.private,
            "--engine": options.engine,
        }
        for flag, value in given.items():
            if value:
                raise UserError(
                    f"{flag}: of a database that SQLAlchemy reads only the schema is taken"
                )
    if options.format == SchemaFormat.ddl.value:
        for what in ("types", "keys", "comments"):
            if getattr(options, f"no_{what}"):
                raise UserError(f"--no-{what}: goes with --format compact or m_schema")


def _foreign_schema(url: str, reader: SchemaReader) -> str:
    """The schema of a database that SQLAlchemy reads; its URL may hold a password, and is not shown."""
    from qc_experiments.databases.reflection import reflected_statements

    statements, dialect = reflected_statements(url, "--db")
    return reader.of_statements(statements, "--db", dialect).text


def _add_contexts(
    options: argparse.Namespace, databases: Databases | None, reader: SchemaReader
) -> None:
    """Write a CSV again with the schema of each row's database, in the place of a context that it has."""
    from qc_experiments.data.contexts import ContextMaker
    from qc_experiments.data.table import Row, column_place, read_cells
    from qc_experiments.system.files import csv_text, write_whole
    from qc_experiments.system.outputs import CSV, output_paths
    from qc_experiments.system.paths import user_path

    source = user_path(options.csv, "CSV")
    if options.output is None:
        raise UserError(f"{source}: --output is missing: where the CSV with its contexts goes")
    inputs = [source, options.db]
    target = output_paths([("--output", options.output, CSV)], inputs)["--output"]
    header, numbered = read_cells(source)
    place = None
    if databases is not None and (databases.single is None or options.db_id in header):
        advice = "name it with --db_id, or give one database's file as --db"
        place = column_place(source, header, options.db_id, advice)
    rows = [
        Row(number, "", "", "", None if place is None else cells[place].strip() or None)
        for number, cells in numbered
    ]
    if databases is None:
        text = _foreign_schema(options.db, reader)
        filled = [replace(row, context=text) for row in rows]
    else:
        filled = ContextMaker(reader, databases, always=True).fill(rows, source)
        reader.check_private("--private")
    kept = [at for at, name in enumerate(header) if name != options.context]
    written = [
        [*(cells[at] for at in kept), row.context]
        for (_, cells), row in zip(numbered, filled, strict=True)
    ]
    write_whole(target, csv_text([*(header[at] for at in kept), options.context], written))
    schemas = counted(len({row.context for row in filled}), "schema")
    again = f"; its {options.context} was written anew" if len(kept) < len(header) else ""
    print(f"{target}: {counted(len(filled), 'row')}, {schemas}{again}")
