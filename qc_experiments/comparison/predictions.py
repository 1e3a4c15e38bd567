"""What a run answered: its verdicts as a string of bits, and, for few runs, the SQL itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qc_experiments.system.paths import hash_bytes
from qc_experiments.system.reading import MOST_BYTES, Unreadable, long_cells, opened

MOST_PREDICTIONS = 512 * MOST_BYTES
"""Each row has its context, which may be the schema of a large database."""

ASKED = ("db_id", "question", "query")

RIGHT, WRONG, UNKNOWN = "1", "0", "-"
"""How `Outcomes.bits` writes a verdict; unknown where it was not measured."""


@dataclass(frozen=True)
class Outcomes:
    """The verdicts of one run.

    Attributes:
        bits: a character for each row of ``predictions.csv``, in its order.
        asked: hash of the questions and gold queries, so that only like is paired with like.
    """

    bits: str
    asked: str


@dataclass(frozen=True)
class Answer:
    """One row of ``predictions.csv``.

    Attributes:
        row: its number in the held-out CSV.
        db_id: the database it is about.
        question: what was asked.
        gold: the right query.
        prediction: the run's query.
        verdict: what came of it, with the class of the error.
    """

    row: str
    db_id: str
    question: str
    gold: str
    prediction: str
    verdict: str


def read_outcomes(path: Path) -> Outcomes | None:
    """The verdicts of a run; None where the file is missing or has none.

    Raises:
        Unreadable: if it is no such table.
    """
    bits: list[str] = []
    asked: list[str] = []
    known = {"1": RIGHT, "0": WRONG, "": UNKNOWN}
    rows = _rows(path)
    header = next(rows, None)
    if header is None:
        return None
    missing = [name for name in (*ASKED, "correct") if name not in header]
    if missing:
        raise Unreadable(f"{path.name} has no column {missing[0]}")
    correct = header.index("correct")
    db_id, question, query = (header.index(name) for name in ASKED)
    for cells in rows:
        if cells[correct] not in known:
            raise Unreadable(f"{path.name}: correct is {cells[correct][:20]!r}, not 1, 0 or empty")
        bits.append(known[cells[correct]])
        asked += (cells[db_id], cells[question], cells[query])
    text = "\x1f".join(asked)
    return Outcomes("".join(bits), hash_bytes(text.encode()))


def read_answers(path: Path) -> list[Answer]:
    """All answers of a run; empty where the file is missing.

    Raises:
        Unreadable: if it is no table.
    """
    rows = _rows(path)
    header = next(rows, [])
    return [_answer(dict(zip(header, cells, strict=True))) for cells in rows]


def _answer(cells: dict[str, str]) -> Answer:
    verdict = " ".join(filter(None, (cells.get("verdict"), cells.get("error_class"))))
    return Answer(
        row=cells.get("row", ""),
        db_id=cells.get("db_id", ""),
        question=cells.get("question", ""),
        gold=cells.get("query", ""),
        prediction=cells.get("prediction", ""),
        verdict=verdict,
    )


def _rows(path: Path) -> Iterator[list[str]]:
    """Header and rows, all of one length; none where there is no file."""
    width = 0
    with long_cells(), opened(path, MOST_PREDICTIONS) as file:
        if file is None:
            return
        try:
            lines = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            for cells in csv.reader(lines, strict=True):
                width = width or len(cells)
                if cells and len(cells) != width:
                    raise Unreadable(f"{path.name} has rows of {width} and of {len(cells)} cells")
                if cells:
                    yield cells
        except UnicodeDecodeError:
            raise Unreadable(f"{path.name} is not UTF-8") from None
        except csv.Error as error:
            raise Unreadable(f"{path.name} is no CSV ({error})") from None
    if not width:
        raise Unreadable(f"{path.name} is empty")
