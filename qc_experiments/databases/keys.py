"""Rows as they are counted and looked up: equal where Python finds them equal, and safe to hash.

Python's hashes of numbers and tuples are known to everybody, so that a result can be made whose rows
all have the same one, and sets of them take quadratic time. Strings are hashed with a secret of the
process. So each cell is replaced by a string that is the same for equal cells and for no others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from qc_experiments.databases.engine import Value

Keys = tuple[str, ...]
_nan_numbers = itertools.count()


def keyed(rows: Iterable[tuple[Value, ...]]) -> list[Keys]:
    """The keys of each row's cells.

    Two keys are equal exactly where Python's ``==`` says so of the cells: 1 and 1.0 are, 1 and ``'1'``
    are not, and NaN equals nothing.
    """
    return [tuple(map(_key, row)) for row in rows]


def _key(cell: Value) -> str:
    if isinstance(cell, str):
        return f"s{cell}"
    if cell is None:
        return "-"
    if isinstance(cell, bytes):
        return f"b{cell.decode('latin-1')}"
    if isinstance(cell, float):
        if cell != cell:
            return f"nan{next(_nan_numbers)}"
        if not cell.is_integer():  # infinities as well
            return f"f{cell!r}"
    return f"n{int(cell):x}"
