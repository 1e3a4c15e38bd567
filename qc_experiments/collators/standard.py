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

BATCH = ("input_ids", "attention_mask", "labels")  # what every batch but a packed one holds


@dataclass(frozen=True)
class CollatorInput:
    """What a collator is made of."""

    config: CollatorConfig
    tokenizer: Any  # with a pad token, padding on the right
    examples: Sequence[Example]  # all training rows
    rows_per_step: int  # effective batch size
    seed: int


def build_collator(given: CollatorInput) -> Collate:
    """The collator that ``collator.name`` names.

    That name is of `COLLATORS`, or the dotted name of a user's function, which takes a `CollatorInput` and
    returns another: from a list of `Example` to ``input_ids``, ``attention_mask`` and ``labels``, each a
    tensor [rows, length], with `IGNORED` where nothing is trained. It may have two attributes: ``order``, a
    torch Sampler of the rows' places, and ``check(model)``, which raises UserError for models that it
    cannot train. A user's own is tried on two rows.
    """
    name = given.config.name
    make = load("collator.name", name, COLLATORS)
    if name in COLLATORS:
        return make(given)
    try:
        collate = make(given) if callable(make) else make
        if not callable(collate):
            whose = "it gives" if callable(make) else "it is"
            problem: str | None = f"{whose} {collate!r:.60}, not a function"
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
    for key in BATCH:  # input_ids first, whose shape the others have
        if not isinstance(batch[key], torch.Tensor):
            return f"its {key} is {type(batch[key]).__name__}, not a tensor"
        shape = list(batch[key].shape)
        if len(shape) != 2 or shape[0] != rows or shape != list(batch["input_ids"].shape):
            return f"its {key} has the shape {shape}, not [rows, length] as the input_ids of {rows} rows"
    if bool((batch["labels"] == IGNORED).all()):
        return f"its labels are all {IGNORED}, so that nothing is trained"
    return None


def numbered(collate: Collate, examples: list[Example]) -> dict[str, Any]:
    """A batch that also says which rows of the CSV it holds, as ``row_numbers``."""
    return {**collate(examples), "row_numbers": [e.row.number for e in examples]}


@dataclass(frozen=True)
class Standard:
    """Hands examples to a collator of transformers."""

    collate: Callable[[list[Any]], dict[str, Any]]
    length: int = 0  # to which rows are padded with pad_id before; 0: the collator pads
    pad_id: int = 0
    labels: bool = True  # whether the rows' labels are handed on; else the collator makes its own

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
    multiple = given.config.pad_to_multiple_of  # -100 is what it fills labels up with
    return Standard(DataCollatorForSeq2Seq(given.tokenizer, pad_to_multiple_of=multiple))


def language_modeling(given: CollatorInput) -> Standard:
    """Pads each batch to its longest row and labels all of its text."""
    multiple = given.config.pad_to_multiple_of
    pad = WholeTextCollator(given.tokenizer, mlm=False, pad_to_multiple_of=multiple)
    return Standard(pad, labels=False)


class WholeTextCollator(DataCollatorForLanguageModeling):
    """transformers' collator for language modeling, with labels wherever a token is attended to.

    The parent masks every label that equals the pad token. Where that is the end token as well (as of most
    models here), no end would ever be learned.
    """

    def torch_call(self, examples: list[Any]) -> dict[str, Any]:
        """Pad to the longest row; labels [batch, length] are -100 on padding and nowhere else."""
        batch: dict[str, Any] = super().torch_call(examples)
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
        return batch
