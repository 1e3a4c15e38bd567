"""Read a CSV of predictions: with its golds, or beside a CSV of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from qc_experiments.data.table import Row, column_place, name_rows, read_cells
from qc_experiments.errors import UserError
from qc_experiments.evaluation.confidence import CONFIDENCE_COLUMN, read_confidences

OF_GOLDS = ("db_id", "question", "query")
NEEDED = (*OF_GOLDS, "prediction")
PLACE = "row"
"""Column of predictions without golds: a row's place among these, the first is 1."""
OTHER = "predicted_"
"""Goes before the name of the predictions where a column of their golds has that name."""

Cells = list[tuple[int, list[str]]]


@dataclass(frozen=True)
class PredictionTable:
    """The CSV: its path, header and cells, what is judged of them, and the confidences where it has any."""

    path: Path
    header: list[str]
    cells: list[list[str]]
    rows: list[Row]
    predictions: list[str]
    confidences: list[float | None]


def read_predictions(
    source: Path, columns: Mapping[str, str], golds: Path | None, single: str | None
) -> PredictionTable:
    """The rows of a CSV, which need no db_id where there is a single database, of this name.

    Args:
        source: the CSV.
        columns: what it, or ``golds``, calls some of `NEEDED`.
        golds: CSV with all of `NEEDED` but the prediction; None: they stand in ``source``.
        single: the database's name.

    Raises:
        UserError: if a column, a cell or a row is missing, or one column is named for two.
    """
    names = {column: columns.get(column, column) for column in NEEDED}
    apart = golds is not None and os.path.realpath(golds) != os.path.realpath(source)
    _check_names(names, OF_GOLDS if apart else NEEDED)
    header, numbered = read_cells(golds or source)
    if golds is not None:
        _check_free(names)
        said = names["prediction"]
        while names["prediction"] in (names[column] for column in OF_GOLDS):
            names["prediction"] = f"{OTHER}{names['prediction']}"
        about = (names["db_id"], names["question"])
        header, numbered = _joined(
            golds, header, numbered, source, (said, names["prediction"]), about
        )
    if single is not None and names["db_id"] not in header:
        for column in set(names) - {"db_id"}:  # before the header has what the file has not
            column_place(golds or source, header, names[column], f"name it with {_option(column)}")
        header = [names["db_id"], *header]
        numbered = [(number, [single, *cells]) for number, cells in numbered]
    place = {
        column: column_place(golds or source, header, name, f"name it with {_option(column)}")
        for column, name in names.items()
    }
    if empty := [number for number, cells in numbered if not cells[place["query"]].strip()]:
        raise UserError(
            f"{golds or source}: empty {names['query']} in {name_rows(empty)}: without a gold nothing can be "
            "judged; fill the cells or take the rows out"
        )
    rows, predictions = [], []
    for number, cells in numbered:
        query = cells[place["query"]].strip()
        db_id = cells[place["db_id"]].strip()
        rows.append(Row(number, cells[place["question"]].strip(), query, "", db_id))
        predictions.append(cells[place["prediction"]])
    confidences = read_confidences(source, header, numbered)
    cells_alone = [one for _, one in numbered]
    return PredictionTable(source, header, cells_alone, rows, predictions, confidences)


def _option(column: str) -> str:
    return f"--{column.replace('_', '-')}-column"


def _check_names(names: Mapping[str, str], of_one_file: Iterable[str]) -> None:
    """Refuse one column of a file that is named for two: predictions would be judged by themselves."""
    for one, other in combinations(of_one_file, 2):
        if names[one] == names[other]:
            raise UserError(
                f"{_option(one)} and {_option(other)} name the same column, {names[one]}: name two"
            )


def _check_free(names: Mapping[str, str]) -> None:
    """Refuse names that columns have which come with predictions beside their golds."""
    for column, name in names.items():
        if name in (PLACE, CONFIDENCE_COLUMN):
            raise UserError(
                f"{_option(column)} {name}: with --golds the predictions' column of this name is "
                "something else: rename the column"
            )


def _joined(
    golds: Path,
    header: list[str],
    numbered: Cells,
    source: Path,
    prediction: tuple[str, str],
    about: Iterable[str],
) -> tuple[list[str], Cells]:
    """Header and rows of the golds with the predictions of another file, which names them by their place.

    ``prediction`` is what this file calls its predictions, and what they are called here; columns of
    ``about`` that both files have must agree, or the predictions are those of other questions.
    """
    own_header, own = read_cells(source)
    there, here = prediction
    of_row = column_place(source, own_header, PLACE, f"with --golds it is a row's place in {golds}")
    said = [column_place(source, own_header, there, f"name it with {_option('prediction')}")]
    added = [here]
    if CONFIDENCE_COLUMN in own_header:
        said.append(column_place(source, own_header, CONFIDENCE_COLUMN, "rename one of them"))
        added.append(CONFIDENCE_COLUMN)
    shared = [one for one in about if one in own_header and one in header and one != there]
    found: dict[int, list[str]] = {}
    for number, cells in own:
        place = cells[of_row].strip()
        if not (place.isdecimal() and len(place) < 10 and 0 < int(place) <= len(numbered)):
            raise UserError(
                f"{source}: row {number}: {PLACE} is {place[:20]!r}, and must be a number from 1 to "
                f"{len(numbered)}: the place of a row in {golds}"
            )
        gold_number, gold = numbered[int(place) - 1]
        for name in shared:
            if cells[own_header.index(name)].strip() != gold[header.index(name)].strip():
                raise UserError(
                    f"{source}: row {number}: its {name} is not that of row {gold_number} of {golds}, which "
                    f"its {PLACE} {place} names: mend {PLACE}, or leave the column {name} out"
                )
        if int(place) in found:
            raise UserError(f"{source}: row {number}: {PLACE} {place} stands there twice: keep one")
        found[int(place)] = [cells[one] for one in said]
    missing = [place for place in range(1, len(numbered) + 1) if place not in found]
    if missing:
        raise UserError(
            f"{source}: no prediction for {name_rows(missing)} of the {len(numbered)} of {golds}: add "
            "them; an empty one counts as wrong"
        )
    # A confidence of the golds' file is none in these predictions.
    dropped = {PLACE, CONFIDENCE_COLUMN, here}
    kept = [place for place, name in enumerate(header) if name not in dropped]
    joined = [
        (number, [str(place), *(cells[one] for one in kept), *found[place]])
        for place, (number, cells) in enumerate(numbered, 1)
    ]
    return [PLACE, *(header[one] for one in kept), *added], joined
