"""`qc init`: start a project of one's own, from a CSV of questions, a database, or both.

qc init my_project --csv questions.csv --db shop.sqlite
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from qc_experiments.databases.engine import HELP
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.files import csv_text, write_whole
from qc_experiments.system.paths import file_problem, output_problem, resolve_path, user_path

MOST_TABLES = 5
OPTION = """# Your rows and your databases: data=mine, with --config-dir conf. Every key: qc explain data
name: mine
train: {train}
databases: {databases}
template: prompt.txt
max_length: 2048
"""
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
`qc train --config-dir conf data=mine lora=r32 model=qwen2.5-coder-0.5b`; `qc explain` says what there is.
"""
STARTER = """`questions.csv` holds {count} simple questions that were made from the database, so that all
of it runs: put your own in their place, a few hundred to begin with.
"""


def main(arguments: Sequence[str]) -> None:
    """Make the folder; exits with 2 where the user has to mend something."""
    parser = argparse.ArgumentParser(
        prog="qc init", description="Start a project: settings, a prompt and what to run."
    )
    parser.add_argument("folder", help="folder to make")
    parser.add_argument("--csv", metavar="FILE", help="your questions and queries")
    parser.add_argument(
        "--db", metavar="PLACE", help="your database: a file, a folder of them or a URL"
    )
    parser.add_argument("--engine", metavar="NAME", help=HELP)
    with told_to_users():
        options = parser.parse_args(arguments)
        folder = user_path(options.folder, "FOLDER")
        if problem := output_problem(folder):
            raise UserError(f"{folder}: cannot be written ({problem})")
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder}: is not empty; name a new folder")
        rows, place = options.csv, options.db
        if rows is None and place is None:
            rows, place = _asked()
        _start(folder, rows, place, options.engine)


def _asked() -> tuple[str | None, str | None]:
    """Ask for both on the terminal."""
    if not sys.stdin.isatty():
        raise UserError("give --csv FILE (questions and queries), --db PLACE (a database), or both")
    rows = input("CSV of questions and queries (empty: none yet): ").strip() or None
    place = input("Database, a file, folder or URL (empty: none): ").strip() or None
    if rows is None and place is None:
        raise UserError("a project needs a CSV of questions, a database, or both")
    return rows, place


def _start(folder: Path, rows: str | None, place: str | None, engine: str | None) -> None:
    files: dict[str, str | bytes] = {}
    about = ""
    databases = place
    if place is not None and "://" not in place:
        databases = _seen_from(folder, resolve_path(place, "--db"))
    if rows is None:
        assert place is not None
        found = _starter(place, engine)
        files["questions.csv"] = csv_text(["question", "query"], found)
        train, about = "questions.csv", STARTER.format(count=len(found)) + "\n"
    else:
        path = resolve_path(rows, "--csv")
        if problem := file_problem(path):
            raise UserError(f"--csv {path}: {problem}")
        train = _seen_from(folder, path)
        _check(path, place, engine)
    option = OPTION.format(train=_yaml(train), databases=_yaml(databases))
    template = resolve_path("pkg://qc_experiments.data/templates/sql.txt", "template")
    flag = "" if databases is None else f" --databases {shlex.quote(databases)}"
    train = shlex.quote(train)
    readme = README.format(title=folder.name, about=about, train=train, flag=flag)
    files |= {"conf/data/mine.yaml": option.encode(), "README.md": readme.encode()}
    files["prompt.txt"] = template.read_bytes()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, content)
    print(f"{folder}: {', '.join(files)}")
    print(f"next: cd {folder}; qc data check {train}{flag}")


def _check(path: Path, place: str | None, engine: str | None) -> None:
    """Read the rows as training will, so that a mistake is told now."""
    from qc_experiments.config.schema import ColumnsConfig, OnInvalid
    from qc_experiments.data.table import read_table
    from qc_experiments.databases.locate import find_databases

    databases = None if place is None else find_databases(place, "--db", engine)
    table = read_table(path, ColumnsConfig(), OnInvalid.drop, needs_context=databases is None)
    if databases is not None:
        databases.check_rows(((row.number, row.db_id) for row in table.rows), path)


def _starter(place: str, engine: str | None) -> list[list[str]]:
    """A few questions about a database's tables with their queries."""
    from qc_experiments.databases.locate import find_databases
    from qc_experiments.databases.schema import SchemaReader
    from qc_experiments.sql.ddl import read_ddl

    databases = find_databases(place, "--db", engine)
    if databases.single is None:
        raise UserError(
            f"--db {place}: is a place of many databases: give --csv FILE with a db_id, too"
        )
    database = databases.find(databases.single)
    assert database is not None
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
    return os.path.relpath(path.absolute(), folder.absolute())


def _yaml(text: str | None) -> str:
    return "null" if text is None else "'" + text.replace("'", "''") + "'"
