"""Read the rows of files of other projects: JSON, Parquet, Excel, tables in text, data sets."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qc_experiments.data.foreign import JSON_SUFFIXES, are_columns, refuse_other_formats
from qc_experiments.data.separators import other_rows
from qc_experiments.data.table import cells_of
from qc_experiments.errors import UserError
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
ROWS_IN = ("data", "rows", "examples", "questions")
"""Where a JSON object holds its rows."""
CHATS = ("messages", "conversations", "conversation")
"""Where a row holds a chat."""
IN_EXCEL = b"xl/workbook."
"""What a zip archive holds that is a workbook."""
TABLES = (".csv", ".tsv", ".tab")

Record = Mapping[str, Any]


def records_of(source: str, split: str | None) -> Sequence[Any]:
    """The rows of a file, a data set's folder or a data set of the hub, as mappings where it has such.

    Args:
        source: a path, or a data set's id.
        split: which of its parts, where it has several: of a data set, a workbook, a JSON object.

    Raises:
        UserError: if it cannot be read, or has no such part.
    """
    path = Path(source).expanduser()
    problem = file_problem(path)
    if path.is_dir():
        found = _data_set(source, saved=True)
    elif problem is None:
        found = _of_file(path)
    elif source.count("/") == 1 and not path.suffix:
        found = _data_set(source, saved=False)
    else:
        raise UserError(f"{source}: {problem}")
    if isinstance(found, Mapping):
        return list(_part(source, found, split))
    if split is not None:
        raise UserError(f"--split {split}: {source} has no parts; leave it out")
    return list(found)


def _part(source: str, parts: Mapping[str, Any], split: str | None) -> Sequence[Any]:
    filled = [name for name, rows in parts.items() if len(rows)] or list(parts)[:1]
    usual = "train" if "train" in parts else filled[0] if len(filled) == 1 else None
    wanted = usual if split is None else split
    if wanted is None or wanted not in parts:
        raise UserError(f"{source}: has the parts {', '.join(parts)}: give one as --split")
    rows: Sequence[Any] = parts[wanted]
    return rows


def _of_file(path: Path) -> Any:
    with readable(path):
        raw = read_file(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: is compressed with gzip, and damaged ({error})") from None
        suffixes = [suffix for suffix in suffixes if suffix != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if raw[:4] == b"PAR1":
        return _of_library(path, _parquet, raw)
    if raw[:4] == b"PK\x03\x04" and IN_EXCEL in raw:
        return _of_library(path, _workbook, raw)
    begins_like_json = raw.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{")
    if suffix in JSON_SUFFIXES or (begins_like_json and suffix not in TABLES):
        return _of_json(path, raw)
    return _of_table(path, raw)


def _of_json(path: Path, raw: bytes) -> Any:
    """A list of rows, or lists of them by the names of parts."""
    try:
        text = raw.decode("utf-8-sig")
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            found = _json_lines(text, error)
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text: save it as UTF-8") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if isinstance(found, dict):
        found = _of_object(found)
    if not isinstance(found, list | dict):
        raise UserError(f"{path}: is neither a list of rows nor one of them")
    return found


def _of_object(found: Mapping[str, Any]) -> Any:
    """The rows of a JSON object: its columns', those below a key or by names, parts of such, or itself."""
    if are_columns(found):
        columns = (list(one.values()) if isinstance(one, dict) else one for one in found.values())
        return [dict(zip(found, cells, strict=True)) for cells in zip(*columns, strict=True)]
    inner = next((found[name] for name in ROWS_IN if isinstance(found.get(name), list)), None)
    if inner is not None:
        return inner
    if _are_parts(found):
        return found
    if found and all(isinstance(row, dict) for row in found.values()):
        return list(found.values())
    texts = {name.lower() for name, value in found.items() if isinstance(value, str)}
    lists = [rows for name, rows in found.items() if name not in CHATS and rows and _are_rows(rows)]
    return [found] if texts.intersection(NAMES["question"]) or len(lists) != 1 else lists[0]


def _are_rows(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _json_lines(text: str, error: json.JSONDecodeError) -> list[Any]:
    """The values of JSON lines; of a text that does not begin as such, what is wrong with it as a whole."""
    rows: list[Any] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as problem:
            if not rows:
                raise error from None
            raise ValueError(f"{problem.msg}: line {number} column {problem.colno}") from None
    return rows


def _are_parts(found: Mapping[str, Any]) -> bool:
    """Whether an object holds rows in several parts, and is not a row itself."""
    if set(found) & set(CHATS) or not any(found.values()):
        return False
    return all(map(_are_rows, found.values()))


def _of_table(path: Path, raw: bytes) -> list[Record]:
    """The rows of a table in text; one that is no proper CSV may be separated otherwise."""
    refuse_other_formats(path, raw)
    try:
        rows = other_rows(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        rows = None  # which is said below
    if rows is None:
        header, numbered = cells_of(path, raw)
        cells = [row for _, row in numbered]
    else:
        header, cells = [name.strip() for name in rows[0]], rows[1:]
    named = [name for name in header if name]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise UserError(f"{path}: the header names the column {twice} twice")
    return [dict(zip(header, row, strict=True)) for row in cells]


def _of_library(path: Path | str, read: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return read(raw)
    except ImportError as error:
        raise UserError(f"{path}: {str(error).rstrip('.')}") from None
    except Exception as error:  # whatever a library raises of a damaged file
        raise UserError(f"{path}: cannot be read ({_first_line(error)})") from None


def _parquet(raw: bytes) -> Any:
    from pyarrow import parquet

    return parquet.read_table(io.BytesIO(raw)).to_pylist()


def _workbook(raw: bytes) -> Any:
    import pandas

    given: dict[str, Any] = {"sheet_name": None, "dtype": str, "keep_default_na": False}
    sheets = pandas.read_excel(io.BytesIO(raw), **given)
    return {name: sheet.rename(columns=str).to_dict("records") for name, sheet in sheets.items()}


def _data_set(source: str, *, saved: bool) -> Any:
    from datasets import load_dataset, load_from_disk

    try:
        return load_from_disk(source) if saved else load_dataset(source)
    except Exception as error:  # whatever the hub, a script or a damaged file raises
        what = "is no folder of a data set" if saved else "cannot be fetched from the hub"
        raise UserError(f"{source}: {what} ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
