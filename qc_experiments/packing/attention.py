"""Attention within packs: each row sees its own text and nothing else, and no mask [length, length].

A block is the queries of one node, or of adjacent leaves with the same parent; its keys are the
ancestors' tokens and its own, so that nothing is computed for rows that do not see each other but within
a block. This is exact: a softmax over a row's own keys, as if the row stood alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from qc_experiments.models.transformers_hooks import AttentionLayer
from qc_experiments.packing.folded_attention import folded_attention
from qc_experiments.packing.pack_tensors import PackTensors
from qc_experiments.packing.prefix_tree import Node

BLOCK_TOKENS = 192  # of leaves together: more waste attention, fewer make more calls
CUT_TOKENS = 256  # of a node's queries at once, where attention computes all keys that it is given
GPU_BLOCK_TOKENS = 1024  # calls are dear there and products cheap (an estimate: not measured)


@dataclass(frozen=True)
class Block:
    """Queries that attend at once."""

    start: int  # place of the first query
    end: int  # place after the last one
    keys: tuple[tuple[int, int], ...]  # ranges of places, in order; the last ends with the queries
    causal: bool  # whether the keys are the queries' own and of one node


def blocks_of(nodes: Sequence[Node], span: tuple[int, int], most: int) -> list[Block]:
    """Cut the queries of a pass into blocks, with at most ``most`` queries where leaves are joined."""
    parents = {node.parent for node in nodes}
    groups: list[list[Node]] = []
    open_parent: int | None = None  # that of the last group, if leaves may join it
    for index, node in enumerate(nodes):
        if not span[0] <= node.start < span[1]:
            continue
        leaf = index not in parents
        joins = leaf and node.parent is not None and node.parent == open_parent
        if joins and node.end - groups[-1][0].start <= most:
            groups[-1].append(node)
        else:
            groups.append([node])
        open_parent = node.parent if leaf else None  # a node that others see stands alone
    return [_block(group, nodes) for group in groups]


def _block(group: Sequence[Node], nodes: Sequence[Node]) -> Block:
    start, end = group[0].start, group[-1].end
    ranges = [(start, end)]
    parent = group[0].parent
    while parent is not None:
        node = nodes[parent]
        if node.end == ranges[0][0]:
            ranges[0] = (node.start, ranges[0][1])
        else:
            ranges.insert(0, (node.start, node.end))
        parent = node.parent
    return Block(start, end, tuple(ranges), len(group) == 1 and ranges == [(start, end)])


def _cut(block: Block, most: int) -> list[Block]:
    """A block as several of at most so many queries, which do not see what comes after them."""
    *before, (first, _) = block.keys
    found = []
    for start in range(block.start, block.end, most):
        end = min(start + most, block.end)
        alone = block.causal and start == block.start
        found.append(Block(start, end, (*before, (first, end)), alone))
    return found


class TrunkStates:
    """Keys and values of a trunk in every layer, for the passes after it.

    The passes see copies without a history, on which their gradients gather, in float32, since there may be
    many; `gradients` carries them on into the trunk.
    """

    def __init__(self) -> None:
        self._layers: dict[int, list[tuple[Tensor, Tensor]]] = {}  # states and copies

    def keep(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keep a layer's keys and values, each [1, key heads, trunk, head size]."""
        if layer not in self._layers:  # else computed again, for a checkpointed layer
            self._layers[layer] = [
                (own, own.detach().float().requires_grad_(own.requires_grad))
                for own in (key, value)
            ]

    def before(self, layer: int, key: Tensor, value: Tensor) -> list[Tensor]:
        """Keys and values of trunk and pass together."""
        pairs = zip(self._layers[layer], (key, value), strict=True)
        return [torch.cat([copy.to(own.dtype), own], dim=2) for (_, copy), own in pairs]

    def gradients(self) -> tuple[list[Tensor], list[Tensor]]:
        """States that have a history, and the gradients that passes left on them."""
        pairs = [pair for layer in self._layers.values() for pair in layer]
        reached = [(o, copy.grad.to(o.dtype)) for o, copy in pairs if copy.grad is not None]
        return [own for own, _ in reached], [gradient for _, gradient in reached]


