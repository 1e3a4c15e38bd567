"""`qc init`: start a project of one's own, from a CSV of questions, a database, or both.

qc init my_project --csv questions.csv --db shop.sqlite
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qc_experiments.cli.data_show import add_columns, columns_of, refuse_unused
from qc_experiments.cli.parser import Parser
from qc_experiments.config.schema import ColumnsConfig, OnInvalid
from qc_experiments.databases.engine import HELP
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.files import UNWRITABLE, csv_text, write_whole
from qc_experiments.system.paths import file_problem, output_problem, resolve_path, user_path
from qc_experiments.system.secrets import place_of_secret

if TYPE_CHECKING:
    from qc_experiments.data.table import Table
    from qc_experiments.databases.locate import Databases

MOST_TABLES = 5
GIVE = "give --csv FILE (questions and queries), --db PLACE (a database), or both"
OPTION = """# Your rows and your databases: data=mine, with --config-dir conf. Every key: qc explain data
name: mine
train: {train}
databases: {databases}
template: prompt.txt
max_length: 2048
{more}"""
LEFT_OUT = "on_invalid: drop  # rows with an empty cell are left out; error refuses them\n"
README = """# {title}

{about}
Run these in this folder:

```
qc data check {train}{flag}
qc plan --config-dir conf data=mine
qc train --config-dir conf data=mine
qc compare outputs
```

