"""Held-out rows and samples: a fair share, the same at every start, no schema on both sides."""

from __future__ import annotations

import pytest

from qc_experiments.config.schema import SplitBy
from qc_experiments.data.split import sample_rows, split_rows
from qc_experiments.data.table import Row
from qc_experiments.errors import UserError


def rows(count: int, schemas: int = 1, *, db_id: bool = True) -> list[Row]:
    """Rows 2, 3, ... about schemas in turn."""
    return [
        Row(n + 2, f"q{n}", f"s{n}", f"c{n % schemas}", f"d{n % schemas}" if db_id else None)
        for n in range(count)
    ]


def numbers(chosen: list[Row]) -> list[int]:
    return [row.number for row in chosen]


@pytest.mark.parametrize("by", SplitBy)
@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_on_exactly_one_side_in_the_order_of_the_file(by, seed):
    everything = rows(40, schemas=8)
    train, validation = split_rows(everything, 0.25, by, seed)
    assert sorted(numbers(train + validation)) == numbers(everything)
    assert numbers(train) == sorted(numbers(train))
    assert numbers(validation) == sorted(numbers(validation))


@pytest.mark.parametrize(
    ("count", "fraction", "held_out"),
    [(10, 0.1, 1), (100, 0.1, 10), (12, 0.3, 4), (4, 0.01, 1), (2, 0.9, 1), (10, 0.99, 9)],
)
def test_the_share_of_rows_is_rounded_and_neither_side_is_empty(count, fraction, held_out):
    train, validation = split_rows(rows(count), fraction, SplitBy.row, seed=0)
    assert (len(train), len(validation)) == (count - held_out, held_out)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("db_id", [True, False], ids=["by db_id", "by context"])
def test_no_schema_stands_on_both_sides(seed, db_id):
    train, validation = split_rows(rows(60, 6, db_id=db_id), 0.3, SplitBy.schema, seed)
    assert {row.context for row in train}.isdisjoint(row.context for row in validation)
    assert len({row.context for row in validation}) == 2


def test_rows_of_one_db_id_stay_together_though_their_contexts_differ():
    mixed = [Row(n + 2, f"q{n}", "s", f"excerpt {n}", f"d{n % 4}") for n in range(20)]
    train, validation = split_rows(mixed, 0.25, SplitBy.schema, seed=0)
    assert {row.db_id for row in train}.isdisjoint(row.db_id for row in validation)


@pytest.mark.parametrize("by", SplitBy)
def test_the_split_is_the_same_at_every_start_and_another_with_another_seed(by):
    everything = rows(200, schemas=20)
    first = split_rows(everything, 0.2, by, seed=0)
    assert split_rows(everything, 0.2, by, seed=0) == first
    others = [numbers(split_rows(everything, 0.2, by, seed)[1]) for seed in range(1, 6)]
    assert all(other != numbers(first[1]) for other in others)


def test_the_draw_is_the_one_with_which_earlier_results_were_measured():
    train, validation = split_rows(rows(20), 0.2, SplitBy.row, seed=0)
    assert numbers(validation) == [12, 16, 18, 20]
    assert len(train) == 16


@pytest.mark.parametrize(
    ("everything", "by"),
    [(rows(1), SplitBy.row), (rows(9, schemas=1), SplitBy.schema)],
    ids=["one row", "one schema"],
)
def test_a_split_that_leaves_one_side_empty_is_refused(everything, by):
    with pytest.raises(UserError, match=r"data\.validation_fraction=0\.1") as caught:
        split_rows(everything, 0.1, by, seed=0)
    assert "data.validation" in str(caught.value)
    assert f"(1 {by.value} in all)" in str(caught.value)


@pytest.mark.parametrize("limit", [1, 7, 49])
def test_a_sample_is_as_large_as_asked_in_order_and_the_same_at_every_start(limit):
    everything = rows(50)
    chosen = sample_rows(everything, limit, seed=3)
    assert len(chosen) == limit
    assert numbers(chosen) == sorted(set(numbers(chosen)))
    assert sample_rows(everything, limit, seed=3) == chosen


@pytest.mark.parametrize("limit", [None, 5, 6])
def test_a_limit_that_does_not_bind_takes_all_rows(limit):
    assert sample_rows(rows(5), limit, seed=0) == rows(5)


def test_another_seed_draws_another_sample():
    samples = {tuple(numbers(sample_rows(rows(50), 10, seed))) for seed in range(5)}
    assert len(samples) == 5


def test_parts_of_one_schema_that_are_linked_to_questions_stay_on_one_side():
    linked = [Row(n, f"q{n}", "s", f"part {n}", statements="CREATE TABLE a (b)") for n in range(24)]
    with pytest.raises(UserError, match="1 schema in all"):
        split_rows(linked, 0.25, SplitBy.schema, seed=0)
