"""Rows in tokens, made of numbers."""

from __future__ import annotations

from collections.abc import Sequence

from qc_experiments.config.schema import LossOn
from qc_experiments.data.encode import Example
from qc_experiments.data.table import Row


def example(
    prompt: Sequence[int], completion: Sequence[int], loss_on: LossOn = LossOn.completion
) -> Example:
    return Example(
        Row(2, "question", "query", "context"), tuple(prompt), tuple(completion), loss_on
    )
