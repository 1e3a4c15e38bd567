"""The collator ``shared_schema``: rows that begin alike are packed so that the beginning is computed once."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.utils.data import Sampler

from qc_experiments.collators.standard import CollatorInput
from qc_experiments.config.schema import CollatorConfig
from qc_experiments.data.encode import Example
from qc_experiments.packing.pack_tensors import PackTensors
from qc_experiments.packing.prefix_tree import Pack, pack_rows, schema_groups

CPU_TOKENS, GPU_TOKENS = 1024, 8192  # of a pass by default: a CPU gains nothing from more


def pass_tokens(config: CollatorConfig) -> int:
    """Most tokens that are computed at once."""
    if config.max_tokens is not None:
        return config.max_tokens
    return GPU_TOKENS if torch.cuda.is_available() else CPU_TOKENS


class SharedSchemaCollator:
    """Packs the rows of a micro-batch into passes of at most ``max_tokens``, in the sampler's order."""

    def __init__(self, max_tokens: int, order: SchemaSampler) -> None:
        self.max_tokens = max_tokens
        self.order = order

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        """The packs, with the examples as ``rows``, for a check against padded ones.

        By ``labels`` and ``shift_labels``, [labels], the Trainer counts the label tokens of an effective
        batch: it looks for the one and counts the other.
        """
        labels = torch.tensor([label for example in examples for label in example.labels[1:]])
        packs = [PackTensors.of(pack) for pack in pack_rows(examples, self.max_tokens)]
        return {"packs": packs, "labels": labels, "shift_labels": labels, "rows": examples}

    def computed_tokens(self, examples: Sequence[Example], micro_batch: int) -> int:
        """Tokens that the first epoch computes, in micro-batches of so many rows."""
        return sum(map(len, self._packs(examples, micro_batch)))

    def largest_pass(self, examples: Sequence[Example], micro_batch: int) -> int:
        """Most tokens of it whose way back is kept at once: of a pass with the trunk before it."""
        passes = (
            [end - start for start, end in pack.passes]
            for pack in self._packs(examples, micro_batch)
        )
        return max(first + max(others, default=0) for first, *others in passes)

    def _packs(self, examples: Sequence[Example], micro_batch: int) -> Iterator[Pack]:
        ordered = [examples[place] for place in self.order.order(0)]
        for start in range(0, len(ordered), micro_batch):
            yield from pack_rows(ordered[start : start + micro_batch], self.max_tokens)


def shared_schema(given: CollatorInput) -> SharedSchemaCollator:
    """The collator, with the order in which questions about a schema stand together."""
    prompts = [example.prompt_ids for example in given.examples]
    order = SchemaSampler(prompts, given.rows_per_step, given.config.max_group, given.seed)
    return SharedSchemaCollator(pass_tokens(given.config), order)


class SchemaSampler(Sampler[int]):
    """An order of the rows in which questions about a schema stand together, yet each step is mixed.

    An epoch is a seeded plan in which every row comes once. Each schema's rows are shuffled and cut into
    groups of at most ``max_group``; the groups are shuffled and fill the optimizer steps one after the
    other. A step takes groups of different schemas as long as there are any, so that it is not all
    about one.
    """

    def __init__(
        self, prompts: Sequence[Sequence[int]], rows_per_step: int, max_group: int, seed: int
    ) -> None:
        self._schemas = schema_groups(prompts)
        self._rows_per_step = rows_per_step
        # A step that one group would fill is about one schema; half of it leaves room for another.
        most = max(1, rows_per_step // 2) if len(self._schemas) > 1 else rows_per_step
        self._max_group = min(max_group, most)
        self._seed = seed
        self._epoch = 0
        self._length = len(prompts)

    def __len__(self) -> int:
        """Number of rows."""
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; the Trainer calls it, also when it resumes."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Places of the rows, in the epoch's order."""
        return iter(self.order(self._epoch))

    def order(self, epoch: int) -> list[int]:
        """The plan of an epoch: every row's place once."""
        draw = random.Random(f"{self._seed} {epoch}")
        groups: list[tuple[int, list[int]]] = []
        for schema, members in enumerate(self._schemas):
            shuffled = draw.sample(members, len(members))
            count = -(-len(shuffled) // self._max_group)
            cuts = [number * len(shuffled) // count for number in range(count + 1)]
            groups += [(schema, shuffled[start:end]) for start, end in pairwise(cuts)]
        draw.shuffle(groups)
        found: list[int] = []
        present: set[int] = set()  # schemas in the step that is being filled
        room = self._rows_per_step
        while groups:
            place = next((i for i, (schema, _) in enumerate(groups) if schema not in present), 0)
            schema, members = groups.pop(place)
            found += members[:room]
            present.add(schema)
            if members[room:]:
                groups.insert(0, (schema, members[room:]))
            room -= min(room, len(members))
            if not room:
                present, room = set(), self._rows_per_step
        return found
