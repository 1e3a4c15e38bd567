"""Cross entropy at the places that predict a label; no tensor [batch, length, vocabulary] appears.

A model's head turns hidden states, [places, width], into logits, [places, vocabulary], which for a
vocabulary of 50 or 150 thousand are by far the largest numbers of a step. The head is therefore run on
a few places at a time, and each part's gradient is taken at once, so that its logits can be forgotten
(Hsu et al. 2024, "Liger Kernel", arXiv:2410.10989, section 3.2, here with any model's own head).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from qc_experiments.data.encode import IGNORED, Example

LOGITS_AT_ONCE = 2**24  # logits that are there at once (64 MiB in float32)
GPU_LOGITS_AT_ONCE = 2**27  # fewer would leave a GPU idle between them


def label_loss(
    model: Any,
    inputs: dict[str, Any],  # what the model is called with; input_ids is [batch, length]
    places: Tensor,  # which predict, [labels], counted through the flattened batch
    targets: Tensor,  # the labels, [labels]
    weights: Tensor | None = None,  # what each label counts, [labels]; None counts each once
) -> Tensor:
    """Cross entropy of some labels, summed; a scalar in nats, with its gradient."""
    inner = unwrapped(model)
    backbone = getattr(inner, "base_model", inner)
    if backbone is inner or inner.get_output_embeddings() is None:  # unlike nearly all models
        logits = model(**inputs, use_cache=False).logits.flatten(0, 1)[places]
        return _summed(logits, targets, weights)
    output = _backbone_output(model, backbone, inputs)
    hidden = output.last_hidden_state.flatten(0, 1)[places]

    logits_of = partial(_logits, inner, output)
    at_once = GPU_LOGITS_AT_ONCE if hidden.is_cuda else LOGITS_AT_ONCE
    rows = max(1, at_once // inner.config.get_text_config().vocab_size)
    if len(targets) <= rows or not torch.is_grad_enabled():
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            chosen = None if weights is None else weights[part]
            total = total + _summed(logits_of(hidden[part]), targets[part], chosen)
        return total
    head = inner.get_output_embeddings()
    trained = [p for p in head.parameters() if p.requires_grad]
    return _InParts.apply(logits_of, rows, targets, weights, hidden, *trained)


def unwrapped(model: Any) -> Any:
    """The model of transformers within DistributedDataParallel and PEFT."""
    while hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Without gradients and dropout; the model is left in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _summed(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return cross_entropy(logits.float(), targets, reduction="sum")
    return (cross_entropy(logits.float(), targets, reduction="none") * weights).sum()


def _summed_with_gradient(
    logits: Tensor, targets: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The same, and its gradient with respect to the logits, in few passes over memory.

    The gradient is the softmax less one at the target, times the label's weight.
    """
    places = targets[:, None]
    scores = logits.to(
        torch.float32, copy=True
    )  # the model's own code may need them on the way back
    picked = scores.gather(1, places)
    most = scores.amax(1, keepdim=True)
    scores.sub_(most).exp_()
    sums = scores.sum(1, keepdim=True)
    losses = sums.log() + most - picked
    counts = torch.ones_like(losses) if weights is None else weights[:, None].to(losses.dtype)
    scores.mul_(counts / sums)
    scores.scatter_(1, places, scores.gather(1, places) - counts)  # no sums, whose order may vary
    return (losses * counts).sum(), scores.to(logits.dtype)


def _backbone_output(model: Any, backbone: Any, inputs: dict[str, Any]) -> Any:
    """Run a model as a whole, for the sake of whatever wraps it, but give its head no places."""
    kept: list[Any] = []

    def forward(*arguments: Any, **options: Any) -> Any:
        output = run(*arguments, **options)
        kept.append(output.last_hidden_state)
        output.last_hidden_state = output.last_hidden_state[:, :0]
        kept.append(output)
        return output

    with _forward(backbone, forward) as run:
        model(**inputs, use_cache=False)
    hidden, output = kept
    output.last_hidden_state = hidden
    return output


def _logits(inner: Any, output: Any, hidden: Tensor) -> Tensor:
    """What a model's own code makes of hidden states [places, width]: logits [places, vocabulary]."""
    given = copy.copy(output)
    weight = inner.get_output_embeddings().weight
    if weight.is_floating_point():  # mixed precision leaves hidden states in float32
        hidden = hidden.to(weight.dtype)
    given.last_hidden_state = hidden[None]
    placeholder = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
    with _forward(inner.base_model, lambda *_, **__: given):
        return inner(input_ids=placeholder, use_cache=False).logits[0]


@contextmanager
def _forward(module: Any, forward: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Let a module compute something else for a while; gives what it computed before."""
    before = module.forward
    own = "forward" in vars(module)
    module.forward = forward
    try:
        yield before
    finally:
        if own:
            module.forward = before
        else:
            del module.forward


class _InParts(torch.autograd.Function):
    """Loss of hidden states, some at a time; gradients are taken in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        logits_of: Callable[[Tensor], Tensor],
        rows: int,
        targets: Tensor,
        weights: Tensor | None,
        hidden: Tensor,
        *trained: Tensor,
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        of_hidden = torch.zeros_like(hidden)
        of_trained = [torch.zeros_like(p) for p in trained]
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            some = hidden[part].detach().requires_grad_()
            chosen = None if weights is None else weights[part]
            with torch.enable_grad():
                logits = logits_of(some)
            loss, of_logits = _summed_with_gradient(logits.detach(), targets[part], chosen)
            own, *others = torch.autograd.grad(logits, [some, *trained], of_logits)
            of_hidden[part] = own
            for sums, gradient in zip(of_trained, others, strict=True):
                sums += gradient
            total += loss
        ctx.save_for_backward(of_hidden, *of_trained)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, None, *(kept * gradients[0] for kept in ctx.saved_tensors)


def pad_batch(
    examples: Sequence[Example], pad_id: int = 0, *, length: int = 0
) -> dict[str, Tensor]:
    """Examples padded on the right: ``input_ids``, ``attention_mask``, ``labels``, each [rows, length].

    They are as long as the longest row, and at least ``length``; padding is not attended to.
    """
    length = max(length, *map(len, examples))
    batch: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for example in examples:
        padding = length - len(example)
        batch["input_ids"].append(example.input_ids + [pad_id] * padding)
        batch["attention_mask"].append([1] * len(example) + [0] * padding)
        batch["labels"].append(example.labels + [IGNORED] * padding)
    return {key: torch.tensor(rows) for key, rows in batch.items()}


def summed_loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """The same of the labels of a batch of `pad_batch`, in which position t predicts label t + 1."""
    labels = batch["labels"]
    predicts = torch.zeros_like(labels, dtype=torch.bool)
    predicts[:, :-1] = labels[:, 1:] != IGNORED
    targets = labels[:, 1:][predicts[:, :-1]]
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    return label_loss(model, inputs, predicts.flatten().nonzero()[:, 0], targets)
