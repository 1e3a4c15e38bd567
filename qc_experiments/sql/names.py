"""Write the names and expressions of a query in one spelling, whatever its aliases and quotes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Set
from decimal import Decimal
from typing import NamedTuple

from sqlglot import exp

from qc_experiments.sql.parsing import bare, leftmost, sources

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")
_ORDERED = (exp.LT, exp.LTE, exp.GT, exp.GTE)
_SYMMETRIC = (exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ)


class Place(NamedTuple):
    """The query around a node, and the part of that query, or of a join, in which it stands."""

    query: exp.Expression | None
    clause: str


class Names:
    """The names in a query: what tables it reads, and which of them each column belongs to.

    Names are in lower case, and columns are written ``table.column``, as far as the query tells:

    * an alias stands for its table;
    * a column without a table belongs to the only table of its SELECT. Where there are several, it
      belongs to the one that another mention of the column tells, here or in the hints; where none
      does, it is left as ``column``;
    * columns of subqueries, and aliases of results, are followed to the column behind them; where
      something computed is behind them, they are no columns.

    Args:
        tree: the query.
        strings_in_quotes: whether a name in double quotes may be a string, as in SQLite.
    """

    def __init__(self, tree: exp.Expression, *, strings_in_quotes: bool = True) -> None:
        self._strings_in_quotes = strings_in_quotes
        nodes = list(tree.walk())  # each after the one above it
        self.places: dict[int, Place] = {}
        for node in nodes:
            above = node.parent
            if isinstance(above, (exp.Select, exp.SetOperation)):
                self.places[id(node)] = Place(above, node.arg_key)
            elif isinstance(above, exp.Join):
                self.places[id(node)] = Place(self.places[id(above)].query, node.arg_key)
            else:
                self.places[id(node)] = self.places.get(id(above), Place(None, ""))
        self._columns = [node for node in nodes if isinstance(node, (exp.Column, exp.Star))]
        self.selects = [node for node in nodes if isinstance(node, exp.Select)]
        self._ctes = {cte.alias.lower(): cte.this for cte in nodes if isinstance(cte, exp.CTE)}
        named = {_table_name(node) for node in nodes if isinstance(node, exp.Table)}
        self.tables = named - {"", *self._ctes}
        """The base tables, without the names that WITH defines."""
        self._scopes: dict[int, dict[str, str | exp.Expression]] = {}
        self._results: dict[tuple[int, str], str | None] = {}
        self._hints: tuple[Set[str], ...] = ()
        self.told = frozenset(name for name in self.columns() if "." in name)
        """The columns whose table the query tells, as ``table.column``."""

    def use_hints(self, hints: Set[str]) -> None:
        """Take note of the columns that another query tells, for those that this one does not."""
        self._hints = (self.told, self.told | hints)
        self._results.clear()

    def columns(self) -> Iterator[str]:
        """The columns used anywhere; ``*``, as in ``count(*)``, is one."""
        for node in self._columns:
            if isinstance(node, exp.Column):
                name = None if self.is_value(node) else self._name(node)
                if name is not None:
                    yield name
            elif not isinstance(node.parent, exp.Column):
                yield "*"

    def is_value(self, column: exp.Column) -> bool:
        """Whether a name in double quotes is a string, as SQLite reads one that names no column.

        Without the schema, it is taken for a string if it spells a number or stands where a condition
        has its value: on the right of a comparison whose left is no literal, in the list of IN, and as
        a bound of BETWEEN.
        """
        if not self._strings_in_quotes or column.table or not column.this.args.get("quoted"):
            return False
        if _NUMBER.fullmatch(column.name):
            return True
        parent: exp.Expression = column.parent
        key: str | None = column.arg_key
        if isinstance(parent, exp.In):
            return key == "expressions"
        if isinstance(parent, exp.Between):
            return key in ("low", "high")
        if not isinstance(parent, exp.Predicate) or isinstance(bare(parent.this), exp.Literal):
            return False
        return key == "expression"

    def scope(self, query: exp.Expression) -> dict[str, str | exp.Expression]:
        """What the names in a SELECT's FROM stand for: a base table, or else a query."""
        if id(query) not in self._scopes:
            scope: dict[str, str | exp.Expression] = {}
            for unit in sources(leftmost(query))[0]:
                name = _table_name(unit)
                source = self._ctes.get(name, name) if name else unit
                scope[unit.alias_or_name.lower() or f"#{len(scope)}"] = source
            self._scopes[id(query)] = scope
        return self._scopes[id(query)]

    def column_of(self, source: str | exp.Expression, name: str) -> str | None:
        """What to call a column of a table or of a query; None if the query computes it."""
        if isinstance(source, str):
            return f"{source}.{name}"
        key = (id(source), name)
        if key not in self._results:
            self._results[key] = name  # for a query in WITH that reads from itself
            self._results[key] = self._result(leftmost(source), name)
        return self._results[key]

    def _result(self, select: exp.Expression, name: str) -> str | None:
        for item in select.expressions:
            if item.alias_or_name.lower() == name:
                result = bare(item.unalias())
                return self._name(result) if isinstance(result, exp.Column) else None
        if any(item.is_star for item in select.expressions):
            return self._resolve(name, "", select)
        return name

    def _name(self, column: exp.Column) -> str | None:
        aliased = self._aliased(column)
        if aliased is not None:
            return self._name(aliased) if isinstance(aliased, exp.Column) else None
        query, table = self.places[id(column)].query, column.table.lower()
        if isinstance(column.this, exp.Star):
            scope = {} if query is None else self.scope(query)
            source = scope.get(table)
            return f"{source}.*" if isinstance(source, str) and len(scope) > 1 else "*"
        return self._resolve(column.name.lower(), table, query)

    def _aliased(self, column: exp.Column) -> exp.Expression | None:
        """The result that a name in WHERE, GROUP BY, HAVING or ORDER BY is an alias of."""
        query, clause = self.places[id(column)]
        if query is None or column.table or clause not in ("where", "group", "having", "order"):
            return None
        name = column.name.lower()
        for item in leftmost(query).expressions:
            if isinstance(item, exp.Alias) and item.alias.lower() == name:
                result = bare(item.this)
                names = {inner.name.lower() for inner in result.find_all(exp.Column)}
                # As in lower(name) AS name, where the name still means the column.
                computed = not isinstance(result, exp.Column)
                return None if computed and name in names else result
        return None

    def _resolve(self, name: str, table: str, query: exp.Expression | None) -> str | None:
        while query is not None:
            scope = self.scope(query)
            if table and table in scope:
                return self.column_of(scope[table], name)
            if not table and len(scope) == 1:
                return self.column_of(next(iter(scope.values())), name)
            if not table and scope:
                for hints in self._hints:
                    told = [source for source in scope.values() if _offers(source, name, hints)]
                    if len(told) == 1:
                        return self.column_of(told[0], name)
                return name
            query = self._around(query)
        return f"{table}.{name}" if table else name

    def _around(self, query: exp.Expression) -> exp.Expression | None:
        """The next query outwards whose tables a query can name."""
        place = self.places[id(query)]
        while place.query is not None and place.clause in ("from_", "with_", "this", "expression"):
            place = self.places[id(place.query)]  # queries side by side do not see one another
        return place.query

    def text(self, node: exp.Expression) -> str:
        """An expression in one spelling, with its columns named and its literals normalised."""
        node = bare(node)
        if isinstance(node, exp.Column):
            if self.is_value(node):
                return _value(node.name, is_string=True)
            aliased = self._aliased(node)
            return (
                (self._name(node) or node.name.lower()) if aliased is None else self.text(aliased)
            )
        if isinstance(node, exp.Literal):
            return _value(node.name, is_string=node.is_string)
        if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal):
            return _value(f"-{node.this.name}", is_string=False)
        if isinstance(node, (exp.Identifier, exp.Table)):
            return str(node.name).lower()
        if isinstance(node, exp.Alias):
            return self.text(node.this)
        if isinstance(node, _SYMMETRIC):
            return f"{node.key}({', '.join(self._sorted((node.this, node.expression)))})"
        if isinstance(node, _ORDERED):
            sides = [self.text(node.this), self.text(node.expression)]
            ascending = sides[::-1] if isinstance(node, (exp.GT, exp.GTE)) else sides
            return (" <= " if isinstance(node, (exp.LTE, exp.GTE)) else " < ").join(ascending)
        if isinstance(node, exp.In) and node.expressions:
            return f"in({self.text(node.this)}, [{', '.join(self._sorted(node.expressions))}])"
        return f"{node.key}({', '.join(self._arguments(node))})"

    def _sorted(self, nodes: Iterable[exp.Expression]) -> list[str]:
        return sorted({self.text(node) for node in nodes})

    def _arguments(self, node: exp.Expression) -> Iterator[str]:
        for key in sorted(node.args.keys() - {"alias"}):
            value = node.args[key]
            if isinstance(value, exp.Expression):
                yield f"{key}={self.text(value)}"
            elif isinstance(value, list) and value:
                yield f"{key}=[{', '.join(map(self.text, value))}]"
            elif value:
                yield f"{key}={str(value).lower()}"


def _table_name(unit: exp.Expression) -> str:
    """A table's name; empty for a function that returns a table, and for a subquery."""
    is_named = isinstance(unit, exp.Table) and isinstance(unit.this, exp.Identifier)
    return unit.name.lower() if is_named else ""


def _value(text: str, *, is_string: bool) -> str:
    """A literal in one spelling; a string that spells a number is that number."""
    # SQLite, too, finds both equal when it compares them with a column that is declared with a type.
    if not is_string or _NUMBER.fullmatch(text):
        try:
            return str(Decimal(text).normalize())
        except ArithmeticError:
            return text
    return f"'{text}'"


def _offers(source: str | exp.Expression, name: str, hints: Set[str]) -> bool:
    if isinstance(source, str):
        return f"{source}.{name}" in hints
    return any(item.alias_or_name.lower() == name for item in leftmost(source).expressions)
