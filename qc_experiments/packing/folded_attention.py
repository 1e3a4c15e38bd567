"""Attention in bfloat16 on a CPU as products of matrices, which there are faster than torch's own kernel.

Key heads that serve several query heads are multiplied once with all of their queries. The weights of
attention are computed again in the backward pass, so that none is kept. Scores are rounded to bfloat16, as in
transformers' "eager" attention. Measured in docs/log.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def folded_attention(
    query: Tensor,  # [1, heads, queries, head size]
    key: Tensor,  # [1, key heads, keys, head size]
    value: Tensor,  # as key
    hidden: Tensor | None,  # added to the scores of the last keys: [queries, so many], 0 or -inf
    scaling: float | None,  # of the scores; None takes one over the root of the head size
) -> Tensor:
    """Attend; the same shape as ``query``."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attended: Tensor = _FoldedAttention.apply(query, key, value, hidden, scale)
    return attended


class _FoldedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None, scale: float
    ) -> Tensor:
        folded = (query * scale).reshape(key.shape[1], -1, query.shape[-1])
        ctx.save_for_backward(folded, key[0], value[0])
        ctx.hidden, ctx.scale, ctx.shape = hidden, scale, query.shape
        return (_weights(folded, key[0], hidden) @ value[0]).view(query.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        folded, key, value = ctx.saved_tensors
        weights = _weights(folded, key, ctx.hidden)
        gradient = gradients[0].reshape(folded.shape)
        of_weights = gradient @ value.transpose(1, 2)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_query = (of_scores @ key).mul_(ctx.scale).view(ctx.shape)
        of_key = of_scores.transpose(1, 2) @ folded
        of_value = weights.transpose(1, 2) @ gradient
        return of_query, of_key[None], of_value[None], None, None


def _weights(folded: Tensor, key: Tensor, hidden: Tensor | None) -> Tensor:
    """The weights of attention, [key heads, query heads of each times queries, keys]."""
    scores = folded @ key.transpose(1, 2)
    if hidden is not None:
        queries, last = hidden.shape
        scores.view(len(key), -1, queries, scores.shape[-1])[..., -last:] += hidden
    return scores.softmax(-1)
