"""Training and held-out rows: given as two files, or split off by a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from qc_experiments.config.schema import SplitBy
from qc_experiments.data.table import Row
from qc_experiments.errors import UserError
from qc_experiments.system.words import counted


def split_rows(
    rows: Sequence[Row], fraction: float, by: SplitBy, seed: int
) -> tuple[list[Row], list[Row]]:
    """Hold out a share of the rows; both parts keep the order of the file.

    Args:
        rows: all rows.
        fraction: share that is held out, between 0 and 1, rounded to whole rows; at least one row.
        by: ``schema`` draws whole schemas (rows of one ``db_id``, or of one schema where there is none),
            so that no schema stands on both sides.
        seed: of the draw.
    """
    groups: dict[str | int, list[Row]] = {}
    for row in rows:
        key: str | int = row.number if by is SplitBy.row else (row.db_id or row.schema)
        groups.setdefault(key, []).append(row)
    keys = list(groups)
    random.Random(seed).shuffle(keys)
    wanted = fraction * len(rows)
    held_out: set[int] = set()
    for key in keys[:-1]:  # one group always remains for training
        size = len(groups[key])
        if len(held_out) + size / 2 <= wanted:  # closer to the wanted share with it than without
            held_out.update(row.number for row in groups[key])
    if not held_out and len(keys) > 1:
        smallest = min(keys, key=lambda key: len(groups[key]))
        held_out.update(row.number for row in groups[smallest])
    validation = [row for row in rows if row.number in held_out]
    train = [row for row in rows if row.number not in held_out]
    if not validation:
        unit = "row" if by is SplitBy.row else "schema"
        raise UserError(
            f"data.validation_fraction={fraction} of {len(rows)} rows leaves no validation row "
            f"({counted(len(groups), unit)} in all): add rows, split by row, or name a data.validation CSV"
        )
    return train, validation


def sample_rows(rows: Sequence[Row], limit: int | None, seed: int) -> list[Row]:
    """At most ``limit`` rows, drawn by a seed, in the order of the file; all rows for None."""
    if limit is None or limit >= len(rows):
        return list(rows)
    chosen = set(random.Random(seed).sample(range(len(rows)), limit))
    return [row for index, row in enumerate(rows) if index in chosen]
