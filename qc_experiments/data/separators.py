"""How a table was written that is no proper CSV: other separators, quotes or letters than ours."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qc_experiments.data.foreign import making_csv, refuse_by_name
from qc_experiments.errors import UserError
from qc_experiments.system.reading import long_cells

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
CURLY = "“”„"
STRAIGHT = str.maketrans(dict.fromkeys(CURLY, '"'))
BLANK_AFTER = r'"[ \t]+([,;\t|]|$)'
IN_SINGLE = r"(^|[,;\t|])[ \t]*'"
QUOTED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("", "", {}),
    ("with blanks before the quotes of cells", r'[,;\t|][ \t]+"', {"skipinitialspace": True}),
    ("with blanks after the quotes of cells", BLANK_AFTER, {"skipinitialspace": True}),
    ("with cells in single quotes", IN_SINGLE, {"quotechar": "'"}),
    ("with cells in single quotes", IN_SINGLE, {"quotechar": "'", "skipinitialspace": True}),
    ('with quotes written as \\"', r'\\"', {"escapechar": "\\", "doublequote": False}),
    ("with curly quotes around cells", f"[{CURLY}]", {"skipinitialspace": True}),
    ("with quotes that enclose no cells", '"', {"quoting": csv.QUOTE_NONE}),
)
"""Ways to write cells, likely ones first: in words, pattern then found, options of `csv` and pandas."""
SEP_LINE = re.compile(r'"?sep=(.)"?[,;\t|]*(?:\r\n|\r|\n)', re.IGNORECASE)
"""The first line with which a file tells Excel its separator."""
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True)
class Writing:
    """A way in which a table may have been written: as `QUOTED`, with a delimiter among the options."""

    what: str = ""
    sign: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    skipped: int = 0
    """Lines at the start that are no row."""

    @property
    def curly(self) -> bool:
        """Whether curly quotes stand in the place of straight ones."""
        return CURLY in self.sign

    def rows(self, text: str) -> list[list[str]]:
        """The rows so read, the header first, without blank ones; none where they cannot be."""
        source = io.StringIO(text.translate(STRAIGHT) if self.curly else text, newline="")
        strict = self.sign != BLANK_AFTER
        try:
            return [row for row in csv.reader(source, strict=strict, **self.options) if row]
        except csv.Error:
            return []

    def fits(self, text: str) -> bool:
        """Whether every row has as many cells as the header, which has names."""
        if not re.search(self.sign, text, re.MULTILINE):
            return False
        header, *rest = self.rows(text) or [[]]
        named = len(header) > 1 and len({name.strip() for name in header}) == len(header)
        if not named or any(len(row) != len(header) for row in rest):
            return False
        if _enclosed([header, *rest]) or any(_quoted(name, '"') for name in header):
            return False
        raw = self.options.get("quoting") == csv.QUOTE_NONE
        return not (raw and any(_quoted(cell, '"') for row in rest for cell in row))

    def conversion(self, path: Path, encoding: str = "utf-8-sig", extra: str = "") -> str:
        """The command that makes a proper CSV."""
        given = dict(self.options)
        if self.skipped:
            given["skiprows"] = self.skipped
        arguments = "".join(f", {key}={_as_code(value)}" for key, value in given.items())
        source, read = "{source}", f', encoding="{encoding}"'
        modules = "pandas"
        if self.curly:
            replaced = "".join(f'.replace("{one}", chr(34))' for one in CURLY)
            source = f"io.StringIO(open({{source}}{read}).read(){replaced})"
            modules, read = "io, pandas", ""
        code = (
            f"import {modules}; pandas.read_csv({source}{read}{arguments}{extra}, dtype=str, "
            "keep_default_na=False).to_csv({target}, index=False)"
        )
        return making_csv(path, code)


def _as_code(value: object) -> str:
    if isinstance(value, str):
        return {"'": "chr(39)", "\t": r'"\t"', "\\": "chr(92)"}.get(value, f'"{value}"')
    return str(value)


def writing_of(text: str) -> Writing | None:
    """How a table was written: the likeliest way in which all rows have the header's cells; None for none."""
    line = SEP_LINE.match(text)
    skipped, text = (1, text[line.end() :]) if line else (0, text)
    return next((one for one in _writings(skipped) if one.fits(text)), None)


def other_rows(text: str) -> list[list[str]] | None:
    """The rows of a table, the header first, that is not written as our CSVs; None if it is, or unclear."""
    with long_cells():
        how = writing_of(text)
        if how is None or not how.what:
            return None
        return how.rows(SEP_LINE.sub("", text, count=1) if how.skipped else text)


def _writings(skipped: int) -> Iterator[Writing]:
    for separator in (",", *SEPARATORS):
        delimiter = {} if separator == "," else {"delimiter": separator}
        name = "written" if separator == "," else f"separated by {SEPARATORS[separator]}"
        for what, sign, options in QUOTED:
            if "quoting" in options and separator != "\t":
                continue  # elsewhere a quote that is not closed is a mistake
            traits = [what] if what else []
            traits += ["with a first line that names the separator"] if skipped else []
            words = f"{name} {' and '.join(traits)}" if traits else name
            plain = separator == "," and not traits
            yield Writing("" if plain else words, sign, delimiter | options, skipped)


