"""Loss and gradients of packed rows, the models that allow it, and a check against padded rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from qc_experiments.collators.prefix_tree import Pack, PackRow
from qc_experiments.collators.tree_attention import PackedAttention, packed_attention
from qc_experiments.evaluation.loss import keeps_logits, summed_loss

LOGIT_ROWS = 1024
"""Labels whose logits, [labels, vocabulary], are there at once."""

CHECKED_ROWS = 4
"""Rows of the check: enough for two that share, few enough to cost little."""


def cannot_pack(model: Any) -> str | None:
    """Why a model's attention cannot be computed within packs, or None if it can.

    Args:
        model: a causal language model, wrapped or not.
    """
    config = model.config.get_text_config()
    if not getattr(_inner(model), "_supports_attention_backend", False):
        return "it does not use transformers' interface for attention"
    if getattr(_inner(model), "_is_stateful", False):
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


def _inner(model: Any) -> Any:
    while hasattr(model, "module"):  # DistributedDataParallel
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def packed_loss(model: Any, pack: Pack) -> torch.Tensor:
    """Cross entropy of a pack's labels, summed over its rows; a scalar in nats, with its gradient.

    To be called, and its backward pass to be run, within `attending`.

    Args:
        model: a causal language model that can pack.
        pack: rows in one sequence.
    """
    device = model.device
    places = torch.tensor(pack.label_places, device=device)
    inputs = {
        "input_ids": torch.tensor([pack.input_ids], device=device),
        "position_ids": torch.tensor([pack.position_ids], device=device),
        "use_cache": False,
    }
    if keeps_logits(model):
        logits = model(**inputs, logits_to_keep=places).logits[0]
    else:
        logits = model(**inputs).logits[0, places]
    targets = torch.tensor(pack.label_targets, device=device)
    weights = torch.tensor(pack.label_weights, device=device)
    return (cross_entropy(logits.float(), targets, reduction="none") * weights).sum()


def attending(model: Any, pack: Pack) -> Any:
    """A context in which a model attends within a pack, forward and backward."""
    positions = torch.tensor(pack.position_ids, device=model.device)
    return packed_attention(model, PackedAttention(pack.nodes, positions))


def padded(rows: Sequence[PackRow], device: torch.device) -> dict[str, torch.Tensor]:
    """Rows as a padded batch [rows, longest], as `summed_loss` takes it."""
    length = max(len(row) for row in rows)
    shape = (len(rows), length)
    batch = {
        "input_ids": torch.zeros(shape, dtype=torch.long, device=device),
        "attention_mask": torch.zeros(shape, dtype=torch.long, device=device),
        "labels": torch.full(shape, -100, dtype=torch.long, device=device),
    }
    for number, row in enumerate(rows):
        tokens = torch.tensor([*row.prompt, *row.completion], device=device)
        batch["input_ids"][number, : len(row)] = tokens
        batch["attention_mask"][number, : len(row)] = 1
        batch["labels"][number, : len(row)] = torch.tensor(list(row.labels), device=device)
    return batch


def disagreement(model: Any, rows: Sequence[PackRow], packs: Sequence[Pack]) -> float:
    """How far the gradients of packed rows are from those of the same rows padded.

    Args:
        model: in training; dropout is left out here, gradients are left as they were.
        rows: few rows.
        packs: the same rows, packed.

    Returns:
        Norm of the difference over the norm of the padded rows' gradient.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    was_training = model.training
    model.eval()
    try:
        reference = torch.autograd.grad(
            summed_loss(model, padded(rows, model.device)), trained, allow_unused=True
        )
        sums: list[torch.Tensor | None] = [None] * len(trained)
        for pack in packs:
            with attending(model, pack):
                found = torch.autograd.grad(packed_loss(model, pack), trained, allow_unused=True)
            sums = [
                g if s is None else s if g is None else s + g
                for s, g in zip(sums, found, strict=True)
            ]
    finally:
        model.train(was_training)
    away = size = 0.0
    for one, other in zip(reference, sums, strict=True):
        if one is None or other is None:
            continue
        away += float((one.double() - other.double()).square().sum())
        size += float(one.double().square().sum())
    return (away / size) ** 0.5 if size else 0.0
