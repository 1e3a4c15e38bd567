"""Which prompts share a prefix, and which models can compute it once for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from qc_experiments.generation.token_tree import TokenTree
from qc_experiments.models.loss import evaluating
from qc_experiments.models.transformers_hooks import attention_kernel, is_recurrent
from qc_experiments.packing.agreement import is_coarse
from qc_experiments.packing.prefix_tree import common_prefix

SUFFIX_COST = 2
"""What a prompt's own token costs, measured in tokens of a prefix: its attention goes over the
prefix, and over all texts that are computed with it."""
AGREEMENT = 1e-3
"""Largest difference of logits, as a share of the largest logit, that passes for rounding."""
COARSE_AGREEMENT = 0.1
"""The same where rounding is coarse: 16-bit or quantized models."""


@dataclass(frozen=True)
class Group:
    """Prompts that begin with the same tokens.

    Attributes:
        prefix: how many.
        members: their places among all prompts.
    """

    prefix: int
    members: tuple[int, ...]


def group_prompts(prompts: Sequence[Sequence[int]]) -> list[Group]:
    """Put prompts with long common prefixes together, so that little is computed.

    In lexicographic order, all prompts with a certain common prefix form a run. Runs nest: each
    becomes one group if that costs no more than the best groups within it, from the innermost on.
    The last token of a prompt never belongs to the prefix, since its answer begins after it.

    Args:
        prompts: tokens of each prompt.

    Returns:
        The groups, the longest prefix first.
    """
    order = sorted(range(len(prompts)), key=lambda number: list(prompts[number]))
    common = [_common(prompts[one], prompts[next_one]) for one, next_one in pairwise(order)]
    opened: list[tuple[int, list[Group]]] = []  # common tokens, and the best groups within so far
    for number, after in zip(order, [*common, -1], strict=False):
        groups = [Group(len(prompts[number]) - 1, (number,))]
        while opened and opened[-1][0] > after:
            prefix, within = opened.pop()
            groups = _cheaper(prefix, within + groups, prompts)
        if opened and opened[-1][0] == after:
            opened[-1][1].extend(groups)
        else:
            opened.append((after, groups))
    groups = opened[0][1] if opened else []
    return sorted(groups, key=lambda group: group.prefix, reverse=True)


def _cheaper(prefix: int, groups: list[Group], prompts: Sequence[Sequence[int]]) -> list[Group]:
    """One group with the prefix that all have in common, or the groups, whichever costs less."""
    one = Group(prefix, tuple(number for group in groups for number in group.members))
    cheaper = _cost(one, prompts) <= sum(_cost(group, prompts) for group in groups)
    return [one] if cheaper else groups


def _cost(group: Group, prompts: Sequence[Sequence[int]]) -> int:
    """Of computing a group, in tokens of a prefix."""
    own = sum(len(prompts[number]) - group.prefix for number in group.members)
    return group.prefix + SUFFIX_COST * own


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix, the last token of each left out."""
    return min(common_prefix(one, other), len(one) - 1, len(other) - 1)


def cannot_share_prefixes(model: Any, longest: int) -> str | None:
    """Why a model cannot share the prefixes of prompts, or None if it can.

    Args:
        model: a causal language model.
        longest: most tokens of a prompt and its answer together.
    """
    config = model.config.get_text_config()
    attention = attention_kernel(config)
    if attention not in ("sdpa", "eager"):
        return f"attention by {attention} takes no mask but its own"
    if is_recurrent(model):
        return "the model is recurrent"
    for layer in DynamicCache(config=config).layers:
        if isinstance(layer, DynamicSlidingWindowLayer):
            if layer.sliding_window < longest:
                return (
                    f"the model's sliding window of {layer.sliding_window} tokens is shorter than "
                    f"the longest text of {longest}"
                )
        elif type(layer) is not DynamicLayer:
            return f"the model has layers beside plain attention ({type(layer).__name__})"
    for parameters in _rope_parameters(config):
        window = parameters.get("original_max_position_embeddings")
        window = window or config.max_position_embeddings
        if parameters.get("rope_type") in ("dynamic", "longrope") and longest > window:
            return f"texts beyond {window} tokens change how the model counts positions"
    if not agrees(model):
        return "the model computes something else when texts share a cache"
    return None


def _rope_parameters(config: Any) -> Iterator[dict[str, Any]]:
    """Settings of rotary positions: one dictionary, or one for each type of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    if "rope_type" in parameters:
        yield parameters
    else:
        yield from (inner for inner in parameters.values() if isinstance(inner, dict))


def agrees(model: Any) -> bool:
    """Whether two short texts have the same logits in a tree as each alone.

    It finds models that take their positions or their attention's bias from the cache, whatever
    their config says.

    Args:
        model: a causal language model; left in the mode it was in.
    """
    weight = model.get_input_embeddings().weight
    ids = [number % weight.shape[0] for number in range(5, 21)]
    prefix, own = ids[:8], [ids[8:11], ids[11:]]
    try:
        with evaluating(model):
            alone = [
                model(input_ids=torch.tensor([prefix + tokens], device=weight.device)).logits[0, -1]
                for tokens in own
            ]
            tree = TokenTree(model, len(own), 1)
            branches, _ = tree.extend(tree.prefill(prefix), [tokens[:-1] for tokens in own])
            shared = tree.step(branches, [tokens[-1] for tokens in own])
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False  # a forward of its own that does not take what is asked of it
    expected = torch.stack(alone).float()
    allowed = (COARSE_AGREEMENT if is_coarse(model) else AGREEMENT) * expected.abs().max()
    return bool((shared.float() - expected).abs().max() <= allowed)
