"""Read a database's schema, as the context of a prompt."""

from __future__ import annotations

from qc_experiments.databases.engine import Limits
from qc_experiments.databases.engine import engine as engine_of
from qc_experiments.databases.locate import named_database
from qc_experiments.databases.pool import SqlPool
from qc_experiments.errors import UserError
from qc_experiments.sql.tokens import statement

SECONDS = 60.0


def read_schema(text: str, key: str, engine: str | None = None) -> str:
    """The CREATE statements of a database (a file's path or a URL), one per line, as a prompt's context.

    Arguments as `named_database` takes them.

    Raises:
        UserError: if there is no such database, it cannot be read, or it has no tables.
    """
    database = named_database(text, key, engine)
    query = engine_of(database.engine).schema_query
    with SqlPool(1) as pool:
        found = pool.run(database.engine, database.target, query, Limits(SECONDS))
    if found.rows is None:
        kind = "SQLite" if database.engine == "sqlite" else database.engine
        raise UserError(f"{key} {text}: is not a {kind} database that can be read ({found.error})")
    if not found.rows:
        raise UserError(f"{key} {text}: has no tables")
    return "\n".join(f"{statement(str(sql), database.dialect).strip()};" for (sql,) in found.rows)
