"""The schema of a run: every key that the command line and ``conf/`` may set.

Hydra composes the YAML files of ``conf/`` into these frozen dataclasses once
(`qc_experiments.config.compose`); nothing below `sweeps` sees a DictConfig. Importing this module
loads nothing heavy. Each section stands in a module of its own, with units under and ranges beside
its defaults, and checks what must agree within it; what must agree between sections is checked here.
A refusal is a `UserError` with a line that names the key. All names of the sections may be imported
from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from qc_experiments.config.data import (
    CollatorConfig,
    ColumnsConfig,
    DataConfig,
    LossOn,
    OnInvalid,
    PackAttention,
    SchemaConfig,
    SchemaFormat,
    SplitBy,
)
from qc_experiments.config.evaluation import Choose, Constrain, EvaluationConfig
from qc_experiments.config.metrics import EXECUTION, LOSS, Metric, metric_called, own_metrics
from qc_experiments.config.model import (
    LORA_INITIALISATIONS,
    LORA_VARIANTS,
    DType,
    LoraConfig,
    ModelConfig,
    QuantConfig,
    QuantMode,
    Wrap,
    changes_base,
    saved_rank,
    shifts_base,
)
from qc_experiments.config.outputs import (
    MOST_IN_WANDB_NAME,
    PathsConfig,
    PlanConfig,
    Rerun,
    SweepConfig,
    TrackingConfig,
    WandbMode,
)
from qc_experiments.config.ranges import SEED, check_ranges, setting
from qc_experiments.config.trainer import DEFAULT_MICRO_BATCH, Strategy, TrainerConfig
from qc_experiments.errors import UserError

A_FOLDER = (
    "data.databases: a database's file, a folder with <db_id>/<db_id>.sqlite (or .duckdb), or a URL"
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
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    seed: int = setting(42, SEED)
    """Fixes the order of the rows, the adapter's initialisation and dropout."""
    objective: str = LOSS.key
    """The metric that a run returns to a sweep."""

    def __post_init__(self) -> None:
        check_ranges(self, "")
        if self.collator.name == "language_modeling" and self.data.loss_on is LossOn.completion:
            raise UserError(
                "data.loss_on=completion contradicts collator=language_modeling, which trains on the "
                "whole text: use collator=seq2seq or data.loss_on=full"
            )
        self._check_weights()
        self._check_endpoint()
        own = self.own_metrics()
        best = ("trainer.metric_for_best_model", self.trainer.metric_for_best_model)
        for key, metric in (("objective", self.objective), best):
            metric_called(metric, own, setting=f"{key}=", chosen=True)
            if metric == EXECUTION.key and self.data.databases is None:
                raise UserError(f"{key}={metric} needs {A_FOLDER}")
        if self.data.databases is None:
            self._check_without_databases()

    def _check_weights(self) -> None:
        quantized, init = self.quant.mode is not QuantMode.none, self.lora.init
        if quantized and not self.lora.enabled:
            raise UserError(
                "lora=none contradicts quant: quantized weights are frozen and cannot be trained; "
                "use lora=r16 (QLoRA) or quant=none"
            )
        if self.model.adapter is not None and not self.lora.enabled:
            raise UserError(
                "lora=none contradicts model.adapter: an adapter is continued as LoRA; use lora=r16"
            )
        if quantized and init not in ("default", "gaussian"):
            raise UserError(
                f"lora.init={init} needs unquantized base weights: use quant=none or "
                "lora.init=default"
            )

    def _check_endpoint(self) -> None:
        evaluation, trains = self.evaluation, self.trainer.max_steps != 0
        if evaluation.endpoint is None:
            return
        if evaluation.endpoint_model is not None and trains:
            raise UserError(
                f"evaluation.endpoint_model={evaluation.endpoint_model}: no server has what this run is to "
                "train: leave it out, and the adapter is loaded into the server; or measure a finished model "
                "with trainer.max_steps=0"
            )
        if trains and not self.lora.enabled:
            raise UserError(
                "lora=none contradicts evaluation.endpoint: a server takes adapters alone while it runs; "
                "export the model, serve it, and measure it with evaluation.endpoint_model"
            )
        if self.lora.use_dora and evaluation.endpoint_model is None:
            raise UserError(
                "lora.use_dora=true contradicts evaluation.endpoint: vLLM takes no DoRA; leave one "
                "of them out"
            )

    def _check_without_databases(self) -> None:
        if self.evaluation.fuzz:
            raise UserError(f"evaluation.fuzz={self.evaluation.fuzz} needs {A_FOLDER}")
        if self.evaluation.choose is Choose.majority:
            raise UserError(
                "evaluation.choose=majority needs data.databases, on which candidates are run; "
                "without them use evaluation.choose=first_valid"
            )

    def own_metrics(self) -> tuple[Metric, ...]:
        """The user's own metrics; a `UserError` if one cannot be imported."""
        return own_metrics(self.evaluation.metrics)

    def metric(self, key: str) -> Metric:
        """The metric of which ``objective`` or ``trainer.metric_for_best_model`` is the key."""
        return metric_called(key, self.own_metrics(), setting="", chosen=True)


def keys_of(schema: type = RunConfig, prefix: str = "") -> Iterator[tuple[str, Field[Any], bool]]:
    """Every key in dotted form, with its field and whether it is a section, which comes before its keys."""
    for one in fields(schema):
        section = one.default_factory if is_dataclass(one.default_factory) else None
        yield prefix + one.name, one, section is not None
        if isinstance(section, type):
            yield from keys_of(section, f"{prefix}{one.name}.")


def plain(value: object) -> Any:
    """Turn a config into dicts, lists, strings and numbers, as YAML, JSON and W&B take them."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
