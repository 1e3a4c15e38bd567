"""How long rows are in a model's tokens, and what of them is the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qc_experiments.config.schema import RunConfig
from qc_experiments.data.table import Row


@dataclass(frozen=True)
class TokenCounts:
    """Lengths of rows.

    Attributes:
        lengths: tokens of each row, prompt and completion together.
        longest: of a row that training takes: ``data.max_length``.
        window: the model's, or None where its config does not say.
        computed: tokens that `shared_schema` computes of the rows that fit, in an epoch.
        model: its name.
    """

    lengths: tuple[int, ...]
    longest: int
    window: int | None
    computed: int
    model: str

    @property
    def fitting(self) -> int:
        """Tokens of the rows that training takes."""
        return sum(length for length in self.lengths if length <= self.longest)


def count_tokens(rows: Sequence[Row], config: RunConfig) -> TokenCounts:
    """Tokenize rows as a run would."""
    from qc_experiments.collators.shared_schema import shared_schema
    from qc_experiments.collators.standard import CollatorInput
    from qc_experiments.data.encode import Encoder
    from qc_experiments.data.template import read_template
    from qc_experiments.models.base import load_tokenizer, model_source, model_window
    from qc_experiments.system.paths import resolve_path

    source = model_source(config.model, Path(config.paths.cache).expanduser())
    tokenizer = load_tokenizer(source, config.model.pad_token)
    template = read_template(resolve_path(config.data.template, "--template"))
    examples = Encoder(tokenizer, template, config.data.wrap).examples(rows)
    longest = config.data.max_length
    fitting = [example for example in examples if len(example) <= longest]
    trainer = config.trainer
    given = CollatorInput(config.collator, tokenizer, fitting, trainer.rows_per_step(), config.seed)
    computed = shared_schema(given).computed_tokens(fitting, trainer.micro_batch_size())
    lengths = tuple(len(example) for example in examples)
    return TokenCounts(lengths, longest, model_window(source), computed, source.label)
