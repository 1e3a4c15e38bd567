"""Schema linking: of a schema that is too long, the tables and columns that a question is likely to need."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from qc_experiments.sql.ddl import TableDefinition, create_statement

CHARACTERS = 3
"""Of a schema's text that are counted as a token; models' own are longer, so that what is kept fits."""
VALUES = 200
"""Values of a column that questions are compared with."""
WORD = re.compile(r"[^\W\d_]+|\d+")
CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
Scores = Mapping[tuple[int, int | None], float]
"""How well tables (without a column) and columns fit a question, by their places."""
FEW_COLUMNS = 3
TABLE_WEIGHT = 2
"""How often a table's name counts in its text."""


def words(text: str) -> list[str]:
    """The words of a text or a name (snake_case, CamelCase), in lower case and without a plural's s."""
    found: list[str] = []
    for word in WORD.findall(text):
        found += CAMEL.findall(word) if word.isascii() and word.isalpha() else [word]
    lower = (word.lower() for word in found)
    return [word[:-1] if len(word) > 2 and word[-1] == "s" != word[-2] else word for word in lower]


@dataclass(frozen=True)
class Linker:
    """Chooses tables of one schema, by BM25 (Robertson and Zaragoza 2009) over names, comments and values.

    Attributes:
        tables: of the schema.
        values: by table, as SQL writes its name, and plain name of a column.
        dialect: what sqlglot calls its SQL.
    """

    tables: Sequence[TableDefinition]
    values: Mapping[tuple[str, str], Sequence[str]]
    dialect: str

    @cached_property
    def _places(self) -> list[tuple[int, int | None]]:
        """Table and column of each text that is searched; a table's own has no column."""
        return [
            (place, column)
            for place, table in enumerate(self.tables)
            for column in (None, *range(len(table.columns)))
        ]

    @cached_property
    def _index(self) -> Any:
        import bm25s

        index = bm25s.BM25()
        texts = [self._text(self.tables[place], column) for place, column in self._places]
        index.index(texts, show_progress=False)
        return index

    def _text(self, table: TableDefinition, place: int | None) -> list[str]:
        if place is None:
            inner = [word for column in table.columns for word in words(column.name)]
            return TABLE_WEIGHT * words(table.name) + words(table.comment) + inner
        column = table.columns[place]
        found = [*words(table.name), *words(column.name), *words(column.comment)]
        for value in self.values.get((table.written, column.name), ()):
            found += words(value)
        return found

    def scores(self, question: str) -> Scores:
        """How well each table (without a column) and each column fits a question."""
        known = [word for word in words(question) if word in self._index.vocab_dict]
        found = self._index.get_scores(known) if known else [0.0] * len(self._places)
        return dict(zip(self._places, map(float, found), strict=True))

    def link(
        self, question: str, room: int, write: Callable[[TableDefinition], str]
    ) -> list[TableDefinition]:
        """The tables for a question, in an order that is the same for all questions.

        The best come first with their keys and the columns that the question names, and with the tables on
        the way between them by foreign keys; what room is left is filled with their other columns.

        Args:
            question: in words.
            room: for the schema's text, in characters.
            write: a table's text.
        """
        scores = self.scores(question)
        ranked = self._ranked(scores)
        chosen: dict[int, TableDefinition] = {}
        sizes: dict[int, int] = {}
        for place in ranked:
            added = {
                one: self._part(one, self._named(one, scores))
                for one in {place, *self._between(place, chosen)} - chosen.keys()
            }
            new = {one: len(write(table)) + 1 for one, table in added.items()}
            if not chosen or sum(new.values()) <= room:
                room -= sum(new.values())
                chosen |= added
                sizes |= new
        for place in (one for one in ranked if one in chosen):
            left = set(range(len(self.tables[place].columns))) - self._named(place, scores)
            for more in (left, *({one} for one in self._by_score(place, scores) if one in left)):
                kept = {*self._columns(place, chosen[place]), *more}
                wider = self._part(place, kept)
                size = len(write(wider)) + 1
                if size - sizes[place] <= room:
                    room -= size - sizes[place]
                    chosen[place], sizes[place] = wider, size
        links = Counter(place for pair in self._links for place in pair)
        return [chosen[place] for place in sorted(chosen, key=lambda one: (-links[one], one))]

    def _ranked(self, scores: Scores) -> list[int]:
        """The tables, the best first."""

        def worth(place: int) -> float:
            columns = range(len(self.tables[place].columns))
            best = max((scores[place, column] for column in columns), default=0.0)
            return -scores[place, None] - best

        return sorted(range(len(self.tables)), key=lambda place: (worth(place), place))

    def _by_score(self, place: int, scores: Scores) -> list[int]:
        columns = range(len(self.tables[place].columns))
        return sorted(columns, key=lambda one: (-scores[place, one], one))

    def _named(self, place: int, scores: Scores) -> set[int]:
        """A table's keys, and its columns that fit the question better than its name alone."""
        table = self.tables[place]
        keys = {*table.keys, *(name for key in table.foreign_keys for name in key.columns)}
        least = min((scores[place, one] for one in range(len(table.columns))), default=0.0)
        return {
            one
            for one, column in enumerate(table.columns)
            if column.name in keys or scores[place, one] > least
        } or set(self._by_score(place, scores)[:FEW_COLUMNS])

    def _columns(self, place: int, part: TableDefinition) -> set[int]:
        names = {column.name for column in part.columns}
        return {n for n, one in enumerate(self.tables[place].columns) if one.name in names}

    def _part(self, place: int, kept: set[int]) -> TableDefinition:
        """A table with some of its columns."""
        table = self.tables[place]
        if len(kept) == len(table.columns):
            return table
        part = replace(table, columns=tuple(table.columns[one] for one in sorted(kept)))
        return replace(part, statement=create_statement(part, self.dialect))

    @cached_property
    def _links(self) -> list[tuple[int, int]]:
        """Pairs of tables, of which one refers to the other."""
        names = {table.name.lower(): place for place, table in enumerate(self.tables)}
        names |= {table.written.lower(): place for place, table in enumerate(self.tables)}
        return [
            (place, names[key.parent.lower()])
            for place, table in enumerate(self.tables)
            for key in table.foreign_keys
            if names.get(key.parent.lower(), place) != place
        ]

    @cached_property
    def _neighbours(self) -> dict[int, list[int]]:
        """The tables that a table refers to, or that refer to it."""
        found: dict[int, list[int]] = {}
        for one, other in self._links:
            found.setdefault(one, []).append(other)
            found.setdefault(other, []).append(one)
        return found

    def _between(self, start: int, chosen: Mapping[int, TableDefinition]) -> list[int]:
        """The tables on the shortest way by foreign keys from one to those that are chosen."""
        before: dict[int, int | None] = {start: None}
        waiting = deque([start])
        while waiting:
            place = waiting.popleft()
            if place in chosen:
                way = []
                step = before[place]
                while step is not None and step != start:
                    way.append(step)
                    step = before[step]
                return way
            for other in self._neighbours.get(place, ()):
                if other not in before:
                    before[other] = place
                    waiting.append(other)
        return []
