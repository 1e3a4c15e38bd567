"""Keep a training step on a CPU near the speed of its matrix products; measured in docs/log.md."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor
from torch.nn.functional import linear, silu

from qc_experiments.models.transformers_hooks import (
    PlainLora,
    has_llamas_mlp,
    has_llamas_norm,
    plain_lora,
)

COMPUTED = (torch.float32, torch.bfloat16)
"""Number formats of the weights with which layers are computed here."""


def lean_layers(model: Any) -> int:
    """Compute a model's layers with fewer passes over memory and less kept for the way back.

    PEFT computes ``base(x) + B(A(dropout(x))) * scaling`` as operations of which most only move numbers.
    Without dropout the update is added in the matrix product itself, which gives the same gradients up
    to rounding. With dropout the operations are PEFT's own, bit by bit, but of the dropout one byte per
    number is kept instead of eight. Layers with DoRA, quantized or trained base weights, or several
    adapters are left to PEFT. Gated MLPs and RMS norms whose code is Llama's (as most families' is) keep
    less for the backward pass, and norms make fewer passes; others are left alone. With bfloat16 weights the
    products are bfloat16's as well, and an adapter in float32 gets its gradients in float32; PEFT would turn
    each layer's input into float32, and keep that.

    The layers of a PEFT model are changed in place; returns how many of LoRA's are. On a GPU it is LoRA's
    alone, and only while nothing is trained: an answer's token costs fewer calls so.
    """
    count = 0
    for module in model.modules():
        if type(module) is LoraLinear:
            module.__class__ = LeanLoraLinear
            count += 1
        elif model.device.type != "cpu":
            continue
        elif has_llamas_mlp(module):
            module.__class__ = type("LeanGatedMlp", (LeanGatedMlp, type(module)), {})
        elif has_llamas_norm(module):
            module.__class__ = type("LeanRmsNorm", (LeanRmsNorm, type(module)), {})
    return count


class LeanLoraLinear(LoraLinear):
    """PEFT's LoRA layer, computed in fewer passes where that is the same."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output, [..., out], from its input, [..., in]."""
        lora = self.plain(x) if not args and not kwargs else None
        if lora is None:
            return super().forward(x, *args, **kwargs)
        if lora.dropout:
            # Twice, so that its two gradients are added up in PEFT's order: the same bits.
            return _DroppedLowRank.apply(x, x, lora.a, lora.b, lora)
        return _AddedLowRank.apply(x, lora.a, lora.b, lora)

    def plain(self, x: Tensor) -> PlainLora | None:
        """The one adapter that is active, or None where PEFT has to compute this layer."""
        lora = plain_lora(self)
        if lora is None or lora.weight.requires_grad or (x.is_cuda and torch.is_grad_enabled()):
            return None
        kind = x.device.type
        if torch.is_autocast_enabled(kind) and x.dtype != torch.get_autocast_dtype(kind):
            return None  # products would be cast
        trained_bias = lora.bias is not None and lora.bias.requires_grad
        same = x.dtype == lora.weight.dtype and lora.a.dtype == torch.float32
        return lora if same and x.dtype in COMPUTED and not trained_bias else None


class LeanGatedMlp(torch.nn.Module):
    """Llama's MLP, which forgets the product of its gate and computes it again when it goes back."""

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, [..., width], from its input, [..., width]."""
        down: Any = self.down_proj
        gate, up = self.gate_proj(x), self.up_proj(x)
        lora = down.plain(gate) if isinstance(down, LeanLoraLinear) else None
        if lora is None or lora.dropout:
            return down(self.act_fn(gate) * up)
        return _GatedLowRank.apply(gate, up, lora.a, lora.b, lora)


class LeanRmsNorm(torch.nn.Module):
    """Llama's RMS norm in fewer passes over memory, in training with its weight frozen."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The normed states, [..., width]."""
        weight: Any = self.weight
        frozen = torch.is_grad_enabled() and not weight.requires_grad
        if not (frozen and hidden_states.dtype == weight.dtype and weight.dtype in COMPUTED):
            return super().forward(hidden_states)
        return _RmsNorm.apply(hidden_states, weight, self.variance_epsilon)


