"""Read a database's schema, as the context of a prompt."""

from __future__ import annotations

from qc_experiments.databases.engine import ENGINES, Limits
from qc_experiments.databases.engine import engine as engine_of
from qc_experiments.databases.locate import engine_of_url
from qc_experiments.databases.pool import SqlPool
from qc_experiments.errors import UserError
from qc_experiments.sql.tokens import statement
from qc_experiments.system.paths import file_problem, user_path

SECONDS = 60.0


def read_schema(text: str, key: str, engine: str | None = None) -> str:
    """The CREATE statements of a database (a file's path or a URL), one per line, as a prompt's context.

    ``key`` is what the user calls it, for messages; without an engine the suffix or the scheme says it.
    """
    if "://" in text:
        name, target = engine or engine_of_url(text, key), text
    else:
        path = user_path(text, key)
        if problem := file_problem(path):
            raise UserError(f"{key} {path}: {problem}")
        by_suffix = (name for name in ENGINES if engine_of(name).suffix == path.suffix != "")
        name, target = engine or next(by_suffix, "sqlite"), str(path.absolute())
    dialect, query = engine_of(name).dialect, engine_of(name).schema_query
    with SqlPool(1) as pool:
        found = pool.run(name, target, query, Limits(SECONDS))
    if found.rows is None:
        kind = "SQLite" if name == "sqlite" else name
        raise UserError(f"{key} {text}: is not a {kind} database that can be read ({found.error})")
    if not found.rows:
        raise UserError(f"{key} {text}: has no tables")
    return "\n".join(f"{statement(str(sql), dialect).strip()};" for (sql,) in found.rows)
