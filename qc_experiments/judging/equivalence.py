"""Do two results say the same? The rules of `execution_accuracy` (docs/explanation/judging.md).

A gold's rows stand in groups of rows that tie, in order; an unordered result is one group. From each
group a result takes a number of rows: all of them, or fewer where LIMIT cuts through the tie. A
prediction is right if, under one assignment of its columns to the gold's, its rows in each group's
places are a choice of that many of the group's rows, each counted as often as it occurs.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from qc_experiments.databases.engine import Row, Value

JUDGE = "execution-accuracy-3"  # name and version of these rules; part of the evaluation's hash

RELATIVE_TOLERANCE = 1e-6
SEARCH_BUDGET = 2_000_000
"""Cells looked at in search of an assignment of columns; about half a second."""
CANDIDATE_SHARE = 4
"""So many times as many cells are looked at to find columns that agree by themselves; most differ soon."""
MATCHING_LIMIT = 400
"""Rows that are alike up to rounding and are paired exactly; more are paired in sorted order only."""

Keys = tuple[str, ...]
_nan_numbers = itertools.count()


def keyed(rows: Iterable[Row]) -> list[Keys]:
    """Rows of strings that are equal exactly where Python's ``==`` says so of the cells.

    1 and 1.0 are, 1 and ``'1'`` are not, and NaN equals nothing. Python's hashes of numbers and tuples
    are known to everybody, so that a result can be made whose rows all have the same one, and sets of
    them take quadratic time; strings are hashed with a secret of the process.
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


@dataclass(frozen=True)
class Group:
    """Rows of the gold that tie, whether the cut takes them or not, and how many a right result has."""

    rows: Sequence[Row]
    take: int


@dataclass(frozen=True)
class Expected:
    """What a right result looks like: groups in order, the number of columns; their names as a hint only."""

    groups: tuple[Group, ...]
    columns: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """What came of a comparison.

    Attributes:
        difference: None where the result is right, else one of `verdict.WRONG_RESULTS`.
        undecided: whether the search for an assignment of columns was given up, so that
            ``wrong_rows`` means not shown to be right.
    """

    difference: str | None
    undecided: bool = False


def compare(
    expected: Expected, rows: Sequence[Row], names: Sequence[str], budget: int | None = None
) -> Comparison:
    """Compare a prediction's rows and the names of its columns with what is expected.

    ``budget`` is the number of cells to look at, by default `SEARCH_BUDGET`.
    """
    if len(names) != expected.columns:
        return Comparison("wrong_columns")
    if len(rows) != sum(group.take for group in expected.groups):
        return Comparison("wrong_rows" if rows else "empty_result")
    if not rows:
        return Comparison(None)
    search = _Search(expected, rows, names, budget or SEARCH_BUDGET)
    if search.succeeds():
        return Comparison(None)
    if search.left < 0:
        return Comparison("wrong_rows", undecided=True)
    if len(expected.groups) > 1:
        taken = [row for group in expected.groups for row in group.rows]
        unordered = Expected((Group(taken, len(rows)),), expected.columns, expected.names)
        if _Search(unordered, rows, names, SEARCH_BUDGET).succeeds():
            return Comparison("wrong_order")
    return Comparison("wrong_rows")


