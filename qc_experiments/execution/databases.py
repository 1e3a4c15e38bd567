"""Where the databases of a data set stand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from qc_experiments.errors import UserError


def database_file(databases: Path, db_id: str) -> Path:
    """Where the database of a ``db_id`` stands: ``<databases>/<db_id>/<db_id>.sqlite``."""
    return databases / db_id / f"{db_id}.sqlite"


def check_databases(
    databases: Path, named: Iterable[tuple[int, str | None]], source: Path | str
) -> None:
    """Make sure that every row names a database that is there.

    Args:
        databases: the folder.
        named: row number and ``db_id`` of each row.
        source: the CSV, for messages.

    Raises:
        UserError: naming the first row without one.
    """
    for number, db_id in named:
        if db_id is None:
            raise UserError(
                f"{source}: row {number} has no db_id, which data.databases needs: add the "
                "column (or map it with data.columns.db_id), or use data.databases=null"
            )
        if not database_file(databases, db_id).is_file():
            raise UserError(
                f"{source}: row {number} names db_id {db_id}, but there is no "
                f"{database_file(databases, db_id)}"
            )
