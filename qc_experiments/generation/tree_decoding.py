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
from typing import Any, Generic

import torch

from qc_experiments.generation.decoding import (
    Answer,
    BeamSearcher,
    Decoding,
    LineSearcher,
    S,
    Search,
    Searcher,
    Writer,
)
from qc_experiments.generation.prefixes import Group, group_prompts, shares_prefixes
from qc_experiments.generation.token_tree import Branch, Root, TokenTree

__all__ = ["Answer", "Decoding", "shares_prefixes", "tree_decode"]

REFILL = 0.25
"""Share of the batch that is free before waiting prompts are taken up: on two CPU cores, a token costs
6 ms in a forward of 16, and 2 ms in one of 128."""


def tree_decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    tokenizer: Any,
    stop_ids: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
    decoding: Decoding,
    complete: Callable[[str], bool] | None = None,
    on_answer: Callable[[int], None] | None = None,
) -> list[list[Answer]]:
    """Answer prompts.

    Args:
        model: a causal language model that `shares_prefixes`; left in the mode it was in.
        prompts: tokens of each prompt, one at least.
        tokenizer: that of the model.
        stop_ids: tokens at which an answer ends.
        max_new_tokens: longest answer in tokens.
        batch_size: texts that are written at once, each with memory for the longest text; a prompt
            takes one for each candidate or beam, and one prompt is answered in any case.
        decoding: how answers are searched for.
        complete: whether an answer's text is complete, so that it ends there (as
            `answer_complete`); must be false for a text without semicolon and backtick.
        on_answer: called with the number of prompts just answered, for progress.

    Returns:
        For each prompt its candidates: the best first with beams, else in the order of their
        numbers.
    """
    if not prompts:
        return []
    writer = Writer(tokenizer, stop_ids, max_new_tokens, complete)

    def run(searcher: Searcher[S]) -> Sequence[Search]:
        together = max(batch_size // decoding.width, 1)
        tree = TokenTree(model, min(together, len(prompts)) * decoding.width, max_new_tokens)
        return _Decoder(tree, prompts, searcher, together).run(on_answer)

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            beams = decoding.num_beams > 1
            found = (
                run(BeamSearcher(decoding, writer))
                if beams
                else run(LineSearcher(decoding, writer))
            )
    finally:
        model.train(was_training)
    return [[writer.answer(draft) for draft in search.best()] for search in found]


@dataclass
class _Asked(Generic[S]):
    """A prompt that is being answered.

    Attributes:
        number: its place among the prompts.
        search: for its answers.
        branches: of the tree, one for each of its texts.
    """

    number: int
    search: S
    branches: list[Branch]


class _Decoder(Generic[S]):
    """Grows in a tree what a searcher chooses.

    Args:
        tree: without branches yet.
        prompts: tokens of each prompt.
        searcher: chooses tokens.
        together: most prompts that are answered at a time.
    """

    def __init__(
        self,
        tree: TokenTree,
        prompts: Sequence[Sequence[int]],
        searcher: Searcher[S],
        together: int,
    ) -> None:
        self._tree = tree
        self._prompts = prompts
        self._searcher = searcher
        self._together = together
        self._groups = deque(group_prompts(prompts))
        self._root: Root | None = None  # of the first group
        self._asked: list[_Asked[S]] = []

    def run(self, on_answer: Callable[[int], None] | None) -> list[S]:
        """Answer all prompts; returns the searches, which are over, in the prompts' order."""
        found: dict[int, S] = {}
        while self._asked or self._groups:
            parts = self._grow() + self._sprout()
            logits = parts[0] if len(parts) == 1 else torch.cat(parts)
            going = self._searcher.step([asked.search for asked in self._asked], logits)
            for asked, places in zip(self._asked, going, strict=True):
                self._follow(asked, places)
                if not places:
                    found[asked.number] = asked.search
                    if on_answer is not None:
                        on_answer(1)
            self._asked = [asked for asked in self._asked if asked.branches]
        return [found[number] for number in range(len(self._prompts))]

    def _grow(self) -> list[torch.Tensor]:
        """Append to all texts the tokens that were chosen; logits behind them."""
        if not self._asked:
            return []
        branches = [branch for asked in self._asked for branch in asked.branches]
        tokens = [draft.tokens[-1] for asked in self._asked for draft in asked.search.drafts]
        return [self._tree.grow(branches, tokens)]

    def _sprout(self) -> list[torch.Tensor]:
        """Take up waiting prompts if there is room for a good many; logits behind them."""
        logits = []
        room = self._together - len(self._asked)
        if room < self._together * REFILL:
            return []
        while room and self._groups:
            group = self._groups.popleft()
            if self._root is None:
                self._root = self._tree.plant(self._prompts[group.members[0]][: group.prefix])
            numbers, later = group.members[:room], group.members[room:]
            texts = [self._prompts[number][group.prefix :] for number in numbers]
            branches, behind = self._tree.sprout(self._root, texts)
            for number, branch in zip(numbers, branches, strict=True):
                search = self._searcher.begin(self._prompts[number])
                self._asked.append(_Asked(number, search, [branch]))
            logits.append(behind)
            room -= len(numbers)
            if later:
                self._groups.appendleft(Group(group.prefix, later))
            else:
                self._root = None
        return logits

    def _follow(self, asked: _Asked[S], places: Sequence[int]) -> None:
        """Let the tree follow a search.

        Args:
            asked: a prompt whose search has just taken a step.
            places: the branches on which its texts go on.
        """
        before = asked.branches
        for place, branch in enumerate(before):
            if place not in places:  # first, so that there are rows for the others to fork
                self._tree.cut(branch)
        asked.branches = [
            self._tree.fork(before[place]) if place in places[:at] else before[place]
            for at, place in enumerate(places)
        ]
