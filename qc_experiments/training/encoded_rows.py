"""A run's rows in tokens: those that fit, and lines about those that do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from qc_experiments.config.schema import OnInvalid, RunConfig
from qc_experiments.data.encode import Encoder, Example, fitting
from qc_experiments.data.table import Row
from qc_experiments.data.template import Template
from qc_experiments.training.inputs import RunData

QUESTION_ALONE = Template("{context}{question}\n{query}", "data.also_evaluate")


@dataclass(frozen=True)
class EncodedRows:
    """Rows in tokens.

    Attributes:
        train: that fit ``data.max_length``.
        validation: held out, that fit the model's window.
        also: of another task, of which the loss is taken.
        lines: about rows that were left out.
    """

    train: list[Example]
    validation: list[Example]
    also: list[Example]
    lines: list[str]


def encode_rows(
    config: RunConfig, data: RunData, encoder: Encoder, window: int | None
) -> EncodedRows:
    """Tokenize the rows of a run; ``window`` is the model's, where its config says."""
    limit, too_long = config.data.max_length, config.data.too_long
    train: list[Example] = []
    lines: list[str] = []
    for source, rows in groupby(data.train, lambda row: row.source or data.train_source):
        examples = encoder.examples(list(rows), config.data.loss_on)
        kept, dropped = fitting(examples, limit, "data.max_length", too_long, source)
        train += kept
        lines += [decision.line(source) for decision in dropped]
    measured: list[list[Example]] = []
    for examples, source in (
        (encoder.examples(data.validation), data.validation_source),
        (_other_task(data.also, encoder), str(config.data.also_evaluate)),
    ):
        kept = examples
        if window is not None and examples:
            kept, dropped = fitting(examples, window, "the model's window", OnInvalid.drop, source)
            lines += [decision.line(source) for decision in dropped]
        measured.append(kept)
    validation, also = measured
    return EncodedRows(train, validation, also, lines)


def _other_task(rows: Sequence[Row], encoder: Encoder) -> list[Example]:
    """Rows in tokens; one without a context, which is of no database, as its question and answer alone."""
    alone = Encoder(encoder.tokenizer, QUESTION_ALONE, encoder.wrap)
    return [
        example for row in rows for example in (encoder if row.context else alone).examples([row])
    ]
