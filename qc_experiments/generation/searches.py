"""Searches for the answers to a prompt: greedy, sampled, or the best of several beams.

A search looks after one prompt. It holds the hypotheses that are still being written, is given the
logits after each of them, and says which of them go on, each with its next token.
"""

from __future__ import annotations

import hashlib
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Self

import torch

from qc_experiments.generation.decoding import TRIES, Decoding, Hypothesis, Writer
from qc_experiments.sql.prefix_check import PrefixCheck
from qc_experiments.sql.scopes import Outlook

DOUBT = math.log(0.001)
"""What a token costs that makes a text doubtful, in log-probability."""


class Search(ABC):
    """The search for the answers to one prompt.

    Args:
        prompt: its tokens.
        decoding: how answers are searched for.
        writer: appends tokens.
        check: says which texts can become a valid query; None lets all be written.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        decoding: Decoding,
        writer: Writer,
        check: PrefixCheck | None = None,
    ) -> None:
        self._prompt = prompt
        self._decoding = decoding
        self._writer = writer
        self._check = check
        self.hypotheses = [Hypothesis()]
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Set up what a kind of search keeps besides."""

    @classmethod
    @abstractmethod
    def step(cls, searches: Sequence[Self], logits: torch.Tensor) -> list[list[int]]:
        """Take the next token of all hypotheses of many searches with the same settings.

        Args:
            searches: those that are not over.
            logits: [texts, vocabulary], of the first search's hypotheses in their order, then of
                the second's, and so on; a search that has just begun has one text, its prompt.

        Returns:
            For each search the texts that go on, as places among its texts of before; a place
            comes once for each hypothesis that goes on from there.
        """

    @abstractmethod
    def best(self) -> list[Hypothesis]:
        """The finished hypotheses that are the answers."""


class Candidates(Search):
    """Greedy or sampled candidates, each written without regard to the others, in their order.

    The prompt goes into the seeds, so that what is drawn depends on nothing else.
    """

    def _begin(self) -> None:
        count, seed = self._decoding.candidates, self._decoding.seed
        self._numbers = list(range(count))  # of those that go on
        self._draws = [random.Random(_seed(seed, self._prompt, n)) for n in self._numbers]
        self._candidates = [Hypothesis()] * count
        self.hypotheses = self._candidates[:]

    @classmethod
    def step(cls, searches: Sequence[Self], logits: torch.Tensor) -> list[list[int]]:
        """Take the next token of all hypotheses; see `Search`."""
        rows: list[int] = []
        first = 0
        for search in searches:
            rows += [first + place for place in search._places()]
            first = rows[-1] + 1
        logits = logits.float()
        if rows != list(range(len(logits))):
            logits = logits[rows]
        decoding = searches[0]._decoding
        if decoding.temperature > 0:
            numbers = [search._draws[n].random() for search in searches for n in search._numbers]
            draws = logits.new_tensor(numbers, dtype=torch.double)
            chosen = drawn_tokens(logits, decoding.temperature, decoding.top_p, draws)
        else:
            chosen = logits.argmax(dim=-1)
        whole = logits.logsumexp(dim=-1)
        gained = logits.gather(1, chosen[:, None])[:, 0] - whole
        tokens = iter(zip(chosen.tolist(), gained.tolist(), logits, whole, strict=True))
        return [search._take([next(tokens) for _ in search.hypotheses]) for search in searches]

    def best(self) -> list[Hypothesis]:
        """The candidates in their order."""
        return self._candidates

    def _places(self) -> list[int]:
        """The text that each hypothesis goes on from: at first all share the prompt."""
        return [place if one.tokens else 0 for place, one in enumerate(self.hypotheses)]

    def _take(self, tokens: Sequence[tuple[int, float, torch.Tensor, torch.Tensor]]) -> list[int]:
        """Append a token to each hypothesis; the places that go on.

        Args:
            tokens: for each hypothesis the one that was chosen, its log-probability, the logits
                [vocabulary] and their logarithmic sum.
        """
        places = self._places()
        going = []
        for at, (token, gain, logits, whole) in enumerate(tokens):
            before = self.hypotheses[at]
            longer = self._extended(before, token, gain)
            if longer.outlook < before.outlook:
                longer = self._otherwise(longer, before, logits - whole, self._numbers[at])
            self._candidates[self._numbers[at]] = longer
            if not longer.ended:
                going.append(at)
        self._numbers = [self._numbers[at] for at in going]
        self.hypotheses = [self._candidates[number] for number in self._numbers]
        return [places[at] for at in going]

    def _extended(self, before: Hypothesis, token: int, gain: float) -> Hypothesis:
        longer = self._writer.extend(before, token, before.log_probability + gain)
        return self._writer.checked(longer, self._check)

    def _otherwise(
        self, first: Hypothesis, before: Hypothesis, gains: torch.Tensor, number: int
    ) -> Hypothesis:
        """What is written in place of a hypothesis that can hardly, or not, become a valid query.

        Args:
            first: that hypothesis.
            before: the same before its last token.
            gains: log-probabilities of its next token, [vocabulary].
            number: of the candidate.
        """
        decoding = self._decoding
        if decoding.temperature > 0:
            if first.outlook is not Outlook.IMPOSSIBLE:
                return first
            gains = gains.clone()
            for _ in range(min(TRIES, len(gains) - 1)):
                gains[first.tokens[-1]] = -torch.inf
                draw = gains.new_tensor([self._draws[number].random()], dtype=torch.double)
                token = int(drawn_tokens(gains[None], decoding.temperature, decoding.top_p, draw))
                first = self._extended(before, token, float(gains[token]))
                if first.outlook is not Outlook.IMPOSSIBLE:
                    return first
            return first
        likely = gains.topk(min(TRIES, len(gains)))
        best, most = first, -math.inf
        for gain, token in zip(likely.values.tolist(), likely.indices.tolist(), strict=True):
            if gain <= most:
                break
            longer = self._extended(before, token, gain)
            worth = gain + (DOUBT if longer.outlook < before.outlook else 0.0)
            if longer.outlook is not Outlook.IMPOSSIBLE and worth > most:
                best, most = longer, worth
        return best


