"""Do two results say the same? The rules of `execution_accuracy`.

docs/explanation/judging.md states them in full.

A gold's rows stand in groups of rows that tie, in order; an unordered result is one group. From each
group a result takes a number of rows: all of them, or fewer where LIMIT cuts through the tie. A
prediction is right if, under one assignment of its columns to the gold's, its rows in each group's
places are a choice of that many of the group's rows, each counted as often as it occurs.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from qc_experiments.databases.engine import Value
from qc_experiments.databases.keys import Keys, keyed

JUDGE = "execution-accuracy-3"
"""Name and version of these rules; part of the evaluation's hash."""

RELATIVE_TOLERANCE = 1e-6
SEARCH_BUDGET = 2_000_000
"""Cells looked at in search of an assignment of columns; about half a second."""
CANDIDATE_SHARE = 4
"""So many times as many cells are looked at to find columns that agree by themselves; most differ soon."""
MATCHING_LIMIT = 400
"""Rows that are alike up to rounding and are paired exactly; more are paired in sorted order only."""

Row = tuple[Value, ...]


@dataclass(frozen=True)
class Group:
    """Rows of the gold that tie.

    Attributes:
        rows: all of them, whether the cut takes them or not.
        take: how many of them a right result has.
    """

    rows: Sequence[Row]
    take: int


@dataclass(frozen=True)
class Expected:
    """What a right result looks like.

    Attributes:
        groups: the gold's rows in groups that tie, in order.
        columns: number of columns.
        names: the columns' names, a hint only.
    """

    groups: tuple[Group, ...]
    columns: int
    names: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(group.take for group in self.groups)


@dataclass(frozen=True)
class Comparison:
    """What came of a comparison.

    Attributes:
        difference: None where the result is right, else ``wrong_columns``, ``empty_result``,
            ``wrong_order`` or ``wrong_rows``.
        undecided: whether the search for an assignment of columns was given up, so that
            ``wrong_rows`` means not shown to be right.
    """

    difference: str | None
    undecided: bool = False


def compare(expected: Expected, rows: Sequence[Row], names: Sequence[str]) -> Comparison:
    """Compare a prediction's rows and the names of its columns with what is expected."""
    if len(names) != expected.columns:
        return Comparison("wrong_columns")
    if len(rows) != expected.count:
        return Comparison("wrong_rows" if rows else "empty_result")
    if not rows:
        return Comparison(None)
    search = _Search(expected, rows, names)
    if search.succeeds():
        return Comparison(None)
    if search.exhausted:
        return Comparison("wrong_rows", undecided=True)
    if len(expected.groups) > 1:
        taken = [row for group in expected.groups for row in group.rows]
        unordered = Expected((Group(taken, len(rows)),), expected.columns, expected.names)
        if _Search(unordered, rows, names).succeeds():
            return Comparison("wrong_order")
    return Comparison("wrong_rows")


