"""Keep a training step on a CPU near the speed of its matrix products; measured in docs/log.md."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch.nn.functional import linear, silu

from qc_experiments.models.transformers_hooks import (
    PlainLora,
    has_llamas_mlp,
    has_llamas_norm,
    plain_lora,
)


def lean_layers(model: Any) -> int:
    """Compute a model's layers with fewer passes over memory and less kept for the way back.

    PEFT computes ``base(x) + B(A(dropout(x))) * scaling`` as operations of which most only move numbers.
    Without dropout the update is added in the matrix product itself, which gives the same gradients up
    to rounding. With dropout the operations are PEFT's own, bit by bit, but of the dropout one byte per
    number is kept instead of eight. Layers with DoRA, quantized or trained base weights, or several
    adapters are left to PEFT. Gated MLPs and RMS norms whose code is Llama's (as most families' is) keep
    less for the backward pass, and norms make fewer passes; others are left alone.

    Args:
        model: a PEFT model on a CPU; its layers are changed in place.

    Returns:
        Number of LoRA layers changed.
    """
    count = 0
    for module in model.modules():
        if type(module) is LoraLinear:
            module.__class__ = LeanLoraLinear
            count += 1
        elif has_llamas_mlp(module):
            module.__class__ = type("LeanGatedMlp", (LeanGatedMlp, type(module)), {})
        elif has_llamas_norm(module):
            module.__class__ = type("LeanRmsNorm", (LeanRmsNorm, type(module)), {})
    return count


class LeanLoraLinear(LoraLinear):
    """PEFT's LoRA layer, computed in fewer passes where that is the same."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The layer's output, [..., out], from its input, [..., in]."""
        lora = self.plain(x) if not args and not kwargs else None
        if lora is None:
            whole: torch.Tensor = super().forward(x, *args, **kwargs)
            return whole
        if lora.dropout:
            # Twice, so that its two gradients are added up in PEFT's order: the same bits.
            dropped: torch.Tensor = _DroppedLowRank.apply(x, x, lora.a, lora.b, lora)
            return dropped
        found: torch.Tensor = _AddedLowRank.apply(x, lora.a, lora.b, lora)
        return found

    def plain(self, x: torch.Tensor) -> PlainLora | None:
        """The one adapter that is active, or None where PEFT has to compute this layer."""
        lora = plain_lora(self)
        if lora is None or x.is_cuda or lora.weight.requires_grad:
            return None
        trained_bias = lora.bias is not None and lora.bias.requires_grad
        same = x.dtype == lora.weight.dtype == lora.a.dtype == torch.float32
        return lora if same and not trained_bias else None


class LeanGatedMlp(torch.nn.Module):
    """Llama's MLP, which forgets the product of its gate and computes it again when it goes back."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output, [..., width], from its input, [..., width]."""
        down: Any = self.down_proj
        gate, up = self.gate_proj(x), self.up_proj(x)
        lora = down.plain(gate) if isinstance(down, LeanLoraLinear) else None
        if lora is None or lora.dropout:
            plain: torch.Tensor = down(self.act_fn(gate) * up)
            return plain
        found: torch.Tensor = _GatedLowRank.apply(gate, up, lora.a, lora.b, lora)
        return found


class LeanRmsNorm(torch.nn.Module):
    """Llama's RMS norm in fewer passes over memory, in training with its weight frozen, in float32."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The normed states, [..., width]."""
        weight: Any = self.weight
        frozen = torch.is_grad_enabled() and not weight.requires_grad
        if not (frozen and hidden_states.dtype == weight.dtype == torch.float32):
            whole: torch.Tensor = super().forward(hidden_states)
            return whole
        found: torch.Tensor = _RmsNorm.apply(hidden_states, weight, self.variance_epsilon)
        return found


