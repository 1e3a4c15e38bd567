"""Validation loss: summed over the labels of the whole set, divided by their number.

The result does not depend on batch size, collator or padding. It is always taken on the
completion (the SQL and its end token), also in runs that train on the whole text, so that their
figures compare. Rows of one schema are computed together, as `collator=shared_schema` does in training,
where the model allows it and two rows agree with the same rows padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from qc_experiments.config.schema import LossOn
from qc_experiments.data.encode import IGNORED, Example
from qc_experiments.models.loss import summed_loss, unwrapped
from qc_experiments.packing.loss import pack_loss
from qc_experiments.packing.prefix_tree import PackRow, pack_rows
from qc_experiments.packing.supported import architecture, cannot_pack

PACK_TOKENS = 4096
"""Most tokens of a pass; without gradients little is kept of it."""
AGREEMENT = 1e-3
"""Relative difference of the loss that passes for rounding in float32."""
COARSE_AGREEMENT = 0.05
"""The same with 16-bit numbers or quantized weights."""

_agreed: set[tuple[Any, ...]] = set()
"""Kinds of models whose packs were found right in this process."""


def validation_loss(
    model: Any, examples: Sequence[Example], pad_id: int, batch_size: int
) -> tuple[float, int]:
    """Summed loss and number of labels over some examples.

    Args:
        model: a causal language model; left in the mode it was in.
        examples: rows in tokens.
        pad_id: fills up short rows.
        batch_size: rows computed at once where rows cannot be packed.

    Returns:
        Summed cross entropy in nats, and the number of labels it is summed over.
    """
    was_training = model.training
    model.eval()
    rows = [PackRow(e.prompt_ids, e.completion_ids, e.labels(LossOn.completion)) for e in examples]
    count = sum(len(example.completion_ids) for example in examples)
    try:
        with torch.no_grad():
            if cannot_pack(model) is None and _packs_agree(model, examples, rows, pad_id):
                packs = pack_rows(rows, PACK_TOKENS)
                total = sum(float(pack_loss(model, pack)) for pack in packs)
            else:
                total = _padded_loss(model, examples, pad_id, batch_size)
    finally:
        model.train(was_training)
    return total, count


def _padded_loss(model: Any, examples: Sequence[Example], pad_id: int, batch_size: int) -> float:
    device = next(model.parameters()).device
    ordered = sorted(examples, key=len)  # little padding
    total = 0.0
    for start in range(0, len(ordered), batch_size):
        batch = pad_batch(ordered[start : start + batch_size], pad_id)
        total += float(summed_loss(model, {k: v.to(device) for k, v in batch.items()}))
    return total


def _packs_agree(
    model: Any, examples: Sequence[Example], rows: Sequence[PackRow], pad_id: int
) -> bool:
    """Whether two similar rows give the same loss packed and padded; tried once for a kind of model."""
    known = architecture(model)
    if known in _agreed:
        return True
    few = sorted(range(len(rows)), key=lambda n: list(rows[n].prompt))[:2]
    expected = _padded_loss(model, [examples[n] for n in few], pad_id, len(few))
    packs = pack_rows([rows[n] for n in few], PACK_TOKENS)
    found = sum(float(pack_loss(model, pack)) for pack in packs)
    precise = model.dtype == torch.float32 and not getattr(unwrapped(model), "is_quantized", False)
    agrees = abs(found - expected) <= (AGREEMENT if precise else COARSE_AGREEMENT) * expected
    if agrees:
        _agreed.add(known)
    return agrees


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
