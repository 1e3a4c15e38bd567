"""Many questions to a server at once, of which every answer is kept as it comes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qc_experiments.errors import UserError
from qc_experiments.generation.endpoint_client import Client, Unanswered
from qc_experiments.generation.endpoint_settings import Endpoint, Manners, Prompt, Reply
from qc_experiments.system.paths import hash_texts
from qc_experiments.system.unfinished import Lines, written

HOPELESS = 20
"""Questions in a row without an answer, after which no more are asked."""


class Answers:
    """What a server has answered, by prompt, kept in a file as it comes.

    A prompt is known again wherever its row stands, so that rows may come and go between two starts.

    Args:
        path: the file, of JSON lines; None keeps nothing.
        work: tells who was asked and how; a file about another one is started again.
        option: what the user calls the output beside which the file stands.
    """

    def __init__(self, path: Path | None, work: str, option: str) -> None:
        self._option = option
        self._known: dict[str, list[Reply]] = {}
        self._lines = None if path is None else Lines(path, work, self._take)
        self.dropped = self._lines is not None and self._lines.dropped

    def of(self, prompt: Prompt) -> list[str]:
        """The answers to a prompt."""
        return [text for reply in self._replies(prompt) for text in reply.texts]

    def all(self, prompts: Sequence[Prompt]) -> Iterator[Reply]:
        """The replies to some prompts, each once."""
        for prompt in dict.fromkeys(prompts):
            yield from self._replies(prompt)

    def add(self, prompt: Prompt, reply: Reply) -> None:
        """Keep a reply.

        Raises:
            UserError: if it cannot be written.
        """
        name = _name(prompt)
        self._known.setdefault(name, []).append(reply)
        if self._lines is not None:
            with written(self._option):
                self._lines.append(
                    {"prompt": name, "texts": reply.texts, "cut": reply.cut, "tokens": reply.tokens}
                )

    def _replies(self, prompt: Prompt) -> list[Reply]:
        return self._known.get(_name(prompt), [])

    def _take(self, line: dict[str, Any]) -> None:
        asked, wrote = line["tokens"]
        reply = Reply(tuple(line["texts"]), line["cut"], (asked, wrote))
        self._known.setdefault(line["prompt"], []).append(reply)


class Asking:
    """Work that several tasks share: what is to be asked, and what came of it.

    Attributes:
        waiting: prompts that lack answers, each once; those that begin alike together, as servers that
            share prefixes want them.
        failed: why prompts got no answer.
        requests: sent so far.
        retries: of these, how many were sent again.
    """

    def __init__(
        self,
        samples: int,
        prompts: Sequence[Prompt],
        answers: Answers,
        advance: Callable[[int], None],
    ) -> None:
        self._samples, self._answers, self._advance = samples, answers, advance
        missing = {prompt for prompt in prompts if len(answers.of(prompt)) < samples}
        self.waiting = sorted(missing)
        self._next = iter(self.waiting)
        self._rows = Counter(prompts)
        self._any = any(answers.of(prompt) for prompt in prompts)
        self._in_a_row = 0
        self.failed: dict[Prompt, str] = {}
        self.requests = self.retries = 0

    def run(self, endpoint: Endpoint, manners: Manners) -> None:
        """Ask a server all that waits.

        Raises:
            UserError: if it answers nothing, or writing answers down fails; what has come is kept.
        """
        if not self.waiting:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(self._run(endpoint, manners))
            return
        with ThreadPoolExecutor(1) as thread:  # in a notebook, whose loop runs here
            work = thread.submit(asyncio.run, self._run(endpoint, manners))
            try:
                work.result()
            finally:
                deque(self._next, maxlen=0)  # after an interruption nothing more is asked

    async def _run(self, endpoint: Endpoint, manners: Manners) -> None:
        async with Client(endpoint, manners) as client:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(manners.concurrency, len(self.waiting))):
                        group.create_task(self._ask(client))
            except BaseExceptionGroup as several:
                raise several.exceptions[0] from None
            finally:
                self.requests, self.retries = client.requests, client.retries

    async def _ask(self, client: Client) -> None:
        """Ask one prompt after the other, as long as some wait."""
        for prompt in self._next:
            try:
                while (lacks := self._samples - (had := len(self._answers.of(prompt)))) > 0:
                    self._answers.add(prompt, await client.ask(prompt, lacks, had))
                    self._any, self._in_a_row = True, 0
            except Unanswered as error:
                self._fail(prompt, error)
            self._advance(self._rows[prompt])

    def _fail(self, prompt: Prompt, error: Unanswered) -> None:
        self.failed[prompt] = str(error)
        if error.lasting and self._any:
            return  # the server works: it is the prompt
        self._in_a_row += 1
        if self._in_a_row >= HOPELESS:
            raise UserError(f"{HOPELESS} questions in a row got no answer, the last: {error}")


def _name(prompt: Prompt) -> str:
    return hash_texts(prompt if isinstance(prompt, str) else json.dumps(prompt))
