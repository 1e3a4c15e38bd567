"""Schema linking: of a schema that is too long, the tables and columns that a question is likely to need."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
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
MOST_PARTS = 5_000
"""Parts of tables that are kept for further questions, which mostly need the same ones."""


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
        write: a table's text.
    """

    tables: Sequence[TableDefinition]
    values: Mapping[tuple[str, str], Sequence[str]]
    dialect: str
    write: Callable[[TableDefinition], str]

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

    def link(self, question: str, room: int) -> list[TableDefinition]:
        """The tables for a question, in an order that is the same for all questions.

        The best come first with their keys and the columns that the question names, and with the tables on
        the way between them by foreign keys; what room is left is filled with their other columns.

        Args:
            question: in words.
            room: for the schema's text, in characters.
        """
        scores = self.scores(question)
        ranked = self._ranked(scores)
        chosen: dict[int, frozenset[int]] = {}
        for place in ranked:
            if chosen and self._size(place, self._named(place, scores)) > room:
                continue  # nor is there room for it with those on the way
            new = {place, *self._between(place, chosen)} - chosen.keys()
            added = {one: self._named(one, scores) for one in new}
            size = sum(self._size(*one) for one in added.items())
            if not chosen or size <= room:
                room -= size
                chosen |= added
        for place in (one for one in ranked if one in chosen):
            left = frozenset(range(len(self.tables[place].columns))) - self._named(place, scores)
            for more in (left, *({one} for one in self._by_score(place, scores) if one in left)):
                wider = chosen[place] | more
                size = self._size(place, wider) - self._size(place, chosen[place])
                if size <= room:
                    room -= size
                    chosen[place] = wider
        links = Counter(place for pair in self._links for place in pair)
        order = sorted(chosen, key=lambda one: (-links[one], one))
        return [self._part(place, chosen[place])[0] for place in order]

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

    def _named(self, place: int, scores: Scores) -> frozenset[int]:
        """A table's keys, and its columns that fit the question better than its name alone."""
        table = self.tables[place]
        keys = {*table.keys, *(name for key in table.foreign_keys for name in key.columns)}
        least = min((scores[place, one] for one in range(len(table.columns))), default=0.0)
        return frozenset(
            one
            for one, column in enumerate(table.columns)
            if column.name in keys or scores[place, one] > least
        ) or frozenset(self._by_score(place, scores)[:FEW_COLUMNS])

    @cached_property
    def _part(self) -> Callable[[int, frozenset[int]], tuple[TableDefinition, int]]:
        """A table with some of its columns, by their places, and the room that it takes."""

        @lru_cache(MOST_PARTS)
        def part(place: int, kept: frozenset[int]) -> tuple[TableDefinition, int]:
            found = self.tables[place]
            if len(kept) < len(found.columns):
                found = replace(found, columns=tuple(found.columns[one] for one in sorted(kept)))
                found = replace(found, statement=create_statement(found, self.dialect))
            return found, len(self.write(found)) + 1

        return part

    def _size(self, place: int, kept: frozenset[int]) -> int:
        return self._part(place, kept)[1]

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

    def _between(self, start: int, chosen: Mapping[int, object]) -> list[int]:
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