class _Search:
    """Search for an assignment of columns under which the rows agree.

    Cells are replaced by their keys, and numbers by classes of numbers that may be equal, so that rows
    can be counted; at the end the rows that were paired by their classes are paired by their values.
    The search assigns one column after the other and goes on only while the rows, cut down to the
    columns assigned so far, agree as a whole: columns are never compared apart from each other.
    """

    def __init__(
        self, expected: Expected, rows: Sequence[Row], names: Sequence[str], budget: int
    ) -> None:
        self._expected = expected
        self._rows = rows
        self._names = [name.lower() for name in names]
        self.left = budget
        golds = [row for group in expected.groups for row in group.rows]
        keys, split = keyed((*golds, *rows)), len(golds)
        # Rounding may matter; anything else compares as Python does, 2 == 2.0 included.
        self._rounded = any(isinstance(cell, float) for row in (*golds, *rows) for cell in row)
        if self._rounded:
            classes = _classes((*golds, *rows), keys)
            keys = [tuple(classes.get(key, key) for key in row) for row in keys]
        self._gold_columns = list(zip(*keys[:split], strict=True))
        self._columns = list(zip(*keys[split:], strict=True))
        self._gold_groups = [i for i, group in enumerate(expected.groups) for _ in group.rows]
        self._groups = [i for i, group in enumerate(expected.groups) for _ in range(group.take)]

    def succeeds(self) -> bool:
        """Whether there is such an assignment."""
        width = self._expected.columns
        if self._agrees(range(width)):
            return True
        names = [name.lower() for name in self._expected.names]
        if len(set(names)) == len(names) and set(names) == set(self._names):
            by_name = [self._names.index(name) for name in names]
            if by_name != list(range(width)) and self._agrees(by_name):
                return True
        candidates = self._candidates() if width > 1 else None
        if candidates is None:
            return False
        # Columns with many different values first: they tell rows apart and end wrong ways early.
        variety = [len(set(column)) for column in self._gold_columns]
        order = sorted(range(width), key=lambda j: (len(candidates[j]), -variety[j], j))
        found = self._assignments(order, candidates, self._gold_groups, self._groups, {})
        return any(self._agrees([assigned[j] for j in range(width)]) for assigned in found)

    def _candidates(self) -> list[list[int]] | None:
        """For each gold column the predicted ones that agree with it alone, or None."""
        gold = [Counter(zip(self._gold_groups, c, strict=True)) for c in self._gold_columns]
        own = [Counter(zip(self._groups, c, strict=True)) for c in self._columns]
        if all(len(group.rows) == group.take for group in self._expected.groups):
            # Without a cut columns agree exactly, so that each sort of column occurs equally often.
            sorts, own_sorts = ([frozenset(c.items()) for c in side] for side in (gold, own))
            if Counter(sorts) != Counter(own_sorts):
                return None
            places: dict[Hashable, list[int]] = defaultdict(list)
            for k, sort in enumerate(own_sorts):
                places[sort].append(k)
            return [places[sort] for sort in sorts]
        found: list[list[int]] = []
        for theirs in gold:
            self.left -= sum(map(len, own)) // CANDIDATE_SHARE
            if self.left < 0:
                return None
            found.append([k for k, mine in enumerate(own) if mine <= theirs])
        used = {k for places in found for k in places}
        return found if len(used) == len(own) and all(found) else None

    def _assignments(
        self,
        order: Sequence[int],
        candidates: Sequence[Sequence[int]],
        gold_ids: Sequence[int],
        ids: Sequence[int],
        assigned: dict[int, int],
    ) -> Iterator[dict[int, int]]:
        """Complete assignments (gold to predicted column) under which the rows' classes agree.

        ``order`` has the gold columns still to be assigned; ``gold_ids`` and ``ids`` say of each row
        which sort it is, by the columns assigned so far.
        """
        if not order:
            yield assigned
            return
        column, *rest = order
        seen: set[Keys] = set()
        for place in sorted(candidates[column], key=lambda k: k != column):
            content = self._columns[place]
            if place in assigned.values() or content in seen:
                continue  # taken, or a copy of a column that was tried
            seen.add(content)
            self.left -= len(gold_ids) + len(ids)
            if self.left < 0:
                return
            sorts: dict[tuple[int, str], int] = {}
            cells = self._gold_columns[column]
            new_gold = [sorts.setdefault(k, len(sorts)) for k in zip(gold_ids, cells, strict=True)]
            new = [sorts.get(k, -1) for k in zip(ids, content, strict=True)]
            if Counter(new) <= Counter(new_gold):
                deeper = {**assigned, column: place}
                yield from self._assignments(rest, candidates, new_gold, new, deeper)

    def _agrees(self, assignment: Sequence[int]) -> bool:
        """Whether the rows agree under an assignment, by their values."""
        gold_keys = iter(zip(*self._gold_columns, strict=True))
        own_keys = iter(zip(*(self._columns[k] for k in assignment), strict=True))
        own_rows = iter(self._rows)
        for group in self._expected.groups:
            gold = list(itertools.islice(gold_keys, len(group.rows)))
            own = list(itertools.islice(own_keys, group.take))
            if not Counter(own) <= Counter(gold):
                return False
            if self._rounded:
                taken = itertools.islice(own_rows, group.take)
                permuted = [tuple(row[k] for k in assignment) for row in taken]
                golds, mine = _by_class(gold, group.rows), _by_class(own, permuted)
                if not all(_matched(rows, golds[key]) for key, rows in mine.items()):
                    return False
        return True


def _classes(rows: Iterable[Row], keys: Iterable[Keys]) -> dict[str, str]:
    """A class for the key of each number, the same for numbers that are equal."""
    numbers = {
        key: cell
        for row, own in zip(rows, keys, strict=True)
        for cell, key in zip(row, own, strict=True)
        if isinstance(cell, int | float)
    }
    classes = {key: "class nan" for key, n in numbers.items() if n != n}
    last: int | float | None = None
    for number, key in sorted((n, k) for k, n in numbers.items() if n == n):
        if last is None or not same_value(last, number):
            current = f"class {len(classes)}"
        classes[key] = current
        last = number
    return classes


def same_value(left: Value, right: Value) -> bool:
    """Whether two cells are equal: integers exactly, other numbers within a relative 1e-6."""
    if isinstance(left, int) and isinstance(right, int):
        return left == right
    if isinstance(left, int | float) and isinstance(right, int | float):
        if left != left or right != right:
            return left != left and right != right  # NaN, which SQLite does not have
        try:
            return math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
        except OverflowError:  # an integer beyond all floats
            return left == right
    return type(left) is type(right) and left == right


def _same_row(left: Row, right: Row) -> bool:
    return all(map(same_value, left, right))


def _by_class(keys: Sequence[Keys], rows: Sequence[Row]) -> dict[Keys, list[Row]]:
    found: dict[Keys, list[Row]] = defaultdict(list)
    for key, row in zip(keys, rows, strict=True):
        found[key].append(row)
    return found


def _matched(rows: list[Row], golds: list[Row]) -> bool:
    """Pair each of the rows of one class with a gold of that class; they differ in their numbers only."""
    if Counter(keyed(rows)) <= Counter(keyed(golds)):
        return True
    if len(rows) == len(golds):
        pairs = zip(sorted(rows, key=_numbers), sorted(golds, key=_numbers), strict=True)
        if all(_same_row(row, gold) for row, gold in pairs):
            return True
    if len(golds) > MATCHING_LIMIT:
        return False
    # Kuhn's augmenting paths: each row takes a gold, or makes another row move on to a free one.
    edges = [[g for g, gold in enumerate(golds) if _same_row(row, gold)] for row in rows]
    taken_by: dict[int, int] = {}

    def place(row: int, visited: set[int]) -> bool:
        for gold in edges[row]:
            if gold in visited:
                continue
            visited.add(gold)
            if gold not in taken_by or place(taken_by[gold], visited):
                taken_by[gold] = row
                return True
        return False

    return all(place(row, set()) for row in range(len(rows)))


def _numbers(row: Row) -> tuple[int | float, ...]:
    return tuple(cell for cell in row if isinstance(cell, int | float) and cell == cell)
