"""Who is asked behind an endpoint, how it is asked and treated, and what it answers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from qc_experiments.errors import UserError
from qc_experiments.system.secrets import place_of_secret

Prompt = str | tuple[int, ...]
"""As text, or as the tokens of the model."""


class Api(Enum):
    """Which of OpenAI's two ways of asking."""

    chat = "chat"  # the prompt is a user's message
    completion = "completion"  # the model goes on with the prompt

    @property
    def path(self) -> str:
        """Where it is, from the API's address on."""
        return "chat/completions" if self is Api.chat else "completions"


@dataclass(frozen=True)
class Names:
    """What the user calls what can be given, for messages."""

    url: str = "--endpoint"
    model: str = "--model"
    key: str = "--key-env"
    other_api: str = "--api {}"
    timeout: str = " (--timeout)"


@dataclass(frozen=True)
class Endpoint:
    """Who is asked, and how: all that an answer depends on besides the prompt.

    Attributes:
        url: the API's address, such as ``http://localhost:8000/v1``.
        model: as the server calls it.
        api: how the prompt is given.
        settings: what each request holds besides: ``max_tokens``, ``temperature`` and their like.
        names: for messages.
    """

    url: str
    model: str
    api: Api
    settings: Mapping[str, Any]
    names: Names = Names()

    def below(self, path: str) -> str:
        """The address of something that the server offers."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}"))

    def body(self, prompt: Prompt, count: int, before: int = 0) -> bytes:
        """A request for so many answers, after some that have come: these had the seeds before."""
        turns = [{"role": "user", "content": prompt}]
        asked = {"messages": turns} if self.api is Api.chat else {"prompt": prompt}
        several = {"n": count} if count > 1 else {}
        whole = {"model": self.model, **asked, **several, **self.settings}
        if isinstance(seed := whole.get("seed"), int):
            whole["seed"] = seed + before
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


def address(text: str, option: str) -> str:
    """The address of an API, as whoever calls it writes it: with or without what comes below.

    Args:
        text: as the user gave it.
        option: what the user calls it.

    Raises:
        UserError: if it is none, or holds a password.
    """
    if place_of_secret(text) is not None:
        raise UserError(
            f"{option}: holds a password or key: put it into an environment variable, and name that"
        )
    advice = "give an address such as http://localhost:8000/v1"
    try:
        parts = urlsplit(text.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, say
        usable = False
    if not usable or any(not 32 < ord(letter) < 127 for letter in text.strip()):
        raise UserError(f"{option} {text}: is no address of a server: {advice}")
    path = parts.path.rstrip("/")
    for ending in ("/chat/completions", "/completions", "/models"):
        path = path.removesuffix(ending)
    return urlunsplit(parts._replace(path=path or "/v1", fragment=""))


def key_of(variable: str | None, option: str) -> str | None:
    """The key that an environment variable holds; None where none is named.

    Raises:
        UserError: if it holds none that can be sent.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(
            f"{option} {variable}: there is no such environment variable, or it is empty"
        )
    if any(not 32 < ord(letter) < 127 for letter in key):
        raise UserError(
            f"{option} {variable}: holds blanks or other characters that no key has: set it again"
        )
    return key
