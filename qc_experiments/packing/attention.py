"""Attention within packs: each row sees its own text and nothing else, and no mask [length, length].

Attention is computed block by block. A block is the queries of one node, or of adjacent leaves
with the same parent; its keys are the ancestors' tokens and its own, so that nothing is computed for
rows that do not see each other but within a block. This is exact: a softmax over a row's own keys, as
if the row stood alone. Models are given it by
`transformers_hooks.attending`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention

from qc_experiments.models.transformers_hooks import AttentionLayer
from qc_experiments.packing.prefix_tree import Node

BLOCK_TOKENS = 192
"""Leaves are taken together up to so many queries: more waste attention, fewer make more calls."""
GPU_BLOCK_TOKENS = 1024
"""The same on a GPU, where calls are dear and products cheap (an estimate: not measured)."""


@dataclass(frozen=True)
class Block:
    """Queries that attend at once.

    Attributes:
        start: place of the first query.
        end: place after the last one.
        keys: ranges of places, in order; the last one ends with the queries.
        nodes: ranges of the queries' nodes, none of which sees another.
    """

    start: int
    end: int
    keys: tuple[tuple[int, int], ...]
    nodes: tuple[tuple[int, int], ...]


def blocks_of(
    nodes: Sequence[Node], span: tuple[int, int], most: int = BLOCK_TOKENS
) -> list[Block]:
    """Cut the queries of a pass into blocks.

    Args:
        nodes: the pack's, in the order of their starts.
        span: places of the pass.
        most: queries of leaves that are taken together.
    """
    parents = {node.parent for node in nodes}
    found: list[Block] = []
    group: list[Node] = []

    def close() -> None:
        if group:
            found.append(_block(group, nodes))
            group.clear()

    for index, node in enumerate(nodes):
        if not span[0] <= node.start < span[1]:
            continue
        joins = (
            group
            and index not in parents
            and node.parent == group[-1].parent
            and node.end - group[0].start <= most
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


class TrunkStates:
    """Keys and values of a trunk in every layer, for the passes after it.

    The passes see copies without a history, on which their gradients gather; `sources` and
    `gradients` are what carries them on into the trunk.
    """

    def __init__(self) -> None:
        self._sources: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._leaves: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep a layer's keys and values, each [1, key heads, trunk, head size]."""
        if layer in self._sources:
            return  # computed again, for a checkpointed layer
        self._sources[layer] = (key, value)
        one, other = key.detach(), value.detach()
        self._leaves[layer] = (
            one.requires_grad_(key.requires_grad),
            other.requires_grad_(value.requires_grad),
        )

    def before(
        self, layer: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of trunk and pass together."""
        of_trunk, values = self._leaves[layer]
        return torch.cat([of_trunk, key], dim=2), torch.cat([values, value], dim=2)

    def gradients(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """States that have a history, and the gradients that passes left on them."""
        states: list[torch.Tensor] = []
        found: list[torch.Tensor] = []
        for layer, sources in self._sources.items():
            for source, leaf in zip(sources, self._leaves[layer], strict=True):
                if leaf.grad is not None:
                    states.append(source)
                    found.append(leaf.grad)
        return states, found


class PackedAttention:
    """The attention of one pass of a pack, for all layers.

    Args:
        nodes: the pack's.
        positions: each token's place in its row, [length of the pack].
        span: places of the pass.
        trunk: states of the pack's first pass, kept in that pass and seen by the others; None for a
            pack of one pass.
        whole: whether the pass is computed as one block, with a mask of all its queries and keys.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        positions: torch.Tensor,
        span: tuple[int, int],
        trunk: TrunkStates | None = None,
        whole: bool = False,
    ) -> None:
        most = GPU_BLOCK_TOKENS if positions.is_cuda else BLOCK_TOKENS
        self._nodes = nodes
        self._blocks = [_whole_pass(nodes, span)] if whole else blocks_of(nodes, span, most)
        self._start = span[0]
        self._trunk_tokens = nodes[0].end if span[0] else 0  # tokens of the trunk before this pass
        self._query_sizes = [block.end - block.start for block in self._blocks]
        ranges = [
            [(self._stored(a), self._stored(b)) for a, b in block.keys] for block in self._blocks
        ]
        marks = sorted({0, *(mark for keys in ranges for key in keys for mark in key)})
        self._key_sizes = [b - a for a, b in pairwise(marks)]
        self._pieces = [
            [n for a, b in keys for n in range(marks.index(a), marks.index(b))] for keys in ranges
        ]
        self._positions = positions
        self._trunk = trunk
        self._masks: dict[tuple[int, int | None], torch.Tensor | None] = {}

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layer: AttentionLayer,
    ) -> torch.Tensor:
        """Attend.

        Args:
            query: [1, heads, length of the pass, head size].
            key: [1, key heads, length of the pass, head size].
            value: [1, key heads, length of the pass, head size].
            layer: how that layer attends.

        Returns:
            [1, heads, length of the pass, head size].
        """
        if self._trunk is not None:
            if self._start:
                key, value = self._trunk.before(layer.number, key, value)
            else:
                self._trunk.keep(layer.number, key, value)
        groups = query.shape[1] // key.shape[1]
        if groups > 1 and query.is_cuda:  # its kernels that take a mask want a key head for each
            key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
        # Split once, and not sliced block by block, since a slice's gradient is as long as the whole.
        queries = query.split(self._query_sizes, dim=2)
        keys, values = key.split(self._key_sizes, dim=2), value.split(self._key_sizes, dim=2)
        parts = []
        for number, (own, pieces) in enumerate(zip(queries, self._pieces, strict=True)):
            mask = self._mask(number, layer.window)
            parts.append(
                scaled_dot_product_attention(
                    own,
                    _joined(keys, pieces),
                    _joined(values, pieces),
                    attn_mask=mask,
                    dropout_p=layer.dropout,
                    is_causal=mask is None,
                    scale=layer.scaling,
                    enable_gqa=query.shape[1] != key.shape[1],
                )
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def _stored(self, place: int) -> int:
        """Where a key of the pack stands among those at hand: the trunk's, then the pass's."""
        return place if place <= self._trunk_tokens else place - self._start + self._trunk_tokens

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
        enter = torch.zeros(len(self._positions), dtype=torch.long, device=device)
        leave = torch.zeros_like(enter)
        for node in self._nodes:
            enter[node.start : node.end] = node.start
            leave[node.start : node.end] = node.exit
        seen = (enter[keys][None] <= enter[queries][:, None]) & (
            enter[queries][:, None] < leave[keys][None]
        )
        seen &= keys[None] <= queries[:, None]
        if window is not None:
            distance = self._positions[queries][:, None] - self._positions[keys][None]
            seen &= distance < window
        return seen


def _whole_pass(nodes: Sequence[Node], span: tuple[int, int]) -> Block:
    start, end = span
    keys = ((0, nodes[0].end), span) if start else (span,)
    own = tuple((node.start, node.end) for node in nodes if start <= node.start < end)
    return Block(start, end, keys, own)


def _joined(states: Sequence[torch.Tensor], pieces: Sequence[int]) -> torch.Tensor:
    if len(pieces) == 1:
        return states[pieces[0]]
    return torch.cat([states[piece] for piece in pieces], dim=2)
