"""Faults that the texts of questions and queries show: repeats, conflicts, leaks, and what is no question."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from qc_experiments.data.table import Row, Table
from qc_experiments.inspection.faults import Faults
from qc_experiments.sql.extraction import begins_with_sql, extract_sql
from qc_experiments.sql.parsing import parse
from qc_experiments.sql.tokens import plain_sql

log = logging.getLogger(__name__)

ALIKE = 90.0
"""Similarity in per cent (as rapidfuzz counts insertions and deletions) of nearly the same questions."""
SQL_BEGINS = re.compile(r"\s*(select|with)\b.*\b(from|as)\b", re.IGNORECASE | re.DOTALL)
GARBLED = re.compile("\ufffd|[ÃÂ][\u0080-\u00bf]|â€|ï»¿|&(?:amp|lt|gt|quot|nbsp|#\\d+);")
SIGNS = "#%*/"
"""What Unicode counts as punctuation, but tells questions apart as its symbols do."""
MINUS = re.compile(r"(?<![\w-])-(?=\w|[^\w\s-]\d)|(?<=\b[a-z])-(?![\w-])")
"""Before a number or a word, and after a letter, as in the grade A-; a hyphen or a dash is none."""
FRACTION = re.compile(r"(?<![\w.])\.(?=\d)")
PLACEHOLDER = re.compile(
    r"\{(?:question|context|query|name|value|table|column|db_id|schema|input|answer)\}"
)
MOST_COMPARED = 20_000
"""Questions about one schema that are compared each with each."""


def table_faults(table: Table, faults: Faults) -> None:
    """What reading the CSV has found."""
    for decision in table.decisions:
        if decision.kind:
            faults.extend(decision.kind, decision.rows, decision.detail)


def text_faults(rows: Sequence[Row], faults: Faults) -> None:
    """What each row's texts show by themselves, and what schemas its database has in other rows."""
    by_database: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if SQL_BEGINS.match(row.question) and parse(row.question).tree is not None:
            faults.add("question_is_sql", row.number)
        if GARBLED.search(row.question) or GARBLED.search(row.query):
            faults.add("garbled", row.number)
        for text in (row.question, row.query):
            if (match := PLACEHOLDER.search(text)) is not None:
                faults.add("placeholder", row.number, match.group())
        if is_wrapped(row.query):
            faults.add("fenced", row.number)
        if row.db_id:
            by_database[row.db_id][row.context].append(row.number)
    for contexts in by_database.values():
        most = max(contexts.values(), key=len)
        for numbers in contexts.values():
            if numbers is not most:
                faults.extend("other_context", numbers)


def is_wrapped(query: str) -> bool:
    """Whether SQL stands in a code fence, or after words, as a model writes it."""
    if begins_with_sql(query) or parse(query).tree is not None:
        return False
    return begins_with_sql(extract_sql(query))


def near_repeats(rows: Sequence[Row], faults: Faults) -> None:
    """Questions about one schema that are nearly the same, each with the first that it repeats."""
    told = {row for kind in ("repeat", "conflict") for row in faults.rows(kind)}
    queries = {row.number: plain_sql(row.query) for row in rows}
    found: dict[int, tuple[str, int]] = {}
    for group in _by_schema(rows, rows).values():
        for first, second in _alike(group, group):
            later = second.number > first.number and second.number not in told
            if not later or (first.evidence or "") != (second.evidence or ""):
                continue
            same = _plain(first.question) == _plain(second.question)
            if queries[first.number] == queries[second.number]:
                found.setdefault(second.number, ("near_repeat", first.number))
            elif same:
                found.setdefault(second.number, ("near_conflict", first.number))
    for number, (kind, first_number) in found.items():
        faults.add(kind, number, f"row {first_number}")


def leaks(train: Sequence[Row], validation: Sequence[Row], faults: Faults) -> None:
    """Rows of validation whose question stands in training as well, or nearly."""
    both = [*train, *validation]
    schemas = _by_schema(train, both)
    for schema, group in _by_schema(validation, both).items():
        known = {_plain(row.question): row.number for row in schemas.get(schema, ())}
        for row in group:
            if _plain(row.question) in known:
                faults.add("leak", row.number)
        left = [row for row in group if _plain(row.question) not in known]
        for first, second in _alike(schemas.get(schema, []), left):
            if plain_sql(first.query) == plain_sql(second.query):
                faults.add("near_leak", second.number, f"row {first.number}")
        if schema in schemas:
            faults.extend("shared_schema", (row.number for row in group))


def _by_schema(rows: Sequence[Row], known: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by their database; one that does not say it has that of a known row with the same context."""
    names = {_plain_schema(row.schema): row.db_id for row in known if row.db_id}
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        schema = _plain_schema(row.schema)
        found[row.db_id or names.get(schema) or schema].append(row)
    return found


@lru_cache(maxsize=1024)
def _plain_schema(schema: str) -> str:
    return " ".join(schema.replace(";", " ").casefold().split())


def _alike(some: Sequence[Row], others: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pairs of rows with nearly the same questions, one of each, and with the same query or the same words.

    Of questions made of one template nearly all are alike, so that other pairs are not even listed.
    """
    import numpy
    from rapidfuzz.fuzz import ratio
    from rapidfuzz.process import cdist

    if not some or not others:
        return []
    if max(len(some), len(others)) > MOST_COMPARED:
        log.warning(
            "more than %d questions about one schema: not looked for near ones", MOST_COMPARED
        )
        return []
    first, second = ([_plain(row.question) for row in rows] for rows in (some, others))
    codes: dict[str, int] = {}

    def coded(texts: Sequence[str]) -> Any:
        return numpy.array([codes.setdefault(text, len(codes)) for text in texts])

    queries = [coded([f"query {plain_sql(row.query)}" for row in rows]) for rows in (some, others)]
    words = [coded(texts) for texts in (first, second)]
    pairs: list[tuple[Row, Row]] = []
    for start in range(0, len(first), 1000):  # so that ten thousand questions need no large matrix
        part = cdist(first[start : start + 1000], second, scorer=ratio, score_cutoff=ALIKE)
        same = [one[start : start + 1000, None] == other[None] for one, other in (queries, words)]
        places = zip(*((part > 0) & (same[0] | same[1])).nonzero(), strict=True)
        pairs += ((some[start + int(one)], others[int(other)]) for one, other in places)
    return pairs


@lru_cache(maxsize=100_000)
def _plain(question: str) -> str:
    """Words and signs: C# is not C++, and -5 not 5; punctuation and how it is typed tells nothing apart."""
    text = unicodedata.normalize("NFC", question).casefold().replace("!=", "\N{NOT EQUAL TO}")
    text = FRACTION.sub("0.", MINUS.sub("\N{MINUS SIGN}", text))
    return " ".join(text.translate(TELLING).split())


class _Telling(dict[int, str]):
    """What is left of each character: letters with their marks, digits, and signs, each a word of its own."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        self[code] = " "
        if category[0] in "LMN" or character == "_":
            self[code] = character
        elif character in SIGNS or (category[0] == "S" and character not in "`\N{ACUTE ACCENT}"):
            self[code] = f" {character} "
        return self[code]


TELLING = _Telling()
