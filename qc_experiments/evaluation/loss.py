"""Validation loss: summed over the labels of the whole set, divided by their number.

The result does not depend on batch size, collator or padding. It is always taken on the
completion (the SQL and its end token), also in runs that train on the whole text, so that their
figures compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from qc_experiments.config import LossOn
from qc_experiments.data.encode import IGNORED, Example


def summed_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross entropy of a batch's labels, summed; logits are computed only where a label stands.

    Args:
        model: a causal language model, wrapped or not.
        batch: ``input_ids``, ``attention_mask`` and ``labels``, each [batch, length]; a label is
            the token at its own position, so that position t predicts label t + 1.

    Returns:
        A scalar, in nats, with its gradient.
    """
    labels = batch["labels"]
    predicts = torch.zeros_like(labels, dtype=torch.bool)
    predicts[:, :-1] = labels[:, 1:] != IGNORED
    targets = labels[:, 1:][predicts[:, :-1]]
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    if keeps_logits(model):
        # A boolean mask [batch, length] yields logits [labels, vocabulary].
        logits = model(**inputs, logits_to_keep=predicts, use_cache=False).logits
    else:
        logits = model(**inputs, use_cache=False).logits[predicts]
    return cross_entropy(logits.float(), targets, reduction="sum")


def keeps_logits(model: Any) -> bool:
    """Whether a model computes logits only where they are asked for."""
    inner = model
    while hasattr(inner, "module"):  # DistributedDataParallel
        inner = inner.module
    if hasattr(inner, "get_base_model"):  # PEFT
        inner = inner.get_base_model()
    return "logits_to_keep" in signature(inner.forward).parameters


def validation_loss(
    model: Any, examples: Sequence[Example], pad_id: int, batch_size: int
) -> tuple[float, int]:
    """Summed loss and number of labels over some examples.

    Args:
        model: a causal language model; left in the mode it was in.
        examples: rows in tokens.
        pad_id: fills up short rows.
        batch_size: rows computed at once.

    Returns:
        Summed cross entropy in nats, and the number of labels it is summed over.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    ordered = sorted(examples, key=len)  # little padding
    try:
        with torch.no_grad():
            for start in range(0, len(ordered), batch_size):
                batch = pad_batch(ordered[start : start + batch_size], pad_id)
                total += float(summed_loss(model, {k: v.to(device) for k, v in batch.items()}))
                count += int((batch["labels"][:, 1:] != IGNORED).sum())
    finally:
        model.train(was_training)
    return total, count


def pad_batch(examples: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Rows with completion labels as tensors [batch, longest row], padded on the right."""
    length = max(len(example) for example in examples)
    batch: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for example in examples:
        padding = length - len(example)
        batch["input_ids"].append(example.input_ids + [pad_id] * padding)
        batch["attention_mask"].append([1] * len(example) + [0] * padding)
        batch["labels"].append(example.labels(LossOn.completion) + [IGNORED] * padding)
    return {key: torch.tensor(rows) for key, rows in batch.items()}
