"""Which tokens an answer goes on with: greedy, sampled, or the best of several beams.

A search looks after one prompt. It holds the texts that are still being written, is given the
logits behind each of them, and says which of them go on, each with its next token.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

COMPLETING = frozenset(";`")
"""An answer without any of these is not complete, so that few answers need to be looked at."""


@dataclass(frozen=True)
class Decoding:
    """How answers are searched for.

    Attributes:
        candidates: answers a prompt.
        temperature: divides the logits before sampling; 0 takes the likeliest token.
        top_p: sampling keeps the likeliest tokens up to this share of the probability (nucleus
            sampling, Holtzman et al. 2020, arXiv:1904.09751).
        num_beams: beams of a beam search; 1 means none.
        seed: of sampling.

    Raises:
        ValueError: for values out of range or that contradict each other.
    """

    candidates: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    num_beams: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.candidates < 1 or self.num_beams < 1:
            raise ValueError("candidates and num_beams must be at least 1")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError("temperature must be at least 0, top_p above 0 and at most 1")
        if self.num_beams > 1 and self.temperature > 0:
            raise ValueError("num_beams above 1 contradicts a temperature: beams do not sample")
        if self.temperature == 0 and self.candidates > self.num_beams:
            raise ValueError("several candidates need a temperature, or as many beams")

    @property
    def width(self) -> int:
        """Most texts of a prompt that are written at once."""
        return max(self.candidates, self.num_beams)


@dataclass(frozen=True)
class Answer:
    """What the model wrote.

    Attributes:
        tokens: its tokens; the one at which it ended, if any, is the last.
        text: its text without special tokens.
        log_probability: of the tokens, summed, in nats, as the model has it: before any
            temperature or top-p.
    """

    tokens: tuple[int, ...]
    text: str
    log_probability: float


@dataclass(frozen=True)
class Draft:
    """An answer in the making; ``marked`` once it holds one of `COMPLETING`."""

    tokens: tuple[int, ...] = ()
    log_probability: float = 0.0
    marked: bool = False
    ended: bool = False


class Writer:
    """Appends tokens to drafts and knows where an answer ends.

    Args:
        tokenizer: that of the model.
        stop_ids: tokens at which an answer ends.
        max_new_tokens: longest answer in tokens.
        complete: whether a text needs no more tokens; must be false for one without any of
            `COMPLETING`, or None.
    """

    def __init__(
        self,
        tokenizer: Any,
        stop_ids: Sequence[int],
        max_new_tokens: int,
        complete: Callable[[str], bool] | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._max_new_tokens = max_new_tokens
        self._complete = complete
        self._marks: dict[int, bool] = {}
        self.stop_ids = frozenset(stop_ids)

    def extend(self, draft: Draft, token: int, log_probability: float) -> Draft:
        """The draft with one more token.

        Args:
            draft: what is there.
            token: the next one.
            log_probability: of the whole.
        """
        tokens = (*draft.tokens, token)
        marked = draft.marked or self._is_mark(token)
        ended = token in self.stop_ids or len(tokens) >= self._max_new_tokens
        if marked and not ended and self._complete is not None:
            ended = self._complete(self._text(tokens))
        return Draft(tokens, log_probability, marked, ended)

    def answer(self, draft: Draft) -> Answer:
        """A finished draft."""
        return Answer(draft.tokens, self._text(draft.tokens), draft.log_probability)

    def _is_mark(self, token: int) -> bool:
        # `;` and the backtick are bytes of their own in UTF-8: no two tokens make one between them.
        if token not in self._marks:
            self._marks[token] = not COMPLETING.isdisjoint(self._text((token,)))
        return self._marks[token]

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text


class Search(Protocol):
    """The search for one prompt's answers."""

    @property
    def drafts(self) -> Sequence[Draft]:
        """Texts that go on."""

    def best(self) -> list[Draft]:
        """The finished drafts that are the answers."""


S = TypeVar("S", bound=Search)


class Searcher(Protocol[S]):
    """A way of searching, for many prompts at once."""

    def begin(self, prompt: Sequence[int]) -> S:
        """The search for the answers to a prompt, given by its tokens."""

    def step(self, searches: Sequence[S], logits: torch.Tensor) -> list[list[int]]:
        """Take the next token of all texts.

        Args:
            searches: those that are not over.
            logits: [texts, vocabulary], of the first search's drafts in their order, then of the
                second's, and so on; a search that has just begun has one text, its prompt.

        Returns:
            For each search the texts that go on, as places among its texts of before; a place
            comes once for each draft that goes on from there.
        """


class Lines:
    """Candidates that are written side by side, without regard to each other.

    Args:
        prompt: its tokens; they go into the seeds, so that what is drawn depends on nothing else.
        decoding: number of candidates and seed.
    """

    def __init__(self, prompt: Sequence[int], decoding: Decoding) -> None:
        self.drafts = [Draft()] * decoding.candidates
        self._numbers = list(range(decoding.candidates))
        self._draws = [random.Random(_seed(decoding.seed, prompt, n)) for n in self._numbers]
        self._finished: dict[int, Draft] = {}

    @property
    def places(self) -> list[int]:
        """The text behind which each draft's next token stands: at first all share the prompt."""
        return [0 if not draft.tokens else place for place, draft in enumerate(self.drafts)]

    def draw(self) -> list[float]:
        """A random number from 0 to below 1 for each draft, of its own sequence."""
        return [self._draws[number].random() for number in self._numbers]

    def go_on(self, drafts: Sequence[Draft]) -> list[int]:
        """Take the drafts with their next token; returns the places of those that go on."""
        places = [p for p, draft in zip(self.places, drafts, strict=True) if not draft.ended]
        pairs = list(zip(self._numbers, drafts, strict=True))
        self._finished |= {number: draft for number, draft in pairs if draft.ended}
        self._numbers = [number for number, draft in pairs if not draft.ended]
        self.drafts = [draft for draft in drafts if not draft.ended]
        return places

    def best(self) -> list[Draft]:
        """The candidates in their order."""
        return [self._finished[number] for number in sorted(self._finished)]


