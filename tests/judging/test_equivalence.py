"""When two results say the same: plain cases, properties on random tables, and speed in bounds."""

from __future__ import annotations

import random
import time
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_experiments.judging.equivalence import (
    Comparison,
    Expected,
    Group,
    compare,
    same_value,
)

Rows = list[tuple[object, ...]]


def outcome(gold: Rows, predicted: Rows, *, ordered: bool = False) -> str | None:
    width = len((gold or predicted or [()])[0])
    groups = tuple(Group([row], 1) for row in gold) if ordered else (Group(gold, len(gold)),)
    names = [f"p{j}" for j in range(len((predicted or gold or [()])[0]))]
    return compare(Expected(groups, width), predicted, names).difference


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [
        ([(1, "a"), (2, "b")], [(2, "b"), (1, "a")]),
        ([(1, "a"), (2, "b")], [("b", 2), ("a", 1)]),
        ([(1, 2), (3, 4)], [(2, 1), (4, 3)]),
        ([(1,)], [(1.0,)]),
        ([(None,)], [(None,)]),
        ([(1, None), (2, None)], [(2, None), (1, None)]),
        ([(0.3,)], [(0.1 + 0.2,)]),
        ([(2.0,)], [(1.9999999999999998,)]),
        ([(3,)], [(3.000001,)]),
        ([(-3.0,)], [(-3.000001,)]),
        ([(12345678901.3,)], [(12345678901.300002,)]),
        ([(12345678901,)], [(12345678901.000002,)]),
        ([(12345678901,)], [(12345678901.0,)]),
        ([(1e300,)], [(1.0000001e300,)]),
        ([(float("inf"),)], [(float("inf"),)]),
        ([(float("nan"),)], [(float("nan"),)]),
        ([(b"\xff",)], [(b"\xff",)]),
        ([(10**400, 0.5)], [(10**400, 0.5)]),
        ([], []),
        ([(0.1, "a"), (0.2, "b")], [("b", 0.2 + 1e-9), ("a", 0.1 - 1e-9)]),
        ([(1.0,), (1.0000005,), (1.000001,)], [(1.000001,), (1.0,), (1.0000005,)]),
        # A pairing exists though nearest neighbours would not find it one by one.
        ([(1.0,), (1.0000009,)], [(1.0000009,), (1.0000018,)]),
    ],
)
def test_results_that_are_the_same(gold, predicted):
    assert outcome(gold, predicted) is None
    assert outcome(predicted, gold) is None


@pytest.mark.parametrize(
    ("gold", "predicted", "difference"),
    [
        ([(1,), (1,)], [(1,)], "wrong_rows"),
        ([(1,), (1,), (2,)], [(1,), (2,), (2,)], "wrong_rows"),
        ([(1, 2), (3, 4)], [(1, 4), (3, 2)], "wrong_rows"),
        ([(1, 2), (2, 1)], [(1, 1), (2, 2)], "wrong_rows"),
        ([(1, 2), (2, 3), (3, 1)], [(1, 3), (2, 2), (3, 1)], "wrong_rows"),
        ([(1,)], [(1, 1)], "wrong_columns"),
        ([(1, 2)], [(1,)], "wrong_columns"),
        ([(1,)], [], "empty_result"),
        ([], [(None,)], "wrong_rows"),
        ([(None,)], [(0,)], "wrong_rows"),
        ([(None,)], [("",)], "wrong_rows"),
        ([(1,)], [("1",)], "wrong_rows"),
        ([(1.5,)], [("1.5",)], "wrong_rows"),
        ([("a",)], [("A",)], "wrong_rows"),
        ([("a",)], [("a ",)], "wrong_rows"),
        ([("a",)], [(b"a",)], "wrong_rows"),
        ([(1.5,)], [(1.6,)], "wrong_rows"),
        ([(3,)], [(3.00001,)], "wrong_rows"),
        ([(2**53,)], [(2**53 + 1,)], "wrong_rows"),
        ([(10**15, 0.5)], [(10**15 + 1, 0.5)], "wrong_rows"),
        ([(10**400, 0.5)], [(10**400 + 1, 0.5)], "wrong_rows"),
        ([(1e-9,)], [(2e-9,)], "wrong_rows"),
        ([(0,)], [(1e-300,)], "wrong_rows"),
        ([(float("inf"),)], [(1e308,)], "wrong_rows"),
        ([(float("inf"),)], [(float("-inf"),)], "wrong_rows"),
        # Linked by the middle value, yet the outer two are not equal.
        ([(1.0,), (1.0,)], [(1.0000009,), (1.0000018,)], "wrong_rows"),
        # A real between two integers does not make them equal.
        ([(10**7, 1.0 * 10**7 + 0.5)], [(10**7 + 1, 1.0 * 10**7 + 0.5)], "wrong_rows"),
    ],
)
def test_results_that_differ(gold, predicted, difference):
    assert outcome(gold, predicted) == difference
    assert outcome(predicted, gold) is not None


