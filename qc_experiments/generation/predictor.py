"""From questions to predicted SQL: the model's candidates, and one repair."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from qc_experiments.config.schema import Constrain, EvaluationConfig
from qc_experiments.data.encode import Encoder
from qc_experiments.data.table import Row
from qc_experiments.generation.choosing import Predicted, as_confidence, choose_by_running
from qc_experiments.generation.decoding import Answer, AnswerSettings, Decoding
from qc_experiments.generation.generate import log_probability, write_answers
from qc_experiments.judging.judge import Judge
from qc_experiments.sql.extraction import extract_sql
from qc_experiments.sql.prefix_check import PrefixCheck, schema_check

REPAIR = "{question} (The query `{query}` fails: {error}. Write a query that runs.)"
"""Stands in the question's place when a prediction that failed is asked for again."""


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


def _probability(model: Any, prompt: Sequence[int], answer: Answer) -> float:
    """That of an answer; 0 where the model computes none (a half-precision overflow makes it NaN)."""
    found = answer.log_probability
    if found is None:
        found = log_probability(model, prompt, answer.tokens)
    return 0.0 if math.isnan(found) else as_confidence(min(1.0, math.exp(found)))
