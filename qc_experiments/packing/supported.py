"""Which models can be computed on packed rows."""

from __future__ import annotations

from typing import Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from qc_experiments.models.loss import unwrapped
from qc_experiments.models.transformers_hooks import is_recurrent, takes_other_attention


def cannot_pack(model: Any) -> str | None:
    """Why a model's attention cannot be computed within packs, or None if it can."""
    config = model.config.get_text_config()
    if not takes_other_attention(unwrapped(model)):
        return "it does not use transformers' interface for attention"
    if is_recurrent(unwrapped(model)):
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