def _seed(seed: int, prompt: Sequence[int], candidate: int) -> int:
    text = f"{seed} {candidate} {' '.join(map(str, prompt))}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def drawn_tokens(
    logits: torch.Tensor, temperature: float, top_p: float, draws: torch.Tensor
) -> torch.Tensor:
    """Draw a token from each row.

    Args:
        logits: [rows, vocabulary].
        temperature: divides them.
        top_p: keeps the likeliest tokens up to this share of the probability, one at least.
        draws: random numbers from 0 to below 1, [rows], in double precision.

    Returns:
        Tokens [rows].
    """
    shares = (logits.double() / temperature).softmax(dim=-1)
    if top_p < 1:
        shares = shares.masked_fill(shares < _least_share(shares, top_p), 0)
    # Summed up in the vocabulary's order, so that noise in the logits moves hardly any boundary.
    sums = shares.cumsum(dim=-1)
    return torch.searchsorted(sums, draws[:, None] * sums[:, -1:], right=True)[:, 0]


def _least_share(shares: torch.Tensor, top_p: float) -> torch.Tensor:
    """Probability [rows, 1] of the least likely token that is kept."""
    size = shares.shape[1]
    count = min(64, size)
    while True:  # sorting a whole vocabulary is slow, and few tokens are enough nearly always
        best = shares.topk(count, dim=-1).values
        before = best.cumsum(dim=-1) - best
        if count == size or bool((before[:, -1] >= top_p).all()):
            kept = (before < top_p).sum(dim=-1, keepdim=True)
            return best.gather(1, kept - 1)
        count = min(8 * count, size)


class Beams(Search):
    """Beam search, as Hugging Face's ``generate`` does it with ``early_stopping=False``.

    Each step takes the best continuations of all beams by summed log-probability; those that end
    count by their mean log-probability (``length_penalty=1``). It is over when as many have ended
    as there are beams and the best open beam is, at its length of now, no better than the worst of
    them.
    """

    def _begin(self) -> None:
        self._finished: list[tuple[float, Hypothesis]] = []  # with the mean log-probability

    @classmethod
    def step(cls, searches: Sequence[Self], logits: torch.Tensor) -> list[list[int]]:
        """Take the next token of all hypotheses; see `Search`."""
        rows = logits.float().split([len(search.hypotheses) for search in searches])
        return [search._take(own) for search, own in zip(searches, rows, strict=True)]

    def best(self) -> list[Hypothesis]:
        """The finished hypotheses with the highest mean log-probability, best first."""
        return [hypothesis for _, hypothesis in self._finished[: self._decoding.candidates]]

    def _take(self, logits: torch.Tensor) -> list[int]:
        """As `step`, for one search."""
        beams = self._decoding.num_beams
        # So many that enough go on even if the best continuations of all beams are stop tokens.
        keep = max(2, 1 + len(self._writer.stop_ids)) * beams
        places, longer = self._continued(logits, keep)
        length = len(longer[0].tokens)
        ended = [(one.log_probability / length, one) for one in longer[:beams] if one.ended]
        ranked = sorted(self._finished + ended, key=lambda pair: pair[0], reverse=True)
        self._finished = ranked[:beams]
        going = [at for at, one in enumerate(longer) if not one.ended][:beams]
        if going and len(self._finished) == beams:
            possible = longer[going[0]].log_probability / length
            if possible <= self._finished[-1][0]:
                going = []
        self.hypotheses = [longer[at] for at in going]
        return [places[at] for at in going]

    def _continued(self, logits: torch.Tensor, keep: int) -> tuple[list[int], list[Hypothesis]]:
        """The best continuations, best first: the hypothesis that each goes on from, and what it is then."""
        sums = logits.new_tensor([one.log_probability for one in self.hypotheses])
        scores = (logits.log_softmax(dim=-1) + sums[:, None]).flatten()
        tries = keep if self._check is None else TRIES * keep
        found: list[tuple[int, Hypothesis]] = []
        lost: list[tuple[int, Hypothesis]] = []
        for score, flat in _best(scores, 2 * keep, tries):
            place, token = divmod(flat, logits.shape[1])
            before = self.hypotheses[place]
            longer = self._writer.checked(self._writer.extend(before, token, score), self._check)
            if longer.outlook is Outlook.IMPOSSIBLE:
                lost.append((place, longer))
                continue
            if longer.outlook < before.outlook:
                penalty = longer.penalty + DOUBT
                longer = replace(longer, log_probability=score + DOUBT, penalty=penalty)
            found.append((place, longer))
            if len(found) == keep:
                break
        # Where nothing can become a valid query, the search ends as it would without the check.
        chosen = found or lost[:keep]
        chosen.sort(key=lambda pair: pair[1].log_probability, reverse=True)
        return [place for place, _ in chosen], [one for _, one in chosen]


def _best(scores: torch.Tensor, first: int, most: int) -> Iterator[tuple[float, int]]:
    """The highest scores with their places, best first; few of them are looked for at first."""
    seen: set[int] = set()
    for count in sorted({min(first, most, len(scores)), min(most, len(scores))}):
        best = scores.topk(count)
        for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if place not in seen:  # equal scores may come in another order
                seen.add(place)
                yield score, place
