"""Read a database's schema, as the context of a prompt."""

from __future__ import annotations

from dataclasses import dataclass, field

from qc_experiments.config.data import PRIVATE, SchemaConfig, SchemaFormat
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.engine import engine as engine_of
from qc_experiments.databases.locate import Database, named_database
from qc_experiments.databases.pool import SqlPool
from qc_experiments.databases.samples import is_private, sample_values
from qc_experiments.databases.schema_text import schema_text
from qc_experiments.errors import UserError
from qc_experiments.sql.ddl import read_ddl
from qc_experiments.sql.tokens import statement

SECONDS = 60.0


@dataclass(frozen=True)
class Schema:
    """A database's schema: as the model reads it, and its CREATE statements."""

    text: str
    statements: str


@dataclass
class SchemaReader:
    """Reads schemas in a form, each once; used as a context manager.

    Attributes:
        unmatched: patterns of private columns, but for the default ones, that have not met a column yet.
    """

    form: SchemaFormat = SchemaFormat.ddl
    style: SchemaConfig = field(default_factory=SchemaConfig)
    unmatched: set[str] = field(init=False)
    _pool: SqlPool = field(default_factory=lambda: SqlPool(1), init=False)
    _known: dict[object, Schema] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.unmatched = set(self.style.private) - set(PRIVATE)

    def __enter__(self) -> SchemaReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def of_database(self, database: Database, said: str) -> Schema:
        """A database's schema; ``said`` is what the user calls it, for messages.

        Raises:
            UserError: if it cannot be read, or has no tables.
        """
        if database not in self._known:
            statements = self._statements(database, said)
            tables = read_ddl(statements, database.dialect)
            for pattern in list(self.unmatched):
                if any(is_private(c.name, [pattern]) for table in tables for c in table.columns):
                    self.unmatched.discard(pattern)
            values = sample_values(self._pool, database, tables, self.style, self.samples)
            text = schema_text(statements, database.dialect, self.form, self.style, values)
            self._known[database] = Schema(text, statements)
        return self._known[database]

    def of_statements(self, statements: str, said: str) -> Schema:
        """The schema that CREATE statements make, without sample values; ``said`` as in `of_database`.

        Raises:
            UserError: if the text holds none.
        """
        if statements not in self._known:
            text = schema_text(statements, "sqlite", self.form, self.style, {})
            if not text:
                raise UserError(
                    f"{said}: its context holds no CREATE statements, of which {self.form.value} could "
                    "be made: give its database, or leave data.schema_format out"
                )
            self._known[statements] = Schema(text, statements)
        return self._known[statements]

    @property
    def samples(self) -> int:
        """The number of sample values a column."""
        return self.style.samples(self.form)

    def check_private(self, key: str) -> None:
        """Refuse a user's pattern of private columns that has met none: it protects nothing."""
        if self.unmatched and any(isinstance(one, Database) for one in self._known):
            patterns = ", ".join(sorted(self.unmatched))
            raise UserError(
                f"{key}: {patterns} matches no column's name: it is a regular expression, such as "
                "salary or ^birth_"
            )

    def _statements(self, database: Database, said: str) -> str:
        query = engine_of(database.engine).schema_query
        found = self._pool.run(database.engine, database.target, query, Limits(SECONDS))
        if found.rows is None:
            kind = "SQLite" if database.engine == "sqlite" else database.engine
            raise UserError(f"{said}: is not a {kind} database that can be read ({found.error})")
        if not found.rows:
            raise UserError(f"{said}: has no tables")
        return "\n".join(
            f"{statement(str(sql), database.dialect).strip()};" for (sql,) in found.rows
        )


def read_schema(text: str, key: str, engine: str | None = None) -> str:
    """The CREATE statements of a database (a file's path or a URL), one per line, as a prompt's context.

    Arguments as `named_database` takes them.

    Raises:
        UserError: if there is no such database, it cannot be read, or it has no tables.
    """
    with SchemaReader() as reader:
        return reader.of_database(named_database(text, key, engine), f"{key} {text}").text
