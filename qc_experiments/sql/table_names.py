"""The tables and columns that a schema's text names; read from its tokens, whatever the dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from qc_experiments.sql.tokens import Token, tokens

_NOT_COLUMNS = ("primary", "foreign", "unique", "check", "constraint")
"""How an item of CREATE TABLE begins that is no column; ``key``, ``index`` and ``exclude`` may be one."""
_BEFORE_NAME = (
    *("if", "not", "exists", "or", "replace", "temp", "temporary", "unlogged"),
    *("virtual", "materialized", "foreign", "recursive"),
)
"""Words between CREATE and TABLE or VIEW."""

Columns = frozenset[str] | None
"""Names in lower case; None where they are not known."""


@dataclass(frozen=True)
class TableNames:
    """What a schema names, in lower case.

    Attributes:
        tables: columns by table; None for a view or another table whose columns are not said.
        columns: of all tables.
        schemas: in which a table stands, by table; "" where none is said.
    """

    tables: Mapping[str, Columns]
    columns: frozenset[str]
    schemas: Mapping[str, frozenset[str]]

    @cached_property
    def all_schemas(self) -> frozenset[str]:
        """Names of the schemas that are said."""
        return frozenset().union(*self.schemas.values()) - {""}


@lru_cache(maxsize=256)
def table_names(schema: str, dialect: str = "sqlite") -> TableNames | None:
    """Tables and columns of CREATE TABLE and CREATE VIEW statements; None where a text holds none."""
    found: dict[str, Columns] = {}
    schemas: dict[str, frozenset[str]] = {}
    known: frozenset[str] = frozenset()
    read = tokens(schema, dialect)
    for place, token in enumerate(read):
        if token.depth or not token.is_word("create"):
            continue
        rest = read[place + 1 :]
        while rest and rest[0].is_word(*_BEFORE_NAME):
            rest = rest[1:]
        if not rest or not rest[0].is_word("table", "view"):
            continue
        kind, rest = rest[0], rest[1:]
        if len(rest) > 3 and rest[0].is_word("if") and rest[1].is_word("not"):  # IF NOT EXISTS
            rest = rest[3:]
        qualifier = ""
        while len(rest) > 2 and rest[1].text == ".":  # a schema's name before the table's
            qualifier, rest = written_name(rest[0]) or "", rest[2:]
        if rest and (name := written_name(rest[0])):
            columns = _columns(rest[1:]) if kind.is_word("table") else None
            known |= columns or frozenset()
            schemas[name] = schemas.get(name, frozenset()) | {qualifier}
            # The same name in two schemas: which is meant, and so its columns, is not known.
            found[name] = columns if found.get(name, columns) == columns else None
    return TableNames(found, known, schemas) if found else None


def written_name(token: Token) -> str | None:
    """The name that a token is; SQLite takes a string as one."""
    return token.text[1:-1].lower() if token.kind == "string" else token.name()


def _columns(rest: Sequence[Token]) -> Columns:
    if not rest or rest[0].text != "(":
        return None
    depth = rest[0].depth
    found: set[str] = set()
    begins = True
    for token, following in zip(rest[1:], [*rest[2:], None], strict=True):
        if token.depth == depth:  # the closing parenthesis
            more = following is not None and following.is_word(
                "inherits"
            )  # another table's columns
            return None if more else frozenset(found)
        if token.depth > depth + 1:
            continue
        if begins and token.is_word("like"):  # the columns of another table
            return None
        name = written_name(token)
        if begins and name and (token.kind != "word" or name not in _NOT_COLUMNS):
            found.add(name)
        begins = token.text == ","
    return None
