"""The collator ``shared_schema``: rows that begin alike are packed so that the beginning is computed once."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

from qc_experiments.collators.standard import CollatorInput
from qc_experiments.config.schema import CollatorConfig
from qc_experiments.data.encode import Example
from qc_experiments.errors import UserError
from qc_experiments.packing.prefix_tree import common_prefix, pack_rows, same_schema
from qc_experiments.packing.supported import cannot_pack

CPU_TOKENS, GPU_TOKENS = 1024, 8192
"""Tokens computed at once where the config leaves it open: a CPU gains nothing from more."""


def pass_tokens(config: CollatorConfig) -> int:
    """Most tokens that are computed at once."""
    if config.max_tokens is not None:
        return config.max_tokens
    return GPU_TOKENS if torch.cuda.is_available() else CPU_TOKENS


class SharedSchemaCollator:
    """Packs the rows of a micro-batch.

    Args:
        max_tokens: most tokens of a pass; a row that is longer has a pass of its own.
        order: of the rows in each epoch.
    """

    def __init__(self, max_tokens: int, order: SchemaSampler) -> None:
        self._max_tokens = max_tokens
        self.order = order

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        """Pack.

        Returns:
            ``packs``; ``labels`` and ``shift_labels``, [labels], by which the Trainer counts the label
            tokens of an effective batch (it looks for the one and counts the other); ``rows``, the
            examples, for a check against padded ones.
        """
        labels = torch.tensor([label for example in examples for label in example.labels[1:]])
        packs = pack_rows(examples, self._max_tokens)
        return {"packs": packs, "labels": labels, "shift_labels": labels, "rows": examples}

    def check(self, model: Any) -> None:
        """Refuse a model whose attention cannot be computed within packs.

        Raises:
            UserError: with the reason.
        """
        reason = cannot_pack(model)
        if reason is not None:
            kind = model.config.get_text_config().model_type
            raise UserError(
                f"collator=shared_schema: {kind} cannot be trained on packed rows ({reason}): use "
                "collator=seq2seq"
            )


def shared_schema(given: CollatorInput) -> SharedSchemaCollator:
    """The collator, with the order in which questions about a schema stand together."""
    prompts = [example.prompt_ids for example in given.examples]
    order = SchemaSampler(prompts, given.rows_per_step, given.config.max_group, given.seed)
    return SharedSchemaCollator(pass_tokens(given.config), order)


def schema_groups(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Put rows of one schema together, by the tokens their prompts have in common.

    Returns:
        Places of the rows of each group, in lexicographic order of their prompts.
    """
    order = sorted(range(len(prompts)), key=lambda n: tuple(prompts[n]))
    groups: list[list[int]] = []
    for before, number in zip([None, *order], order, strict=False):
        if before is not None:
            one, other = prompts[before], prompts[number]
            if same_schema(one, other, common_prefix(one, other)):
                groups[-1].append(number)
                continue
        groups.append([number])
    return groups


class SchemaSampler(Sampler[int]):
    """An order of the rows in which questions about a schema stand together, yet each step is mixed.

    An epoch is a seeded plan in which every row comes once. Each schema's rows are shuffled and cut into
    groups of at most ``max_group``; the groups are shuffled and fill the optimizer steps one after the
    other. A step takes groups of different schemas as long as there are any, so that it is not all
    about one.

    Args:
        prompts: tokens of each row's prompt.
        rows_per_step: effective batch size.
        max_group: most questions of a schema in a step.
        seed: of the plan; with the epoch's number it fixes the order.
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
            for number in range(count):  # of nearly equal sizes
                start = number * len(shuffled) // count
                end = (number + 1) * len(shuffled) // count
                groups.append((schema, shuffled[start:end]))
        draw.shuffle(groups)
        return self._filled(groups)

    def _filled(self, groups: list[tuple[int, list[int]]]) -> list[int]:
        """Fill steps with groups: of schemas that the step does not have yet, where there are any."""
        found: list[int] = []
        waiting = groups
        present: set[int] = set()
        room = self._rows_per_step
        while waiting:
            place = next((i for i, (schema, _) in enumerate(waiting) if schema not in present), 0)
            schema, members = waiting.pop(place)
            taken, rest = members[:room], members[room:]
            found += taken
            present.add(schema)
            room -= len(taken)
            if rest:
                waiting.insert(0, (schema, rest))
            if not room:
                present, room = set(), self._rows_per_step
        return found


def computed_tokens(
    examples: Sequence[Example], order: Sequence[int], micro_batch: int, max_tokens: int
) -> int:
    """Tokens that an epoch computes when its micro-batches are packed.

    Args:
        examples: rows in tokens.
        order: the epoch's order.
        micro_batch: rows of a micro-batch.
        max_tokens: most tokens of a pass.
    """
    total = 0
    for start in range(0, len(order), micro_batch):
        chosen = [examples[place] for place in order[start : start + micro_batch]]
        total += sum(len(pack) for pack in pack_rows(chosen, max_tokens))
    return total
