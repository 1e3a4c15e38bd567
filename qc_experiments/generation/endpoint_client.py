"""One request after the other to a server that speaks OpenAI's API, and what to do when it does not answer.

What passes by itself (throttling, a busy server, a broken connection) is asked again, after pauses that
grow and differ (exponential backoff with jitter), or that the server names (Retry-After).
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from qc_experiments.errors import UserError
from qc_experiments.generation.endpoint_settings import Api, Endpoint, Manners, Prompt, Reply
from qc_experiments.system.secrets import MASK, SHORTEST
from qc_experiments.system.words import nearest

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the first retry, and the most before a later one; each is twice the one before."""
MOST_DOUBLED = 10
"""Times; a thousand retries would double it beyond every number."""
MOST_HELD = 600.0
"""Seconds: a server that wants to be left alone for longer (a day's quota, say) is not waited for."""
CONNECTS = 10.0
"""Seconds in which a server takes a connection."""
PASSING = frozenset({408, 409, 425, 429})
"""What is asked again, besides all from 500 on."""
FOR_ALL = frozenset({401, 402, 404, 405})
"""What would be said to any other question as well; so is 403 until one has been answered."""
UNUSABLE = (OSError, ImportError, ValueError, httpx2.InvalidURL)
"""What is raised where proxies or certificates that the environment names cannot be used."""
SHOWN = 300
"""Characters of what a server says."""


class Unanswered(Exception):
    """A question has got no answer, others may; ``lasting`` if it would get none the next time."""

    def __init__(self, reason: str, *, lasting: bool) -> None:
        super().__init__(reason)
        self.lasting = lasting


