"""How long the training will take, from one small step tried out beforehand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from qc_experiments.data.encode import Example
from qc_experiments.models.loss import pad_batch, summed_loss

TRIAL_ROWS = 2


class Pace:
    """How long models take per token; each shape of model is tried once by whoever owns this."""

    def __init__(self) -> None:
        self._seconds_per_token: dict[tuple[Any, ...], float] = {}

    def seconds(self, model: Any, examples: Sequence[Example], tokens: float, pad_id: int) -> float:
        """Time a forward and backward pass over two rows and scale it to the whole training.

        The model's weights, gradients and random states are afterwards as they were.

        Args:
            model: as it will be trained.
            examples: training rows.
            tokens: that the training will compute, padding left out.
            pad_id: fills up short rows.
        """
        sizes = [
            sum(p.numel() for p in model.parameters() if p.requires_grad is wants)
            for wants in (False, True)
        ]
        shape = (*sizes, model.dtype, next(model.parameters()).device)
        if shape not in self._seconds_per_token:
            self._seconds_per_token[shape] = _tried(model, examples, pad_id)
        return self._seconds_per_token[shape] * tokens


def _tried(model: Any, examples: Sequence[Example], pad_id: int) -> float:
    device = next(model.parameters()).device
    rows = sorted(examples, key=len)[len(examples) // 2 :][:TRIAL_ROWS]
    batch = {key: value.to(device) for key, value in pad_batch(rows, pad_id).items()}
    devices = [device] if device.type == "cuda" else []
    was_training = model.training
    seconds = 0.0
    with torch.random.fork_rng(devices=devices):
        model.train()
        for _ in range(2):  # the first pass warms up
            started = time.perf_counter()
            summed_loss(model, batch).backward()
            if devices:
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return seconds / sum(len(row) for row in rows)
