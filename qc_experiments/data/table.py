"""Read a CSV of questions and queries, and refuse or count whatever cannot be learned from.

Rows keep the number under which a spreadsheet shows them (the header is row 1), so that every
message can be followed to its row.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import ColumnsConfig, OnInvalid
from qc_experiments.data.foreign import refuse_other_formats
from qc_experiments.data.separators import (
    SEPARATORS,
    encoding_refusal,
    layout_refusal,
    refuse_first_line,
    refuse_quotes_in_cells,
)
from qc_experiments.errors import UserError
from qc_experiments.sql.tokens import plain_sql
from qc_experiments.system.paths import hash_texts, read_file, readable
from qc_experiments.system.reading import long_cells
from qc_experiments.system.words import counted, noun_for

QUERY = re.compile(r"(?:select|with|create\s+table)\s", re.IGNORECASE)
"""How a cell begins that names no column."""
MAKE_CONTEXT = (
    "or give the databases (data.databases, in qc data: --databases, in qc init: --db), from which "
    "contexts are made"
)
OPTIONAL = ("db_id", "evidence", "context")
"""Columns that may be absent, the last where it can be made from a database."""
EMPTY_CELL = "empty_cell"
"""The fault of a row that is left out for want of a question, query or context."""
SHOWN_ROWS = 10
"""How many row numbers a message names before it says how many more there are."""


@dataclass(frozen=True)
class Row:
    """One question with its gold query.

    Attributes:
        number: the row of the CSV as a spreadsheet counts (the header is 1).
        context: what the model is told of the database, usually its CREATE TABLE statements.
        db_id: the database it is about, or None where the CSV does not say.
        statements: of the schema, where the context is another form of it.
        evidence: a hint that comes with the question; None where the CSV has no such column.
        source: the CSV, where rows of several come together.
    """

    number: int
    question: str
    query: str
    context: str
    db_id: str | None = None
    statements: str | None = None
    evidence: str | None = None
    source: str | None = None

    @property
    def schema(self) -> str:
        """The schema's CREATE statements, as far as they are known."""
        return self.context if self.statements is None else self.statements


@dataclass(frozen=True)
class Decision:
    """What was decided about some rows, such as that they are left out.

    Attributes:
        what: in words.
        rows: their numbers.
        kind: which fault of `qc data check` it is, if it is one.
        detail: of that fault, such as the column's name.
    """

    what: str
    rows: tuple[int, ...]
    kind: str = ""
    detail: str = ""

    def line(self, path: Path | str) -> str:
        """One line for the log: how many rows, of which file, what, and which."""
        return f"{path}: {counted(len(self.rows), 'row')} {self.what} ({name_rows(self.rows)})"


@dataclass(frozen=True)
class Table:
    """The usable rows of one CSV and what was decided about the others."""

    path: Path
    rows: tuple[Row, ...]
    decisions: tuple[Decision, ...]


def hash_rows(rows: Sequence[Row]) -> str:
    """SHA-256 over the cells of some rows, in their order."""
    cells = [c or "" for r in rows for c in (r.question, r.query, r.context, r.db_id)]
    evidence = [f"{place} {row.evidence}" for place, row in enumerate(rows) if row.evidence]
    return hash_texts(*cells, *evidence)


def name_rows(numbers: Sequence[int]) -> str:
    """``row 3`` or ``rows 3, 7, 9 and 4 more``."""
    shown = ", ".join(str(n) for n in numbers[:SHOWN_ROWS])
    more = len(numbers) - SHOWN_ROWS
    rest = f" and {more} more" if more > 0 else ""
    return f"{noun_for(len(numbers), 'row')} {shown}{rest}"


def read_table(
    path: Path, columns: ColumnsConfig, on_invalid: OnInvalid, *, needs_context: bool = True
) -> Table:
    """Read and check a CSV; of its columns ``db_id`` may be absent, and the context if it is not needed.

    Exact duplicates are left out (counted); one question with two different queries is kept and
    named, since both may be right; a row with an empty cell is an error or left out.
    """
    header, cells = read_cells(path)
    places = _column_places(path, header, columns, needs_context)
    filled = ("question", "query", "context") if needs_context else ("question", "query")
    kept: list[Row] = []
    empty: dict[str, list[int]] = {}
    for number, row_cells in cells:
        values: dict[str, Any] = {name: row_cells[place].strip() for name, place in places.items()}
        values |= {"db_id": values.get("db_id") or None, "context": values.get("context", "")}
        column = next((c for c in filled if not values[c]), None)
        if column is None:
            kept.append(Row(number, **values))
        else:
            empty.setdefault(getattr(columns, column), []).append(number)
    if empty and on_invalid is OnInvalid.error:
        column, numbers = next(iter(empty.items()))
        raise UserError(
            f"{path}: empty {column} in {name_rows(numbers)}: fill the cells, or leave such rows "
            "out with data.on_invalid=drop, or for good with qc data check --fix mended.csv"
        )
    decisions = [
        Decision(f"with an empty {column} left out", tuple(numbers), EMPTY_CELL, column)
        for column, numbers in empty.items()
    ]
    kept, found = _without_duplicates(kept)
    if not kept:
        raise UserError(f"{path}: no usable row is left below the header")
    return Table(path, tuple(kept), (*decisions, *found))


