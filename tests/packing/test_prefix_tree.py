"""Packs hold each row once, whole, and each token sees its own row only; order and plan of an epoch."""

from __future__ import annotations

from collections import Counter

import pytest
from helpers.examples import example as row
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_experiments.collators.shared_schema import SchemaSampler, SharedSchemaCollator
from qc_experiments.config.schema import LossOn
from qc_experiments.data.encode import IGNORED, Example
from qc_experiments.packing.prefix_tree import (
    MIN_SAVED,
    Node,
    Pack,
    common_prefix,
    pack_rows,
)


@st.composite
def some_rows(draw: st.DrawFn) -> list[Example]:
    """Rows whose prompts nest: instructions, schemas, questions; some prompts occur twice."""
    token = st.integers(0, 3)
    starts = draw(st.lists(st.lists(token, max_size=40), min_size=1, max_size=3))
    middles = draw(st.lists(st.lists(token, max_size=40), min_size=1, max_size=3))
    ends = draw(st.lists(st.lists(token, min_size=1, max_size=20), min_size=1, max_size=4))
    answers = st.lists(token, min_size=1, max_size=5)
    pick = st.tuples(
        st.sampled_from(starts), st.sampled_from(middles), st.sampled_from(ends), answers
    )
    picked = draw(st.lists(pick, min_size=1, max_size=10))
    return [row([*a, *b, *c], answer) for a, b, c, answer in picked]


def paths(pack: Pack) -> list[list[int]]:
    """Places of each row's tokens: from each node that nobody has for a parent, up to its root."""
    parents = {node.parent for node in pack.nodes}
    found = []
    for leaf in range(len(pack.nodes)):
        if leaf in parents:
            continue
        chain: list[int] = []
        at: int | None = leaf
        while at is not None:
            chain.insert(0, at)
            at = pack.nodes[at].parent
        found.append([p for n in chain for p in range(pack.nodes[n].start, pack.nodes[n].end)])
    return found


def pass_of(pack: Pack, node: Node) -> int:
    [found] = [
        n for n, (start, end) in enumerate(pack.passes) if start <= node.start < node.end <= end
    ]
    return found


@settings(deadline=None, max_examples=300)
@given(some_rows(), st.sampled_from([1, 30, 100, 1000]))
def test_packs_hold_each_row_once_and_show_it_to_itself_only(rows, max_tokens):
    packs = pack_rows(rows, max_tokens)
    held = Counter()
    labels = Counter()
    for pack in packs:
        assert len(pack.input_ids) == len(pack.position_ids)
        for places in paths(pack):
            tokens = tuple(pack.input_ids[p] for p in places)
            held[tokens] += 1
            assert [pack.position_ids[p] for p in places] == list(range(len(places)))
            query = places[-1]
            node = next(n for n in pack.nodes if n.start <= query < n.end)
            seen = [
                place
                for other in pack.nodes
                if other.start <= node.start < other.exit
                for place in range(other.start, other.end)
                if place <= query
            ]
            assert seen == places
        for place, target, weight in zip(
            pack.label_places, pack.label_targets, pack.label_weights, strict=True
        ):
            labels[pack.position_ids[place] + 1, target] += weight
    assert held == Counter(tuple(r.input_ids) for r in rows)
    assert labels == Counter(
        (n, label) for r in rows for n, label in enumerate(r.labels) if n and label != IGNORED
    )
    longest = max(map(len, rows))
    for pack in packs:
        assert [start for start, _ in pack.passes] == [0, *(end for _, end in pack.passes[:-1])]
        assert pack.passes[-1][1] == len(pack)
        assert all(0 < end - start <= max(max_tokens, longest) for start, end in pack.passes)
        if len(pack.passes) == 1:
            continue
        for node in pack.nodes:  # is seen in its own pass, or everywhere if it is the trunk
            if node.parent not in (None, 0):
                assert pass_of(pack, node) == pass_of(pack, pack.nodes[node.parent])
    assert sum(map(len, packs)) <= sum(map(len, rows))


def test_a_schema_stands_in_a_pack_once():
    schema = list(range(100))
    rows = [row([*schema, 200 + n], [7, 8]) for n in range(5)]
    [pack] = pack_rows(rows, 1000)
    assert len(pack) == 100 + 5 * 3
    assert pack.label_weights == [1] * 10