class _DroppedLowRank(torch.autograd.Function):
    """``x W' + b + scaling dropout(x) A' B'`` with W and b frozen, in the operations of torch and PEFT.

    The input comes twice: as what is dropped from, and as what the base layer takes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        dropped_from: torch.Tensor,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        lora: PlainLora,
    ) -> torch.Tensor:
        noise = torch.empty_like(x).bernoulli_(1 - lora.dropout)  # as torch drops on a CPU
        kept = noise.bool()
        low = linear(x * noise.div_(1 - lora.dropout), a)
        ctx.save_for_backward(x, kept, low, a, b)
        ctx.lora = lora
        return linear(x, lora.weight, lora.bias).add_(linear(low, b).mul_(lora.scaling))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, kept, low, a, b = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        noise = kept.to(x.dtype).div_(1 - ctx.lora.dropout)
        of_up = gradient * ctx.lora.scaling
        of_low = of_up @ b
        of_b = of_up.T @ low.reshape(-1, low.shape[-1])
        of_a = of_low.T @ (x * noise).reshape(-1, x.shape[-1])
        through_dropout = through_base = None
        if ctx.needs_input_grad[0]:
            through_dropout = (of_low @ a).view(x.shape).mul_(noise)
            through_base = (gradient @ ctx.lora.weight).view(x.shape)
        return through_dropout, through_base, of_a, of_b, None


class _RmsNorm(torch.autograd.Function):
    """``x / sqrt(mean(x^2) + epsilon) * weight`` with the weight frozen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        inverse = squares.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        of_x = gradients[0] * weight
        along = (of_x * x).sum(-1, keepdim=True)
        along.mul_(inverse.square()).div_(-x.shape[-1])
        return torch.addcmul(of_x, x, along).mul_(inverse), None, None


class _GatedLowRank(torch.autograd.Function):
    """``h W' + b + scaling h A' B'`` of ``h = silu(gate) * up``, which is not kept."""

    @staticmethod
    def forward(
        ctx: Any,
        gate: torch.Tensor,
        up: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        lora: PlainLora,
    ) -> torch.Tensor:
        flat = silu(gate).mul_(up).view(-1, gate.shape[-1])
        low = flat @ a.T
        out = _base(flat, lora).addmm_(low, b.T, alpha=lora.scaling)
        ctx.save_for_backward(gate, up, low, a, b)
        ctx.lora = lora
        return out.view(*gate.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gate, up, low, a, b = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        opened = torch.sigmoid(gate)
        silu_of_gate = gate * opened
        flat = (silu_of_gate * up).view(-1, gate.shape[-1])
        of_low = (gradient @ b).mul_(ctx.lora.scaling)
        of_a = of_low.T @ flat
        of_b = (gradient.T @ low).mul_(ctx.lora.scaling)
        of_flat = (gradient @ ctx.lora.weight).addmm_(of_low, a).view(gate.shape)
        of_up = of_flat * silu_of_gate
        # silu'(g) = s + g s (1 - s) = s + silu(g) (1 - s), with s the logistic function of g
        slope = silu_of_gate.mul_(1 - opened).add_(opened)
        of_gate = of_flat.mul_(up).mul_(slope)
        return of_gate, of_up, of_a, of_b, None


class _AddedLowRank(torch.autograd.Function):
    """``x W' + b + scaling x A' B'`` with W and b frozen."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, lora: PlainLora
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        low = flat @ a.T
        out = _base(flat, lora).addmm_(low, b.T, alpha=lora.scaling)
        ctx.save_for_backward(flat, low, a, b)
        ctx.lora, ctx.shape = lora, x.shape
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, low, a, b = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        of_low = (gradient @ b).mul_(ctx.lora.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ ctx.lora.weight).addmm_(of_low, a).view(ctx.shape)
        return of_x, of_low.T @ flat, (gradient.T @ low).mul_(ctx.lora.scaling), None


def _base(flat: torch.Tensor, lora: PlainLora) -> torch.Tensor:
    if lora.bias is None:
        return flat @ lora.weight.T
    return torch.addmm(lora.bias, flat, lora.weight.T)
