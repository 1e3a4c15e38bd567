"""A model behind an endpoint: asks it many questions at once, keeps every answer, makes SQL of them."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import Choose
from qc_experiments.data.table import Row, name_rows
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import Databases
from qc_experiments.errors import UserError
from qc_experiments.generation.choosing import Predicted, choose_by_running
from qc_experiments.generation.endpoint_client import Client, Unanswered
from qc_experiments.generation.endpoint_settings import Endpoint, Manners, Reply
from qc_experiments.judging.judge import Judge
from qc_experiments.models.saved import SavedPrompting
from qc_experiments.sql.extraction import extract_sql, holds_sql
from qc_experiments.system.console import progress
from qc_experiments.system.paths import hash_texts
from qc_experiments.system.unfinished import Lines, told_what_is_kept, written
from qc_experiments.system.words import counted

HOPELESS = 20
"""Questions in a row without an answer, after which no more are asked."""
THOUGHT_ENDS = "</think>"
THINKS = re.compile(r"\s*<think>")


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

    def of(self, prompt: str) -> list[str]:
        """The answers to a prompt."""
        return [text for reply in self._replies(prompt) for text in reply.texts]

    def all(self, prompts: Sequence[str]) -> Iterator[Reply]:
        """The replies to some prompts, each once."""
        for prompt in dict.fromkeys(prompts):
            yield from self._replies(prompt)

    def add(self, prompt: str, reply: Reply) -> None:
        """Keep a reply.

        Raises:
            UserError: if it cannot be written.
        """
        name = hash_texts(prompt)
        self._known.setdefault(name, []).append(reply)
        if self._lines is not None:
            with written(self._option):
                self._lines.append(
                    {"prompt": name, "texts": reply.texts, "cut": reply.cut, "tokens": reply.tokens}
                )

    def _replies(self, prompt: str) -> list[Reply]:
        return self._known.get(hash_texts(prompt), [])

    def _take(self, line: dict[str, Any]) -> None:
        asked, wrote = line["tokens"]
        reply = Reply(tuple(line["texts"]), line["cut"], (asked, wrote))
        self._known.setdefault(line["prompt"], []).append(reply)


class EndpointPredictor:
    """Turns questions into SQL by asking a server.

    Args:
        endpoint: the server and its model.
        manners: how the server is treated.
        prompting: that of a run, or one made of a template alone.
        trained: whether it is a run's: its model writes what its template says, and nothing else.
        samples: answers per question, among which running them chooses.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        manners: Manners,
        prompting: SavedPrompting,
        *,
        trained: bool,
        samples: int = 1,
    ) -> None:
        self.prompting = prompting
        self._endpoint, self._manners = endpoint, manners
        self._trained = trained
        self._samples = samples
        self._sent: tuple[int, int] = (0, 0)  # requests, and retries among them

    def answer_one(self, row: Row, databases: Databases | None) -> Predicted:
        """The SQL to one question; what it took is told beside it."""
        answers = Answers(None, "", "")
        if failed := self._ask(prompts := self._prompts([row]), answers, lambda done: None):
            raise UserError(f"the question got no answer: {failed[prompts[0]]}")
        (answer,) = self._chosen([row], prompts, answers, databases)
        print(self._told(prompts, answers), file=sys.stderr)
        return answer

    def answer_all(
        self, rows: Sequence[Row], databases: Databases | None, kept_in: tuple[Path, str]
    ) -> list[Predicted]:
        """The SQL to the questions of a CSV.

        Args:
            rows: with their contexts.
            databases: on which answers are tried, where there are several.
            kept_in: the file that keeps answers until all are there, and what the user calls the output.

        Raises:
            UserError: if a question got no answer, after all others got theirs; or if none would get one.
        """
        prompts = self._prompts(rows)
        answers = Answers(kept_in[0], self._work(), kept_in[1])
        if answers.dropped:
            print("The unfinished work there asked another model or otherwise: starts again")
        if before := self._count(prompts, answers):
            print(f"Goes on: {before} of {len(rows)} were answered before", flush=True)
        with (
            told_what_is_kept(lambda: self._count(prompts, answers), len(rows), "answers"),
            progress(f"Asking {counted(len(rows), 'question')}", len(rows)) as advance,
        ):
            advance(before)
            failed = self._ask(prompts, answers, advance)
        print(self._told(prompts, answers), flush=True)
        if failed:
            self._name_failed(rows, prompts, failed, self._count(prompts, answers))
        return self._chosen(rows, prompts, answers, databases)

    def _prompts(self, rows: Sequence[Row]) -> list[str]:
        prompt = self.prompting.template.prompt
        return [prompt(row.context, row.question, row.evidence or "") for row in rows]

    def _work(self) -> str:
        asked = self._endpoint
        settings = json.dumps(asked.settings, sort_keys=True)
        return hash_texts(asked.url, asked.model, asked.api.value, settings)

    def _count(self, prompts: Sequence[str], answers: Answers) -> int:
        """How many prompts are answered."""
        return sum(len(answers.of(prompt)) >= self._samples for prompt in prompts)

    def _ask(
        self, prompts: Sequence[str], answers: Answers, advance: Callable[[int], None]
    ) -> dict[str, str]:
        """Ask what is not answered; says why prompts got no answer."""
        work = _Asking(self._samples, prompts, answers, advance)
        if not work.waiting:
            return {}
        try:
            asyncio.run(self._ask_all(work))
        except UserError as error:
            if count := self._count(prompts, answers):
                kept = f"{count} of {len(prompts)} answers are kept, the same command goes on"
                raise UserError(f"{error}; {kept}") from None
            raise
        return work.failed

    async def _ask_all(self, work: _Asking) -> None:
        async with Client(self._endpoint, self._manners) as client:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self._manners.concurrency, len(work.waiting))):
                        group.create_task(work.ask(client))
            except BaseExceptionGroup as several:
                raise several.exceptions[0] from None
            finally:
                self._sent = (client.requests, client.retries)

    def _name_failed(
        self, rows: Sequence[Row], prompts: Sequence[str], failed: dict[str, str], kept: int
    ) -> None:
        """End with the rows that got no answer."""
        numbers = []
        for row, prompt in zip(rows, prompts, strict=True):
            if prompt in failed:
                numbers.append(row.number)
                print(f"warning: row {row.number}: {failed[prompt]}", file=sys.stderr)
        raise UserError(
            f"{name_rows(numbers)} got no answer, for the reasons above; the answers to the other {kept} are "
            "kept: the same command asks for the missing ones alone, also with such rows mended or left out"
        )

    def _chosen(
        self,
        rows: Sequence[Row],
        prompts: Sequence[str],
        answers: Answers,
        databases: Databases | None,
    ) -> list[Predicted]:
        candidates = [
            [self._sql(text) for text in answers.of(prompt)[: self._samples]] for prompt in prompts
        ]
        if self._samples == 1:
            return [Predicted(queries[0]) for queries in candidates]
        # On empty tables nearly all results are the same, so that there a vote says nothing.
        how = Choose.first_valid if databases is None else Choose.majority
        with Judge(databases, Limits(), cache=None) as judge:
            chosen, agreed = choose_by_running(rows, candidates, how, judge)
        confidences: list[float | None] = [*agreed] or [None] * len(chosen)
        return [
            Predicted(sql, confidence=one) for sql, one in zip(chosen, confidences, strict=True)
        ]

    def _sql(self, text: str) -> str:
        """The SQL of an answer; a trained model's is read as where it runs here."""
        after = self.prompting.template.after_query()
        if self._trained:
            return extract_sql(text, after)
        said = text.rpartition(THOUGHT_ENDS)[2]
        if THINKS.match(said):
            return ""  # it was cut while it thought
        sql = extract_sql(said, after)
        return sql if holds_sql(sql) else ""

    def _told(self, prompts: Sequence[str], answers: Answers) -> str:
        """What was asked for, and what of it is of no use."""
        replies = list(answers.all(prompts))
        asked, wrote = (sum(reply.tokens[side] for reply in replies) for side in (0, 1))
        tokens = f"Tokens: {asked:,} of prompts, {wrote:,} of answers"
        if replies and not asked + wrote:
            tokens = "Tokens: the server does not count them"
        requests, retries = self._sent
        lines = [f"{tokens}; {counted(requests, 'request')}, {retries} of them again"]
        texts = [text for reply in replies for text in reply.texts]
        if without := sum(not holds_sql(self._sql(text)) for text in texts):
            lines.append(f"{counted(without, 'answer')} of {len(texts):,} without SQL")
        if cut := sum(reply.cut for reply in replies):
            lines.append(f"{counted(cut, 'answer')} of {len(texts):,} cut off at --max-tokens")
        return "\n".join(lines)


class _Asking:
    """Work that several tasks share: what is to be asked, and what came of it.

    Attributes:
        waiting: prompts that lack answers, each once; those that begin alike together, as servers that
            share prefixes want them.
        failed: why prompts got no answer.
    """

    def __init__(
        self,
        samples: int,
        prompts: Sequence[str],
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
        self.failed: dict[str, str] = {}

    async def ask(self, client: Client) -> None:
        """Ask one prompt after the other, as long as some wait."""
        for prompt in self._next:
            try:
                while (lacks := self._samples - len(self._answers.of(prompt))) > 0:
                    self._answers.add(prompt, await client.ask(prompt, lacks))
                    self._any, self._in_a_row = True, 0
            except Unanswered as error:
                self._fail(prompt, error)
            self._advance(self._rows[prompt])

    def _fail(self, prompt: str, error: Unanswered) -> None:
        self.failed[prompt] = str(error)
        if error.lasting and self._any:
            return  # the server works: it is the prompt
        self._in_a_row += 1
        if self._in_a_row >= HOPELESS:
            raise UserError(f"{HOPELESS} questions in a row got no answer, the last: {error}")