def _seed(seed: int, prompt: Sequence[int], candidate: int) -> int:
    text = f"{seed} {candidate} {' '.join(map(str, prompt))}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


class LineSearcher:
    """The likeliest token each time, or one drawn at random.

    Args:
        decoding: temperature, top-p, candidates and seed.
        writer: appends tokens.
    """

    def __init__(self, decoding: Decoding, writer: Writer) -> None:
        self._decoding = decoding
        self._writer = writer

    def begin(self, prompt: Sequence[int]) -> Lines:
        """The search for the answers to a prompt, given by its tokens."""
        return Lines(prompt, self._decoding)

    def step(self, searches: Sequence[Lines], logits: torch.Tensor) -> list[list[int]]:
        """Take the next token of all texts; see `Searcher`."""
        rows: list[int] = []
        first = 0
        for search in searches:
            rows += [first + place for place in search.places]
            first = rows[-1] + 1
        logits = logits.float()
        if rows != list(range(len(logits))):
            logits = logits[rows]
        if self._decoding.temperature > 0:
            draws = logits.new_tensor([x for s in searches for x in s.draw()], dtype=torch.double)
            chosen = drawn_tokens(logits, self._decoding.temperature, self._decoding.top_p, draws)
        else:
            chosen = logits.argmax(dim=-1)
        gained = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(dim=-1)
        tokens = iter(zip(chosen.tolist(), gained.tolist(), strict=True))
        going = []
        for search in searches:
            drafts = []
            for draft in search.drafts:
                token, gain = next(tokens)
                drafts.append(self._writer.extend(draft, token, draft.log_probability + gain))
            going.append(search.go_on(drafts))
        return going


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


class Beams:
    """Beams of one prompt; see `BeamSearcher`."""

    def __init__(self, decoding: Decoding, writer: Writer) -> None:
        self.drafts = [Draft()]
        self._decoding = decoding
        self._writer = writer
        self._finished: list[tuple[float, Draft]] = []

    def step(self, logits: torch.Tensor) -> list[int]:
        """Take the next token.

        Args:
            logits: behind each draft, [drafts, vocabulary].

        Returns:
            For each draft that goes on, the place of the one that it continues.
        """
        beams = self._decoding.num_beams
        # So many that enough go on even if the best continuations of all beams are stop tokens.
        keep = max(2, 1 + len(self._writer.stop_ids)) * beams
        sums = logits.new_tensor([draft.log_probability for draft in self.drafts])
        scores = (logits.log_softmax(dim=-1) + sums[:, None]).flatten()
        best = scores.topk(min(keep, len(scores)))
        places = [index // logits.shape[1] for index in best.indices.tolist()]
        tokens = [index % logits.shape[1] for index in best.indices.tolist()]
        drafts = [
            self._writer.extend(self.drafts[place], token, score)
            for place, token, score in zip(places, tokens, best.values.tolist(), strict=True)
        ]
        length = len(drafts[0].tokens)
        ended = [(d.log_probability / length, d) for d in drafts[:beams] if d.ended]
        ranked = sorted(self._finished + ended, key=lambda pair: pair[0], reverse=True)
        self._finished = ranked[:beams]
        going = [place for place, draft in enumerate(drafts) if not draft.ended][:beams]
        if going and len(self._finished) == beams:
            possible = drafts[going[0]].log_probability / length
            if possible <= self._finished[-1][0]:
                going = []
        self.drafts = [drafts[place] for place in going]
        return [places[place] for place in going]

    def best(self) -> list[Draft]:
        """The finished drafts with the highest mean log-probability, best first."""
        return [draft for _, draft in self._finished[: self._decoding.candidates]]


class BeamSearcher:
    """Beam search, as Hugging Face's ``generate`` does it with ``early_stopping=False``.

    Each step takes the best continuations of all beams by summed log-probability; those that end
    count by their mean log-probability (``length_penalty=1``). It is over when as many have ended
    as there are beams and the best open beam is, at its length of now, no better than the worst of
    them.

    Args:
        decoding: number of beams and of candidates.
        writer: appends tokens.
    """

    def __init__(self, decoding: Decoding, writer: Writer) -> None:
        self._decoding = decoding
        self._writer = writer

    def begin(self, prompt: Sequence[int]) -> Beams:
        """The search for the answers to a prompt, given by its tokens."""
        return Beams(self._decoding, self._writer)

    def step(self, searches: Sequence[Beams], logits: torch.Tensor) -> list[list[int]]:
        """Take the next token of all texts; see `Searcher`."""
        rows = logits.float().split([len(search.drafts) for search in searches])
        return [search.step(own) for search, own in zip(searches, rows, strict=True)]
