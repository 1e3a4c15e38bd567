"""Attention of a pass by FlexAttention, for GPUs: one call, of which blocks that nobody sees are left out.

Dong et al. 2024, "Flex Attention" (arXiv:2412.05496). Exact, as the blocks of `packing.attention` are: the
same rule says who sees whom. Passes are padded to a multiple of `MULTIPLE`, so that few lengths are compiled.
On a CPU torch computes it forwards only, and slowly: it is tested there, and not trained with.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from qc_experiments.models.transformers_hooks import AttentionLayer
from qc_experiments.packing.attention import TrunkStates, with_trunk
from qc_experiments.packing.pack_tensors import PackTensors

MULTIPLE = 128  # tokens of a block, as FlexAttention cuts them


class FlexAttention:
    """The attention of one pass of a pack, for all layers."""

    def __init__(
        self,
        pack: PackTensors,
        span: tuple[int, int],  # places of the pass
        trunk: TrunkStates | None,
    ) -> None:
        self._start, self._trunk = span[0], trunk
        device = pack.tokens.device
        before = pack.pack.nodes[0].end if span[0] else 0  # tokens of the trunk
        own = torch.arange(*span, device=device)
        self._pack = pack
        # What is added at the ends sees what the last query sees; its answers are cut off.
        self._queries = _filled(own)
        self._keys = _filled(torch.cat([torch.arange(before, device=device), own]))
        self._last_key = before + len(own)
        self._masks: dict[int | None, Any] = {}

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer) -> Tensor:
        """Attend: all [1, heads, length of the pass, head size], perhaps with fewer heads of keys."""
        assert not layer.dropout, "`training.pack_choice` takes it for models without only"
        key, value = with_trunk(self._trunk, self._start, layer.number, key, value)
        length = query.shape[2]
        query = pad(query, (0, 0, 0, len(self._queries) - length))
        more = len(self._keys) - key.shape[2]
        key, value = (pad(states, (0, 0, 0, more)) for states in (key, value))
        attended: Tensor = _flex(query.is_cuda)(
            query,
            key,
            value,
            block_mask=self._mask(layer.window),
            scale=layer.scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return attended[:, :, :length]

    def _mask(self, window: int | None) -> Any:
        """Which blocks of queries and keys are computed, and who sees whom within them."""
        if window not in self._masks:
            from torch.nn.attention.flex_attention import create_block_mask

            pack, queries, keys, last = self._pack, self._queries, self._keys, self._last_key
            enter_query, enter_key = pack.enter[queries], pack.enter[keys]
            leave_key = pack.leave[keys]
            at_query, at_key = pack.positions[queries], pack.positions[keys]

            def sees(batch: Any, head: Any, query: Any, key: Any) -> Any:
                within = (enter_key[key] <= enter_query[query]) & (
                    enter_query[query] < leave_key[key]
                )
                seen = within & (keys[key] <= queries[query]) & (key < last)
                if window is not None:
                    seen = seen & (at_query[query] - at_key[key] < window)
                return seen

            self._masks[window] = create_block_mask(
                sees, None, None, len(queries), len(keys), device=queries.device
            )
        return self._masks[window]


def _filled(places: Tensor) -> Tensor:
    """Places with the last one repeated, up to a multiple."""
    return torch.cat([places, places[-1:].expand(-len(places) % MULTIPLE)])


@cache
def _flex(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention
