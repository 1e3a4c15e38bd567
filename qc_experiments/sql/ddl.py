"""The tables of CREATE statements as data, from which other forms of a schema are written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from sqlglot import Dialect, exp

from qc_experiments.sql.sqlite_tables import DescribedTable, described_table
from qc_experiments.sql.table_names import table_names
from qc_experiments.sql.tokens import statements, tokens

TABLE_OPTIONS = re.compile(r"\)(?:[\s,]*(?:WITHOUT\s+ROWID|STRICT))+\s*$", re.IGNORECASE)
"""What SQLite's CREATE TABLE ends with and sqlglot cannot read; it says nothing of columns."""
AS_WRITTEN = (exp.DType.DOUBLE, exp.DType.TINYINT)
"""Types that sqlglot reads out of SQLite's REAL and INT8, which are something else."""


@dataclass(frozen=True)
class Column:
    """A column: its plain name, its type in sqlglot's words, what is said of it, whether it is computed."""

    name: str
    type: str = ""
    comment: str = ""
    computed: bool = False


@dataclass(frozen=True)
class ForeignKey:
    """Columns that refer to those of a parent, as SQL writes it; without any, to its primary key.

    ``quoted`` has those of the parent's columns that need quotes.
    """

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...] = ()
    quoted: frozenset[str] = frozenset()


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
        is_view: whether it shows what stands in other tables.
    """

    name: str
    written: str
    statement: str
    columns: tuple[Column, ...] = ()
    keys: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    comment: str = ""
    quoted: frozenset[str] = field(default_factory=frozenset)
    is_view: bool = False


@lru_cache(maxsize=256)
def read_ddl(schema: str, dialect: str = "sqlite") -> tuple[TableDefinition, ...]:
    """The tables and views of a text of CREATE statements, in their order.

    Comments of columns come from ``-- ...`` behind them, ``COMMENT '...'`` or ``COMMENT ON``. A table that
    neither sqlglot nor SQLite can read is there without columns; other statements are passed over.
    """
    found: dict[str, TableDefinition] = {}
    for text in statements(schema, dialect):
        tree = _parsed(text, dialect)
        one = None
        if isinstance(tree, exp.Comment):
            _add_comment(found, tree, dialect)
            continue
        if isinstance(tree, exp.Create) and tree.find(exp.Table):
            if tree.kind not in ("TABLE", "VIEW"):
                continue
            one = _definition(tree, text, dialect)
        if one is None and dialect == "sqlite" and (known := described_table(text)) is not None:
            one = _of_sqlite(known, text)
        if one is not None:
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
    if dialect == "sqlite":
        text = TABLE_OPTIONS.sub(")", text)
    try:
        trees = reads.parser().parse(reads.tokenize(text), text)
    except Exception:  # on odd texts sqlglot fails with more than its own errors
        return None
    return trees[0] if len(trees) == 1 else None


def _definition(tree: exp.Create, text: str, dialect: str) -> TableDefinition | None:
    """What a statement's tree says; None where a name is written as a text, as SQLite takes it."""
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
            columns.append(_column(item, text, dialect))
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
    if not all(isinstance(one, exp.Identifier) for one in (*table.parts, *names)):
        return None
    comment = next(iter(tree.find_all(exp.SchemaCommentProperty)), None)
    spelled = {column.name.lower(): column.name for column in columns}
    return TableDefinition(
        table.name,
        _written(table, dialect),
        text,
        tuple(columns),
        tuple(spelled.get(key.lower(), key) for key in keys),
        tuple(
            replace(key, columns=tuple(spelled.get(one.lower(), one) for one in key.columns))
            for key in foreign
        ),
        "" if comment is None else comment.this.name,
        frozenset(one.name for one in names if needs_quotes(one, dialect)),
        tree.kind == "VIEW",
    )


def _of_sqlite(known: DescribedTable, text: str) -> TableDefinition:
    """A table as SQLite describes it, which does not say what was quoted: whatever needs it."""

    def quoted(names: Iterable[str]) -> frozenset[str]:
        plain = (exp.to_identifier(name, quoted=True) for name in names)
        return frozenset(one.name for one in plain if needs_quotes(one, "sqlite"))

    def in_sql(name: str) -> str:
        return name_in_sql(exp.to_identifier(name, quoted=True), "sqlite")

    in_key = sorted((one for one in known.columns if one.place_in_key), key=lambda one: one[2])
    return TableDefinition(
        known.name,
        in_sql(known.name),
        text,
        tuple(Column(one.name, one.type, "", one.computed) for one in known.columns),
        tuple(one.name for one in in_key),
        tuple(
            ForeignKey(own, in_sql(parent), others, quoted(others))
            for own, parent, others in known.references
        ),
        quoted=quoted(one.name for one in known.columns),
    )


