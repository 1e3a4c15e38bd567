"""Turn rows of other projects, whatever they call their columns, and chats into our columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qc_experiments.data.source_rows import CHATS, NAMES, Record, records_of
from qc_experiments.errors import UserError
from qc_experiments.sql.extraction import extract_sql

NEEDED = ("question", "query")
NO_ROW = "no row has both a question and a query"
OF_CHATS = (*NEEDED, "context")
SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
"""Roles of other formats of chats."""


@dataclass(frozen=True)
class Imported:
    """Rows of another format.

    Attributes:
        columns: of the CSV, and the source's name of each.
        rows: their cells.
        left_out: places in the source (the first is 1) of rows without a question or a query.
    """

    columns: dict[str, str]
    rows: list[list[str]]
    left_out: list[int]


def import_rows(source: str, mapping: Mapping[str, str], split: str | None) -> Imported:
    """The rows of a file, of a folder that ``datasets`` has saved, or of a data set of the hub.

    Args:
        source: a path, or a data set's id.
        mapping: of our columns to the source's, where `NAMES` does not say it.
        split: which part of a data set, which sheet of a workbook; None: ``train``, or the only one.

    Raises:
        UserError: if it cannot be read, or has no question or query.
    """
    records = records_of(source, split)
    if not records:
        raise UserError(f"{source}: has no rows")
    if not all(isinstance(one, Mapping) for one in records):
        raise UserError(f"{source}: its rows are no objects with named values")
    chat = next((name for one in records for name in CHATS if _is_chat(one.get(name))), None)
    if chat is not None:
        records = [
            _without_chat(one, chat, f"{source}: row {n}") for n, one in enumerate(records, 1)
        ]
    columns = _columns(source, records, mapping)
    rows: list[list[str]] = []
    left_out: list[int] = []
    for number, record in enumerate(records, 1):
        found = {
            ours: _text(record.get(theirs), f"{source}: row {number}: its {theirs}")
            for ours, theirs in columns.items()
        }
        if all(found[name].strip() for name in NEEDED):
            rows.append(list(found.values()))
        else:
            left_out.append(number)
    if not rows:
        raise UserError(f"{source}: {NO_ROW}")
    if chat is not None:
        columns |= {name: chat for name in OF_CHATS if columns.get(name) == name}
    return Imported(columns, rows, left_out)


def _columns(source: str, records: Sequence[Record], mapping: Mapping[str, str]) -> dict[str, str]:
    there = list(dict.fromkeys(name for one in records for name in one))
    found: dict[str, str] = {}
    for ours, names in NAMES.items():
        if ours in mapping:
            if mapping[ours] not in there:
                raise UserError(
                    f"{source}: has no {mapping[ours]} (--{ours}); it has {', '.join(there)}"
                )
            found[ours] = mapping[ours]
            continue
        for name in names:
            theirs = next((one for one in there if one.lower() == name), None)
            texts = theirs is not None and _is_text(records, theirs)
            if theirs is not None and texts and theirs not in found.values():
                found[ours] = theirs
                break
    for ours in NEEDED:
        if ours not in found:
            if not set(there).difference(found.values()):  # no other could be named
                raise UserError(f"{source}: {NO_ROW}")
            raise UserError(
                f"{source}: which of {', '.join(there)} is the {ours}? Give --{ours} NAME"
            )
    return found


def _is_text(records: Sequence[Record], name: str) -> bool:
    """Whether a column begins with text; Spider's ``sql`` holds a query in parts."""
    first = next((value for one in records if (value := one.get(name)) not in (None, "")), "")
    return isinstance(first, str | int | float)


def _text(value: object, said: str) -> str:
    if value is None or value != value:  # not a number is an empty cell
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{said} is no text but {str(value)[:40]}: mend it, or name another column")
    return str(value)


def _is_chat(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, Mapping) for m in value)


def _without_chat(record: Record, name: str, said: str) -> Record:
    """A row with the last answer of its chat, the question before it, and what the system says."""
    if not _is_chat(record.get(name)):
        return record
    turns = {"system": "", "user": "", "assistant": ""}
    question = ""
    for message in record[name]:
        role = str(message.get("role", message.get("from", ""))).lower()
        role = SPEAKERS.get(role, role)
        if role == "assistant":
            question = turns["user"]
        if role in turns:
            turns[role] = _content(message.get("content", message.get("value")), f"{said}: {role}")
    found = {
        "question": question.strip(),
        "query": extract_sql(turns["assistant"]),
        "context": turns["system"].strip(),
    }
    rest = {key: value for key, value in record.items() if key != name}
    return rest | {key: text for key, text in found.items() if text}


def _content(value: Any, said: str) -> str:
    """What a message says; a list is its parts, of which those of text count."""
    parts = value if isinstance(value, list) else [value]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return "\n".join(_text(text, f"{said}'s message") for text in texts if text is not None)
