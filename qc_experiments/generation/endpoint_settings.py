"""Who is asked behind an endpoint, how it is asked and treated, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Api(Enum):
    """Which of OpenAI's two ways of asking."""

    chat = "chat"  # the prompt is a user's message
    completion = "completion"  # the model goes on with the prompt

    @property
    def path(self) -> str:
        """Where it is, from the API's address on."""
        return "chat/completions" if self is Api.chat else "completions"


@dataclass(frozen=True)
class Endpoint:
    """Who is asked, and how: all that an answer depends on besides the prompt.

    Attributes:
        url: the API's address, such as ``http://localhost:8000/v1``.
        model: as the server calls it.
        api: how the prompt is given.
        settings: what each request holds besides: ``max_tokens``, ``temperature`` and their like.
    """

    url: str
    model: str
    api: Api
    settings: Mapping[str, Any]

    def body(self, prompt: str, count: int) -> bytes:
        """A request for so many answers."""
        turns = [{"role": "user", "content": prompt}]
        asked = {"messages": turns} if self.api is Api.chat else {"prompt": prompt}
        several = {"n": count} if count > 1 else {}
        whole = {"model": self.model, **asked, **several, **self.settings}
        return json.dumps(
            {key: value for key, value in whole.items() if value is not None}
        ).encode()


@dataclass(frozen=True)
class Manners:
    """How a server is treated; no answer depends on it.

    Attributes:
        key: sent with each request, and shown nowhere.
        concurrency: questions asked at once.
        per_minute: most requests a minute, retries included.
        timeout: seconds that one request may take.
        retries: of a question, after the first request.
    """

    key: str | None = field(default=None, repr=False)
    concurrency: int = 8
    per_minute: float | None = None
    timeout: float = 120.0
    retries: int = 6


@dataclass(frozen=True)
class Reply:
    """What a server answers to a prompt.

    Attributes:
        texts: the answers, one at least.
        cut: how many of them ended because they were too long.
        tokens: of the prompt and of the answers; 0 where the server does not say.
    """

    texts: tuple[str, ...]
    cut: int = 0
    tokens: tuple[int, int] = (0, 0)
