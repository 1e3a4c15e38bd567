"""The tables of CREATE statements as data, from which other forms of a schema are written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from sqlglot import Dialect, exp

from qc_experiments.sql.table_names import table_names
from qc_experiments.sql.tokens import statements, tokens


@dataclass(frozen=True)
class Column:
    """A column: its plain name, its type in sqlglot's words, and what is said of it."""

    name: str
    type: str = ""
    comment: str = ""


@dataclass(frozen=True)
class ForeignKey:
    """Columns that refer to those of a parent, as SQL writes it; without any, to its primary key."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableDefinition:
    """A table or a view.

    Attributes:
        name: plain.
        written: the name as SQL writes it, with the schema that it stands in.
        statement: the CREATE statement.
        columns: empty where the statement does not say them (a view, a virtual table).
        keys: plain names of the primary key's columns.
        quoted: plain names that the statement writes in quotes and that need them.
    """

    name: str
    written: str
    statement: str
    columns: tuple[Column, ...] = ()
    keys: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    comment: str = ""
    quoted: frozenset[str] = field(default_factory=frozenset)


@lru_cache(maxsize=256)
def read_ddl(schema: str, dialect: str = "sqlite") -> tuple[TableDefinition, ...]:
    """The tables and views of a text of CREATE statements, in their order.

    Comments of columns come from ``-- ...`` behind them, ``COMMENT '...'`` or ``COMMENT ON``. A table whose
    statement cannot be parsed is there without columns; statements of other kinds are passed over.
    """
    found: dict[str, TableDefinition] = {}
    for text in statements(schema, dialect):
        tree = _parsed(text, dialect)
        if isinstance(tree, exp.Comment):
            _add_comment(found, tree, dialect)
        elif isinstance(tree, exp.Create) and tree.find(exp.Table):
            if tree.kind in ("TABLE", "VIEW"):
                one = _definition(tree, text, dialect)
                found[one.written] = one
        elif (names := table_names(text, dialect)) is not None:
            found |= {name: TableDefinition(name, name, text) for name in names.tables}
    return tuple(found.values())


def is_ddl(text: str) -> bool:
    """Whether a text begins as a CREATE statement does."""
    found = tokens(text)
    return bool(found) and found[0].is_word("create")


def _parsed(text: str, dialect: str) -> exp.Expression | None:
    reads = Dialect.get_or_raise(dialect)
    try:
        trees = reads.parser().parse(reads.tokenize(text), text)
    except Exception:  # on odd texts sqlglot fails with more than its own errors
        return None
    return trees[0] if len(trees) == 1 else None


def _definition(tree: exp.Create, text: str, dialect: str) -> TableDefinition:
    table = tree.find(exp.Table)
    assert table is not None
    items = tree.this.expressions if isinstance(tree.this, exp.Schema) else []
    columns, foreign = [], []
    keys: tuple[str, ...] = ()
    names: list[exp.Identifier] = []
    for item in items:
        body = item.this if isinstance(item, exp.Constraint) else item
        parts = item.expressions if isinstance(item, exp.Constraint) else [body]
        if isinstance(item, exp.ColumnDef):
            names.append(item.this)
            columns.append(_column(item, dialect))
            if item.find(exp.PrimaryKeyColumnConstraint):
                keys = (*keys, item.name)
            if (reference := item.find(exp.Reference)) is not None:
                foreign.append(_reference((item.name,), reference, dialect))
        elif isinstance(item, exp.Identifier):  # SQLite's columns need no type
            names.append(item)
            columns.append(Column(item.name, "", _comment(item)))
        for part in parts:
            if isinstance(part, exp.PrimaryKey):
                keys = tuple(one.name for one in part.expressions)
            elif isinstance(part, exp.ForeignKey) and part.args.get("reference"):
                own = tuple(one.name for one in part.expressions)
                foreign.append(_reference(own, part.args["reference"], dialect))
    comment = next(iter(tree.find_all(exp.SchemaCommentProperty)), None)
    return TableDefinition(
        table.name,
        _written(table, dialect),
        text,
        tuple(columns),
        keys,
        tuple(foreign),
        "" if comment is None else comment.this.name,
        frozenset(one.name for one in names if needs_quotes(one, dialect)),
    )


def _column(item: exp.ColumnDef, dialect: str) -> Column:
    kind = item.args.get("kind")
    if kind is None:
        written = ""
    elif dialect == "sqlite":  # in its own dialect sqlglot would write BOOLEAN as INTEGER
        written = kind.sql().replace("VARBINARY", "BLOB")
    else:
        written = kind.sql(dialect)
    said = item.find(exp.CommentColumnConstraint)
    comment = said.this.name if said is not None else _comment(item)
    return Column(item.name, written, comment)


def _comment(node: exp.Expression) -> str:
    return " ".join(" ".join(node.comments or ()).split())


def _written(table: exp.Table, dialect: str) -> str:
    return ".".join(name_in_sql(one, dialect) for one in table.parts)


def _reference(own: tuple[str, ...], reference: exp.Expression, dialect: str) -> ForeignKey:
    table = reference.find(exp.Table)
    schema = reference.this
    parents = schema.expressions if isinstance(schema, exp.Schema) else []
    written = "" if table is None else _written(table, dialect)
    return ForeignKey(own, written, tuple(one.name for one in parents))


def _add_comment(found: dict[str, TableDefinition], tree: exp.Comment, dialect: str) -> None:
    """Take over a COMMENT ON TABLE or COLUMN of PostgreSQL and DuckDB."""
    target, comment = tree.this, tree.expression.name
    is_column = tree.args.get("kind") == "COLUMN"
    parts = target.parts[:-1] if is_column else target.parts
    name = ".".join(name_in_sql(part, dialect) for part in parts)
    if (one := found.get(name)) is None:
        return
    if not is_column:
        found[name] = replace(one, comment=comment)
        return
    columns = tuple(
        replace(column, comment=comment) if column.name == target.name else column
        for column in one.columns
    )
    found[name] = replace(one, columns=columns)


def needs_quotes(identifier: exp.Identifier, dialect: str) -> bool:
    """Whether a quoted name would be another without its quotes: a keyword, blanks, capitals that count."""
    name = identifier.name
    if not identifier.quoted:
        return False
    if (
        not name.isidentifier()
        or not name.isascii()
        or (dialect == "postgres" and name != name.lower())
    ):
        return True
    return name.upper() in _keywords(dialect)


@lru_cache
def _keywords(dialect: str) -> frozenset[str]:
    """Words of the dialect's keywords; of ``ORDER BY`` both."""
    found = Dialect.get_or_raise(dialect).tokenizer_class.KEYWORDS
    return frozenset(word for keyword in found for word in keyword.split())


