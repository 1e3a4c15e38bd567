"""What a file is that was given as a CSV and is none, and the command that makes a CSV of it."""

from __future__ import annotations

import io
import json
import re
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qc_experiments.errors import UserError

TO_CSV = ".to_csv({target}, index=False)"
IN_EXCEL = "in Excel, save it as CSV UTF-8 (comma delimited)"
A_DATABASE = "a CSV of questions is needed here; databases are a folder (data.databases)"
OPENED_JSON = 'json.load(open({source}, encoding="utf-8-sig"))'
AS_CSV = "save it as CSV, with commas and in UTF-8"


def _unpack(module: str) -> str:
    copy = f'shutil.copyfileobj({module}.open({{source}}), open({{target}}, "wb"))'
    return f"import shutil, {module}; {copy}"


KINDS: dict[str, tuple[str, str, str]] = {
    "parquet": ("a Parquet file", "", f"import pandas; pandas.read_parquet({{source}}){TO_CSV}"),
    "arrow": ("an Arrow file", "", f"import pandas; pandas.read_feather({{source}}){TO_CSV}"),
    "arrow stream": (
        "an Arrow file",
        "",
        "import datasets; datasets.Dataset.from_file({source}).to_csv({target})",
    ),
    "xlsx": (
        "an Excel workbook",
        f"{IN_EXCEL}; or, after pip install openpyxl, ",
        f"import pandas; pandas.read_excel({{source}}, dtype=str, keep_default_na=False){TO_CSV}",
    ),
    "xls": ("an old Excel workbook, or one with a password", IN_EXCEL, ""),
    "ods": ("an OpenDocument spreadsheet", AS_CSV, ""),
    "gzip": ("compressed with gzip", "", _unpack("gzip")),
    "bzip2": ("compressed with bzip2", "", _unpack("bz2")),
    "xz": ("compressed with xz", "", _unpack("lzma")),
    "zstd": ("compressed with zstd", "unpack it with zstd -d", ""),
    "zip": ("a zip archive", "unpack it and name the CSV in it", ""),
    "archive": ("an archive (tar, 7z or rar)", "unpack it and name the CSV in it", ""),
    "sqlite": ("a SQLite database", A_DATABASE, ""),
    "duckdb": ("a DuckDB database", A_DATABASE, ""),
    "lfs": ("a Git LFS pointer without its data", "fetch the data with git lfs pull", ""),
    "html": ("a web page, perhaps of a login", "download the file itself", ""),
    "xml": ("XML", AS_CSV, ""),
    "pdf": ("a PDF document", AS_CSV, ""),
    "rtf": ("a rich text document", "save it as plain text", ""),
    "pickle": ("a Python pickle", "save the table with pandas' to_csv(..., index=False)", ""),
}
"""Kind of file: what it is in words, what to do, and Python code that makes a CSV of it."""

SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PAR1", "parquet"),
    (0, b"ARROW1", "arrow"),
    (0, b"FEA1", "arrow"),
    (0, b"\xff\xff\xff\xff", "arrow stream"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "xls"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"7z\xbc\xaf\x27\x1c", "archive"),
    (0, b"Rar!\x1a\x07", "archive"),
    (257, b"ustar", "archive"),
    (0, b"SQLite format 3\0", "sqlite"),
    (8, b"DUCK", "duckdb"),
    (0, b"version https://git-lfs", "lfs"),
    (0, b"%PDF-", "pdf"),
    (0, b"{\\rtf", "rtf"),
    *((0, bytes((0x80, protocol)), "pickle") for protocol in (2, 3, 4, 5)),
)
"""Place in a file, the bytes there, and the kind of file that they mark."""

SUFFIXES = {
    **{f".{kind}": kind for kind in ("parquet", "xlsx", "xls", "ods", "zip", "pdf", "xml", "html")},
    **{".arrow": "arrow", ".feather": "arrow", ".sqlite": "sqlite", ".db": "sqlite"},
    **{".duckdb": "duckdb", ".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"},
    **{".tar": "archive", ".7z": "archive", ".rar": "archive"},
    **{".pkl": "pickle", ".pickle": "pickle"},
}
"""What a file's name says that it is, for one that has not the bytes of its kind."""

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
WEB_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body")


def refuse_other_formats(path: Path, raw: bytes) -> None:
    """Refuse a file whose first bytes say that it is no table in text; say how to make a CSV of it."""
    kind = next((k for at, mark, k in SIGNATURES if raw[at : at + len(mark)] == mark), None)
    start = raw[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:20].lower().startswith(WEB_PAGE):
        kind = "html"
    elif start.startswith(b"<?xml"):
        kind = "xml"
    if kind == "zip":
        raise _zip_refusal(path, raw)
    if kind is not None:
        raise _refusal(path, *KINDS[kind])
    if start[:1] in (b"{", b"["):
        _refuse_json(path, raw)


