"""The sections ``data`` and ``collator``: the rows, and how they become prompts and batches."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from qc_experiments.config.model import Wrap
from qc_experiments.config.plugins import COLLATORS, check_name
from qc_experiments.config.ranges import SEED, at_least, check_ranges, setting
from qc_experiments.errors import UserError
from qc_experiments.system.words import counted

Files = Any
"""A file or a list of files: OmegaConf has no type for that."""
MOST_TIMES = 100
SAMPLES = 3
PRIVATE = (
    "e?mail",
    "phone|telef|mobile|fax",
    "(^|_)tel(_|$)",
    "card|iban|account_?n",
    "passw|kennw|pwd|secre|token",
    "ssn|social_sec",
    "pass(code|phrase)|mot.?de.?passe|contrase|senha|wachtwoord|api.?key",
    "(^|_)(pin|cvv|cvc)(_|$)",
)


class LossOn(Enum):
    """Which tokens carry a label."""

    completion = "completion"  # the SQL and the end token
    full = "full"  # the prompt as well


class SplitBy(Enum):
    """What a seeded validation split keeps together."""

    row = "row"
    schema = "schema"  # all rows of a schema on one side


class SchemaFormat(Enum):
    """How a database's schema is written for the model."""

    ddl = "ddl"  # its CREATE statements
    compact = "compact"  # table(column TYPE, ...), a line each
    m_schema = "m_schema"  # M-Schema: a line for each column, with sample values


class OnInvalid(Enum):
    """What happens to a row that cannot be used."""

    error = "error"
    drop = "drop"  # counted, logged with its row number, left out


class PackAttention(Enum):
    """How attention within packs is computed; all give the same numbers up to rounding."""

    auto = "auto"  # blocks; on a GPU flex, where a run's own check finds no difference
    blocks = "blocks"
    mask = "mask"
    flex = "flex"


@dataclass(frozen=True)
class ColumnsConfig:
    """What the CSV's columns are called."""

    question: str = "question"
    """Column of the question."""
    query: str = "query"
    """Column of the SQL."""
    context: str = "context"
    """Column of the schema, as ``CREATE TABLE`` statements."""
    db_id: str = "db_id"
    """Optional column: which database of ``data.databases`` the row is about."""
    evidence: str = "evidence"
    """Optional column: a hint that comes with the question, for ``{evidence}`` in the template."""

    def __post_init__(self) -> None:
        """Refuse one column for both, which a model would learn to repeat."""
        if self.question == self.query:
            raise UserError(
                f"data.columns.question={self.question} is data.columns.query, too (in qc data and qc init: "
                "--question and --query): name two columns"
            )


@dataclass(frozen=True)
class SchemaConfig:
    """What a schema says that is made from a database; ``ddl`` keeps its statements as they are."""

    types: bool = True
    """Whether columns have their types (compact, m_schema)."""
    keys: bool = True
    """Whether primary and foreign keys are included (compact, m_schema)."""
    comments: bool = True
    """Whether the comments of tables and columns are included (compact, m_schema)."""
    values: int | None = setting(None, at_least(0))
    """Sample values of each column, drawn from the first thousand rows of its table; null: 3 in m_schema,
    none in the others."""
    longest_value: int = setting(40, at_least(1, "characters"))
    """Longer values are not taken for samples."""
    private: list[str] = field(default_factory=lambda: list(PRIVATE))
    """Regular expressions; of a column whose name one of them matches anywhere no value is shown. Nor is a
    value shown that holds an e-mail address or a number to call or pay with, whatever its column, nor any
    of a view or a computed column, which may show other columns' values."""
    seed: int = setting(0, SEED)
    """Which values are drawn."""

    def __post_init__(self) -> None:
        check_ranges(self, "data.schema")
        for pattern in self.private:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(
                    f"data.schema.private: {pattern} is no regular expression: {error}"
                ) from None

    def samples(self, form: SchemaFormat) -> int:
        """The number of sample values a column in a form of the schema."""
        if self.values is None:
            return SAMPLES if form is SchemaFormat.m_schema else 0
        return self.values


