"""A row as a batch has it: its tokens, and which of them carry loss."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import RunConfig
from qc_experiments.data.table import Row

Token = tuple[int, str, bool]
"""Its id, its text, and whether it carries loss."""


def shown_parts(row: Row, config: RunConfig) -> tuple[list[tuple[str, bool]], list[Token]]:
    """What the model sees of a row, decoded from the batch that the collator makes of it.

    Returns:
        Texts with whether they carry loss, as long as possible; and each token.
    """
    from qc_experiments.collators.standard import CollatorInput, build_collator
    from qc_experiments.data.encode import Encoder
    from qc_experiments.data.template import read_template
    from qc_experiments.models.base import load_tokenizer, model_source
    from qc_experiments.system.paths import resolve_path

    source = model_source(config.model, Path(config.paths.cache).expanduser())
    tokenizer = load_tokenizer(source, config.model.pad_token)
    template = read_template(resolve_path(config.data.template, "--template"))
    encoder = Encoder(tokenizer, template, config.data.wrap)
    examples = encoder.examples([row], config.data.loss_on)
    rows = config.trainer.rows_per_step()
    collate = build_collator(CollatorInput(config.collator, tokenizer, examples, rows, config.seed))
    ids, labelled = _of_batch(collate(examples))
    tokens = [
        (number, tokenizer.decode([number]), has_loss)
        for number, has_loss in zip(ids, labelled, strict=True)
    ]
    parts = []
    for has_loss, group in groupby(tokens, key=lambda one: one[2]):
        parts.append((tokenizer.decode([number for number, *_ in group]), has_loss))
    return parts, tokens


def _of_batch(batch: dict[str, Any]) -> tuple[list[int], list[bool]]:
    """The tokens of a batch of one row, padding left out, and whether each is a label."""
    if "packs" in batch:
        ids: list[int] = []
        labelled: list[bool] = []
        for one in batch["packs"]:
            pack = one.pack
            predicted = {place + 1 for place in pack.label_places}
            ids += pack.input_ids
            labelled += [place in predicted for place in range(len(pack))]
        return ids, labelled
    row, mask, labels = (
        batch[key][0].tolist() for key in ("input_ids", "attention_mask", "labels")
    )
    kept = [place for place, seen in enumerate(mask) if seen]
    return [row[place] for place in kept], [labels[place] >= 0 for place in kept]
