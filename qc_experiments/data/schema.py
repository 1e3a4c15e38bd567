"""Read a database's schema, as the context of a prompt."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from qc_experiments.errors import UserError
from qc_experiments.execution.sqlite import open_readonly, schema_of


def read_schema(text: str, key: str) -> str:
    """The CREATE TABLE statements of a SQLite file, as a prompt's context.

    Args:
        text: path of the file.
        key: what the user calls it, for messages.

    Raises:
        UserError: if there is no such file, it is no SQLite database, or it has no tables.
    """
    path = Path(text).expanduser()
    if "://" in text:
        raise UserError(f"{key} {text}: only SQLite files are supported so far")
    if not path.is_file():
        raise UserError(f"{key} {path}: no such file")
    try:
        connection = open_readonly(path)
        try:
            schema = schema_of(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UserError(
            f"{key} {path}: is not a SQLite database that can be read ({error})"
        ) from None
    if not schema:
        raise UserError(f"{key} {path}: has no tables")
    return schema
