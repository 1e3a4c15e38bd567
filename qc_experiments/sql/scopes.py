"""Names in a query that is not finished: what they are bound to, and whether they still can be.

A scope is one SELECT with its clauses. Names in its select list stand before the FROM that binds them, so
they wait; as soon as a source is bound, all that waits for it is checked, and when FROM is over nothing may
wait any more, unless an enclosing query can still bind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from re import compile as pattern
from typing import NamedTuple

from qc_experiments.sql.table_names import Columns

ROW_IDS = frozenset({"rowid", "oid", "_rowid_", "ctid"})
SHORT_ALIAS = pattern(r"[a-z]{1,2}\d?")
"""What people call tables: T1, s, st."""


class Outlook(IntEnum):
    """What can still become of an unfinished text."""

    IMPOSSIBLE = 0
    DOUBTFUL = (
        1  # valid only with a name that nothing has yet, such as the alias of a later subquery
    )
    POSSIBLE = 2


class Reference(NamedTuple):
    """A column's name as it is written.

    Attributes:
        qualifier: the name before the dot, or None.
        name: of the column; what there is of it yet, if it is partial.
        partial: whether the text ends in it.
        forgiven: whether it is a string where no column has the name (SQLite's double quotes).
        loose: whether it may also be a row, a field or a result without alias (PostgreSQL, DuckDB).
        joining: whether it stands in the condition of a join.
    """

    qualifier: str | None
    name: str
    partial: bool = False
    forgiven: bool = False
    loose: bool = False
    joining: bool = False


@dataclass
class Source:
    """A table or subquery in a FROM, under the name that binds it."""

    name: str | None
    columns: Columns

    def has(self, reference: Reference) -> bool:
        """Whether it has the column, or one that begins like a partial one."""
        if self.columns is None or reference.name in ROW_IDS or reference.name == "*":
            return True
        if "" in self.columns and (reference.partial or not reference.name.isidentifier()):
            return True  # the text of a result without alias
        if reference.partial:
            return any(one.startswith(reference.name) for one in (*self.columns, "rowid"))
        return reference.name in self.columns


@dataclass
class Scope:
    """A SELECT that is being read.

    Attributes:
        parent: the query around it, or None.
        tables: what the schema names, and the WITH tables before it.
        role: what it is to its parent: ``derived`` (a subquery in FROM), ``with`` or ``value``.
    """

    parent: Scope | None
    tables: dict[str, Columns]
    role: str = "value"
    clause: str = ""
    sources: list[Source] = field(default_factory=list)
    waiting: list[Reference] = field(default_factory=list)
    aliases: set[str] = field(default_factory=set)
    results: set[str] = field(default_factory=set)  # of its SELECTs so far; ORDER BY may name them
    items: list[str | None] = field(default_factory=list)  # names of the select list, if known
    first: list[str | None] | None = None  # those of the first SELECT of a set operation
    width: int | None = None  # how many results each of its SELECTs has, where that is known
    earlier: list[Source] = field(default_factory=list)  # the sources of its SELECTs so far
    shares_names: bool = False  # NATURAL or USING: a name in two sources is one column
    bound: bool = False  # FROM is over
    with_name: str | None = None  # WITH table that is being read

    def scopes(self) -> Iterator[Scope]:
        """This and those around it, from the inside out."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def result(self, *, sqlite: bool) -> Columns:
        """Names of the result's columns; "" is one that SQLite names by its text."""
        items = self.items if self.first is None else self.first
        if "*" in items or (None in items and not sqlite):
            return None
        return frozenset(one or "" for one in items)

    def refer(self, reference: Reference) -> Outlook:
        """Take up a reference; what it is to the text."""
        if self.bound:
            return self._resolve(reference)
        self.waiting.append(reference)
        return self._hope(reference)

    def outlook_of_alias(self, beginning: str, source: Source, *, given: bool) -> Outlook:
        """What a source's alias can become of which this is the beginning, with AS before it or not.

        Doubtful is one that runs on from a name that waits (``T2ON``), is the name of a source with columns
        that this one lacks, or comes without AS and is no short name.
        """
        waiting = {one.qualifier for one in self.waiting if one.qualifier is not None}
        if any(beginning.startswith(name) and beginning != name for name in waiting):
            return Outlook.DOUBTFUL
        of_it = [one for one in self.waiting if one.qualifier == beginning]
        usual = given or SHORT_ALIAS.fullmatch(beginning) is not None
        return Outlook.POSSIBLE if usual and all(map(source.has, of_it)) else Outlook.DOUBTFUL

    def bind(self, source: Source, *, given: bool = False) -> Outlook:
        """Take up a source; impossible where a name that waits for it is none of its columns.

        So is an alias that is given twice; a table may stand twice while nothing names its columns.
        """
        twice = source.name is not None and any(one.name == source.name for one in self.sources)
        self.sources.append(source)
        if twice:
            return Outlook.IMPOSSIBLE if given and source.columns is not None else Outlook.DOUBTFUL
        of_it = (one for one in self.waiting if one.qualifier == source.name)
        fits = all(source.has(one) or self._around(one) for one in of_it)
        return Outlook.POSSIBLE if fits or source.name is None else Outlook.IMPOSSIBLE

    def shares(self, reference: Reference) -> bool:
        """Whether USING may name a column: the last source has it, and one before it."""
        *earlier, last = self.sources
        joined = last.columns == frozenset()  # tables in parentheses
        return joined or (last.has(reference) and any(one.has(reference) for one in earlier))

    def close_from(self) -> Outlook:
        """FROM is over: check all that waits."""
        if self.bound:
            return Outlook.POSSIBLE
        self.bound = True
        waiting, self.waiting = self.waiting, []
        return min((self._resolve(one) for one in waiting), default=Outlook.POSSIBLE)

    def _resolve(self, reference: Reference) -> Outlook:
        """Find what a reference is bound to, from the inside out."""
        for scope in self.scopes():
            if not scope.bound:
                scope.waiting.append(reference)
                return scope._hope(reference)
            found = scope._binding(reference)
            if found is not None:
                return found
            if not reference.loose and scope.clause in ("group", "order"):
                break  # SQLite does not look around the query for those
        unnamed = None in (*self.items, *(self.first or ())) and self.clause in ("group", "order")
        if unnamed and reference.loose and reference.qualifier is None:
            return Outlook.DOUBTFUL  # the name that it has without alias
        return Outlook.POSSIBLE if reference.forgiven else Outlook.IMPOSSIBLE

    def _binding(self, reference: Reference) -> Outlook | None:
        """What a reference is within this scope; None where nothing here has the name."""
        if reference.qualifier is not None:
            own = [one for one in self.sources if one.name == reference.qualifier]
            if own:
                found = self._among(own, reference)
                if found is None and self._around(reference):
                    return None
                return Outlook.IMPOSSIBLE if found is None else found
            structure = Reference(None, reference.qualifier)
            if reference.loose and any(one.has(structure) for one in self.sources):
                return Outlook.POSSIBLE
            return self._among_earlier(reference)
        if reference.loose and any(one.name == reference.name for one in self.sources):
            return Outlook.POSSIBLE
        aliases = self.aliases | self.results if self.clause == "order" else self.aliases
        if reference.partial:
            candidates = [*aliases, *(one.name or "" for one in self.sources)]
            if any(name.startswith(reference.name) for name in candidates):
                return Outlook.POSSIBLE
        if reference.name in aliases:
            return Outlook.POSSIBLE
        found = self._among(self.sources, reference)
        return self._among_earlier(reference) if found is None else found

    def _around(self, reference: Reference) -> bool:
        """Whether a query around this may have the column, under an alias that both give.

        SQLite then looks there; the others look no further than for the alias.
        """
        outer = () if self.parent is None or reference.loose else self.parent.scopes()
        return any(
            scope.clause == "select"
            or any(one.name == reference.qualifier and one.has(reference) for one in scope.sources)
            for scope in outer
        )

    def _among(self, sources: Iterable[Source], reference: Reference) -> Outlook | None:
        """What it is among some sources; None where none has it."""
        have = [one for one in sources if one.has(reference)]
        known = sum(one.columns is not None for one in have)
        several = known > 1 and not reference.partial and not self.shares_names
        # Outside SQLite a condition of a join does not see the sources that follow it.
        several = several and not (reference.loose and reference.joining)
        if several and reference.name not in ROW_IDS and reference.name != "*":
            return Outlook.IMPOSSIBLE  # ambiguous
        return Outlook.POSSIBLE if have else None

    def _among_earlier(self, reference: Reference) -> Outlook | None:
        """What it is to the ORDER BY of a set operation, which all its SELECTs may name."""
        earlier = (one for one in self.earlier if reference.qualifier in (None, one.name))
        if self.clause == "order" and any(one.has(reference) for one in earlier):
            return Outlook.POSSIBLE
        return None

    def _hope(self, reference: Reference) -> Outlook:
        """What a reference is while FROM is not over."""
        if reference.forgiven:
            return Outlook.POSSIBLE
        own = [one for one in self.sources if one.name == reference.qualifier]
        if own and reference.qualifier is not None:
            fits = any(one.has(reference) for one in own) or self._around(reference)
            return Outlook.POSSIBLE if fits else Outlook.IMPOSSIBLE
        # Where columns are not known, a name may be one of them; but it seldom is.
        tables = [columns for columns in self.tables.values() if columns is not None]
        if reference.qualifier is None:
            known = any(Source(None, columns).has(reference) for columns in tables)
            if reference.partial:
                named = {*self.tables, *(one.name or "" for one in self.sources)}
                known = known or any(name.startswith(reference.name) for name in named)
                known = known or bool(SHORT_ALIAS.fullmatch(reference.name))
            return Outlook.POSSIBLE if known else Outlook.DOUBTFUL
        if self.clause == "from":  # a condition names sources to its left, or around it
            bound = (one.name for scope in self.scopes() for one in scope.sources)
            return Outlook.POSSIBLE if reference.qualifier in bound else Outlook.DOUBTFUL
        if reference.qualifier in self.tables:
            fits = Source(None, self.tables[reference.qualifier]).has(reference)
            return Outlook.POSSIBLE if fits else Outlook.DOUBTFUL
        if not SHORT_ALIAS.fullmatch(reference.qualifier):
            return Outlook.DOUBTFUL
        alike = [one for one in self.waiting if one.qualifier == reference.qualifier]
        fits = any(all(Source(None, table).has(one) for one in alike) for table in tables)
        return Outlook.POSSIBLE if fits else Outlook.DOUBTFUL