class _DroppedLowRank(torch.autograd.Function):
    """``x W' + b + scaling dropout(x) A' B'`` with W and b frozen, in the operations of torch and PEFT.

    The input comes twice: as what is dropped from, and as what the base layer takes.
    """

    @staticmethod
    def forward(
        ctx: Any, dropped_from: Tensor, x: Tensor, a: Tensor, b: Tensor, lora: PlainLora
    ) -> Tensor:
        noise = torch.empty_like(x).bernoulli_(1 - lora.dropout)  # as torch drops on a CPU
        kept = noise.bool()
        low = linear(x * noise.div_(1 - lora.dropout), a.to(x.dtype))
        ctx.save_for_backward(x, kept, low, a, b)
        ctx.lora = lora
        update = linear(low, b.to(x.dtype)).mul_(lora.scaling)
        return linear(x, lora.weight, lora.bias).add_(update)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, kept, low, a, b = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        noise = kept.to(x.dtype).div_(1 - ctx.lora.dropout)
        of_up = gradient * ctx.lora.scaling
        of_low = of_up @ b.to(x.dtype)
        of_b = (of_up.T @ low.reshape(-1, low.shape[-1])).to(b.dtype)
        of_a = (of_low.T @ (x * noise).reshape(-1, x.shape[-1])).to(a.dtype)
        through_dropout = through_base = None
        if ctx.needs_input_grad[0]:
            through_dropout = (of_low @ a.to(x.dtype)).view(x.shape).mul_(noise)
            through_base = (gradient @ ctx.lora.weight).view(x.shape)
        return through_dropout, through_base, of_a, of_b, None


class _RmsNorm(torch.autograd.Function):
    """``x / sqrt(mean(x^2) + epsilon) * weight`` with the weight frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        squares = norm.square_()
        inverse = squares.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        of_x = (gradients[0] * weight).float()
        along = (of_x * x).sum(-1, keepdim=True)
        along.mul_(inverse.square()).div_(-x.shape[-1])
        return torch.addcmul(of_x, x.float(), along).mul_(inverse).to(x.dtype), None, None


class _GatedLowRank(torch.autograd.Function):
    """``h W' + b + scaling h A' B'`` of ``h = silu(gate) * up``, which is not kept."""

    @staticmethod
    def forward(
        ctx: Any, gate: Tensor, up: Tensor, a: Tensor, b: Tensor, lora: PlainLora
    ) -> Tensor:
        flat = silu(gate).mul_(up).view(-1, gate.shape[-1])
        out, low = _with_low_rank(flat, a, b, lora)
        ctx.save_for_backward(gate, up, low, a, b)
        ctx.lora = lora
        return out.view(*gate.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, low, a, b = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        opened = torch.sigmoid(gate)
        silu_of_gate = gate * opened
        flat = (silu_of_gate * up).view(-1, gate.shape[-1])
        of_low, of_a, of_b = _low_rank_gradients(gradient, flat, low, b, ctx.lora)
        of_flat = (gradient @ ctx.lora.weight).addmm_(of_low, a.to(of_low.dtype)).view(gate.shape)
        of_up = of_flat * silu_of_gate
        # silu'(g) = s + g s (1 - s) = s + silu(g) (1 - s), with s the logistic function of g
        slope = silu_of_gate.mul_(1 - opened).add_(opened)
        of_gate = of_flat.mul_(up).mul_(slope)
        return of_gate, of_up, of_a, of_b, None


class _AddedLowRank(torch.autograd.Function):
    """``x W' + b + scaling x A' B'`` with W and b frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, lora: PlainLora) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        out, low = _with_low_rank(flat, a, b, lora)
        ctx.save_for_backward(flat, low, a, b)
        ctx.lora, ctx.shape = lora, x.shape
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, low, a, b = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        of_low, of_a, of_b = _low_rank_gradients(gradient, flat, low, b, ctx.lora)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ ctx.lora.weight).addmm_(of_low, a.to(of_low.dtype)).view(ctx.shape)
        return of_x, of_a, of_b, None


def _with_low_rank(flat: Tensor, a: Tensor, b: Tensor, lora: PlainLora) -> tuple[Tensor, Tensor]:
    low = flat @ a.T.to(flat.dtype)
    out = linear(flat, lora.weight, lora.bias)
    return out.addmm_(low, b.T.to(flat.dtype), alpha=lora.scaling), low


def _low_rank_gradients(
    gradient: Tensor, flat: Tensor, low: Tensor, b: Tensor, lora: PlainLora
) -> tuple[Tensor, Tensor, Tensor]:
    of_low = (gradient @ b.to(gradient.dtype)).mul_(lora.scaling)
    of_b = (gradient.T @ low).mul_(lora.scaling)
    return of_low, (of_low.T @ flat).to(b.dtype), of_b.to(b.dtype)