def _column(item: exp.ColumnDef, text: str, dialect: str) -> Column:
    kind = item.args.get("kind")
    if kind is None:
        written = ""
    elif dialect == "sqlite" and kind.this in AS_WRITTEN and not kind.expressions:
        behind = text[item.this.meta.get("end", len(text)) + 1 :].split(maxsplit=1)
        written = re.split(r"\W", behind[0])[0].upper() if behind else kind.sql()
    elif dialect == "sqlite":  # in its own dialect sqlglot would write BOOLEAN as INTEGER
        written = kind.sql().replace("VARBINARY", "BLOB")
    else:
        written = kind.sql(dialect)
    said = item.find(exp.CommentColumnConstraint)
    comment = said.this.name if said is not None else _comment(item)
    computed = item.find(exp.ComputedColumnConstraint, exp.GeneratedAsIdentityColumnConstraint)
    is_computed = computed is not None and bool(computed.expression or computed.this is not True)
    return Column(item.name, written, comment, is_computed)


def _comment(node: exp.Expression) -> str:
    return " ".join(" ".join(node.comments or ()).split())


def _written(table: exp.Table, dialect: str) -> str:
    return ".".join(name_in_sql(one, dialect) for one in table.parts)


def _reference(own: tuple[str, ...], reference: exp.Expression, dialect: str) -> ForeignKey:
    table = reference.find(exp.Table)
    schema = reference.this
    parents = schema.expressions if isinstance(schema, exp.Schema) else []
    written = "" if table is None else _written(table, dialect)
    quoted = (one.name for one in parents if _is_quoted(one, dialect))
    return ForeignKey(own, written, tuple(one.name for one in parents), frozenset(quoted))


def _is_quoted(name: exp.Expression, dialect: str) -> bool:
    """Whether a name must stand in quotes; SQLite takes a text for one."""
    if not isinstance(name, exp.Identifier):
        name = exp.to_identifier(name.name, quoted=True)
    return needs_quotes(name, dialect)


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


ALSO_RESERVED = {
    *("ADD", "ANALYSE", "ASYMMETRIC", "AUTHORIZATION", "BOTH", "CAST", "CHECK", "COLLATION"),
    *("CONCURRENTLY", "CURRENT_ROLE", "DEFERRABLE", "FREEZE", "IF", "INITIALLY", "LEADING"),
    *("NOTHING", "PLACING", "RAISE", "SYMMETRIC", "SYSTEM_USER", "TRAILING", "TRANSACTION"),
    *("USER", "VERBOSE"),
}
"""Reserved words of SQLite, PostgreSQL and DuckDB that are none of sqlglot's keywords."""


@lru_cache
def _keywords(dialect: str) -> frozenset[str]:
    """Words of the dialect's keywords; of ``ORDER BY`` both."""
    found = Dialect.get_or_raise(dialect).tokenizer_class.KEYWORDS
    return frozenset(word for keyword in found for word in keyword.split()) | ALSO_RESERVED


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
            parents = _listed(key.parent_columns, key, dialect)
            own = _listed(key.columns, table, dialect)
            items.append(
                f"FOREIGN KEY ({own}) REFERENCES {key.parent}{f' ({parents})' if parents else ''}"
            )
    return f"CREATE TABLE {table.written} ({', '.join(items)})"


def column_in_sql(name: str, table: TableDefinition | ForeignKey, dialect: str) -> str:
    """A column's name as SQL writes it: a table's, or that of a parent to which a key refers."""
    return _in_sql(name, name in table.quoted, dialect)


@lru_cache(maxsize=16_384)
def _in_sql(name: str, quoted: bool, dialect: str) -> str:
    return name_in_sql(exp.to_identifier(name, quoted=quoted), dialect)


def _listed(names: Iterable[str], table: TableDefinition | ForeignKey, dialect: str) -> str:
    return ", ".join(column_in_sql(name, table, dialect) for name in names)