def test_the_order_counts_only_where_asked():
    gold, predicted = [(1,), (2,), (3,)], [(2,), (1,), (3,)]
    assert outcome(gold, predicted) is None
    assert outcome(gold, predicted, ordered=True) == "wrong_order"
    assert outcome(gold, [(1.0,), (2.0,), (3.0,)], ordered=True) is None
    assert outcome(gold, [(1,), (2,), (4,)], ordered=True) == "wrong_rows"


def test_rows_that_tie_may_come_in_any_order_but_not_leave_their_place():
    expected = Expected((Group([(1, "a")], 1), Group([(2, "b"), (2, "c")], 2)), 2)
    names = ["x", "y"]
    assert compare(expected, [(1, "a"), (2, "c"), (2, "b")], names) == Comparison(None)
    assert compare(expected, [("a", 1), ("c", 2), ("b", 2)], names) == Comparison(None)
    assert compare(expected, [(2, "b"), (1, "a"), (2, "c")], names).difference == "wrong_order"


def test_any_legal_cut_is_right_and_no_other():
    expected = Expected((Group([("a",)], 1), Group([("b",), ("c",), ("c",)], 2)), 1)
    for cut in ([("b",), ("c",)], [("c",), ("b",)], [("c",), ("c",)]):
        assert compare(expected, [("a",), *cut], ["n"]).difference is None, cut
    for wrong in ([("b",), ("b",)], [("b",), ("d",)], [("a",), ("b",)]):
        assert compare(expected, [("a",), *wrong], ["n"]).difference is not None, wrong
    assert compare(expected, [("a",), ("b",)], ["n"]).difference == "wrong_rows"


def test_a_cut_through_thousands_of_equal_rows_is_legal():
    expected = Expected((Group([(2.5, "x")] * 5000, 3),), 2)
    assert compare(expected, [("x", 2.5)] * 3, ["a", "b"]).difference is None


def test_many_rows_that_differ_by_rounding_only_are_paired():
    """Consecutive keys lie within the tolerance of each other, but integers compare exactly."""
    gold = [((0.3, 0.1 + 0.2)[n % 2], 1_000_000 + n) for n in range(1000)]
    rounded = [(round(price, 6), key) for price, key in gold]
    assert outcome(gold, rounded) is None
    assert outcome(gold, [(price, key + 1) for price, key in rounded]) == "wrong_rows"


def fast(gold: Rows, predicted: Rows) -> str | None:
    started = time.process_time()
    found = outcome(gold, predicted)
    # Far from what a busy machine makes of a good way, and far from hours, which a bad one takes.
    assert time.process_time() - started < 20, "an assignment of columns took seconds"
    return found


@pytest.mark.parametrize("seed", range(5))
def test_twelve_columns_of_zeros_and_ones_are_matched_fast(seed):
    draw = random.Random(seed)
    gold = [tuple(draw.randint(0, 1) for _ in range(12)) for _ in range(300)]
    order = draw.sample(range(12), 12)
    shuffled = [tuple(row[j] for j in order) for row in gold]
    draw.shuffle(shuffled)
    assert fast(gold, shuffled) is None
    changed = [*shuffled[1:], tuple(1 - cell for cell in shuffled[0])]
    assert fast(gold, changed) == "wrong_rows"
    flipped = list(shuffled)
    place = next(i for i, row in enumerate(flipped) if row[0] != row[1])
    first, second, *rest = flipped[place]
    flipped[place] = (second, first, *rest)
    assert fast(gold, flipped) == "wrong_rows"


def test_all_rows_of_zeros_and_ones_are_matched_fast():
    everything = list(product((0, 1), repeat=12))
    assert fast(everything, everything[::-1]) is None
    assert fast(everything, [*everything[1:], everything[-1]]) == "wrong_rows"


