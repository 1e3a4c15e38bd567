"""Measure a model on the held-out rows: validation loss, and the SQL it writes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qc_experiments.config.metrics import ALSO_LOSS, LOSS, METRICS, Metric, own_metrics
from qc_experiments.config.schema import EvaluationConfig
from qc_experiments.data.encode import Encoder, Example
from qc_experiments.data.split import sample_rows
from qc_experiments.data.table import Row
from qc_experiments.evaluation.journal import Journal
from qc_experiments.evaluation.loss import validation_loss
from qc_experiments.evaluation.metrics import (
    Judged,
    assess,
    figures,
    with_confidence,
    with_recall,
)
from qc_experiments.evaluation.processes import gathered, of_main_process, own_share
from qc_experiments.generation.choosing import Predicted
from qc_experiments.generation.predictor import Predictor
from qc_experiments.judging.judge import Judge
from qc_experiments.packing.agreement import PackAgreement
from qc_experiments.system.console import progress
from qc_experiments.system.memory import free_memory
from qc_experiments.system.processes import is_main_process, world_size
from qc_experiments.system.words import counted

PART_ROWS = 256
"""Questions that are answered before their answers are kept."""


@dataclass(frozen=True)
class Measured:
    """What was found out about a model.

    Attributes:
        loss: validation loss in nats per label token.
        judged: its predictions, in the order of the held-out rows.
        seconds: how long it took.
        own: the user's own metrics.
        also_loss: loss on other questions and answers, where it was asked for.
    """

    loss: float
    judged: list[Judged]
    seconds: float
    own: tuple[Metric, ...] = ()
    also_loss: float | None = None

    def figures(self) -> dict[str, float | int | None]:
        """The loss and what is made of the predictions, under the names of ``result.json``."""
        figures_of = figures(self.judged, self.own)
        return {LOSS.key: self.loss, ALSO_LOSS.key: self.also_loss, **figures_of}


@dataclass(frozen=True)
class HeldOut:
    """What a model is measured on, in tokens.

    Attributes:
        examples: held-out rows.
        also: other questions and answers, of which the loss alone is taken.
    """

    examples: Sequence[Example]
    also: Sequence[Example] = ()


class Evaluator:
    """The same questions for every model: held-out rows, decoding, databases, judge.

    Args:
        encoder: makes the prompts, as in training.
        held_out: what it is measured on.
        judge: runs the answers.
        config: limits and batch sizes.
        window: longest input of the model in tokens, or None.
        agreement: knows for which models packed rows give what padded ones give; None knows none.
    """

    def __init__(
        self,
        encoder: Encoder,
        held_out: HeldOut,
        judge: Judge,
        config: EvaluationConfig,
        window: int | None,
        agreement: PackAgreement | None = None,
    ) -> None:
        self._agreement = agreement or PackAgreement()
        self._encoder = encoder
        self._examples = list(held_out.examples)
        self._also = list(held_out.also)
        self._judge = judge
        self._config = config
        self._own = own_metrics(config.metrics)
        self._predictor = Predictor(encoder, config, window, judge)

    def measure(self, model: Any, what: str, journal: Journal | None = None) -> Measured:
        """Loss and predictions on all held-out rows.

        Args:
            model: a causal language model.
            what: what is measured, for the progress bar.
            journal: keeps loss and answers, so that an interruption does not lose them.
        """
        started = time.perf_counter()
        loss = journal.loss if journal is not None else None
        also = journal.also_loss if journal is not None else None
        if loss is None or (self._also and also is None):
            loss = self.loss(model)
            also = self._loss(model, self._also) if self._also else None
            if journal is not None:
                journal.keep_loss(loss, also)
        judged = self.answers(model, self._examples, what, journal)
        return Measured(loss, judged, time.perf_counter() - started, self._own, also)

    def loss(self, model: Any) -> float:
        """Validation loss over all held-out rows, in nats per label token."""
        return self._loss(model, self._examples)

    def _loss(self, model: Any, examples: Sequence[Example]) -> float:
        pad_id = self._encoder.tokenizer.pad_token_id
        total, count = validation_loss(
            model, examples, pad_id, self._config.batch_size, self._agreement
        )
        return total / count

    def answers(
        self, model: Any, examples: Sequence[Example], what: str, journal: Journal | None = None
    ) -> list[Judged]:
        """Let the model answer some questions, and judge the answers; arguments as in `measure`."""
        rows = [example.row for example in examples]
        found = self._answered(model, examples, what, journal)
        free_memory()  # the caches of what was written, before a training fills it with other sizes
        predicted = [found[row.number] for row in rows]
        # One process runs the SQL, so that all know the same; the others would only take its cores.
        return of_main_process(self._judged(rows, predicted) if is_main_process() else [])

    def _answered(
        self, model: Any, examples: Sequence[Example], what: str, journal: Journal | None
    ) -> dict[int, Predicted]:
        """What the model answers, by the number of the row; several processes share the work."""
        todo = parts(examples)
        numbers = [[row.number for row in part] for part in todo]
        known = of_main_process(
            [None if journal is None else journal.answers(part) for part in numbers]
        )
        missing = [place for place, answers in enumerate(known) if answers is None]
        own = own_share(missing)
        others = len(examples) - sum(len(todo[place]) for place in own)
        new = []
        with progress(
            f"{what}: answering {counted(len(examples), 'question')}", len(examples)
        ) as advance:
            advance(others)
            for place in own:
                answers = self._predictor.predict(model, todo[place], advance)
                if journal is not None:  # the main process writes its own at once
                    journal.add(numbers[place], answers)
                new.append((place, answers))
        for place, answers in gathered(new):
            if journal is not None and place not in own:
                journal.add(numbers[place], answers)
            known[place] = answers
        return {
            row.number: answer
            for part, answers in zip(todo, known, strict=True)
            for row, answer in zip(part, answers or (), strict=True)
        }

    def _judged(self, rows: Sequence[Row], predicted: Sequence[Predicted]) -> list[Judged]:
        repaired = [one.after_repair for one in predicted if one.after_repair is not None]
        judged = assess(
            rows,
            [one.sql for one in predicted],
            self._judge,
            repaired=repaired if self._config.repair else None,
        )
        judged = with_recall(judged, [one.candidates for one in predicted], self._judge)
        return with_confidence(judged, [one.confidence for one in predicted])

    def during_training(self, model: Any, *, generates: bool) -> dict[str, float]:
        """Metrics by which the best checkpoint is chosen, named as the Trainer wants them.

        Args:
            model: the model in training.
            generates: whether those made of predictions are wanted as well as the loss; they are taken
                on the first ``evaluation.during_training`` rows of a seeded sample.
        """
        found = {LOSS.logged_as: self.loss(model)}
        if generates:
            rows = [example.row for example in self._examples]
            sample = sample_rows(rows, self._config.during_training, self._config.seed)
            chosen = {row.number for row in sample}
            examples = [e for e in self._examples if e.row.number in chosen]
            taken = figures(self.answers(model, examples, "Held-out"), self._own)
            for metric in (*METRICS, *self._own):
                value = taken.get(metric.key)
                if metric.during_training and value is not None:
                    found[metric.logged_as] = value
        return found


def parts(examples: Sequence[Example]) -> list[list[Row]]:
    """Cut questions into parts that are answered one after the other, similar prompts together."""
    ordered = sorted(examples, key=lambda example: list(example.prompt_ids))
    rows = [example.row for example in ordered]
    most = min(PART_ROWS, max(1, -(-len(rows) // world_size())))  # one for each process at least
    return [rows[start : start + most] for start in range(0, len(rows), most)]
