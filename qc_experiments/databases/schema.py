"""Read a database's schema, as the context of a prompt."""

from __future__ import annotations

from pathlib import Path

from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import SUFFIXES, check_url
from qc_experiments.databases.pool import SqlPool
from qc_experiments.databases.sqlite import SCHEMA_QUERY, schema_of
from qc_experiments.errors import UserError
from qc_experiments.system.paths import file_problem, user_path


def read_schema(text: str, key: str) -> str:
    """The CREATE TABLE statements of a database, as a prompt's context.

    Args:
        text: path of a SQLite or DuckDB file, or a PostgreSQL URL.
        key: what the user calls it, for messages.

    Raises:
        UserError: if there is no such database, it cannot be read, or it has no tables.
    """
    if "://" in text:
        from qc_experiments.databases import postgresql

        check_url(text, key)
        name, schema = postgresql.safe_name(text), postgresql.schema(text)
    else:
        path = user_path(text, key)
        if problem := file_problem(path):
            raise UserError(f"{key} {path}: {problem}")
        name, schema = str(path), _file_schema(path, key)
    if not schema:
        raise UserError(f"{key} {name}: has no tables")
    return schema


def _file_schema(path: Path, key: str) -> str:
    if SUFFIXES.get(path.suffix) == "duckdb":
        from qc_experiments.databases import duckdb

        return duckdb.schema(str(path))
    with SqlPool(1) as pool:
        found = pool.run("sqlite", str(path.absolute()), SCHEMA_QUERY, Limits())
    if found.rows is None:
        raise UserError(f"{key} {path}: is not a SQLite database that can be read ({found.error})")
    return schema_of(found.rows)