def test_a_search_without_end_is_given_up_and_said_so():
    """Every eleven of these columns look alike; only all twelve together tell the two apart."""
    even = [row for row in product((0, 1), repeat=12) if sum(row) % 2 == 0]
    odd = [row for row in product((0, 1), repeat=12) if sum(row) % 2 == 1]
    names = [f"c{j}" for j in range(12)]
    started = time.perf_counter()
    found = compare(Expected((Group(even, len(even)),), 12), odd, names)
    assert found == Comparison("wrong_rows", undecided=True)
    assert time.perf_counter() - started < 10


def test_columns_that_all_look_alike_are_matched_by_their_names():
    """A prediction that only reorders columns is found right where no search would get there."""
    draw = random.Random(1)
    code = [row for row in product((0, 1), repeat=12) if sum(row) % 2 == 0]
    gold = [row for row in code if (row[0] + row[1] + row[2]) % 2 == 0]
    order = draw.sample(range(12), 12)
    names = [f"c{j}" for j in range(12)]
    expected = Expected((Group(gold, len(gold)),), 12, tuple(names))
    shuffled = [tuple(row[j] for j in order) for row in gold]
    assert compare(expected, shuffled, [names[j].upper() for j in order]).difference is None


def test_large_results_are_compared_fast():
    draw = random.Random(0)
    gold = [(i, draw.random(), draw.choice("abc")) for i in range(50_000)]
    shuffled = [(c, a, b) for a, b, c in gold]
    draw.shuffle(shuffled)
    assert fast(gold, shuffled) is None


cells = st.one_of(
    st.none(),
    st.integers(-2, 2),
    st.sampled_from([0.5, 1.0, 1.0000001, 2.0, -0.5]),
    st.sampled_from(["", "a", "b", "1"]),
    st.sampled_from([b"", b"a"]),
)


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    width = draw(st.integers(1, 4))
    return draw(st.lists(st.tuples(*[cells] * width), max_size=8))


@settings(deadline=None, max_examples=300)
@given(tables(), st.randoms(use_true_random=False))
def test_a_result_equals_itself_under_shuffled_rows_and_permuted_columns(rows, draw):
    assert outcome(rows, rows) is None
    assert outcome(rows, rows, ordered=True) is None
    width = len(rows[0]) if rows else 1
    order = draw.sample(range(width), width)
    permuted = [tuple(row[j] for j in order) for row in rows]
    assert outcome(rows, permuted, ordered=True) is None
    draw.shuffle(permuted)
    assert outcome(rows, permuted) is None


@settings(deadline=None, max_examples=300)
@given(
    st.integers(1, 3).flatmap(
        lambda w: st.tuples(*[st.lists(st.tuples(*[cells] * w), max_size=5)] * 2)
    )
)
def test_without_order_the_verdict_is_symmetric(pair):
    left, right = pair
    if not left or not right:
        return  # the number of columns of an empty result is not in its rows
    assert (outcome(left, right) is None) == (outcome(right, left) is None)


@settings(deadline=None, max_examples=300)
@given(tables(), st.data())
def test_one_changed_cell_is_noticed(rows, data):
    """Changed to a value that occurs nowhere, so that no assignment of columns can explain it."""
    if not rows:
        return
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(rows[0]) - 1))
    changed = [list(cells) for cells in rows]
    changed[row][column] = "elsewhere unseen"
    assert outcome(rows, [tuple(cells) for cells in changed]) == "wrong_rows"


@settings(deadline=None, max_examples=200)
@given(tables())
def test_agrees_with_trying_every_permutation(rows):
    """Against the definition itself, on tables small enough for it."""
    from itertools import permutations

    if not rows:
        return
    width = len(rows[0])
    other = [tuple(reversed(row)) for row in rows[1:]] + [rows[0]]

    def equal(assignment: tuple[int, ...]) -> bool:
        left = list(rows)
        for row in ([r[j] for j in assignment] for r in other):
            found = next(
                (g for g in left if all(map(same_value, g, row))),  # no chains among these values
                None,
            )
            if found is None:
                return False
            left.remove(found)
        return True

    expected = any(equal(assignment) for assignment in permutations(range(width)))
    assert (outcome(rows, other) is None) == expected
