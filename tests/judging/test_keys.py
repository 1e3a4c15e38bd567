"""Results are compared in a time that no choice of values can make long."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc_experiments.databases.engine import Value
from qc_experiments.judging import equivalence
from qc_experiments.judging.equivalence import Comparison, Expected, Group, compare, keyed
from qc_experiments.judging.gold import _expected
from qc_experiments.judging.ordering import Ordering
from qc_experiments.judging.published_rules import ex_bird, ex_test_suite

PRIME = 2**61 - 1
"""Python takes numbers modulo this for their hash."""


def hostile(*cells: tuple[Value, Value]) -> list[tuple[Value, ...]]:
    """1,024 different rows of one hash, as long as the two cells of each column have one."""
    columns = [cells[place % len(cells)] for place in range(10)]
    return list(itertools.product(*columns))


HOSTILE = {
    "-1 and -2": hostile((-1, -2)),
    "modulo": hostile((1, 1 + PRIME), (0, PRIME)),
    "floats": hostile((1.0, float(2**61)), (0.5, float(2**60))),
    "no text, no bytes": hostile(("", b"")),
    "one column": [(number * PRIME, 0) for number in range(1000)],
}


@pytest.mark.parametrize("rows", HOSTILE.values(), ids=HOSTILE)
def test_rows_of_one_hash_have_keys_of_many(rows):
    assert len(set(map(hash, rows))) == 1, "else this test shows nothing"
    assert len(set(map(hash, keyed(rows)))) == len(rows)
    assert len({hash(keys[:1]) for keys in keyed(rows)}) == len({row[:1] for row in rows})


class Counted(int):
    """A number that counts with how many others of its hash it is compared."""

    compared = 0

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return int(self) == other


def compared_by(do: Callable[[], object]) -> int:
    before = Counted.compared
    do()
    return Counted.compared - before


def test_no_comparison_looks_at_every_pair_of_rows_of_one_hash():
    count = 500
    rows: list[tuple[Value, ...]] = [(Counted(n), Counted(-n)) for n in range(count)]
    other = list(rows)
    random.Random(0).shuffle(other)
    wrong = [*other[1:], other[1]]
    assert compared_by(lambda: set(rows)) > 50 * count, "else this test shows nothing"
    whole = Expected((Group(rows, count),), 2, ())
    parts = [[(*row, 0.5) for row in some] for some in (rows, other)]
    rounded = Expected((Group(parts[0], count),), 3, ())
    names = ("a", "b", "c")
    for do, expected in (
        (lambda: ex_bird(rows, other), True),
        (lambda: ex_bird(rows, wrong), False),
        (lambda: ex_test_suite(rows, other, order_matters=False), True),
        (lambda: ex_test_suite(rows, wrong, order_matters=False), False),
        (lambda: ex_test_suite(rows, rows, order_matters=True), True),
        (lambda: compare(whole, other, names[:2]).difference, None),
        (lambda: compare(whole, wrong, names[:2]).difference, "wrong_rows"),
        (lambda: compare(rounded, parts[1], names).difference, None),
    ):
        assert compared_by(lambda do=do, expected=expected: check(do(), expected)) < 30 * count


def check(found: object, expected: object) -> None:
    assert found == expected


def test_a_gold_of_rows_of_one_hash_is_cut_as_soon_as_any():
    count = 500
    ranked: list[tuple[Value, ...]] = [(Counted(n), 1) for n in range(count)]
    ordering = Ordering("SELECT DISTINCT a", (), limited=True, offset=0, distinct=True)
    assert compared_by(lambda: _expected(ranked, ordering, 3, ("a",))) < 30 * count


def test_the_search_for_columns_that_look_alike_is_given_up(monkeypatch):
    rows = [tuple((row * (column + 1)) % 61 for column in range(20)) for row in range(60)]
    other = [row[::-1] for row in reversed(rows)]
    other[0] = (-5, *other[0][1:])
    names = [f"c{i}" for i in range(20)]
    monkeypatch.setattr(equivalence, "SEARCH_BUDGET", 1000)
    cut = Expected((Group(rows, 59),), 20, ())
    assert compare(cut, other[:59], names) == Comparison("wrong_rows", undecided=True)
    whole = Expected((Group(rows, 60),), 20, ())
    assert compare(whole, other, names) == Comparison("wrong_rows"), "told without a search"


cells = st.one_of(
    st.none(),
    st.integers(),
    st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, 0.0, -0.0, 1.0, float(2**53), 1e300, 10**300]),
    st.sampled_from([float("inf"), float("-inf"), "", b"", "1", "n1", "-", b"1", "s", True, False]),
    st.floats(allow_nan=False),
    st.text(max_size=2),
    st.binary(max_size=2),
)


@given(st.lists(cells, max_size=4), st.lists(cells, max_size=4))
def test_keys_are_equal_where_cells_are(left, right):
    assert (keyed([tuple(left)]) == keyed([tuple(right)])) == (left == right)
    for one, other in itertools.product(left, right):
        assert (keyed([(one,)]) == keyed([(other,)])) == (one == other)


def test_nan_equals_nothing():
    assert keyed([(float("nan"),)]) != keyed([(float("nan"),)])