class _Again(Exception):
    """A request is to be sent again, after so many seconds if the server says so."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class Client:
    """Asks one server; used as an asynchronous context manager.

    Attributes:
        requests: sent so far.
        retries: of these, how many were sent again.

    Raises:
        UserError: if the key, a proxy or the certificates that the environment names cannot be used.
    """

    def __init__(self, endpoint: Endpoint, manners: Manners) -> None:
        self._endpoint, self._manners = endpoint, manners
        self._named = f"{endpoint.names.url} {endpoint.url}"
        self.requests = self.retries = 0
        self._reached = self._answered = False
        self._turns = asyncio.Lock()
        self._next = 0.0  # when the next request may be sent
        headers = {"Content-Type": "application/json"}
        if manners.key is not None:
            headers["Authorization"] = f"Bearer {manners.key}"
        try:
            self._http = httpx2.AsyncClient(
                headers=headers,
                timeout=httpx2.Timeout(manners.timeout, connect=min(manners.timeout, CONNECTS)),
                limits=httpx2.Limits(max_connections=manners.concurrency),
            )
        except UNUSABLE as error:
            raise UserError(
                f"{self._named}: cannot be asked as the environment says (proxy, certificates): {error}"
            ) from None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, prompt: Prompt, count: int, before: int = 0) -> Reply:
        """Answers to a prompt: ``count`` of them, or fewer where the server gives no more at once.

        ``before`` answers to it have come already.

        Raises:
            Unanswered: if this prompt gets no answer.
            UserError: if none would.
        """
        body = self._endpoint.body(prompt, count, before)
        for done in range(self._manners.retries + 1):
            try:
                reply = self._read(await self._sent(body), count)
            except _Again as again:
                if done == self._manners.retries:
                    times = f", {done + 1} times" if done else ""
                    raise Unanswered(f"{again}{times}", lasting=False) from None
                await self._pause(done, again.pause)
            else:
                self._answered = True
                return reply
        raise AssertionError  # the loop ends by one of the two

    async def _pause(self, done: int, named: float) -> None:
        if named > MOST_HELD:
            raise UserError(
                f"{self._named}: asks to be left alone for {named:.0f} s: try again then"
            )
        self.retries += 1
        self._next = max(self._next, time.monotonic() + named)  # for all that wait
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(done, MOST_DOUBLED))
        await asyncio.sleep(random.uniform(longest / 2, longest))

    async def _turn(self) -> None:
        """Wait until a request may be sent."""
        async with self._turns:
            while (wait := self._next - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if self._manners.per_minute is not None:
                self._next = time.monotonic() + 60 / self._manners.per_minute

    async def _sent(self, body: bytes) -> httpx2.Response:
        """What comes back, if it is an answer."""
        await self._turn()
        self.requests += 1
        try:
            async with asyncio.timeout(self._manners.timeout):  # httpx's own is for each read
                url = self._endpoint.below(self._endpoint.api.path)
                response = await self._http.post(url, content=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise self._unreachable(error) from None
        except (TimeoutError, httpx2.TimeoutException):
            raise _Again(
                f"no answer within {self._manners.timeout:g} s{self._endpoint.names.timeout}"
            ) from None
        except httpx2.RequestError as error:
            raise _Again(f"the connection broke ({_reason(error)})") from None
        self._reached = True
        status = response.status_code
        if response.is_success:
            return response
        said = f"HTTP {status}: {self._said(response)}"
        if response.is_redirect or status in FOR_ALL or (status == 403 and not self._answered):
            raise await self._refused(response, said)
        if status in PASSING or status >= 500:
            raise _Again(said, _seconds(response.headers.get("Retry-After")))
        raise Unanswered(said, lasting=True)

    def _unreachable(self, error: httpx2.RequestError) -> Exception:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            return UserError(
                f"{self._named}: its https cannot be trusted ({_reason(error)}): is the address right? the "
                "variable SSL_CERT_FILE names a certificate authority of your own"
            )
        if not self._reached:
            return UserError(f"{self._named}: no server answers there ({_reason(error)}): start it")
        return _Again(f"the server cannot be reached any more ({_reason(error)})")

    async def _refused(self, response: httpx2.Response, said: str) -> UserError:
        status = response.status_code
        if response.is_redirect:
            there = self._masked(response.headers.get("Location", "no other address"))
            return UserError(
                f"{self._named}: sends on to {there}, which is not followed: name that, if it is right"
            )
        if status in (401, 403):
            given = "names another" if self._manners.key is not None else "names the"
            return UserError(
                f"{self._named}: does not let us in ({said}): {self._endpoint.names.key} {given} "
                "environment variable that holds the key"
            )
        if status == 402:
            return UserError(f"{self._named}: wants to be paid first ({said})")
        model, served = self._endpoint.model, await self._served()
        if served and model not in served:
            names = ", ".join(served[:8]) + (" and more" if len(served) > 8 else "")
            asked = f"{self._endpoint.names.model} {model}"
            return UserError(
                f"{asked}: {self._endpoint.url} serves {names}{nearest(model, served)}"
            )
        advice = "is it the address of the API, and the model one that it serves?"
        if served:
            other = Api.chat if self._endpoint.api is Api.completion else Api.completion
            advice = f"try {self._endpoint.names.other_api.format(other.value)}"
        return UserError(f"{self._named}: {self._endpoint.api.path} gives {said}: {advice}")

    async def _served(self) -> list[str]:
        """The models that the server says it has; none where it says nothing."""
        try:
            response = await self._http.get(self._endpoint.below("models"), timeout=CONNECTS)
            return [self._masked(str(one["id"])) for one in response.json()["data"]]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, RecursionError):
            return []

    def _read(self, response: httpx2.Response, count: int) -> Reply:
        """The answers of a response."""
        try:
            found = json.loads(response.content)
            choices = found["choices"][:count]
            texts = tuple(self._masked(_text(one)) for one in choices)
            cut = sum(one.get("finish_reason") == "length" for one in choices)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            texts, cut = (), 0
        if not texts:
            raise _Again(f"not an answer of this API: {self._said(response) or 'nothing'}")
        usage = found.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        asked, written = (counts.get(f"{name}_tokens") for name in ("prompt", "completion"))
        return Reply(texts, cut, (_whole(asked), _whole(written)))

    def _said(self, response: httpx2.Response) -> str:
        """What a server says, in its own words: its message, or how its text begins."""
        text = response.text
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        for key in ("error", "message", "detail"):
            if isinstance(found, dict) and found.get(key):
                found = found[key]
                text = found if isinstance(found, str) else json.dumps(found)
        said = " ".join(self._masked(text).split())
        return said if len(said) <= SHOWN else f"{said[:SHOWN]} ..."

    def _masked(self, text: str) -> str:
        return masked(text, self._manners.key)


def masked(text: str, key: str | None) -> str:
    """A text of a server's, which may repeat the key."""
    return text if key is None or len(key) < SHORTEST else text.replace(key, MASK)


def _text(choice: Mapping[str, Any]) -> str:
    """What was written; nothing where a chat model refuses or calls a tool."""
    text = choice["message"].get("content") if "message" in choice else choice["text"]
    if text is not None and not isinstance(text, str):
        raise TypeError
    return text or ""


def _whole(count: object) -> int:
    return count if isinstance(count, int) else 0


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _seconds(retry_after: str | None) -> float:
    """How long a server wants to be left alone: it names seconds or a date."""
    if retry_after is None:
        return 0.0
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        named = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    there = named if named.tzinfo is not None else named.replace(tzinfo=UTC)
    return max(0.0, (there - datetime.now(UTC)).total_seconds())