@dataclass(frozen=True)
class DataConfig:
    """The rows, how they become prompts, and the databases on which SQL is run."""

    name: str = "data"
    """Short name that stands in the run's folder name."""
    train: Files = "???"
    """CSV of the training rows, or a list of several, such as ``[mine.csv,more.csv]``. ``pkg://package/file``
    names a file inside a Python package."""
    weights: list[float] = field(default_factory=list)
    """How often the rows of each file of ``train`` are seen in a pass: 2 is twice, 0.5 a seeded half of them.
    Empty: once each."""
    validation: str | None = None
    """CSV of the held-out rows; null splits them off the first file of ``train``."""
    validation_fraction: float = 0.1
    """Share of ``train`` that is held out when there is no ``validation`` (0 to 1, exclusive)."""
    split_by: SplitBy = SplitBy.row
    """Whether the split is drawn by row or by schema (all rows of a schema on one side)."""
    split_seed: int = setting(0, SEED)
    """Seed of the split and of ``limit``; apart from ``seed``, so that seeds share their rows."""
    limit: int | None = setting(None, at_least(1))
    """At most this many training rows (a seeded sample); null takes all."""
    also_evaluate: str | None = None
    """CSV of other questions and answers on which the loss is measured before and after, to show what
    training costs elsewhere; a row without a context is put to the model as its question alone."""
    template: str = "pkg://qc_experiments.data/templates/sql.txt"
    """Prompt template with ``{context}``, ``{question}`` and, last, ``{query}``."""
    databases: str | None = None
    """One database (a file or a URL), a folder with ``<db_id>/<db_id>.sqlite`` or ``<db_id>.sqlite`` (or
    ``.duckdb``), or ``postgresql://host/{db_id}``; null measures exact match and validity only."""
    schema_format: SchemaFormat | None = None
    """Write each row's schema so (ddl, compact, m_schema), from its database, or from the statements in its
    context where it has none; null takes the CSV's context as it is, and ddl for a row without one."""
    schema: SchemaConfig = field(default_factory=SchemaConfig)
    """What such a schema says."""
    linking: int | None = setting(None, at_least(20, "tokens"))
    """Most tokens of a schema (estimated at three characters per token): of a longer one the tables and
    columns that a question needs stay, found by its words; null keeps schemas whole."""
    engine: str | None = None
    """What runs SQL on ``databases``: ``sqlite``, ``duckdb``, ``postgresql``, or the full name of a
    Python module of your own; null: the files' suffix or the URL's scheme tells. Without databases it
    says whose SQL the queries are, to which ``qc predict`` then holds answers."""
    max_length: int = setting(1024, at_least(8, "tokens"))
    """Longest row in tokens, prompt and completion together. Nothing is ever cut to fit."""
    too_long: OnInvalid = OnInvalid.drop
    """Whether a longer training row is left out (counted and logged) or an error."""
    on_invalid: OnInvalid = OnInvalid.error
    """Whether a row with an empty cell is an error or left out (counted and logged)."""
    loss_on: LossOn = LossOn.completion
    """Train on the SQL and the end token only (completion), or on the prompt as well (full)."""
    wrap: Wrap = Wrap.plain
    """Plain text, or a turn of the model's chat template; follows ``model.wrap`` unless given."""
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    """Names of the CSV's columns."""

    def __post_init__(self) -> None:
        self._check_files()
        if self.validation is None and not 0 < self.validation_fraction < 1:
            raise UserError(
                f"data.validation_fraction={self.validation_fraction}: must be above 0 and "
                "below 1, or name a data.validation CSV"
            )
        check_ranges(self, "data")

    def train_files(self) -> list[tuple[str, float]]:
        """The files of training rows, each with its weight."""
        files = [self.train] if isinstance(self.train, str) else list(self.train)
        return list(zip(files, self.weights or [1.0] * len(files), strict=True))

    def _check_files(self) -> None:
        several = isinstance(self.train, list | tuple)
        files = list(self.train) if several else [self.train]
        if not files or not all(isinstance(one, str) and one for one in files):
            raise UserError(
                f"data.train={self.train}: must be a file, or a list of files such as [mine.csv,more.csv]"
            )
        for place, weight in enumerate(self.weights):
            if not 0 < weight <= MOST_TIMES:
                raise UserError(
                    f"data.weights[{place}]={weight:g}: must be above 0 and at most {MOST_TIMES}: how often "
                    "the rows of a file are seen in a pass"
                )
        if self.weights and len(self.weights) != len(files):
            raise UserError(
                f"data.weights={self.weights}: names {counted(len(self.weights), 'weight')} for "
                f"{counted(len(files), 'file')} of data.train: give each file its own"
            )


@dataclass(frozen=True)
class CollatorConfig:
    """How rows become a batch."""

    name: str = "shared_schema"
    """default, seq2seq or language_modeling (transformers' collators), shared_schema (which computes a
    schema's tokens once), or a function of your own by its dotted name."""
    max_tokens: int | None = setting(None, at_least(1))
    """shared_schema: most tokens computed at once, which is what memory depends on (a longer row or
    schema is computed whole); null: 1024 on a CPU, on a GPU what its memory
    allows, at most 16,384."""
    max_group: int = setting(8, at_least(1))
    """shared_schema: most questions of a group about one schema; an optimizer step takes groups of
    different schemas as long as there are any."""
    attention: PackAttention = PackAttention.auto
    """shared_schema: ``blocks`` computes only what rows see of each other's text, in several calls and
    without a mask of the whole pass; ``mask`` is one call with such a mask; ``flex`` is one call without (on
    a GPU); ``auto`` is ``blocks``, on a GPU ``flex`` where the run's own check finds no difference."""
    pad_to_multiple_of: int | None = setting(None, at_least(1))
    """Pad batches to a multiple of this many tokens (8 suits tensor cores); null: no rounding."""

    def __post_init__(self) -> None:
        check_name("collator.name", self.name, COLLATORS)
        check_ranges(self, "collator")
