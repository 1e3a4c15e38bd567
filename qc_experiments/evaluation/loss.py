"""Validation loss: summed over the labels of the whole set, divided by their number.

The result does not depend on batch size, collator or padding. Held-out rows have their labels on the
completion (the SQL and its end token), also in runs that train on the whole text, so that their
figures compare. Rows of one schema are computed together, as `collator=shared_schema` does in training,
where the model allows it and a few rows agree with the same rows padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qc_experiments.data.encode import Example
from qc_experiments.models.loss import evaluating, pad_batch, summed_loss
from qc_experiments.packing.agreement import PackAgreement, cannot_pack
from qc_experiments.packing.loss import pack_loss
from qc_experiments.packing.prefix_tree import pack_rows

PACK_TOKENS = 4096
"""Most tokens of a pass; without gradients little is kept of it."""


def validation_loss(
    model: Any,
    examples: Sequence[Example],
    pad_id: int,
    batch_size: int,
    agreement: PackAgreement | None = None,
) -> tuple[float, int]:
    """Summed loss and number of labels over some examples.

    Args:
        model: a causal language model; left in the mode it was in.
        examples: rows in tokens.
        pad_id: fills up short rows.
        batch_size: rows computed at once where rows cannot be packed.
        agreement: knows which models were found to agree; None knows none.

    Returns:
        Summed cross entropy in nats, and the number of labels it is summed over.
    """
    agreement = agreement or PackAgreement()
    count = sum(len(example.completion_ids) for example in examples)
    with evaluating(model):
        packs_agree = cannot_pack(model) is None and (
            agreement.difference(model, examples, gradients=False).is_rounding
        )
        if packs_agree:
            packs = pack_rows(examples, PACK_TOKENS)
            total = sum(float(pack_loss(model, pack)) for pack in packs)
        else:
            total = _padded_loss(model, examples, pad_id, batch_size)
    return total, count


def _padded_loss(model: Any, examples: Sequence[Example], pad_id: int, batch_size: int) -> float:
    device = next(model.parameters()).device
    ordered = sorted(examples, key=len)  # little padding
    total = 0.0
    for start in range(0, len(ordered), batch_size):
        batch = pad_batch(ordered[start : start + batch_size], pad_id)
        total += float(summed_loss(model, {k: v.to(device) for k, v in batch.items()}))
    return total