class _Search:
    """Search for an assignment of columns under which the rows agree.

    Cells are replaced by their keys, and numbers by classes of numbers that may be equal, so that rows
    can be counted; at the end the rows that were paired by their classes are paired by their values.
    The search assigns one column after the other and goes on only while the rows, cut down to the
    columns assigned so far, agree as a whole: columns are never compared apart from each other.
    """

    def __init__(self, expected: Expected, rows: Sequence[Row], names: Sequence[str]) -> None:
        self._expected = expected
        self._rows = rows
        self._names = [name.lower() for name in names]
        self.exhausted = False
        self._spent = 0
        golds = [row for group in expected.groups for row in group.rows]
        self._rounded = _has_fractions(golds) or _has_fractions(rows)
        gold_keys, own_keys = keyed(golds), keyed(rows)
        if self._rounded:
            classes = _classes((golds, gold_keys), (rows, own_keys))
            gold_keys, own_keys = (
                [tuple(classes.get(key, key) for key in row) for row in keys]
                for keys in (gold_keys, own_keys)
            )
        self._gold_columns = list(zip(*gold_keys, strict=True))
        self._columns = list(zip(*own_keys, strict=True))
        self._gold_groups = [i for i, group in enumerate(expected.groups) for _ in group.rows]
        self._groups = [i for i, group in enumerate(expected.groups) for _ in range(group.take)]

    def succeeds(self) -> bool:
        """Whether there is such an assignment."""
        width = self._expected.columns
        tried: list[tuple[int, ...]] = []
        for guess in (tuple(range(width)), self._by_name()):
            if guess is not None and guess not in tried:
                tried.append(guess)
                if self._agrees(guess):
                    return True
        if width == 1:
            return False
        candidates = self._candidates()
        if candidates is None:
            return False
        # Columns with many different values first: they tell rows apart and end wrong ways early.
        variety = [len(set(column)) for column in self._gold_columns]
        order = sorted(range(width), key=lambda j: (len(candidates[j]), -variety[j], j))
        for assigned in self._assignments(order, candidates, self._gold_groups, self._groups, {}):
            if self._agrees(tuple(assigned[j] for j in range(width))):
                return True
        return False

    def _by_name(self) -> tuple[int, ...] | None:
        gold = [name.lower() for name in self._expected.names]
        if len(set(gold)) != len(gold) or set(gold) != set(self._names):
            return None
        return tuple(self._names.index(name) for name in gold)

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
            self._spent += sum(map(len, own)) // CANDIDATE_SHARE
            if self._spent > SEARCH_BUDGET:
                self.exhausted = True
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
        """Complete assignments under which the rows' classes agree.

        Args:
            order: gold columns still to be assigned.
            candidates: what each may be assigned to.
            gold_ids: for each gold row which sort it is, by the columns assigned so far.
            ids: the same for the predicted rows.
            assigned: gold column to predicted column.
        """
        if not order:
            yield assigned
            return
        column, *rest = order
        seen: set[Keys] = set()
        for place in sorted(candidates[column], key=lambda k: k != column):
            if place in assigned.values():
                continue
            content = self._columns[place]
            if content in seen:
                continue  # a copy of a column that was tried
            seen.add(content)
            self._spent += len(gold_ids) + len(ids)
            if self._spent > SEARCH_BUDGET:
                self.exhausted = True
                return
            sorts: dict[tuple[int, str], int] = {}
            cells = self._gold_columns[column]
            new_gold = [sorts.setdefault(k, len(sorts)) for k in zip(gold_ids, cells, strict=True)]
            new = [sorts.get(k, -1) for k in zip(ids, self._columns[place], strict=True)]
            if Counter(new) <= Counter(new_gold):
                deeper = {**assigned, column: place}
                yield from self._assignments(rest, candidates, new_gold, new, deeper)

    def _agrees(self, assignment: Sequence[int]) -> bool:
        """Whether the rows agree under an assignment, by their values."""
        gold_rows = list(zip(*self._gold_columns, strict=True))
        own_rows = list(zip(*(self._columns[k] for k in assignment), strict=True))
        gold_start = start = 0
        for group in self._expected.groups:
            gold = gold_rows[gold_start : gold_start + len(group.rows)]
            own = own_rows[start : start + group.take]
            if not Counter(own) <= Counter(gold):
                return False
            if self._rounded:
                rows = self._rows[start : start + group.take]
                permuted = [tuple(row[k] for k in assignment) for row in rows]
                if not _paired(gold, group.rows, own, permuted):
                    return False
            gold_start += len(group.rows)
            start += group.take
        return True


def _has_fractions(rows: Iterable[Row]) -> bool:
    """Whether rounding may matter: anything else compares as Python does, 2 == 2.0 included."""
    return any(isinstance(cell, float) for row in rows for cell in row)


def _classes(*results: tuple[Sequence[Row], Sequence[Keys]]) -> dict[str, str]:
    """Of rows and keys: a class for the key of each number, the same for numbers that are equal."""
    numbers = {
        key: cell
        for rows, keys in results
        for row, own in zip(rows, keys, strict=True)
        for cell, key in zip(row, own, strict=True)
        if isinstance(cell, int | float)
    }
    finite = sorted((n, k) for k, n in numbers.items() if isinstance(n, int) or math.isfinite(n))
    classes = {
        key: f"class {n}"
        for key, n in numbers.items()
        if isinstance(n, float) and not math.isfinite(n)
    }
    current = 0
    last: int | float | None = None
    for number, key in finite:
        if last is None or not same_value(last, number):
            current += 1
        classes[key] = f"class {current}"
        last = number
    return classes


def _close(left: int | float, right: int | float) -> bool:
    try:
        return math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
    except OverflowError:  # an integer beyond all floats
        return left == right


def same_value(left: Value, right: Value) -> bool:
    """Whether two cells are equal: integers exactly, other numbers within a relative 1e-6."""
    if isinstance(left, int) and isinstance(right, int):
        return left == right
    if isinstance(left, int | float) and isinstance(right, int | float):
        if left != left or right != right:
            return left != left and right != right  # NaN, which SQLite does not have
        return _close(left, right)
    return type(left) is type(right) and left == right


def _same_row(left: Row, right: Row) -> bool:
    return all(map(same_value, left, right))


def _paired(
    gold_keys: Sequence[Keys], gold: Sequence[Row], own_keys: Sequence[Keys], own: Sequence[Row]
) -> bool:
    """Whether each row finds a gold row of its own that is equal to it.

    Args:
        gold_keys: classes of the gold rows.
        gold: the gold rows.
        own_keys: classes of the predicted rows.
        own: the predicted rows, columns in the gold's order.
    """
    buckets: dict[Keys, list[Row]] = defaultdict(list)
    for key, row in zip(gold_keys, gold, strict=True):
        buckets[key].append(row)
    mine: dict[Keys, list[Row]] = defaultdict(list)
    for key, row in zip(own_keys, own, strict=True):
        mine[key].append(row)
    return all(_matched(rows, buckets[key]) for key, rows in mine.items())


def _matched(rows: list[Row], golds: list[Row]) -> bool:
    """Pair rows of one class with golds of that class; they differ in their numbers only."""
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
