"""How answers are searched for, and what is written: hypotheses, and the answers they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qc_experiments.sql.prefix_check import PrefixCheck
from qc_experiments.sql.scopes import Outlook

COMPLETING = frozenset(";`")
"""An answer without any of these is not complete, so that few answers need to be looked at."""
TRIES = 256
"""How many tokens are looked at before a text that can become no valid query goes on all the same."""


@dataclass(frozen=True)
class Decoding:
    """How answers are searched for.

    Attributes:
        candidates: answers per prompt.
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
        """Most hypotheses of a prompt at once."""
        return max(self.candidates, self.num_beams)


@dataclass(frozen=True)
class AnswerSettings:
    """How prompts are answered.

    Attributes:
        tokenizer: that of the model, with a pad token.
        stop_ids: tokens at which an answer ends.
        max_new_tokens: longest answer in tokens.
        batch_size: prompts computed at once.
        decoding: how answers are searched for.
    """

    tokenizer: Any
    stop_ids: Sequence[int]
    max_new_tokens: int
    batch_size: int
    decoding: Decoding = Decoding()


@dataclass(frozen=True)
class Answer:
    """What the model wrote.

    Attributes:
        tokens: its tokens; the one at which it ended, if any, is the last.
        text: its text without special tokens.
        log_probability: of the tokens, summed, in nats, as the model has it: before any
            temperature or top-p, and whatever a check took away. None where it was not computed yet.
    """

    tokens: tuple[int, ...]
    text: str
    log_probability: float | None


@dataclass(frozen=True)
class Hypothesis:
    """An answer in the making.

    Attributes:
        tokens: so far.
        log_probability: of them.
        marked: whether it holds one of `COMPLETING`.
        ended: whether it is an answer.
        outlook: what can still become of it; always `Outlook.POSSIBLE` where nothing is checked.
        penalty: what of its log-probability is a search's own, not the model's.
    """

    tokens: tuple[int, ...] = ()
    log_probability: float = 0.0
    marked: bool = False
    ended: bool = False
    outlook: Outlook = Outlook.POSSIBLE
    penalty: float = 0.0


class Writer:
    """Appends tokens to hypotheses and knows where an answer ends.

    Args:
        settings: tokenizer, stop tokens and longest answer.
        complete: whether a text needs no more tokens; must be false for one without any of
            `COMPLETING`, or None.
    """

    def __init__(self, settings: AnswerSettings, complete: Callable[[str], bool] | None) -> None:
        self._tokenizer = settings.tokenizer
        self._max_new_tokens = settings.max_new_tokens
        self._complete = complete
        self._marks: dict[int, bool] = {}
        self.stop_ids = frozenset(settings.stop_ids)

    def extend(self, hypothesis: Hypothesis, token: int, log_probability: float) -> Hypothesis:
        """The hypothesis with one more token; ``log_probability`` is that of the whole."""
        tokens = (*hypothesis.tokens, token)
        marked = hypothesis.marked or self._is_mark(token)
        ended = token in self.stop_ids or len(tokens) >= self._max_new_tokens
        if marked and not ended and self._complete is not None:
            ended = self._complete(self._text(tokens))
        kept = (hypothesis.outlook, hypothesis.penalty)
        return Hypothesis(tokens, log_probability, marked, ended, *kept)

    def checked(self, longer: Hypothesis, check: PrefixCheck | None) -> Hypothesis:
        """A hypothesis with its outlook; once lost it is not looked at again."""
        if check is None or longer.outlook is Outlook.IMPOSSIBLE:
            return longer
        cut_off = len(longer.tokens) >= self._max_new_tokens
        whole = longer.ended and (not cut_off or longer.tokens[-1] in self.stop_ids)
        return replace(longer, outlook=check.outlook(self._text(longer.tokens), ended=whole))

    def answer(self, hypothesis: Hypothesis) -> Answer:
        """A finished hypothesis."""
        tokens = hypothesis.tokens
        return Answer(tokens, self._text(tokens), hypothesis.log_probability - hypothesis.penalty)

    def _is_mark(self, token: int) -> bool:
        # `;` and the backtick are bytes of their own in UTF-8: no two tokens make one between them.
        if token not in self._marks:
            self._marks[token] = not COMPLETING.isdisjoint(self._text((token,)))
        return self._marks[token]

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text
