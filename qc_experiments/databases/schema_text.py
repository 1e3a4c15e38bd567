"""A schema as a model reads it: its statements, one line a table, or M-Schema with sample values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from qc_experiments.config.data import SchemaConfig, SchemaFormat
from qc_experiments.sql.ddl import ForeignKey, TableDefinition, name_in_sql, read_ddl

Values = Mapping[tuple[str, str], Sequence[str]]
"""Sample values by table, as SQL writes its name, and the plain name of a column."""


def schema_text(
    ddl: str, dialect: str, form: SchemaFormat, style: SchemaConfig, values: Values
) -> str:
    """A schema in a form; tables whose columns are not known keep their statement.

    M-Schema is that of XiYan-SQL (Gao et al. 2024, arXiv:2411.08599, section 3.1).
    """
    tables = read_ddl(ddl, dialect)
    if form is SchemaFormat.ddl:
        return ddl if not values else _with_values(ddl, tables, values)
    write = {SchemaFormat.compact: _compact, SchemaFormat.m_schema: _m_schema}[form]
    lines = [
        write(table, dialect, style, values) if table.columns else f"{table.statement};"
        for table in tables
    ]
    keys = [
        line
        for table in tables
        for key in (table.foreign_keys if style.keys else ())
        if (line := _reference(table, key, tables, dialect))
    ]
    return "\n".join([*lines, *(["Foreign keys:", *keys] if keys else [])])


def _with_values(ddl: str, tables: Sequence[TableDefinition], values: Values) -> str:
    comments = [
        f"-- {table.written}.{column.name}: {', '.join(found)}"
        for table in tables
        for column in table.columns
        if (found := values.get((table.written, column.name)))
    ]
    return "\n".join([ddl, *comments])


def _compact(table: TableDefinition, dialect: str, style: SchemaConfig, values: Values) -> str:
    columns = []
    for column in table.columns:
        found = values.get((table.written, column.name))
        parts = [
            _name(column.name, table, dialect),
            column.type if style.types else "",
            "PRIMARY KEY" if style.keys and table.keys == (column.name,) else "",
            f"[{', '.join(found)}]" if found else "",
            f"/* {column.comment} */" if style.comments and column.comment else "",
        ]
        columns.append(" ".join(part for part in parts if part))
    if style.keys and len(table.keys) > 1:
        keys = ", ".join(_name(key, table, dialect) for key in table.keys)
        columns.append(f"PRIMARY KEY ({keys})")
    comment = f" -- {table.comment}" if style.comments and table.comment else ""
    return f"{table.written}({', '.join(columns)}){comment}"


def _m_schema(table: TableDefinition, dialect: str, style: SchemaConfig, values: Values) -> str:
    lines = []
    for column in table.columns:
        name = _name(column.name, table, dialect)
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


def _name(name: str, table: TableDefinition, dialect: str) -> str:
    return name_in_sql(exp.to_identifier(name, quoted=name in table.quoted), dialect)


def _reference(
    table: TableDefinition, key: ForeignKey, tables: Sequence[TableDefinition], dialect: str
) -> str:
    """``child.column=parent.column`` for each of a key's columns; empty where the parent's are not known."""
    named = key.parent.lower()
    parents = [one for one in tables if named in (one.written.lower(), one.name.lower())]
    parent = min(parents, key=lambda one: one.written.lower() != named, default=None)
    if parent is None:
        return ""
    columns = key.parent_columns or parent.keys
    return ", ".join(
        f"{table.written}.{_name(own, table, dialect)}={parent.written}.{_name(other, parent, dialect)}"
        for own, other in zip(key.columns, columns, strict=False)
    )
