"""The schema of a database that no engine of ours runs SQL on, such as MySQL's, through SQLAlchemy."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from qc_experiments.databases.engine import ENGINES
from qc_experiments.databases.engine import engine as engine_of
from qc_experiments.errors import UserError
from qc_experiments.system.paths import PACKAGE_PREFIX, file_problem

if TYPE_CHECKING:
    from sqlalchemy import Engine, Table

DIALECTS = {"mariadb": "mysql", "mssql": "tsql", "postgresql": "postgres"}
"""What sqlglot calls SQLAlchemy's dialects, where it is not the same."""


PACKAGES = {"MySQLdb": "mysqlclient"}
"""What to install for a driver whose module has another name."""


def is_foreign(place: str) -> bool:
    """Whether a place is a URL that none of our engines reads."""
    scheme, separator, _ = place.partition("://")
    known = {known for name in ENGINES for known in engine_of(name).schemes}
    is_url = bool(separator) and not place.startswith(PACKAGE_PREFIX)
    return is_url and scheme.partition("+")[0] not in known


def reflected_statements(url: str, said: str) -> tuple[str, str]:
    """The CREATE TABLE statements of a database, and what sqlglot calls its SQL.

    Args:
        url: as SQLAlchemy takes it: mysql+pymysql://user@host/name; its driver must be installed.
        said: what the user calls it, for messages, which never hold what stands behind it.

    Raises:
        UserError: if it cannot be reached or read, or has no tables.
    """
    try:
        from sqlalchemy import MetaData, create_engine, make_url
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
        from sqlalchemy.pool import NullPool
    except ImportError:
        raise UserError(
            f"{said}: SQLAlchemy is not installed: pip install sqlalchemy, and a driver"
        ) from None
    scheme = url.partition("://")[0]
    unread = UserError(f"{said}: SQLAlchemy knows no database {scheme}, or cannot read this URL")
    try:
        file = make_url(url).database if scheme.partition("+")[0] == "sqlite" else None
        if file and file != ":memory:" and (problem := file_problem(file)):
            raise UserError(f"{said}: {problem}")  # SQLite would make it
        with warnings.catch_warnings(action="ignore"):
            engine = create_engine(url, poolclass=NullPool)
            tables = MetaData()
            with engine.connect() as connection:
                tables.reflect(connection, views=False)
        statements = [_statement(one, engine) for one in tables.sorted_tables]
    except (NoSuchModuleError, ArgumentError, ValueError):  # whose messages may hold the password
        raise unread from None
    except ModuleNotFoundError as error:
        package = PACKAGES.get(error.name or "", error.name)
        raise UserError(
            f"{said}: the driver {error.name} is not installed: pip install {package}"
        ) from None
    except UserError:
        raise
    except Exception as error:  # SQLAlchemy's, and whatever a driver raises of an option, say
        problem = next(iter(str(getattr(error, "orig", None) or error).splitlines()), repr(error))
        raise UserError(f"{said}: cannot be read ({problem})") from None
    if not statements:
        raise UserError(f"{said}: has no tables")
    name = engine.dialect.name
    return "\n".join(f"{one};" for one in statements), DIALECTS.get(name, name)


def _statement(table: Table, engine: Engine) -> str:
    """A table's CREATE statement, in which a column of a type that SQLAlchemy cannot write has none."""
    from sqlalchemy.exc import CompileError
    from sqlalchemy.schema import CreateTable
    from sqlalchemy.types import UserDefinedType

    class Untyped(UserDefinedType[Any]):
        def get_col_spec(self, **_: object) -> str:
            return ""

    for column in table.columns:
        try:
            column.type.compile(engine.dialect)
        except CompileError:  # such as MySQL's GEOMETRY
            column.type = Untyped()
    return str(CreateTable(table).compile(engine)).strip()
