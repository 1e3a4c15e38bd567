"""The three collators of transformers, each keeping what its name promises, and how one is chosen.

``default`` stacks rows that were padded before, ``seq2seq`` pads each batch to its longest row,
``language_modeling`` labels the whole text. None of them labels padding, all of them label the end token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DefaultDataCollator,
)

from qc_experiments.config.plugins import COLLATORS, load
from qc_experiments.config.schema import CollatorConfig
from qc_experiments.data.encode import IGNORED, Example
from qc_experiments.errors import RAISED, UserError, in_one_line
from qc_experiments.models.loss import pad_batch

Collate = Callable[[list[Example]], dict[str, Any]]

BATCH = ("input_ids", "attention_mask", "labels")
"""What every batch but a packed one holds."""


@dataclass(frozen=True)
class CollatorInput:
    """What a collator is made of.

    Attributes:
        config: the collator section.
        tokenizer: with a pad token, padding on the right.
        examples: all training rows.
        rows_per_step: effective batch size.
        seed: the run's.
    """

    config: CollatorConfig
    tokenizer: Any
    examples: Sequence[Example]
    rows_per_step: int
    seed: int


def build_collator(given: CollatorInput) -> Collate:
    """The collator that ``collator.name`` names.

    That name is of `COLLATORS`, or the dotted name of a user's function, which takes a `CollatorInput` and
    returns another: from a list of `Example` to ``input_ids``, ``attention_mask`` and ``labels``, each a
    tensor [rows, length], with `IGNORED` where nothing is trained. It may have two attributes: ``order``, a
    torch Sampler of the rows' places, and ``check(model)``, which raises UserError for models that it
    cannot train.

    Raises:
        UserError: if a user's own cannot be imported, raises, or makes no such batch of two rows.
    """
    name = given.config.name
    make = load("collator.name", name, COLLATORS)
    if name in COLLATORS:
        collate: Collate = make(given)
        return collate
    collate, problem = make, None
    try:
        if callable(make):
            collate = make(given)
        if not callable(make) or not callable(collate):
            whose = "it gives" if callable(make) else "it is"
            problem = f"{whose} {collate!r:.60}, not a function"
        else:
            ordered = sorted(given.examples, key=len)
            tried = [ordered[0], ordered[-1]][: len(ordered)]
            problem = _batch_problem(collate(tried), len(tried))
    except UserError:
        raise
    except RAISED as error:
        problem = f"fails on a trial ({in_one_line(error)})"
    if problem:
        raise UserError(f"collator.name={name}: {problem}")
    return collate


def _batch_problem(batch: Any, rows: int) -> str | None:
    """What is wrong with the batch of a user's own collator, or None."""
    import torch

    if not isinstance(batch, Mapping):
        return f"its batch is {type(batch).__name__}, not a dict"
    lacks = [key for key in BATCH if key not in batch]
    if lacks:
        return f"its batch lacks {', '.join(sorted(lacks))}"
    for key in BATCH:
        if not isinstance(batch[key], torch.Tensor):
            return f"its {key} is {type(batch[key]).__name__}, not a tensor"
    shape = batch["input_ids"].shape
    for key in BATCH:
        if batch[key].ndim != 2 or len(batch[key]) != rows or batch[key].shape != shape:
            found = list(batch[key].shape)
            return f"its {key} has the shape {found}, not [rows, length] as the input_ids of {rows} rows"
    if bool((batch["labels"] == IGNORED).all()):
        return f"its labels are all {IGNORED}, so that nothing is trained"
    return None


class Numbered:
    """A collator that also hands on which rows a batch holds, as ``row_numbers``.

    Args:
        collate: makes the batch.
    """

    def __init__(self, collate: Collate) -> None:
        self._collate = collate

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        """The batch, with the rows' numbers in the CSV."""
        return {**self._collate(examples), "row_numbers": [e.row.number for e in examples]}


@dataclass(frozen=True)
class Standard:
    """Hands examples to a collator of transformers.

    Attributes:
        collate: that collator.
        length: to which rows are padded before; 0: the collator pads.
        pad_id: fills them up.
        labels: whether the rows' labels are handed on; else the collator makes its own.
    """

    collate: Callable[[list[Any]], dict[str, Any]]
    length: int = 0
    pad_id: int = 0
    labels: bool = True

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        """The batch."""
        if self.length:
            padded = (pad_batch([one], self.pad_id, length=self.length) for one in examples)
            return self.collate([{key: rows[0] for key, rows in row.items()} for row in padded])
        rows = [{"input_ids": e.input_ids, "attention_mask": [1] * len(e)} for e in examples]
        if self.labels:
            rows = [{**row, "labels": e.labels} for row, e in zip(rows, examples, strict=True)]
        return self.collate(rows)


def default(given: CollatorInput) -> Standard:
    """Stacks rows that are padded to the longest of all."""
    multiple = given.config.pad_to_multiple_of or 1
    length = -(-max(map(len, given.examples)) // multiple) * multiple
    stack = DefaultDataCollator(return_tensors="pt")
    return Standard(stack, length=length, pad_id=given.tokenizer.pad_token_id)


def seq2seq(given: CollatorInput) -> Standard:
    """Pads each batch to its longest row."""
    multiple = given.config.pad_to_multiple_of
    return Standard(
        DataCollatorForSeq2Seq(
            given.tokenizer,
            padding="longest",
            label_pad_token_id=IGNORED,
            pad_to_multiple_of=multiple,
        )
    )


def language_modeling(given: CollatorInput) -> Standard:
    """Pads each batch to its longest row and labels all of its text."""
    multiple = given.config.pad_to_multiple_of
    pad = WholeTextCollator(given.tokenizer, mlm=False, pad_to_multiple_of=multiple)
    return Standard(pad, labels=False)


class WholeTextCollator(DataCollatorForLanguageModeling):
    """transformers' collator for language modeling, with labels by attention instead of by token.

    The parent masks every label that equals the pad token. Where pad and end token are one (most
    models here), no end would ever be learned; so labels are the tokens that are attended to.
    """

    def torch_call(self, examples: list[Any]) -> dict[str, Any]:
        """Pad to the longest row; labels [batch, length] are -100 on padding and nowhere else."""
        batch: dict[str, Any] = super().torch_call(examples)
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
        return batch
