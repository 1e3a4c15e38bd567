"""Read a database's schema, as the context of a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qc_experiments.config.data import PRIVATE, SchemaConfig, SchemaFormat
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.engine import engine as engine_of
from qc_experiments.databases.linking import CHARACTERS, VALUES, Linker
from qc_experiments.databases.locate import Database
from qc_experiments.databases.pool import SqlPool
from qc_experiments.databases.samples import is_private, sample_values
from qc_experiments.databases.schema_text import (
    KEYS_BEGIN,
    Values,
    key_lines,
    schema_text,
    table_text,
    value_comments,
)
from qc_experiments.errors import UserError
from qc_experiments.sql.ddl import TableDefinition, read_ddl
from qc_experiments.sql.tokens import statement

SECONDS = 60.0


@dataclass(frozen=True)
class Schema:
    """A database's schema: as the model reads it, and its CREATE statements."""

    text: str
    statements: str
    linker: Linker | None = None
    """Chooses of its tables; None where nothing is left out of schemas."""
    values: Values = field(default_factory=dict)
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By table, the lines at the text's end on its foreign keys; none where nothing is left out."""


@dataclass
class SchemaReader:
    """Reads schemas in a form, each once; used as a context manager.

    Attributes:
        linking: most tokens of a schema, beyond which it holds what a question needs; None: it is whole.
        unmatched: patterns of private columns, but for the default ones, that have not met a column yet.
    """

    form: SchemaFormat = SchemaFormat.ddl
    style: SchemaConfig = field(default_factory=SchemaConfig)
    linking: int | None = None
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
            searched = values
            if self.linking is not None:
                searched = sample_values(self._pool, database, tables, self.style, VALUES)
            made = self._made(statements, database.dialect, values, searched)
            self._known[database] = made
        return self._known[database]

    def of_statements(self, statements: str, said: str, dialect: str = "sqlite") -> Schema:
        """The schema that CREATE statements make, without sample values; ``said`` as in `of_database`.

        Raises:
            UserError: if the text holds none.
        """
        if statements not in self._known:
            if not read_ddl(statements, dialect):
                raise UserError(
                    f"{said}: its context holds no CREATE statements, of which {self.form.value} could "
                    "be made: give its database, or leave data.schema_format out"
                )
            self._known[statements] = self._made(statements, dialect, {}, {})
        return self._known[statements]

    def _made(self, statements: str, dialect: str, values: Values, searched: Values) -> Schema:
        tables = read_ddl(statements, dialect)
        if self.form is SchemaFormat.ddl:  # whatever else stands between its tables stays
            text = "\n".join([statements, *value_comments(tables, values)])
        else:
            text = schema_text(tables, dialect, self.form, self.style, values)
        if self.linking is None:
            return Schema(text, statements, values=values)
        keys = key_lines(tables, dialect, self.form, self.style)

        def write(table: TableDefinition) -> str:
            own = table_text(table, dialect, self.form, self.style, values)
            return "\n".join([own, *keys.get(table.written, ())])

        return Schema(text, statements, Linker(tables, searched, dialect, write), values, keys)

    def text_for(self, schema: Schema, question: str) -> str:
        """A schema's text for a question: whole, or the part of it that fits."""
        if self.linking is None or schema.linker is None:
            return schema.text
        if len(schema.text) <= self.linking * CHARACTERS:
            return schema.text
        heading = len(KEYS_BEGIN) + 1 if any(schema.keys.values()) else 0
        room = self.linking * CHARACTERS - heading
        how = (schema.linker.dialect, self.form, self.style, schema.values)
        return schema_text(schema.linker.link(question, room), *how)

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
        texts = [_text(sql) for (sql,) in found.rows]
        return "\n".join(f"{statement(sql, database.dialect).strip()};" for sql in texts)


def _text(sql: object) -> str:
    """A statement; SQLite keeps the bytes that it was given, in whatever encoding."""
    return sql.decode("utf-8", "replace") if isinstance(sql, bytes) else str(sql)