def name_in_sql(identifier: exp.Identifier, dialect: str) -> str:
    """A name as SQL writes it, in quotes only where it needs them."""
    quoted = needs_quotes(identifier, dialect)
    return exp.to_identifier(identifier.name, quoted=quoted).sql(dialect)


def create_statement(table: TableDefinition, dialect: str) -> str:
    """A CREATE TABLE statement of a definition, with its keys as far as it has their columns."""
    names = {column.name for column in table.columns}
    items = [
        f"{column_in_sql(column.name, table, dialect)} {column.type}".rstrip()
        for column in table.columns
    ]
    if table.keys and names.issuperset(table.keys):
        items.append(f"PRIMARY KEY ({_listed(table.keys, table, dialect)})")
    for key in table.foreign_keys:
        if names.issuperset(key.columns):
            parents = ", ".join(key.parent_columns)
            own = _listed(key.columns, table, dialect)
            items.append(
                f"FOREIGN KEY ({own}) REFERENCES {key.parent}{f' ({parents})' if parents else ''}"
            )
    return f"CREATE TABLE {table.written} ({', '.join(items)})"


def column_in_sql(name: str, table: TableDefinition, dialect: str) -> str:
    """A column's name as SQL writes it."""
    return name_in_sql(exp.to_identifier(name, quoted=name in table.quoted), dialect)


def _listed(names: Iterable[str], table: TableDefinition, dialect: str) -> str:
    return ", ".join(column_in_sql(name, table, dialect) for name in names)
