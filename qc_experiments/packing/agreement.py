"""Whether a model can be computed on packed rows, and gives with them what padded ones give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from qc_experiments.config.schema import PackAttention
from qc_experiments.data.encode import Example
from qc_experiments.models.loss import pad_batch, summed_loss, unwrapped
from qc_experiments.models.transformers_hooks import (
    attention_kernel,
    is_recurrent,
    takes_other_attention,
)
from qc_experiments.packing.loss import backward_pack, pack_loss
from qc_experiments.packing.prefix_tree import Pack, pack_rows

CHECKED_ROWS = 3  # rows of the check: enough for two that share, few enough to cost little
CHECKED_TOKENS = 24, 12, 6  # of each: the prompt's first, its last, and the completion's first
AGREEMENT = 1e-3  # relative difference that passes for rounding in float32
ENLARGED = 2.0**10  # by which losses are multiplied, so that float16 does not lose small gradients
COARSE_LOSS, COARSE_GRADIENTS = 0.05, 0.2  # the same with 16-bit numbers or quantized weights
# Rounding to bfloat16 takes gradients 0.05 to 0.14 away, wrong packs 0.23 and more (docs/log.md).


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


@dataclass(frozen=True)
class Difference:
    """How far packed rows are from padded ones, relative to these, and how far rounding may take them."""

    found: float
    limit: float

    @property
    def is_rounding(self) -> bool:
        """Whether it is no more than rounding; what is no number is more."""
        return self.found <= self.limit


class PackAgreement:
    """Checks each kind of model once."""

    def __init__(self) -> None:
        self._agreed: dict[tuple[Any, ...], Difference] = {}

    def difference(
        self,
        model: Any,
        examples: Sequence[Example],
        *,
        gradients: bool,
        attention: PackAttention = PackAttention.blocks,
    ) -> Difference:
        """How far packed rows are from padded ones: in their gradients, or only in the loss.

        A few of the rows are tried, cut short; the model is left as it was. What a model does with tokens
        does not depend on how many there are, but the time does.
        """
        kind = (*_kind(model), gradients, attention, is_coarse(model))
        if kind in self._agreed:
            return self._agreed[kind]
        few = list(map(_cut, sorted(examples, key=lambda one: one.prompt_ids)[:CHECKED_ROWS]))
        measure: Any = gradient_difference if gradients else _loss_difference
        compare = partial(measure, attention=attention)
        passes = (sum(map(len, few)), 1)  # all in one, and as many as there are rows
        away = compare(model, few, *(pack_rows(few, most) for most in passes))
        limit = COARSE_GRADIENTS if gradients else COARSE_LOSS
        if not is_coarse(model):
            limit = AGREEMENT
        found = Difference(away, limit)
        if found.is_rounding:
            self._agreed[kind] = found
        return found


def is_coarse(model: Any) -> bool:
    """Whether a model's products are rounded to fewer bits than float32's, as it is computed now."""
    weight = next(model.parameters())
    return (
        weight.dtype != torch.float32
        or getattr(unwrapped(model), "is_quantized", False)
        or torch.is_autocast_enabled(weight.device.type)
    )


def _kind(model: Any) -> tuple[Any, ...]:
    """What a model computes, whatever its weights are: what holds for one holds for others of its kind."""
    kinds = frozenset(type(module).__name__ for module in model.modules())
    checkpointing = any(getattr(m, "gradient_checkpointing", False) for m in model.modules())
    attention = attention_kernel(model.config.get_text_config())
    return kinds, model.num_parameters(), model.dtype, str(model.device), attention, checkpointing


def _cut(example: Example) -> Example:
    first, last, written = CHECKED_TOKENS
    prompt = example.prompt_ids
    if len(prompt) > first + last:
        prompt = prompt[:first] + prompt[-last:]
    return replace(example, prompt_ids=prompt, completion_ids=example.completion_ids[:written])


def _loss_difference(
    model: Any, examples: Sequence[Example], *packings: Sequence[Pack], attention: PackAttention
) -> float:
    with torch.no_grad():
        expected = sum(float(_padded_loss(model, example)) for example in examples)
        found = [
            sum(float(pack_loss(model, pack, attention)) for pack in packs) for packs in packings
        ]
    return _farthest(abs(one - expected) / (expected or 1) for one in found)


def _farthest(differences: Iterable[float]) -> float:
    """The largest; one that is no number counts as the largest of all."""
    return max(differences, key=lambda one: (math.isnan(one), one))


def _padded_loss(model: Any, example: Example) -> Tensor:
    # One at a time: the check must not need more memory than what it checks.
    return summed_loss(model, {k: v.to(model.device) for k, v in pad_batch([example]).items()})


def gradient_difference(
    model: Any,
    examples: Sequence[Example],
    *packings: Sequence[Pack],
    attention: PackAttention = PackAttention.blocks,
) -> float:
    """How far gradients of packed rows are from those of each row by itself, relative to the latter's norm.

    Of several ways in which the rows are packed, the farthest counts. Dropout is left out, and the model's
    gradients are left as they were.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    before = [p.grad for p in trained]
    was_training = model.training
    model.eval()

    def gradients() -> list[Tensor]:
        taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        for parameter in trained:
            parameter.grad = None
        return taken

    try:
        gradients()
        for example in examples:
            (_padded_loss(model, example) * ENLARGED).backward()
        reference = gradients()
        found = []
        for packs in packings:
            for pack in packs:
                backward_pack(model, pack, ENLARGED, attention=attention)
            found.append(gradients())
    finally:
        model.train(was_training)
        for parameter, gradient in zip(trained, before, strict=True):
            parameter.grad = gradient

    def squares(tensors: Iterable[Tensor]) -> float:
        return sum(float(one.double().square().sum()) for one in tensors)

    size = squares(reference) or 1.0
    away = _farthest(
        squares(a.double() - b.double() for a, b in zip(reference, own, strict=True))
        for own in found
    )
    return (away / size) ** 0.5
