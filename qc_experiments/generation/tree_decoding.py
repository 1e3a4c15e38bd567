"""Answer many prompts that begin alike, and compute what they share once, exactly.

Questions about one database have its schema in common, most of each prompt. The prompts are put
into groups of a common prefix, which is computed once; each question adds its own few tokens, and
answers of many questions are written at the same time, each seeing its own text only
(`token_tree`). An answer that is done makes room for the next question at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from qc_experiments.generation.decoding import Answer, AnswerSettings, Writer
from qc_experiments.generation.prefixes import Group, group_prompts
from qc_experiments.generation.searches import Beams, Candidates, Search
from qc_experiments.generation.token_tree import Branch, Prefix, TokenTree
from qc_experiments.models.loss import evaluating
from qc_experiments.sql.prefix_check import PrefixCheck

REFILL = 0.25
"""Share of the batch that is free before waiting prompts are taken up: on two CPU cores, a token costs
6 ms in a forward of 16, and 2 ms in one of 128."""


def tree_decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: AnswerSettings,
    complete: Callable[[str], bool] | None = None,
    on_answer: Callable[[int], None] | None = None,
    checks: Sequence[PrefixCheck | None] | None = None,
) -> list[list[Answer]]:
    """Answer prompts.

    Args:
        model: a causal language model that `prefixes.cannot_share_prefixes`; left in the mode it was in.
        prompts: tokens of each prompt, one at least.
        settings: how; ``batch_size`` counts texts that are written at once, each with memory for
            the longest text: a prompt takes one for each candidate or beam, and one prompt is
            answered in any case.
        complete: whether an answer's text is complete, so that it ends there (as
            `answer_complete`); must be false for a text without semicolon and backtick.
        on_answer: called with the number of prompts just answered, for progress.
        checks: for each prompt what its answers must be able to become, or None.

    Returns:
        For each prompt its candidates: the best first with beams, else in the order of their
        numbers.
    """
    if not prompts:
        return []
    writer = Writer(settings, complete)
    with evaluating(model):
        searches = _Decoder(model, prompts, settings, writer, checks).run(on_answer)
    return [[writer.answer(hypothesis) for hypothesis in one.best()] for one in searches]


@dataclass
class _Active:
    """A prompt that is being answered.

    Attributes:
        number: its place among the prompts.
        search: for its answers.
        branches: of the tree, one for each of its texts.
    """

    number: int
    search: Search
    branches: list[Branch]


class _Decoder:
    """Extends in a tree what searches choose."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        settings: AnswerSettings,
        writer: Writer,
        checks: Sequence[PrefixCheck | None] | None,
    ) -> None:
        self._prompts, self._checks = prompts, checks
        self._writer = writer
        self._decoding = settings.decoding
        self._search_type: type[Search] = Beams if self._decoding.num_beams > 1 else Candidates
        width = self._decoding.width
        self._together = max(settings.batch_size // width, 1)  # prompts answered at a time
        rows = min(self._together, len(prompts)) * width
        self._tree = TokenTree(model, rows, settings.max_new_tokens)
        self._groups = deque(group_prompts(prompts))
        self._prefix: Prefix | None = None  # of the first group
        self._active: list[_Active] = []

    def run(self, on_answer: Callable[[int], None] | None) -> list[Search]:
        """Answer all prompts; returns the searches, which are over, in the prompts' order."""
        found: dict[int, Search] = {}
        while self._active or self._groups:
            parts = self._step() + self._begin()
            logits = parts[0] if len(parts) == 1 else torch.cat(parts)
            going = self._search_type.step([active.search for active in self._active], logits)
            for active, places in zip(self._active, going, strict=True):
                self._follow(active, places)
                if not places:
                    found[active.number] = active.search
                    if on_answer is not None:
                        on_answer(1)
            self._active = [active for active in self._active if active.branches]
        return [found[number] for number in range(len(self._prompts))]

    def _step(self) -> list[torch.Tensor]:
        """Append to all texts the tokens that were chosen; logits after them."""
        if not self._active:
            return []
        branches = [branch for active in self._active for branch in active.branches]
        tokens = [one.tokens[-1] for active in self._active for one in active.search.hypotheses]
        return [self._tree.step(branches, tokens)]

    def _begin(self) -> list[torch.Tensor]:
        """Take up waiting prompts if there is room for a good many; logits after them."""
        logits = []
        room = self._together - len(self._active)
        if room < self._together * REFILL:
            return []
        while room and self._groups:
            group = self._groups.popleft()
            if self._prefix is None:
                prompt = self._prompts[group.members[0]]
                self._prefix = self._tree.prefill(prompt[: group.prefix])
            numbers, later = group.members[:room], group.members[room:]
            texts = [self._prompts[number][group.prefix :] for number in numbers]
            branches, after = self._tree.extend(self._prefix, texts)
            for number, branch in zip(numbers, branches, strict=True):
                check = self._checks[number] if self._checks else None
                prompt = self._prompts[number]
                search = self._search_type(prompt, self._decoding, self._writer, check)
                self._active.append(_Active(number, search, [branch]))
            logits.append(after)
            room -= len(numbers)
            if later:
                self._groups.appendleft(Group(group.prefix, later))
            else:
                self._prefix = None
        return logits

    def _follow(self, active: _Active, places: Sequence[int]) -> None:
        """Let the tree follow a search whose texts go on from these of its branches."""
        before = active.branches
        for place, branch in enumerate(before):
            if place not in places:  # first, so that there are rows for the others to fork
                self._tree.release(branch)
        active.branches = [
            self._tree.fork(before[place]) if place in places[:at] else before[place]
            for at, place in enumerate(places)
        ]
