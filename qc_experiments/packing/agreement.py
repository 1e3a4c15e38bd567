"""Packs against padded rows: the check that a run makes, and what replaces packs that fail it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from qc_experiments.models.loss import summed_loss
from qc_experiments.packing.loss import backward_pack
from qc_experiments.packing.prefix_tree import Pack, PackRow

PADDED_TOKENS = 2048
"""Tokens of a padded batch, where packs cannot be used."""

CHECKED_ROWS = 4
"""Rows of the check: enough for two that share, few enough to cost little."""


def padded_parts(rows: Sequence[PackRow]) -> list[list[PackRow]]:
    """Cut rows into batches of about the same length and at most `PADDED_TOKENS` with padding."""
    found: list[list[PackRow]] = []
    for row in sorted(rows, key=len):
        if found and (len(found[-1]) + 1) * len(row) <= PADDED_TOKENS:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def average_gradients(model: Any) -> None:
    """Average the gradients of all processes, which have the same weights to train."""
    import torch.distributed

    trained = [p for p in model.parameters() if p.requires_grad]
    flat = torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained]
    )
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    start = 0
    for parameter in trained:
        end = start + parameter.numel()
        parameter.grad = flat[start:end].view_as(parameter).clone()
        start = end


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


def disagreement(
    model: Any, rows: Sequence[PackRow], packs: Sequence[Pack], *, whole_mask: bool = False
) -> float:
    """How far the gradients of packed rows are from those of the same rows, each by itself.

    Args:
        model: in training; dropout is left out here, gradients are left as they were.
        rows: few rows.
        packs: the same rows, packed.
        whole_mask: as for `backward_pack`.

    Returns:
        Norm of the difference over the norm of the gradient of the rows by themselves.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    before = [p.grad for p in trained]
    was_training = model.training
    model.eval()

    def gradients() -> list[torch.Tensor | None]:
        taken = [p.grad for p in trained]
        for parameter in trained:
            parameter.grad = None
        return taken

    try:
        gradients()
        for row in rows:  # one at a time: the check must not need more memory than the training
            summed_loss(model, padded([row], model.device)).backward()
        reference = gradients()
        for pack in packs:
            backward_pack(model, pack, whole_mask=whole_mask)
        found = gradients()
    finally:
        model.train(was_training)
        for parameter, gradient in zip(trained, before, strict=True):
            parameter.grad = gradient
    away = size = 0.0
    for one, other in zip(reference, found, strict=True):
        if one is None and other is None:
            continue
        one = torch.zeros_like(other) if one is None else one
        other = torch.zeros_like(one) if other is None else other
        away += float((one.double() - other.double()).square().sum())
        size += float(one.double().square().sum())
    return (away / size) ** 0.5 if size else 0.0