def test_prefixes_nest_in_more_than_two_levels():
    rows = [
        row([*range(50), *range(100 * s, 100 * s + 40), *range(7, 30), q], [1])
        for s in (1, 2)
        for q in (91, 92)
    ]
    [pack] = pack_rows(rows, 10_000)
    assert len(pack) == 50 + 2 * (40 + 23) + 4 * 2
    assert sorted(node.parent is None for node in pack.nodes) == [False] * 6 + [True]


def test_answers_that_begin_alike_are_not_merged_and_branch_with_a_target_each():
    rows = [row(list(range(30)), answer) for answer in ([5, 6], [5, 7], [8])]
    [pack] = pack_rows(rows, 1000)
    assert len(pack) == 30 + 2 + 2 + 1
    first = [
        (target, weight)
        for place, target, weight in zip(
            pack.label_places, pack.label_targets, pack.label_weights, strict=True
        )
        if place == 29
    ]
    assert first == [(5, 2), (8, 1)]


def test_a_short_common_beginning_is_not_worth_a_node():
    rows = [row([1] * (MIN_SAVED - 2) + [n], [5]) for n in (2, 3)]
    [pack] = pack_rows(rows, 1000)
    assert len(pack) == 2 * len(rows[0])


def test_schemas_stay_whole_where_packs_are_short():
    """Two schemas that fit one by one must not be cut in the middle, or both are computed twice."""
    rows = [row([*([s] * 100), 50 + q], [1]) for s in (1, 2, 3) for q in range(10)]
    packs = pack_rows(rows, 130)
    assert sorted(len(pack) for pack in packs) == [120, 120, 120]


def test_a_schema_with_many_questions_is_computed_once_in_several_passes():
    rows = [row([*range(100), 200 + q], [7, 8]) for q in range(40)]
    [pack] = pack_rows(rows, 130)
    assert len(pack) == 100 + 40 * 3
    assert pack.passes[0] == (0, 100)
    rest = [end - start for start, end in pack.passes[1:]]
    assert rest == [30, 30, 30, 30]  # ten rows of three tokens, with the trunk 130
    assert len(pack_rows(rows, 110)[0].passes) > 4
    assert len(pack_rows(rows, 90)[0]) == len(
        pack
    )  # a trunk longer than a pass is computed once, too


@given(st.lists(st.integers(0, 1), max_size=60), st.lists(st.integers(0, 1), max_size=60))
def test_the_common_prefix(one, other):
    expected = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        expected += 1
    assert common_prefix(one, other) == expected


def test_the_collator_counts_labels_as_a_padded_batch_would():
    examples = [row([1, 2], [3, 4]), row([1, 2], [5], LossOn.full)]
    batch = SharedSchemaCollator(100, SchemaSampler(PROMPTS, 1, 1, 0))(examples)
    assert int((batch["shift_labels"] != IGNORED).sum()) == 2 + 2


PROMPTS = [
    [s] * 40 + [100 + q] for s, count in ((1, 30), (2, 5), (3, 1), (4, 12)) for q in range(count)
]


@pytest.mark.parametrize("rows_per_step", [1, 4, 7, 16, 64])
@pytest.mark.parametrize("max_group", [1, 4, 100])
def test_an_epoch_has_every_row_once_and_is_fixed_by_its_seed(rows_per_step, max_group):
    sampler = SchemaSampler(PROMPTS, rows_per_step, max_group, seed=3)
    orders = [sampler.order(epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(len(PROMPTS)))
    assert orders[0] != orders[1] != orders[2]
    again = SchemaSampler(PROMPTS, rows_per_step, max_group, seed=3)
    again.set_epoch(1)
    assert list(again) == orders[1]
    assert SchemaSampler(PROMPTS, rows_per_step, max_group, seed=4).order(0) != orders[0]
    assert len(sampler) == len(PROMPTS)


def test_a_step_has_several_schemas_and_few_questions_of_each():
    sampler = SchemaSampler(PROMPTS, rows_per_step=12, max_group=4, seed=0)
    order = sampler.order(0)
    steps = [order[n : n + 12] for n in range(0, len(order), 12)]
    counted = [Counter(PROMPTS[place][0] for place in step) for step in steps]
    assert all(len(count) > 1 for count in counted[:2])
    assert max(count for step in counted[:2] for count in step.values()) <= 8


def test_one_schema_alone_fills_the_steps():
    prompts = [[1] * 40 + [100 + q] for q in range(20)]
    assert sorted(SchemaSampler(prompts, 8, 16, 0).order(0)) == list(range(20))
