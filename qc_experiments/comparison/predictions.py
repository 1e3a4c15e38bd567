"""What a run answered: its verdicts as a string of bits, and, for few runs, the SQL itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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


class Answer(NamedTuple):
    """One row of ``predictions.csv``."""

    row: str
    db_id: str
    question: str
    gold: str
    prediction: str
    verdict: str
    """What came of it, with the class of the error."""
    gold_rows: str
    predicted_rows: str
    """What both return, as `evaluation.shown.rows_json` writes it; empty where that is not there."""


def read_outcomes(path: Path) -> Outcomes | None:
    """The verdicts of a run; None where the file is missing."""
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
    correct, *places = (header.index(name) for name in ("correct", *ASKED))
    for cells in rows:
        if cells[correct] not in known:
            raise Unreadable(f"{path.name}: correct is {cells[correct][:20]!r}, not 1, 0 or empty")
        bits.append(known[cells[correct]])
        asked += [cells[place] for place in places]
    return Outcomes("".join(bits), hash_bytes("\x1f".join(asked).encode()))


def read_answers(path: Path) -> list[Answer]:
    """All answers of a run; empty where the file is missing."""
    rows = _rows(path)
    header = next(rows, [])
    answers = []
    for cells in rows:
        found = dict(zip(header, cells, strict=True))
        verdict = " ".join(filter(None, (found.get("verdict"), found.get("error_class"))))
        asked = [found.get(key, "") for key in ("row", *ASKED, "prediction")]
        returned = [found.get(key, "") for key in ("gold_rows", "predicted_rows")]
        answers.append(Answer._make((*asked, verdict, *returned)))
    return answers


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
