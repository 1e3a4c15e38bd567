"""A model behind an endpoint: asks it many questions at once, keeps every answer, makes SQL of them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from qc_experiments.config.schema import Choose
from qc_experiments.data.table import Row, name_rows
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import Databases
from qc_experiments.errors import UserError
from qc_experiments.generation.choosing import Predicted, choose_by_running
from qc_experiments.generation.endpoint_asking import Answers, Asking
from qc_experiments.generation.endpoint_settings import Endpoint, Manners, Prompt
from qc_experiments.judging.judge import Judge
from qc_experiments.models.saved import SavedPrompting
from qc_experiments.sql.extraction import extract_sql, holds_sql
from qc_experiments.system.console import progress
from qc_experiments.system.paths import hash_texts
from qc_experiments.system.unfinished import told_what_is_kept
from qc_experiments.system.words import counted

THOUGHT_ENDS = "</think>"
THINKS = re.compile(r"\s*<think>")


class EndpointPredictor:
    """Turns questions into SQL by asking a server.

    Args:
        endpoint: the server and its model.
        manners: how the server is treated.
        prompting: that of a run, or one made of a template alone.
        trained: whether it is a run's: its model writes what its template says, and nothing else.
        samples: answers per question, among which running them chooses.
    """

    confidence_is = "the share of the answers that return the same rows"

    def __init__(
        self,
        endpoint: Endpoint,
        manners: Manners,
        prompting: SavedPrompting,
        *,
        trained: bool,
        samples: int = 1,
    ) -> None:
        self.name, self.prompting = f"{endpoint.model} of {endpoint.url}", prompting
        self._endpoint, self._manners = endpoint, manners
        self._trained = trained
        self._samples = samples
        self._sent: tuple[int, int] = (0, 0)  # requests, and retries among them

    def answer_one(self, row: Row, databases: Databases | None) -> Predicted:
        """The SQL to one question; what it took is told beside it."""
        with self._judge(databases) as judge:
            prompts, answers = self._answers([row])
            (answer,) = self._chosen([row], prompts, answers, judge, runs=databases is not None)
        print(self._told(prompts, answers), file=sys.stderr)
        return answer

    def prompt_tokens(self, row: Row) -> None:
        """Not known: the server counts them."""

    def answer_by(self, judge: Judge, rows: Sequence[Row]) -> list[Predicted]:
        """The SQL to questions about databases, on which a judge runs candidates."""
        return self._chosen(rows, *self._answers(rows), judge, runs=True)

    def _answers(self, rows: Sequence[Row]) -> tuple[list[str], Answers]:
        """Ask without keeping anything: prompts, and what was answered."""
        answers, prompts = Answers(None, "", ""), self._prompts(rows)
        if failed := self._ask(prompts, answers, lambda done: None):
            raise UserError(f"the question got no answer: {next(iter(failed.values()))}")
        return prompts, answers

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
        with self._judge(databases) as judge:
            return self._chosen(rows, prompts, answers, judge, runs=databases is not None)

    def _judge(self, databases: Databases | None) -> Judge:
        return Judge(databases or self.prompting.dialect, Limits(), cache=None)

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
    ) -> dict[Prompt, str]:
        """Ask what is not answered; says why prompts got no answer."""
        work = Asking(self._samples, prompts, answers, advance)
        try:
            work.run(self._endpoint, self._manners)
        except UserError as error:
            if count := self._count(prompts, answers):
                kept = f"{count} of {len(prompts)} answers are kept, the same command goes on"
                raise UserError(f"{error}; {kept}") from None
            raise
        finally:
            self._sent = (work.requests, work.retries)
        return work.failed

    def _name_failed(
        self, rows: Sequence[Row], prompts: Sequence[str], failed: dict[Prompt, str], kept: int
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
        judge: Judge,
        *,
        runs: bool,
    ) -> list[Predicted]:
        candidates = [
            [self._sql(text) for text in answers.of(prompt)[: self._samples]] for prompt in prompts
        ]
        if self._samples == 1:
            return [Predicted(queries[0]) for queries in candidates]
        # On empty tables nearly all results are the same, so that there a vote says nothing.
        how = Choose.majority if runs else Choose.first_valid
        chosen, agreed = choose_by_running(rows, candidates, how, judge)
        confidences: list[float | None] = [*agreed] or [None] * len(chosen)
        return [
            Predicted(sql, candidates=tuple(dict.fromkeys(several)), confidence=confidence)
            for sql, several, confidence in zip(chosen, candidates, confidences, strict=True)
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
