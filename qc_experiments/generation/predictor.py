"""From questions to predicted SQL: candidates, the choice among them, and one repair."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qc_experiments.config.schema import Choose, Constrain, EvaluationConfig
from qc_experiments.data.encode import Encoder
from qc_experiments.data.table import Row
from qc_experiments.generation.decoding import Answer, AnswerSettings, Decoding
from qc_experiments.generation.generate import log_probability, write_answers
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.verdict import Tried
from qc_experiments.sql.extraction import extract_sql
from qc_experiments.sql.prefix_check import PrefixCheck, schema_check

REPAIR = "{question} (The query `{query}` fails: {error}. Write a query that runs.)"
"""Stands in the question's place when a prediction that failed is asked for again."""


@dataclass(frozen=True)
class Predicted:
    """What a model answers a question with.

    Attributes:
        sql: the prediction.
        after_repair: the prediction, or what the model wrote when it was told why that fails; None
            where no repair was asked for.
        candidates: all that it was chosen from, each once; none where there was no choice.
        confidence: in the prediction, from 0 to 1 (see `Predictor`); None where an older version has
            kept none.
    """

    sql: str
    after_repair: str | None = None
    candidates: tuple[str, ...] = ()
    confidence: float | None = None

    def is_unsure(self, least: float | None) -> bool:
        """Whether it is held back: its confidence is below the least that was asked for, or not known."""
        return least is not None and (self.confidence is None or self.confidence < least)


class Predictor:
    """Asks a model for SQL, always in the same way.

    Its confidence in a prediction is the model's probability of the answer, all of its tokens; where the
    majority of several candidates chooses, it is the share of these that return the same rows.

    Args:
        encoder: makes the prompts, as in training.
        config: decoding, candidates, choice and repair.
        window: longest input of the model in tokens, or None.
        judge: runs candidates, to choose among them or to learn why one fails.
    """

    def __init__(
        self, encoder: Encoder, config: EvaluationConfig, window: int | None, judge: Judge
    ) -> None:
        self._encoder = encoder
        self._config = config
        self._window = window
        self._judge = judge

    def predict(
        self, model: Any, rows: Sequence[Row], on_answer: Callable[[int], None] | None = None
    ) -> list[Predicted]:
        """Predict a query for each row.

        Args:
            model: a causal language model.
            rows: questions; their gold queries are not looked at.
            on_answer: called with the number of questions just answered, for progress.
        """
        config = self._config
        decoding = Decoding(
            config.candidates, config.temperature, config.top_p, config.num_beams, config.seed
        )
        checks = self._checks(rows)
        prompts = self._encoder.prompts(rows)
        answers = self._write(model, prompts, checks, decoding, on_answer)
        written = [[answer.text for answer in one] for one in answers]
        chosen, agreed = choose_by_running(rows, written, config.choose, self._judge)
        repaired = self._repair(model, rows, chosen) if config.repair else [None] * len(rows)
        different = [tuple(dict.fromkeys(one)) if config.candidates > 1 else () for one in written]
        sure = agreed or [
            _probability(model, prompt, next(one for one in candidates if one.text == query))
            for prompt, candidates, query in zip(prompts, answers, chosen, strict=True)
        ]
        return [Predicted(*each) for each in zip(chosen, repaired, different, sure, strict=True)]

    def _checks(self, rows: Sequence[Row]) -> list[PrefixCheck | None] | None:
        """What answers must be able to become; None where they are not constrained."""
        if self._config.constrain is Constrain.none:
            return None
        closing = self._encoder.template.after_query()
        return [schema_check(row.schema, self._judge.dialect(row), closing) for row in rows]

    def _write(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        checks: Sequence[PrefixCheck | None] | None,
        decoding: Decoding,
        on_answer: Callable[[int], None] | None = None,
    ) -> list[list[Answer]]:
        """Candidates for each prompt; the text of each is its SQL.

        A prompt that leaves no room in the model's window is not asked; its answer is empty, and so
        wrong.
        """
        config, encoder = self._config, self._encoder
        room = config.max_new_tokens
        fits = [self._window is None or len(ids) + room <= self._window for ids in prompts]
        asked = [ids for ids, fit in zip(prompts, fits, strict=True) if fit]
        if on_answer is not None and len(asked) < len(prompts):
            on_answer(len(prompts) - len(asked))
        settings = AnswerSettings(
            encoder.tokenizer, encoder.stop_ids, room, config.batch_size, decoding
        )
        if checks is not None:
            checks = [check for check, fit in zip(checks, fits, strict=True) if fit]
        written = iter(write_answers(model, asked, settings, on_answer, checks))
        after = encoder.template.after_query()
        return [
            [replace(one, text=extract_sql(one.text, after)) for one in next(written)]
            if fit
            else [UNASKED]
            for fit in fits
        ]

    def _repair(self, model: Any, rows: Sequence[Row], chosen: Sequence[str]) -> list[str]:
        tried = self._judge.try_all(list(zip(rows, chosen, strict=True)))
        failing = [place for place, one in enumerate(tried) if one.error is not None]
        again = []
        for place in failing:
            row, error = rows[place], tried[place].error
            asked = REPAIR.format(question=row.question, query=chosen[place], error=error)
            again.append(replace(row, question=asked))
        repaired = list(chosen)
        prompts = self._encoder.prompts(again)
        answers = self._write(model, prompts, self._checks(again), Decoding())
        for place, (answer,) in zip(failing, answers, strict=True):
            repaired[place] = answer.text
        return repaired