def with_trunk(
    trunk: TrunkStates | None, start: int, layer: int, key: Tensor, value: Tensor
) -> list[Tensor]:
    """Keys and values that a pass from a place on sees; the first pass is the trunk, and keeps its own."""
    if trunk is not None and start:
        return trunk.before(layer, key, value)
    if trunk is not None:
        trunk.keep(layer, key, value)
    return [key, value]


class PackedAttention:
    """The attention of one pass of a pack, for all layers."""

    def __init__(
        self,
        pack: PackTensors,
        span: tuple[int, int],  # places of the pass
        trunk: TrunkStates
        | None,  # of the first pass, for the others; None where it is the only one
        whole: bool,  # whether it is one block, with a mask of all its queries and keys
        folds: bool = False,  # whether a block's attention is `folded_attention`
    ) -> None:
        nodes = pack.pack.nodes
        most = GPU_BLOCK_TOKENS if pack.tokens.is_cuda else BLOCK_TOKENS
        self._pack = pack
        self._blocks = [_whole_pass(nodes, span)] if whole else blocks_of(nodes, span, most)
        if folds:
            self._blocks = [part for block in self._blocks for part in _cut(block, CUT_TOKENS)]
        self._folds = folds
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
        self._trunk = trunk
        self._masks: dict[tuple[int, int | None], Tensor] = {}
        self._hidden: dict[tuple[int, int | None], Tensor | None] = {}

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer) -> Tensor:
        """Attend: all [1, heads, length of the pass, head size], perhaps with fewer heads of keys."""
        key, value = with_trunk(self._trunk, self._start, layer.number, key, value)
        groups = query.shape[1] // key.shape[1]
        if groups > 1 and query.is_cuda:  # its kernels that take a mask want a key head for each
            key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
        # Split once, and not sliced block by block, since a slice's gradient is as long as the whole.
        queries = query.split(self._query_sizes, dim=2)
        keys, values = key.split(self._key_sizes, dim=2), value.split(self._key_sizes, dim=2)
        parts = []
        for number, (own, pieces) in enumerate(zip(queries, self._pieces, strict=True)):
            seen = _joined(keys, pieces), _joined(values, pieces)
            if self._folds and not layer.dropout:
                hidden = self._added(number, layer.window, own.dtype)
                parts.append(folded_attention(own, *seen, hidden, layer.scaling))
                continue
            mask = self._mask(number, layer.window)
            parts.append(
                scaled_dot_product_attention(
                    own,
                    *seen,
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

    def _mask(self, number: int, window: int | None) -> Tensor | None:
        """Who sees whom in a block, [queries, keys]; None where it is plain causal attention."""
        block = self._blocks[number]
        if block.causal and (window is None or block.end - block.start <= window):
            return None
        if (number, window) not in self._masks:
            self._masks[number, window] = self._seen(block, window)
        return self._masks[number, window]

    def _added(self, number: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """What hides keys from a block's queries, from the first key that is hidden from any."""
        if (number, window) not in self._hidden:
            hidden = ~self._seen(self._blocks[number], window)
            places = hidden.any(0).nonzero()
            added = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, -torch.inf)
            self._hidden[number, window] = added[:, int(places[0]) :] if len(places) else None
        return self._hidden[number, window]

    def _seen(self, block: Block, window: int | None) -> Tensor:
        pack, device = self._pack, self._pack.tokens.device
        keys = torch.cat([torch.arange(a, b, device=device) for a, b in block.keys])[None]
        queries = torch.arange(block.start, block.end, device=device)[:, None]
        enter = pack.enter
        within = (enter[keys] <= enter[queries]) & (enter[queries] < pack.leave[keys])
        seen = within & (keys <= queries)
        if window is not None:
            seen &= pack.positions[queries] - pack.positions[keys] < window
        return seen


def _whole_pass(nodes: Sequence[Node], span: tuple[int, int]) -> Block:
    start, end = span
    keys = ((0, nodes[0].end), span) if start else (span,)
    alone = not start and sum(node.start < end for node in nodes) == 1
    return Block(start, end, keys, alone)


def _joined(states: Sequence[Tensor], pieces: Sequence[int]) -> Tensor:
    chosen = [states[piece] for piece in pieces]
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=2)
