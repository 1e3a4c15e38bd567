"""Attention within packs: each row sees its own text and nothing else, and no mask [length, length].

Attention is computed block by block. A block are the queries of one node, or of neighbouring leaves
with the same parent; its keys are the ancestors' tokens and its own, so that nothing is computed for
rows that do not see each other but within a block. This is exact: a softmax over a row's own keys, as
if the row stood alone. Models are given it through transformers' own interface for attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from qc_experiments.collators.prefix_tree import Node

NAME = "qc_packed"
"""What transformers calls this attention."""

BLOCK_TOKENS = 192
"""Leaves are taken together up to so many queries: more waste attention, fewer make more calls."""


@dataclass(frozen=True)
class Block:
    """Queries that attend at once.

    Attributes:
        start: place of the first query.
        end: place behind the last one.
        keys: ranges of places, in order; the last one ends with the queries.
        nodes: ranges of the queries' nodes, none of which sees another.
    """

    start: int
    end: int
    keys: tuple[tuple[int, int], ...]
    nodes: tuple[tuple[int, int], ...]


def blocks_of(nodes: Sequence[Node]) -> list[Block]:
    """Cut a pack's queries into blocks.

    Args:
        nodes: the pack's, in the order of their starts.
    """
    parents = {node.parent for node in nodes}
    found: list[Block] = []
    group: list[Node] = []

    def close() -> None:
        if group:
            found.append(_block(group, nodes))
            group.clear()

    for index, node in enumerate(nodes):
        joins = (
            group
            and index not in parents
            and node.parent == group[-1].parent
            and node.end - group[0].start <= BLOCK_TOKENS
        )
        if not joins:
            close()
        group.append(node)
        if index in parents or node.parent is None:
            close()  # a node that others see stands alone, and so does a row by itself
    close()
    return found


def _block(group: Sequence[Node], nodes: Sequence[Node]) -> Block:
    ranges = [(group[0].start, group[-1].end)]
    parent = group[0].parent
    while parent is not None:
        node = nodes[parent]
        if node.end == ranges[0][0]:
            ranges[0] = (node.start, ranges[0][1])
        else:
            ranges.insert(0, (node.start, node.end))
        parent = node.parent
    queries = tuple((node.start, node.end) for node in group)
    return Block(group[0].start, group[-1].end, tuple(ranges), queries)


class PackedAttention:
    """The attention of one pack, for all layers.

    Args:
        nodes: the pack's.
        positions: each token's place in its row, [length].
    """

    def __init__(self, nodes: Sequence[Node], positions: torch.Tensor) -> None:
        self._blocks = blocks_of(nodes)
        self._positions = positions
        self._masks: dict[tuple[int, int | None], torch.Tensor | None] = {}

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
        dropout: float,
        window: int | None,
    ) -> torch.Tensor:
        """Attend.

        Args:
            query: [1, heads, length, head size].
            key: [1, key heads, length, head size].
            value: [1, key heads, length, head size].
            scaling: of the scores; None takes one over the root of the head size.
            dropout: share of attention that is dropped.
            window: number of latest tokens that a query sees, or None for all.

        Returns:
            [1, heads, length, head size].
        """
        grouped = query.shape[1] != key.shape[1]
        parts = []
        for number, block in enumerate(self._blocks):
            mask = self._mask(number, window)
            parts.append(
                scaled_dot_product_attention(
                    query[:, :, block.start : block.end],
                    _gathered(key, block.keys),
                    _gathered(value, block.keys),
                    attn_mask=mask,
                    dropout_p=dropout,
                    is_causal=mask is None,
                    scale=scaling,
                    enable_gqa=grouped,
                )
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def _mask(self, number: int, window: int | None) -> torch.Tensor | None:
        """Who sees whom in a block, [queries, keys]; None where it is plain causal attention."""
        block = self._blocks[number]
        alone = len(block.nodes) == 1 and block.keys == ((block.start, block.end),)
        if alone and (window is None or block.end - block.start <= window):
            return None
        if (number, window) not in self._masks:
            self._masks[number, window] = self._made(block, window)
        return self._masks[number, window]

    def _made(self, block: Block, window: int | None) -> torch.Tensor:
        device = self._positions.device
        keys = torch.cat([torch.arange(a, b, device=device) for a, b in block.keys])
        queries = torch.arange(block.start, block.end, device=device)
        # The node a place belongs to, as the place where it starts; ancestors belong to everybody.
        starts = torch.tensor([start for start, _ in block.nodes], device=device)
        node = torch.searchsorted(starts, queries, right=True)[:, None]
        of_key = torch.searchsorted(starts, keys, right=True)[None]
        seen = (of_key == 0) | ((of_key == node) & (keys[None] <= queries[:, None]))
        if window is not None:
            distance = self._positions[queries][:, None] - self._positions[keys][None]
            seen &= distance < window
        return seen


def _gathered(states: torch.Tensor, ranges: Sequence[tuple[int, int]]) -> torch.Tensor:
    if len(ranges) == 1:
        return states[:, :, ranges[0][0] : ranges[0][1]]
    return torch.cat([states[:, :, start:end] for start, end in ranges], dim=2)


_active: list[PackedAttention] = []


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls it; returns [1, length, heads, head size]."""
    window = options.get("sliding_window", getattr(module, "sliding_window", None))
    found = _active[-1](query, key, value, scaling, dropout, window)
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attend)


@contextmanager
def packed_attention(model: Any, attention: PackedAttention) -> Iterator[None]:
    """Let a model attend within a pack, forward and backward (checkpointed layers come back).

    Args:
        model: of transformers, wrapped or not.
        attention: the pack's.
    """
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}
    before = [
        (config, config._attn_implementation)
        for config in configs.values()
        if hasattr(config, "_attn_implementation")
    ]
    _active.append(attention)
    try:
        for config, _ in before:
            config._attn_implementation = NAME
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name
        _active.pop()
