"""Read questions and queries from files of other projects: JSON, Parquet, Excel, chats, data sets."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.errors import UserError
from qc_experiments.sql.extraction import extract_sql
from qc_experiments.system.paths import file_problem, read_file, readable

NAMES = {
    "question": (
        "question",
        "sql_prompt",
        "nl",
        "utterance",
        "instruction",
        "prompt",
        "input",
        "text",
    ),
    "query": (
        "query",
        "sql",
        "gold",
        "gold_sql",
        "answer",
        "output",
        "completion",
        "response",
        "target",
    ),
    "context": ("context", "sql_context", "schema", "create_table", "ddl", "input"),
    "db_id": ("db_id", "database", "db_name", "database_id", "db"),
    "evidence": ("evidence", "hint", "external_knowledge", "knowledge"),
}
"""What others call our columns, in any case; the first that a file has, and that holds text."""
NEEDED = ("question", "query")
CHATS = ("messages", "conversations", "conversation")
SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
"""Roles of other formats of chats."""
ROWS_IN = ("data", "rows", "examples", "questions")
"""Where a JSON object holds its rows."""
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Imported:
    """Rows of another format.

    Attributes:
        columns: of the CSV, and the source's name of each.
        rows: their cells.
    """

    columns: dict[str, str]
    rows: list[list[str]]


def import_rows(source: str, mapping: Mapping[str, str], split: str | None) -> Imported:
    """The rows of a file, of a folder that ``datasets`` has saved, or of a data set of the hub.

    Args:
        source: a path, or a data set's id.
        mapping: of our columns to the source's, where `NAMES` does not say it.
        split: which part of a data set; None: ``train``, or the only one.

    Raises:
        UserError: if it cannot be read, or has no question or query.
    """
    records = _records(source, split)
    if not records:
        raise UserError(f"{source}: has no rows")
    if not all(isinstance(one, Mapping) for one in records):
        raise UserError(f"{source}: its rows are no objects with named values")
    chat = next((name for name in CHATS if isinstance(records[0].get(name), list)), None)
    if chat is not None and not mapping:
        found = [_of_chat(one.get(chat) or []) for one in records]
        names = dict.fromkeys(("question", "query", "context"), chat)
        return Imported(names, [[row[name] for name in names] for row in found])
    columns = _columns(source, records, mapping)
    rows = [[_text(one.get(theirs)) for theirs in columns.values()] for one in records]
    return Imported(columns, rows)


def _columns(source: str, records: Sequence[Record], mapping: Mapping[str, str]) -> dict[str, str]:
    there = list(dict.fromkeys(name for one in records[:100] for name in one))
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
            raise UserError(
                f"{source}: which of {', '.join(there)} is the {ours}? Give --{ours} NAME"
            )
    return found


def _is_text(records: Sequence[Record], name: str) -> bool:
    """Whether a column holds text; Spider's ``sql`` holds a query in parts."""
    values = [one.get(name) for one in records[:100] if one.get(name) not in (None, "")]
    return all(isinstance(value, str | int | float) for value in values)


def _text(value: object) -> str:
    return "" if value is None or value != value else str(value)  # not a number is an empty cell


def _of_chat(messages: Sequence[Any]) -> dict[str, str]:
    """The last answer, the question before it, and what the system says."""
    said = {"system": "", "user": "", "assistant": ""}
    question = ""
    for message in messages:
        role = str(message.get("role", message.get("from", "")))
        role = SPEAKERS.get(role, role)
        text = _text(message.get("content", message.get("value")))
        if role == "assistant":
            question = said["user"]
        if role in said:
            said[role] = text
    query = extract_sql(said["assistant"])
    return {"question": question.strip(), "query": query, "context": said["system"].strip()}


def _records(source: str, split: str | None) -> Sequence[Any]:
    path = Path(source).expanduser()
    if path.is_dir():
        return _data_set(source, split, saved=True)
    problem = file_problem(path)
    if problem is None:
        return _of_file(path)
    if source.count("/") == 1 and not path.suffix:
        return _data_set(source, split, saved=False)
    raise UserError(f"{source}: {problem}")


def _of_file(path: Path) -> Sequence[Any]:
    with readable(path):
        raw = read_file(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise UserError(f"{path}: is compressed with gzip, and damaged ({error})") from None
        suffixes = [suffix for suffix in suffixes if suffix != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    try:
        if raw[:4] == b"PAR1":
            return _of_frame("read_parquet", io.BytesIO(raw))
        if raw[:4] == b"PK\x03\x04" or suffix in (".xlsx", ".xls"):
            return _of_frame("read_excel", io.BytesIO(raw), dtype=str, keep_default_na=False)
        text = raw.decode("utf-8-sig")
        if suffix in SEPARATORS or text.lstrip()[:1] not in ("[", "{"):
            given = {"dtype": str, "keep_default_na": False, "sep": SEPARATORS.get(suffix)}
            return _of_frame("read_csv", io.StringIO(text), engine="python", **given)
        return _of_json(text)
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text: save it as UTF-8") from None
    except ImportError as error:
        raise UserError(f"{path}: {str(error).rstrip('.')}") from None
    except (ValueError, OSError) as error:  # of pandas, pyarrow and json
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None


def _of_json(text: str) -> Sequence[Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]  # JSON lines
    if isinstance(found, dict):
        inner = next((found[name] for name in ROWS_IN if isinstance(found.get(name), list)), None)
        found = [found] if inner is None else inner
    if not isinstance(found, list):
        raise ValueError("neither a list of rows nor one of them")
    return found


def _of_frame(reader: str, source: Any, **options: Any) -> list[Any]:
    import pandas

    frame = getattr(pandas, reader)(source, **options)
    frame.columns = [str(name) for name in frame.columns]
    return list(frame.to_dict("records"))


def _data_set(source: str, split: str | None, *, saved: bool) -> Sequence[Any]:
    from datasets import DatasetDict, load_dataset, load_from_disk

    try:
        found = load_from_disk(source) if saved else load_dataset(source)
    except Exception as error:  # whatever the hub, a script or a damaged file raises
        what = "is no folder of a data set" if saved else "cannot be fetched from the hub"
        raise UserError(f"{source}: {what} ({str(error).splitlines()[0]})") from None
    if isinstance(found, DatasetDict):
        parts = list(found)
        wanted = split or ("train" if "train" in parts else parts[0] if len(parts) == 1 else "")
        if wanted not in parts:
            raise UserError(f"{source}: has the parts {', '.join(parts)}: give one as --split")
        found = found[wanted]
    return list(found)