UNASKED = Answer((), "", -math.inf)
"""In place of an answer to a prompt that is not asked."""
DIGITS = 6
"""Of a confidence that are kept, so that it is the same wherever it is written down."""


def _probability(model: Any, prompt: Sequence[int], answer: Answer) -> float:
    found = answer.log_probability
    if found is None:
        found = log_probability(model, prompt, answer.tokens)
    return float(f"{min(1.0, math.exp(found)):.{DIGITS}g}")


def agreement(chosen: str, queries: Sequence[str], found: dict[str, Tried]) -> float:
    """The share of candidates, repeated ones included, that return the chosen one's rows; 0 if it fails."""
    result = found[chosen].result
    same = 0 if result is None else sum(found[query].result == result for query in queries)
    return float(f"{same / len(queries):.{DIGITS}g}")


def choose_by_running(
    rows: Sequence[Row], candidates: Sequence[Sequence[str]], how: Choose, judge: Judge
) -> tuple[list[str], list[float]]:
    """One of the candidates for each row, which ``judge`` runs where the choice depends on that.

    Returns:
        The queries; and how many agree with each, where the majority chooses.
    """
    if how is Choose.first:
        return [queries[0] for queries in candidates], []
    choose = first_valid if how is Choose.first_valid else majority
    different = [list(dict.fromkeys(queries)) for queries in candidates]
    pairs = zip(rows, different, strict=True)
    tried = iter(judge.try_all([(row, sql) for row, queries in pairs for sql in queries]))
    found = [{query: next(tried) for query in distinct} for distinct in different]
    chosen = [choose(*one) for one in zip(candidates, found, strict=True)]
    if choose is first_valid:
        return chosen, []
    triples = zip(chosen, candidates, found, strict=True)
    return chosen, [agreement(*one) for one in triples]


def first_valid(queries: Sequence[str], found: dict[str, Tried]) -> str:
    """The first candidate that runs, as `majority` takes them; the first of all where none does."""
    return next((query for query in queries if found[query].error is None), queries[0])


def majority(queries: Sequence[str], found: dict[str, Tried]) -> str:
    """The first candidate with the most frequent result; the first of all where none runs.

    Self-consistency by execution (Wang et al. 2023, arXiv:2203.11171; Ni et al. 2023,
    arXiv:2302.08468): queries that are written differently but return the same rows vote together.

    Args:
        queries: the candidates, repeated ones included, the likeliest first.
        found: what came of each.
    """
    results = [found[query].result for query in queries]
    votes = Counter(result for result in results if result is not None)
    if not votes:
        return queries[0]
    most = max(votes.values())
    return next(
        query
        for query, result in zip(queries, results, strict=True)
        if result is not None and votes[result] == most
    )
