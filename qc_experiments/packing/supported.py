"""Which models can be computed on packed rows."""

from __future__ import annotations

from typing import Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from qc_experiments.models.loss import unwrapped


def cannot_pack(model: Any) -> str | None:
    """Why a model's attention cannot be computed within packs, or None if it can.

    Args:
        model: a causal language model, wrapped or not.
    """
    config = model.config.get_text_config()
    if not getattr(unwrapped(model), "_supports_attention_backend", False):
        return "it does not use transformers' interface for attention"
    if getattr(unwrapped(model), "_is_stateful", False):
        return "it is recurrent"
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "it caps the scores of its attention"
    if any(name.endswith("sinks") for name, _ in model.named_parameters()):
        return "its attention has sinks"
    for layer in DynamicCache(config=config).layers:
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            return f"it has layers that are not plain attention ({type(layer).__name__})"
    if "chunked_attention" in (getattr(config, "layer_types", None) or ()):
        return "its attention is cut into chunks"
    return None


def architecture(model: Any) -> tuple[Any, ...]:
    """What a model computes, whatever its weights are: what holds for one holds for others of its kind.

    Args:
        model: with or without adapter.
    """
    kinds = frozenset(type(module).__name__ for module in model.modules())
    checkpointing = any(getattr(m, "gradient_checkpointing", False) for m in model.modules())
    attention = model.config.get_text_config()._attn_implementation
    return kinds, model.num_parameters(), model.dtype, str(model.device), attention, checkpointing
