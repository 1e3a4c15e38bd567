"""Loss and gradients of packed rows, pass by pass.

In a pack of several passes, the trunk is computed first, and its keys and values are kept with their
history; then the rows after it, some at a time, each with a backward pass at once, so that only the trunk
and one pass are in memory; last the trunk's own backward pass, with the gradients that the others left on
its keys and values. This is the chain rule cut there, and so exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from qc_experiments.config.schema import PackAttention
from qc_experiments.data.encode import Example
from qc_experiments.models.loss import label_loss, unwrapped
from qc_experiments.models.transformers_hooks import attending
from qc_experiments.packing.attention import PackedAttention, TrunkStates
from qc_experiments.packing.pack_tensors import PackTensors
from qc_experiments.packing.prefix_tree import Pack

FOLDED = (torch.bfloat16,)  # in which `folded_attention` beats torch's kernel on a CPU
PADDED_TOKENS = 2048  # tokens of a padded batch, where packs cannot be used


def pack_loss(
    model: Any, pack: Pack | PackTensors, attention: PackAttention = PackAttention.blocks
) -> Tensor:
    """Cross entropy of a pack's labels, summed over its rows; a scalar in nats, without gradient."""
    given = PackTensors.of(pack, model.device)
    with torch.no_grad():
        trunk = TrunkStates()
        total = torch.zeros((), device=model.device)
        for span in given.pack.passes:
            with _attending(model, given, span, trunk, attention):
                total += _pass_loss(model, given, span)
    return total


def backward_pack(
    model: Any,
    pack: Pack | PackTensors,
    scale: Tensor | float = 1.0,
    scaled: Callable[[Tensor], Tensor] = lambda loss: loss,
    *,
    attention: PackAttention = PackAttention.blocks,
) -> Tensor:
    """The same with a backward pass: gradients are added to those of the model's weights.

    The loss is multiplied by ``scale``, and ``scaled`` further where the returned one does not show it, as
    for float16.
    """
    given = PackTensors.of(pack, model.device)
    first, *others = given.pack.passes
    trunk = TrunkStates() if others else None
    with _attending(model, given, first, trunk, attention):
        loss = _pass_loss(model, given, first) * scale
        if trunk is None:
            scaled(loss).backward()
            return loss.detach()
    total = loss.detach()
    for span in others:
        with _attending(model, given, span, trunk, attention):
            of_pass = _pass_loss(model, given, span) * scale
            scaled(of_pass).backward()
        total += of_pass.detach()
    # Layers that are checkpointed compute the trunk again: within its own attention.
    with _attending(model, given, first, trunk, attention):
        states, gradients = trunk.gradients()
        if loss.requires_grad:
            ones = scaled(torch.ones_like(loss.detach()))
            torch.autograd.backward([loss, *states], [ones, *gradients])
        else:
            torch.autograd.backward(states, gradients)
    return total


def _attending(
    model: Any,
    pack: PackTensors,
    span: tuple[int, int],
    trunk: TrunkStates | None,
    attention: PackAttention,
) -> Any:
    """A context in which a model attends within a pass, forward and backward."""
    if attention is PackAttention.flex:
        from qc_experiments.packing.flex_attention import FlexAttention

        return attending(model, FlexAttention(pack, span, trunk))
    whole = attention is PackAttention.mask
    folds = unwrapped(model).dtype in FOLDED and model.device.type == "cpu" and not whole
    return attending(model, PackedAttention(pack, span, trunk, whole, folds))


def _pass_loss(model: Any, pack: PackTensors, span: tuple[int, int]) -> Tensor:
    places, targets, weights = pack.labels_within(span)
    return label_loss(model, pack.inputs(span), places, targets, weights)


def padded_parts(examples: Sequence[Example]) -> list[list[Example]]:
    """Rows of about the same length, in batches of at most `PADDED_TOKENS` with padding."""
    found: list[list[Example]] = []
    for example in sorted(examples, key=len):
        if found and (len(found[-1]) + 1) * len(example) <= PADDED_TOKENS:
            found[-1].append(example)
        else:
            found.append([example])
    return found


def average_gradients(model: Any) -> None:
    """Average the gradients of all processes, which have the same weights to train."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = parameters_to_vector(p.grad for p in trained)
    torch.distributed.all_reduce(flat)
    vector_to_parameters(flat / torch.distributed.get_world_size(), [p.grad for p in trained])
