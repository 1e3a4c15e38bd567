"""What a run answered: its verdicts as a string of bits, and, for few runs, the SQL itself."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qc_experiments.data.files import hash_bytes

RIGHT, WRONG, UNKNOWN = "1", "0", "-"
"""How `Outcomes.bits` writes a verdict; unknown where it was not measured."""

KNOWN_COLUMNS = frozenset(
    (
        *("row", "db_id", "question", "query", "context", "prediction"),
        *("correct", "verdict", "warning", "error_class", "seconds"),
        *("repaired_prediction", "repaired_correct"),
    )
)
"""What `qc train` and `qc evaluate` write."""


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
        rows: result rows of the gold and the prediction, where the file has them.
    """

    row: str
    db_id: str
    question: str
    gold: str
    prediction: str
    verdict: str
    rows: str


def read_outcomes(path: Path) -> Outcomes | None:
    """The verdicts of a run; None where the file is missing, unreadable or was not judged."""
    bits: list[str] = []
    asked: list[str] = []
    known = {"1": RIGHT, "0": WRONG}
    try:
        rows = _rows(path)
        header = next(rows)
        where = [header.index(name) for name in ("db_id", "question", "query")]
        correct = header.index("correct")
        db_id, question, query = where
        for cells in rows:
            bits.append(known.get(cells[correct], UNKNOWN))
            asked += (cells[db_id], cells[question], cells[query])
    except (OSError, ValueError, StopIteration, IndexError, csv.Error):
        return None
    text = "\x1f".join(asked)
    return Outcomes("".join(bits), hash_bytes(text.encode("utf-8", "surrogatepass")))


def read_answers(path: Path) -> list[Answer]:
    """All answers of a run; empty where the file is missing or unreadable."""
    try:
        rows = _rows(path)
        header = next(rows)
        return [_answer(dict(zip(header, cells, strict=False))) for cells in rows]
    except (OSError, StopIteration, csv.Error):
        return []


def _answer(cells: dict[str, str]) -> Answer:
    verdict = " ".join(filter(None, (cells.get("verdict"), cells.get("error_class"))))
    # What later versions write beside the verdict, such as the first rows of both results.
    results = [
        f"{name}: {value}"
        for name, value in cells.items()
        if name not in KNOWN_COLUMNS and value and ("result" in name or "rows" in name)
    ]
    return Answer(
        row=cells.get("row", ""),
        db_id=cells.get("db_id", ""),
        question=cells.get("question", ""),
        gold=cells.get("query", ""),
        prediction=cells.get("prediction", ""),
        verdict=verdict,
        rows="\n".join(results),
    )


def _rows(path: Path) -> Iterator[list[str]]:
    csv.field_size_limit(sys.maxsize)  # a schema of a thousand tables is one cell
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        for cells in csv.reader(file):
            if cells:
                yield cells
