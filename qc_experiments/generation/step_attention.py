"""Attention of a step of many texts at once: the query of one token each, over its own text.

transformers copies each key head for all query heads that it serves, at every step, which takes most of a
step's time on a CPU; here they are multiplied with it at once. Measured in docs/log.md.
"""

from __future__ import annotations

from torch import Tensor

from qc_experiments.models.transformers_hooks import Attend, AttentionLayer


def step_attention(hidden: Tensor) -> Attend:
    """The attention of one step.

    Args:
        hidden: added to the scores, [rows, keys]: 0, or the least number where a row does not see a key.
    """

    def attend(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer) -> Tensor:
        """Attend: query [rows, heads, 1, head size], keys and values [rows, key heads, keys, head size]."""
        rows, heads, _, size = query.shape
        scale = size**-0.5 if layer.scaling is None else layer.scaling
        folded = (query * scale).reshape(rows * key.shape[1], -1, size)
        scores = (key.flatten(0, 1) @ folded.transpose(1, 2)).transpose(1, 2)
        scores = scores.reshape(rows, heads, -1).add_(hidden[:, None])
        weights = scores.softmax(-1).view(*folded.shape[:2], -1)
        return (weights @ value.flatten(0, 1)).view(query.shape)

    return attend
