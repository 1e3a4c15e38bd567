"""Sample values of columns, as the first rows of their tables show them; none of what looks private."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

from sqlglot import exp

from qc_experiments.config.data import SchemaConfig
from qc_experiments.databases.engine import Limits, Row, Value
from qc_experiments.databases.locate import Database
from qc_experiments.databases.pool import SqlPool
from qc_experiments.sql.ddl import Column, TableDefinition

ROWS = 1000
"""Rows of a table that are looked at, so that time and memory do not grow with it."""
FEW_ROWS = 20
"""Where these hold too much (texts of megabytes), or reading them takes too long."""
LIMITS = Limits(seconds=5.0, bytes=16_000_000)
BINARY = re.compile("blob|bytea|binary", re.IGNORECASE)
PRIVATE_TEXT = re.compile(r"[^@\s]@[^@\s]+\.\w|(?:\d[\s()./-]*){9}")
"""What a text holds in which an e-mail address stands, or a number to call or to pay with."""
DAY = re.compile(
    r"(?<![\d./-])(?:\d{4}[./-]\d\d?[./-]\d\d?|\d\d?[./-]\d\d?[./-]\d{4})(?![\d./-])(?:[ T]\d\d?:\d\d)?"
)
"""A day, perhaps with its time: its digits are no such number's."""


def is_private(column: str, patterns: Iterable[str]) -> bool:
    """Whether no value of a column of this name may be shown."""
    return any(re.search(pattern, column, re.IGNORECASE) for pattern in patterns)


def sample_values(
    pool: SqlPool,
    database: Database,
    tables: Sequence[TableDefinition],
    style: SchemaConfig,
    most: int,
) -> dict[tuple[str, str], tuple[str, ...]]:
    """At most so many values of each column, as text, by table and plain name of column; seeded.

    None of a view or a computed column, which may show private columns under other names.
    """
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for table in tables if most else ():
        referring = _referring(table, tables, style)
        columns = [
            column
            for column in (() if table.is_view else table.columns)
            if not (column.computed or column.name in referring or BINARY.search(column.type))
            and not is_private(column.name, style.private)
        ]
        rows = _rows(pool, database, table, columns)
        for place, column in enumerate(columns):
            texts = sorted({text for row in rows if (text := _text(row[place], style))})
            draw = random.Random(f"{style.seed}\n{table.written}\n{column.name}")
            drawn = draw.sample(texts, min(most, len(texts)))
            if drawn:
                found[table.written, column.name] = tuple(sorted(drawn, key=texts.index))
    return found


def _referring(
    table: TableDefinition, tables: Sequence[TableDefinition], style: SchemaConfig
) -> set[str]:
    """Columns that hold the values of a private column to which they refer."""
    keys = {one.written.lower(): one.keys for one in tables}
    return {
        own
        for key in table.foreign_keys
        for own, other in zip(
            key.columns, key.parent_columns or keys.get(key.parent.lower(), ()), strict=False
        )
        if is_private(other, style.private)
    }


def _rows(
    pool: SqlPool, database: Database, table: TableDefinition, columns: Sequence[Column]
) -> list[Row]:
    """The first rows of a table; none where it cannot be read, such as a virtual table of a lost module."""
    if not columns:
        return []
    names = [exp.column(exp.to_identifier(column.name, quoted=True)) for column in columns]
    query = exp.select(*names).from_(
        exp.maybe_parse(table.written, into=exp.Table, dialect=database.dialect)
    )
    for count in (ROWS, FEW_ROWS):
        sql = query.limit(count).sql(database.dialect)
        if (rows := pool.run(database.engine, database.target, sql, LIMITS).rows) is not None:
            return rows
    return []


def _text(cell: Value, style: SchemaConfig) -> str:
    """A value in a line, or nothing where it is not shown."""
    if cell is None or isinstance(cell, bytes):
        return ""
    if isinstance(cell, float) and not cell.is_integer():
        return str(cell)  # no number to call
    text = " ".join(str(cell).split())
    if isinstance(cell, str) and len(text) > style.longest_value:
        return ""
    digits = f"{cell:.0f}" if isinstance(cell, float) else text  # not 4.9e+12
    return "" if PRIVATE_TEXT.search(DAY.sub("", digits)) else text