`conf/data/mine.yaml` says where the rows are, `prompt.txt` is the prompt. Settings are given as in
`qc train --config-dir conf data=mine lora=r32 model=qwen2.5-coder-0.5b-packaged`; `qc explain`
says what there is. A preset (`experiment=nl2sql_...`) brings a prompt of its own;
`data.template=prompt.txt` behind it keeps yours.
"""
STARTER = """`questions.csv` holds {count} simple questions that were made from the database, so that all
of it runs: put your own in their place, a few hundred to begin with.
"""


def main(arguments: Sequence[str]) -> None:
    """Make the folder; exits with 2 where the user has to mend something."""
    parser = Parser(
        prog="qc init", description="Start a project: settings, a prompt and what to run."
    )
    parser.add_argument("folder", help="folder to make")
    parser.add_argument("--csv", metavar="FILE", help="your questions and queries")
    parser.add_argument(
        "--db", metavar="PLACE", help="your database: a file, a folder of them or a URL"
    )
    parser.add_argument("--engine", metavar="NAME", help=HELP)
    add_columns(parser)
    with told_to_users():
        options = parser.parse_args(arguments)
        folder = user_path(options.folder, "FOLDER")
        if problem := output_problem(folder):
            raise UserError(f"{folder}: cannot be written ({problem})")
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder}: is not empty; name a new folder")
        if options.csv is None and options.db is None:
            options.csv, options.db = _asked()
        _refuse(options)
        _start(folder, options)


def _refuse(options: argparse.Namespace) -> None:
    """Refuse flags that would be passed over, and a password that would be written down."""
    refuse_unused(options, {"db": ("engine",)})
    if options.csv is None and columns_of(options) != ColumnsConfig():
        raise UserError("the names of columns go with --csv")
    if options.db is not None and "://" in options.db and place_of_secret(options.db) is not None:
        raise UserError(
            "--db: the URL holds a password, which the project's files would show: leave it out and "
            "give it in the environment (PostgreSQL: PGPASSWORD)"
        )


def _asked() -> tuple[str | None, str | None]:
    """Ask for both on the terminal."""
    if not sys.stdin.isatty():
        raise UserError(GIVE)
    try:
        rows = input("CSV of questions and queries (empty: none yet): ").strip() or None
        place = input("Database, a file, folder or URL (empty: none): ").strip() or None
    except EOFError:
        print()
        raise UserError(GIVE) from None
    if rows is None and place is None:
        raise UserError("a project needs a CSV of questions, a database, or both")
    return rows, place


def _start(folder: Path, options: argparse.Namespace) -> None:
    from qc_experiments.databases.locate import find_databases

    files: dict[str, str | bytes] = {}
    place, about = options.db, ""
    databases = place
    if place is not None and "://" not in place:
        found_at = find_databases(place, "--db", options.engine).place
        databases = _seen_from(folder, Path(found_at))
    left_out = ""
    if options.csv is None:
        found = _starter(place, options.engine)
        files["questions.csv"] = csv_text(["question", "query"], found)
        train, about = "questions.csv", STARTER.format(count=len(found)) + "\n"
    else:
        path = resolve_path(options.csv, "--csv")
        if problem := file_problem(path):
            raise UserError(f"--csv {path}: {problem}")
        train = _seen_from(folder, path)
        if _check(path, options):
            left_out = LEFT_OUT
    for name in (folder.name, train, databases or ""):
        if UNWRITABLE.search(name):
            raise UserError(f"{name}: its name is not UTF-8, as the project's files are: rename it")
    template = resolve_path("pkg://qc_experiments.data/templates/sql.txt", "template")
    more, flags = _more(options)
    if databases is not None:
        flags = {"databases": databases, **flags}
    flag = "".join(f" --{name} {shlex.quote(value)}" for name, value in flags.items())
    option = OPTION.format(train=_yaml(train), databases=_yaml(databases), more=left_out + more)
    train = shlex.quote(train)
    readme = README.format(title=folder.name, about=about, train=train, flag=flag)
    files |= {"conf/data/mine.yaml": option.encode(), "README.md": readme.encode()}
    files["prompt.txt"] = template.read_bytes()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, content)
    print(f"{folder}: {', '.join(files)}")
    print(f"next: cd {shlex.quote(str(folder))}; qc data check {train}{flag}")


def _more(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    """Further lines of the option file, and the flags of `qc data check` that say the same."""
    usual = ColumnsConfig()
    given = vars(columns_of(options)).items()
    named = {name: column for name, column in given if column != getattr(usual, name)}
    lines = [f"  {name}: {_yaml(column)}\n" for name, column in named.items()]
    if lines:
        lines.insert(0, "columns:\n")
    if options.engine is not None:
        lines.append(f"engine: {_yaml(options.engine)}\n")
        named["engine"] = options.engine
    return "".join(lines), named


def _check(path: Path, options: argparse.Namespace) -> bool:
    """Read rows and databases as training will, so that a mistake is told now.

    Returns:
        Whether rows have an empty cell, which the project leaves out.
    """
    from qc_experiments.data.table import EMPTY_CELL, read_table
    from qc_experiments.databases.locate import find_databases

    place, columns = options.db, columns_of(options)
    databases = None if place is None else find_databases(place, "--db", options.engine)
    table = read_table(path, columns, OnInvalid.drop, needs_context=databases is None)
    for decision in table.decisions:
        print(decision.line(path))
    if databases is not None:
        _check_databases(databases, table, path)
    return any(decision.kind == EMPTY_CELL for decision in table.decisions)


def _check_databases(databases: Databases, table: Table, path: Path) -> None:
    from qc_experiments.data.contexts import ContextMaker
    from qc_experiments.databases.schema import SchemaReader

    databases.check_rows(((row.number, row.db_id) for row in table.rows), path)
    if not databases.on_server:  # which need not be at hand yet
        with SchemaReader() as reader:
            ContextMaker(reader, databases, always=True).fill(table.rows, path)


def _starter(place: str, engine: str | None) -> list[list[str]]:
    """A few questions about a database's tables with their queries."""
    from qc_experiments.databases.locate import find_databases
    from qc_experiments.databases.schema import SchemaReader
    from qc_experiments.sql.ddl import read_ddl

    databases = find_databases(place, "--db", engine)
    database = databases.only("--db", "give --csv FILE with a db_id, too")
    with SchemaReader() as reader:
        schema = reader.of_database(database, f"--db {place}")
    rows = []
    for table in read_ddl(schema.statements, database.dialect)[:MOST_TABLES]:
        rows.append(
            [f"How many rows does {table.name} have?", f"SELECT count(*) FROM {table.written}"]
        )
        rows.append([f"Show all of {table.name}.", f"SELECT * FROM {table.written}"])
    return rows


def _seen_from(folder: Path, path: Path) -> str:
    """A path as the project's files write it; ``..`` leads up from where a linked folder really is."""
    return os.path.relpath(path.parent.resolve() / path.name, folder.resolve())


def _yaml(text: str | None) -> str:
    """Text as YAML of which Hydra reads nothing as an interpolation."""
    if text is None:
        return "null"
    escaped = re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", text)
    return "'" + escaped.replace("'", "''") + "'"