def encoding_refusal(path: Path, raw: bytes, problem: str) -> UserError:
    """What is to be said of a file that is not UTF-8; the problem says where which byte is wrong."""
    encoding = _encoding(raw)
    if encoding is None:
        refuse_by_name(path, problem)
        return UserError(f"{path}: {problem}, it is no text: save the file as UTF-8 CSV")
    text = raw.decode(encoding)
    how = writing_of(text.removeprefix("\ufeff"))
    kind = "UTF-16 (Excel's Unicode text)"
    if encoding == "cp1252":
        shown = next(line for line in text.splitlines() if not line.isascii()).strip(" \t")
        place = next(at for at, letter in enumerate(shown) if not letter.isascii())
        kind = f"Windows-1252 if this reads well: {shown[max(0, place - 20) : place + 20]}"
    if how is None:
        return UserError(f"{path}: {problem}, but perhaps {kind}: save the file as UTF-8 CSV")
    words = f", {how.what}" if how.what else ""
    return UserError(
        f"{path}: {problem}, but {kind}{words}: save the file as UTF-8 CSV, or "
        f"{how.conversion(path, encoding)}"
    )


def _encoding(raw: bytes) -> str | None:
    """The encoding of text that is not UTF-8, as far as its bytes say."""
    sample = raw[:2000]
    likely = ["utf-16"] if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else []
    for half, encoding in ((sample[1::2], "utf-16-le"), (sample[::2], "utf-16-be")):
        if half.count(0) > 0.4 * len(half):
            likely.append(encoding)
    if CONTROL.search(raw) is None:
        likely.append("cp1252")
    for encoding in likely:
        with suppress(UnicodeDecodeError):
            raw.decode(encoding)
            return encoding
    return None


def refuse_first_line(path: Path, text: str) -> None:
    """Refuse a line that tells Excel the separator, whatever stands below it."""
    line = SEP_LINE.match(text)
    if line is None:
        return
    if how := writing_of(text):
        raise UserError(f"{path}: is {how.what}, for Excel: {how.conversion(path)}")
    raise UserError(f"{path}: its first line, {line[0].strip()}, is for Excel alone: take it out")


def layout_refusal(path: Path, text: str, problem: str, advice: str) -> UserError:
    """What is to be said of a table that is not read with commas."""
    how = writing_of(text)
    if how is not None and how.what:
        return UserError(f"{path}: is {how.what}: {how.conversion(path)}")
    refuse_by_name(path, problem)
    separator = max((",", *SEPARATORS), key=lambda one: len(_lenient_rows(text, one)[0]))
    header, *rows = _lenient_rows(text, separator)
    if separator == "," and Writing().rows(text) and (spare := _spare_commas(header, rows)):
        named = [place for place, name in enumerate(header) if name.strip()]
        found = Writing().conversion(path, extra=f", usecols={named}")
        return UserError(f"{path}: {problem}: {spare} ends with a comma too many: {found}")
    name = SEPARATORS.get(separator, "commas")
    for number, row in enumerate(rows, 2):
        for other, other_name in {",": "commas", **SEPARATORS}.items():
            if other != separator and len(row) == 1 < len(header) <= row[0].count(other) + 1:
                return UserError(
                    f"{path}: row {number} is separated by {other_name}, its header by {name}: "
                    "write both with commas"
                )
        if row and len(row) != len(header) and separator != ",":
            return UserError(
                f"{path}: is separated by {name}, and then row {number} has {len(row)} cells, the "
                f"header {len(header)}: quote cells with {name}, and write it with commas"
            )
    return UserError(f"{path}: {problem}: {advice}")


def _lenient_rows(text: str, separator: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator)) or [[]]


def _spare_commas(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    """Which rows end in commas after which nothing stands, if that explains all widths."""
    named = len(header) - next((n for n, name in enumerate(reversed(header)) if name.strip()), 0)
    full = [row for row in rows if row]
    if any(len(row) < named or any(map(str.strip, row[named:])) for row in full):
        return None
    longer = sum(len(row) > named for row in full)
    if longer:
        return "each row" if longer == len(full) else "that row"
    return "the header" if len(header) > named else None


def refuse_quotes_in_cells(path: Path, text: str, rows: Sequence[Sequence[str]]) -> None:
    """Refuse a table whose cells would be read with the quotes that enclose them."""
    blanks = any(re.match(r'[ \t]\s*"', cell) for row in rows for cell in row)
    if not blanks and not _enclosed(rows):
        return
    for one in _writings(0):
        if not one.what or not one.options.keys() <= {"skipinitialspace", "quotechar"}:
            continue
        if one.fits(text) and one.rows(text) != [list(row) for row in rows]:
            raise UserError(f"{path}: is {one.what}: {one.conversion(path)}")


def _enclosed(rows: Sequence[Sequence[str]]) -> bool:
    """Whether quotes that enclose cells were read as a part of them: of a header, or of two columns."""
    header, *rest = rows
    quotes = "'" + CURLY
    if all(_quoted(name, quotes) for name in header):
        return True
    columns = [[cell for cell in column if cell.strip()] for column in zip(*rest, strict=False)]
    found = (bool(cells) and all(_quoted(cell, quotes) for cell in cells) for cells in columns)
    return sum(found) > 1


def _quoted(cell: str, quotes: str) -> bool:
    stripped = cell.strip()
    return len(stripped) > 1 and stripped[0] in quotes and stripped[-1] in quotes
