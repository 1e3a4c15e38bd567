"""Keep a training step on a CPU near the speed of its matrix products; measured in docs/log.md."""

from __future__ import annotations

import ctypes
import logging
import sys
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear

log = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Names of glibc's malloc.h."""


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, where the C library is glibc.

    By default glibc gives large blocks back to the system, which clears and maps them anew at each
    step. Nothing is computed otherwise.

    Returns:
        Whether glibc took it.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False  # musl, say
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20))
    taken = [bool(mallopt(what, value)) for what, value in settings]
    return all(taken)


def lean_lora(model: Any) -> int:
    """Compute the model's LoRA layers with fewer passes over memory, with the same gradients.

    PEFT computes ``base(x) + B(A(x)) * scaling`` as five operations of which three only move numbers.
    Here the update is added in the matrix product itself, forward and backward. Layers with dropout,
    DoRA, quantized or trained base weights, or several adapters are left to PEFT.

    Args:
        model: a PEFT model on a CPU; its layers are changed in place.

    Returns:
        Number of layers changed.
    """
    layers = [module for module in model.modules() if type(module) is LoraLinear]
    for layer in layers:
        layer.__class__ = LeanLoraLinear
    return len(layers)


class LeanLoraLinear(LoraLinear):
    """PEFT's LoRA layer, computed in fewer passes where that is the same."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The layer's output, [..., out], from its input, [..., in]."""
        name = self._plain_adapter(x) if not args and not kwargs else None
        if name is None:
            whole: torch.Tensor = super().forward(x, *args, **kwargs)
            return whole
        base = self.get_base_layer()
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        found: torch.Tensor = _AddedLowRank.apply(
            x, base.weight, base.bias, down, up, self.scaling[name]
        )
        return found

    def _plain_adapter(self, x: torch.Tensor) -> str | None:
        """The one adapter that is active, or None where PEFT has to compute this layer."""
        base = self.get_base_layer()
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return None
        name: str = self.active_adapters[0]
        if name not in self.lora_A or name in self.lora_variant or self.lora_bias[name]:
            return None
        dropout = self.lora_dropout[name]
        if isinstance(dropout, torch.nn.Dropout) and dropout.p > 0 and self.training:
            return None
        same = x.dtype == base.weight.dtype == self.lora_A[name].weight.dtype == torch.float32
        plain = type(base) is torch.nn.Linear and not base.weight.requires_grad and not x.is_cuda
        trained_bias = base.bias is not None and base.bias.requires_grad
        return name if same and plain and not trained_bias else None


class _AddedLowRank(torch.autograd.Function):
    """``x W' + b + scaling x A' B'`` with W and b frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        low = flat @ down.T
        out = flat @ weight.T if bias is None else torch.addmm(bias, flat, weight.T)
        out.addmm_(low, up.T, alpha=scaling)
        ctx.save_for_backward(flat, low, weight, down, up)
        ctx.scaling, ctx.shape = scaling, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, low, weight, down, up = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        of_low = (gradient @ up).mul_(ctx.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ weight).addmm_(of_low, down).view(ctx.shape)
        of_down = of_low.T @ flat
        of_up = (gradient.T @ low).mul_(ctx.scaling)
        return of_x, None, None, of_down, of_up, None
