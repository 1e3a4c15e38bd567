"""A schema as a model reads it: its statements, one line a table, or M-Schema with sample values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from qc_experiments.config.data import SchemaConfig, SchemaFormat
from qc_experiments.sql.ddl import ForeignKey, TableDefinition, column_in_sql

Values = Mapping[tuple[str, str], Sequence[str]]
"""Sample values by table, as SQL writes its name, and the plain name of a column."""


KEYS_BEGIN = "Foreign keys:"
"""Stands before the keys, where these stand at a schema's end."""


def schema_text(
    tables: Sequence[TableDefinition],
    dialect: str,
    form: SchemaFormat,
    style: SchemaConfig,
    values: Values,
) -> str:
    """A schema in a form; tables whose columns are not known keep their statement.

    M-Schema is that of XiYan-SQL (Gao et al. 2024, arXiv:2411.08599, section 3.1).
    """
    lines = [table_text(table, dialect, form, style, values) for table in tables]
    keys = [key for some in key_lines(tables, dialect, form, style).values() for key in some]
    return "\n".join([*lines, *([KEYS_BEGIN, *keys] if keys else [])])


def key_lines(
    tables: Sequence[TableDefinition], dialect: str, form: SchemaFormat, style: SchemaConfig
) -> dict[str, list[str]]:
    """The foreign keys that stand at a schema's end, by table as SQL writes its name.

    There are those alone of which it is known what they refer to.
    """
    if not style.keys or form is SchemaFormat.ddl:
        return {}
    backwards = tables[::-1]  # of tables of the same name the first one is meant
    parents = {table.name.lower(): table for table in backwards}
    parents |= {table.written.lower(): table for table in backwards}
    return {
        table.written: [
            line
            for key in table.foreign_keys
            if (line := _reference(table, key, parents.get(key.parent.lower()), dialect))
        ]
        for table in tables
    }


def table_text(
    table: TableDefinition, dialect: str, form: SchemaFormat, style: SchemaConfig, values: Values
) -> str:
    """A table in a form, without its foreign keys where these stand at the end."""
    if form is SchemaFormat.ddl:
        comments = [*_comments(table, dialect), *value_comments([table], values)]
        return "\n".join([f"{table.statement};", *comments])
    if not table.columns:
        return f"{table.statement};"
    write = _compact if form is SchemaFormat.compact else _m_schema
    return write(table, dialect, style, values)


def _comments(table: TableDefinition, dialect: str) -> list[str]:
    """What is said of a table and its columns, as far as its statement does not hold it."""
    columns = [(column_in_sql(one.name, table, dialect), one.comment) for one in table.columns]
    said = [("TABLE", table.written, table.comment)]
    said += [("COLUMN", f"{table.written}.{name}", comment) for name, comment in columns]
    missing = [one for one in said if one[2] and one[2] not in table.statement]
    if dialect == "sqlite":  # which has no COMMENT ON
        return [f"-- {name}: {' '.join(comment.split())}" for _, name, comment in missing]
    return [
        f"COMMENT ON {kind} {name} IS {exp.Literal.string(comment).sql(dialect)};"
        for kind, name, comment in missing
    ]


def value_comments(tables: Sequence[TableDefinition], values: Values) -> list[str]:
    """Sample values as comments, for statements."""
    return [
        f"-- {table.written}.{column.name}: {', '.join(found)}"
        for table in tables
        for column in table.columns
        if (found := values.get((table.written, column.name)))
    ]


def _compact(table: TableDefinition, dialect: str, style: SchemaConfig, values: Values) -> str:
    columns = []
    for column in table.columns:
        found = values.get((table.written, column.name))
        parts = [
            column_in_sql(column.name, table, dialect),
            column.type if style.types else "",
            "PRIMARY KEY" if style.keys and table.keys == (column.name,) else "",
            f"[{', '.join(found)}]" if found else "",
            f"/* {column.comment} */" if style.comments and column.comment else "",
        ]
        columns.append(" ".join(part for part in parts if part))
    if style.keys and len(table.keys) > 1:
        keys = ", ".join(column_in_sql(key, table, dialect) for key in table.keys)
        columns.append(f"PRIMARY KEY ({keys})")
    comment = f" -- {table.comment}" if style.comments and table.comment else ""
    return f"{table.written}({', '.join(columns)}){comment}"


def _m_schema(table: TableDefinition, dialect: str, style: SchemaConfig, values: Values) -> str:
    lines = []
    for column in table.columns:
        name = column_in_sql(column.name, table, dialect)
        found = values.get((table.written, column.name))
        parts = [
            f"{name}:{column.type}" if style.types and column.type else name,
            column.comment if style.comments else "",
            "Primary Key" if style.keys and column.name in table.keys else "",
            f"Examples: [{', '.join(found)}]" if found else "",
        ]
        lines.append(f"({', '.join(part for part in parts if part)})")
    comment = f", {table.comment}" if style.comments and table.comment else ""
    return "\n".join([f"# Table: {table.written}{comment}", "[", ",\n".join(lines), "]"])


def _reference(
    table: TableDefinition, key: ForeignKey, parent: TableDefinition | None, dialect: str
) -> str:
    """``child.column=parent.column`` for each of a key's columns; empty where the parent's are not known."""
    if parent is None:
        return ""
    names = zip(key.columns, key.parent_columns or parent.keys, strict=False)
    pairs = (
        (column_in_sql(own, table, dialect), column_in_sql(other, parent, dialect))
        for own, other in names
    )
    return ", ".join(f"{table.written}.{own}={parent.written}.{other}" for own, other in pairs)
