"""Faults that the texts of questions and queries show: repeats, conflicts, leaks, and what is no question."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence

from qc_experiments.data.table import Row, Table
from qc_experiments.inspection.faults import Faults
from qc_experiments.sql.extraction import SQL_START, extract_sql
from qc_experiments.sql.parsing import parse

log = logging.getLogger(__name__)

ALIKE = 90.0
"""Similarity in per cent (as rapidfuzz counts insertions and deletions) of nearly the same questions."""
SQL_BEGINS = re.compile(r"\s*(select|with)\b.*\b(from|as)\b", re.IGNORECASE | re.DOTALL)
GARBLED = re.compile("\ufffd|[ÃÂ][\u0080-\u00bf]|â€|ï»¿|&(?:amp|lt|gt|quot|nbsp|#\\d+);")
PLACEHOLDER = re.compile(
    r"\{(?:question|context|query|name|value|table|column|db_id|schema|input|answer)\}"
    r"|[<\[](?:value|name|table|column)[>\]]|\b(?:TODO|FIXME|lorem ipsum)\b|\?\?\?"
)
MOST_COMPARED = 20_000
"""Questions about one schema that are compared each with each."""
IN_TABLE = (
    ("empty_cell", re.compile(r"with an empty (.+) left out")),
    ("repeat", re.compile("repeating an earlier row")),
    ("conflict", re.compile("asking an earlier question")),
)
"""How `read_table` says what it has decided."""


def table_faults(table: Table, faults: Faults) -> None:
    """What reading the CSV has found."""
    for decision in table.decisions:
        for kind, pattern in IN_TABLE:
            if (match := pattern.search(decision.what)) is not None:
                faults.extend(kind, decision.rows, match.group(1) if match.groups() else "")


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
    begins = query.startswith("(") or SQL_START.match(query)
    return not begins and SQL_START.match(extract_sql(query)) is not None


def near_repeats(rows: Sequence[Row], faults: Faults) -> None:
    """Questions about one schema that are nearly the same."""
    for group in _by_schema(rows).values():
        for first, second in _alike(group, group):
            if second.number <= first.number:
                continue
            same = _plain(first.question) == _plain(second.question)
            if first.question == second.question:
                continue  # which reading the CSV has told
            if _query(first) == _query(second):
                faults.add("near_repeat", second.number, f"row {first.number}")
            elif same:
                faults.add("near_conflict", second.number, f"row {first.number}")


def leaks(train: Sequence[Row], validation: Sequence[Row], faults: Faults) -> None:
    """Rows of validation whose question stands in training as well, or nearly."""
    schemas = _by_schema(train)
    for schema, group in _by_schema(validation).items():
        known = {_plain(row.question): row.number for row in schemas.get(schema, ())}
        for row in group:
            if _plain(row.question) in known:
                faults.add("leak", row.number)
        left = [row for row in group if _plain(row.question) not in known]
        for first, second in _alike(schemas.get(schema, []), left):
            if _query(first) == _query(second):
                faults.add("near_leak", second.number, f"row {first.number}")
        if schema in schemas:
            faults.extend("shared_schema", (row.number for row in group))


def _by_schema(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.db_id or row.schema].append(row)
    return found


def _alike(some: Sequence[Row], others: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pairs of rows with nearly the same questions, one of each."""
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
    pairs: list[tuple[Row, Row]] = []
    for start in range(0, len(first), 1000):  # so that ten thousand questions need no large matrix
        part = cdist(first[start : start + 1000], second, scorer=ratio, score_cutoff=ALIKE)
        places = zip(*part.nonzero(), strict=True)
        pairs += ((some[start + int(one)], others[int(other)]) for one, other in places)
    return pairs


def _plain(question: str) -> str:
    return " ".join(re.findall(r"\w+", question.casefold()))


def _query(row: Row) -> str:
    return " ".join(row.query.rstrip("; ").casefold().split())