def read_cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a CSV strictly: UTF-8, balanced quotes, as many cells in each row as in the header.

    Returns:
        The header's cells without blanks around them, and each row's number (the header is row 1)
        with its cells as they are; blank lines are passed over.
    """
    if os.path.isdir(path):
        raise UserError(f"{path}: is a folder, not a CSV file")
    with readable(path):
        raw = read_file(path)
    return cells_of(path, raw)


def cells_of(path: Path, raw: bytes) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The same of a CSV's bytes; the path is for messages."""
    refuse_other_formats(path, raw)
    text = _decode(path, raw)
    refuse_first_line(path, text)
    with long_cells():
        return _split(path, text)


def _split(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    number = 0
    header: list[str] = []
    try:
        for cells in reader:
            number += 1
            if not header:
                header = [cell.strip() for cell in cells]
                continue
            if not cells:
                continue  # a blank line, usually the last
            if len(cells) != len(header):
                problem = f"row {number} has {len(cells)} cells, the header {len(header)}"
                advice = "cells with commas, quotes or line breaks must stand in double quotes"
                if len(cells) < len(header):
                    advice = f"a cell is missing, or one with a line break is not quoted; {advice}"
                raise layout_refusal(path, text, problem, advice)
            rows.append((number, cells))
    except csv.Error as error:
        what = "unbalanced quotes" if "unexpected end" in str(error) else str(error)
        problem = f"row {number + 1} cannot be read ({what})"
        advice = "a quote inside a quoted cell is written twice"
        raise layout_refusal(path, text, problem, advice) from None
    if not any(header):
        raise UserError(f"{path}: is empty: a header and at least one row are needed")
    if len(header) == 1 and any(separator in header[0] for separator in SEPARATORS):
        raise layout_refusal(path, text, "it has one column", "save it with commas")
    refuse_quotes_in_cells(path, text, [header, *(cells for _, cells in rows)])
    if not rows:
        raise UserError(f"{path}: has a header but no rows")
    return header, rows


def _decode(path: Path, raw: bytes) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        problem = f"line {line} is not UTF-8 (byte 0x{raw[error.start]:02x})"
        raise encoding_refusal(path, raw, problem) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise encoding_refusal(path, raw, f"line {line} holds a NUL character")
    return text


def _column_places(
    path: Path, header: list[str], columns: ColumnsConfig, needs_context: bool
) -> dict[str, int]:
    places, usual = {}, ColumnsConfig()
    optional = OPTIONAL[:2] if needs_context else OPTIONAL
    for name in ("question", "query", "context", "db_id", "evidence"):
        column = getattr(columns, name)
        # One that was mapped is wanted: its absence is a mistake of spelling.
        if column in header or name not in optional or column != getattr(usual, name):
            flag = f"in qc data and qc init: --{name} ..."
            advice = f"rename it or map it with data.columns.{name}=... ({flag})"
            if name in optional:  # was mapped
                advice = (
                    f"name another one by data.columns.{name}=... ({flag}), or none: it is optional"
                )
            elif name == "context":
                advice += f", {MAKE_CONTEXT}"
            places[name] = column_place(path, header, column, advice)
    return places


def column_place(path: Path, header: Sequence[str], column: str, advice: str) -> int:
    """Where a column stands; the advice is for one that is missing."""
    if header.count(column) > 1:
        raise UserError(f"{path}: the header names the column {column} twice")
    if column in header:
        return header.index(column)
    if any(QUERY.match(name) for name in header):
        raise UserError(
            f"{path}: no column {column}: its first row is a question, no header (a header, such as "
            f"question,query,context, must stand above it): {advice}"
        )
    near = {name.casefold(): name for name in header}
    close = difflib.get_close_matches(column.casefold(), near, n=1, cutoff=0.8)
    hint = f" (did you mean {near[close[0]]}?)" if close else ""
    raise UserError(
        f"{path}: no column {column}; the header has {', '.join(header)}{hint}: {advice}"
    )


def _without_duplicates(rows: Sequence[Row]) -> tuple[list[Row], list[Decision]]:
    kept: list[Row] = []
    duplicates: list[int] = []
    conflicts: list[int] = []
    seen: set[tuple[str | None, ...]] = set()
    queries: dict[tuple[str | None, ...], set[str]] = {}
    for row in rows:
        asked = (row.db_id, row.context, row.question, row.evidence)
        if (*asked, row.query) in seen:
            duplicates.append(row.number)
            continue
        seen.add((*asked, row.query))
        query, others = plain_sql(row.query), queries.setdefault(asked, set())
        if others and query not in others:
            conflicts.append(row.number)
        others.add(query)
        kept.append(row)
    asked_again = (
        "asking an earlier question with another query; both are kept, check which is right"
    )
    found = (
        Decision("repeating an earlier row, left out", tuple(duplicates), "repeat"),
        Decision(asked_again, tuple(conflicts), "conflict"),
    )
    return kept, [decision for decision in found if decision.rows]
