"""The three collators of transformers, each keeping what its name promises.

``default`` stacks rows that were padded when they were encoded, ``seq2seq`` pads each batch to its
longest row, ``language_modeling`` labels the whole text. None of them labels padding, all of them
label the end token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DefaultDataCollator,
)

from qc_experiments.collators.shared_schema import SharedSchemaCollator, pass_tokens
from qc_experiments.config.schema import CollatorConfig, CollatorName, LossOn
from qc_experiments.data.encode import IGNORED, Example

Feature = dict[str, Any]
Collator = Callable[[list[Any]], dict[str, Any]]


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


class Numbered:
    """A collator that also hands on which rows a batch holds, as ``row_numbers``.

    Args:
        collator: makes the batch.
    """

    def __init__(self, collator: Collator) -> None:
        self._collator = collator

    def __call__(self, features: list[Feature]) -> dict[str, Any]:
        """Collate rows with a ``row_number`` each."""
        numbers = [feature["row_number"] for feature in features]
        rest = [{k: v for k, v in f.items() if k != "row_number"} for f in features]
        return {**self._collator(rest), "row_numbers": numbers}


def build_collator(config: CollatorConfig, tokenizer: Any) -> Collator:
    """The collator that ``collator.name`` names; it hands on the rows' numbers.

    Args:
        config: name and padding multiple.
        tokenizer: with a pad token, padding on the right.
    """
    multiple = config.pad_to_multiple_of
    if config.name is CollatorName.shared_schema:
        return Numbered(SharedSchemaCollator(pass_tokens(config)))
    if config.name is CollatorName.default:
        return Numbered(DefaultDataCollator(return_tensors="pt"))
    if config.name is CollatorName.language_modeling:
        return Numbered(WholeTextCollator(tokenizer, mlm=False, pad_to_multiple_of=multiple))
    return Numbered(
        DataCollatorForSeq2Seq(
            tokenizer, padding="longest", label_pad_token_id=IGNORED, pad_to_multiple_of=multiple
        )
    )


def features(
    examples: Sequence[Example], loss_on: LossOn, config: CollatorConfig, pad_id: int
) -> list[Feature]:
    """Rows as the chosen collator takes them.

    Args:
        examples: rows in tokens.
        loss_on: which tokens carry a label.
        config: the collator; for ``default`` rows are padded here, to the longest of all.
        pad_id: token that fills up short rows.

    Returns:
        For each row ``input_ids``, ``attention_mask``, ``row_number`` and, but for
        ``language_modeling`` (which makes its own), ``labels``; for ``shared_schema`` its
        ``prompt_length`` as well.
    """
    length = 0
    if config.name is CollatorName.default:
        multiple = config.pad_to_multiple_of or 1
        length = -(-max(len(example) for example in examples) // multiple) * multiple
    rows = []
    for example in examples:
        padding = max(0, length - len(example))
        feature: Feature = {
            "input_ids": example.input_ids + [pad_id] * padding,
            "attention_mask": [1] * len(example) + [0] * padding,
            "labels": example.labels(loss_on) + [IGNORED] * padding,
            "row_number": example.row.number,
        }
        if config.name is CollatorName.language_modeling:
            del feature["labels"]
        if config.name is CollatorName.shared_schema:
            feature["prompt_length"] = len(example.prompt_ids)
        rows.append(feature)
    return rows