def refuse_by_name(path: Path, problem: str) -> None:
    """Refuse a file that is neither a CSV nor of the kind that its name says."""
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is not None:
        raise UserError(
            f"{path}: is no CSV ({problem}), and by its content not {KINDS[kind][0]} either, as its "
            "name says: is it whole?"
        )


def making_csv(path: Path, code: str) -> str:
    """The shell command that makes a CSV of a file, by Python code with ``{source}`` and ``{target}``."""
    stem = path.stem.removesuffix(".csv")
    names = (f"{stem}{mark}.csv" for mark in ("", "_fixed", *(f"_{n}" for n in range(2, 100))))
    target = next(new for name in names if not (new := path.with_name(name)).exists())
    filled = code.format(source=as_literal(str(path)), target=as_literal(str(target)))
    return f"this makes {target} of it: python -c {shlex.quote(filled)}"


def as_literal(text: str) -> str:
    """Text as Python code, of which a shell and a message of one line leave every blank as it is."""
    quoted = json.dumps(text, ensure_ascii=False).replace("'", r"\u0027")
    return re.sub(r"[^\S ]|(?<= ) ", lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _refusal(path: Path, what: str, advice: str, code: str = "") -> UserError:
    return UserError(f"{path}: is {what}, no CSV: {advice}{making_csv(path, code) if code else ''}")


def _zip_refusal(path: Path, raw: bytes) -> UserError:
    try:
        names = zipfile.ZipFile(io.BytesIO(raw)).namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return _refusal(path, "a zip archive or a workbook that is not whole", "get it once more")
    if any(name.startswith("xl/workbook.") for name in names):
        return _refusal(path, *KINDS["xlsx"])
    if {"content.xml", "mimetype"} <= set(names):
        return _refusal(path, *KINDS["ods"])
    tables = [name for name in names if name.lower().endswith((".csv", ".tsv", *JSON_SUFFIXES))]
    if not tables:
        return _refusal(path, *KINDS["zip"])
    folder = path.with_name(f"{path.stem}_unpacked")
    line = shlex.join(("python", "-m", "zipfile", "-e", str(path), str(folder)))
    listed = ", ".join(tables[:5]) + (", ..." if len(tables) > 5 else "")
    return _refusal(path, KINDS["zip"][0], f"unpack it, {line}, and name what is in it: {listed}")


def are_columns(found: Mapping[str, Any]) -> bool:
    """Whether an object holds columns, as pandas writes them: lists of cells, or cells by row numbers."""
    columns = list(found.values())
    if columns and all(isinstance(one, list) for one in columns):
        cells = [cell for one in columns for cell in one]
        return len({*map(len, columns)}) == 1 and not any(isinstance(one, dict) for one in cells)
    numbers = [list(one) if isinstance(one, dict) else [""] for one in columns]
    return bool(numbers) and all(
        one == numbers[0] and all(map(str.isdecimal, one)) for one in numbers
    )


def _refuse_json(path: Path, raw: bytes) -> None:
    """Refuse JSON; a header that only begins like it passes."""
    try:
        text = raw.decode("utf-8-sig").strip()
        value, end = json.JSONDecoder().raw_decode(text)
    except UnicodeDecodeError:
        return
    except (ValueError, RecursionError) as error:
        if path.suffix.lower() not in JSON_SUFFIXES:
            return
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deep"
        raise _refusal(path, "JSON that cannot be read", f"mend it first ({reason})") from None
    rest = text[end:].lstrip()
    lines = isinstance(value, dict) and (rest.startswith("{") or path.suffix.lower() == ".jsonl")
    if rest and not lines:
        return  # such as the header [1],[2]
    arguments = '{source}, encoding="utf-8-sig", dtype=False'
    table = f"pandas.read_json({arguments}{', lines=True' if lines else ''})"
    if isinstance(value, dict) and not lines:
        lists = {key: rows for key, rows in value.items() if rows and isinstance(rows, list)}
        inner = next((k for k in lists if all(isinstance(row, dict) for row in lists[k])), None)
        if inner is not None:
            key = as_literal(inner).replace("{", "{{").replace("}", "}}")
            table = f"pandas.DataFrame({OPENED_JSON}[{key}])"
        elif not all(isinstance(column, dict | list) for column in value.values()):
            table = f"pandas.DataFrame([{OPENED_JSON}])"
        elif not are_columns(value):
            table = f'pandas.read_json({arguments}, orient="index")'
    modules = "json, pandas" if "json.load" in table else "pandas"
    what = "JSON, one object a line" if lines else "JSON"
    raise _refusal(path, what, "", f"import {modules}; {table}{TO_CSV}")
