"""What a run will compute, known before it computes anything: tokens, batches, steps, folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qc_experiments.collators.shared_schema import SchemaSampler, computed_tokens, pass_tokens
from qc_experiments.collators.standard import Collate, CollatorInput, build_collator
from qc_experiments.config.plugins import COLLATORS
from qc_experiments.config.schema import (
    LORA_VARIANTS,
    LossOn,
    OnInvalid,
    QuantConfig,
    QuantMode,
    RunConfig,
)
from qc_experiments.data.encode import IGNORED, Encoder, Example, fitting
from qc_experiments.errors import UserError
from qc_experiments.models.adapter_checks import (
    adapted_layers,
    check_adapter,
    check_layers,
    check_same_layers,
    model_outline,
    trained_otherwise,
)
from qc_experiments.models.adapters import check_adapter_files
from qc_experiments.models.base import load_tokenizer, model_window
from qc_experiments.models.files import load_errors
from qc_experiments.models.source import ModelSource
from qc_experiments.models.stored_quantization import (
    check_quantization,
    in_words,
    stored_quantization,
)
from qc_experiments.system.processes import world_size
from qc_experiments.system.words import counted
from qc_experiments.training.inputs import RunData

LITTLE_SAVED = 1.1
"""Packs that save less than this factor are worth a word."""


@dataclass(frozen=True)
class Plan:
    """The rows of a run in tokens, and what follows from their number.

    Attributes:
        source: where the base model is.
        tokenizer: that of the base model.
        encoder: makes prompts and completions.
        train: training rows that fit.
        validation: held-out rows that fit the model's window.
        window: longest input of the model in tokens, or None where it does not say.
        stored: how the checkpoint quantizes its weights, or None where it does not.
        decisions: lines about rows that were left out.
        steps: optimizer steps of the whole run.
        rows_per_step: effective batch size.
        label_tokens: labels of all training rows.
        tokens: tokens of all training rows, padding left out.
    """

    source: ModelSource
    tokenizer: Any
    encoder: Encoder
    train: list[Example]
    validation: list[Example]
    window: int | None
    stored: QuantConfig | None
    decisions: tuple[str, ...]
    steps: int
    rows_per_step: int
    label_tokens: int
    tokens: int

    @property
    def epochs(self) -> float:
        """Passes over the training rows."""
        per_epoch = math.ceil(len(self.train) / self.rows_per_step)
        return self.steps / per_epoch

    def collator(self, config: RunConfig) -> Collate:
        """What makes batches of the training rows.

        Raises:
            UserError: if it is a user's own and cannot be loaded.
        """
        given = CollatorInput(
            config.collator, self.tokenizer, self.train, self.rows_per_step, config.seed
        )
        return build_collator(given)

    def _order(self, config: RunConfig, examples: Sequence[Example]) -> SchemaSampler:
        """The order of rows in which a schema's questions stand together."""
        prompts = [example.prompt_ids for example in examples]
        return SchemaSampler(prompts, self.rows_per_step, config.collator.max_group, config.seed)

    def warmup_steps(self, warmup: float) -> int:
        """Steps of warm-up, for ``trainer.warmup_steps``: a value below 1 is a share of all steps.

        Its first step has a learning rate of 0, so that a run of one step has none.
        """
        if self.steps == 1:
            return 0
        return int(warmup) if warmup >= 1 else math.ceil(self.steps * warmup)

    def lines(self, config: RunConfig) -> list[str]:
        """What the user is told before the run computes anything."""
        trainer = config.trainer
        longest = max(len(example) for example in self.train)
        loss_on = "the SQL" if config.data.loss_on is LossOn.completion else "the whole text"
        share = self.label_tokens / self.tokens
        lines = [
            f"Model   {self.source.label}; {self._method(config)}; base weights {self.storage(config)}",
            f"Rows    {len(self.train)} to train on, {len(self.validation)} held out; longest "
            f"{longest} tokens, {self.tokens / len(self.train):.0f} on average",
            f"Loss    on {loss_on}: {self.label_tokens} of {self.tokens} tokens ({share:.0%})",
            f"Batch   {counted(trainer.micro_batch_size(), 'row')} x "
            f"{counted(trainer.gradient_accumulation_steps, 'accumulation step')} x "
            f"{counted(world_size(), 'device')} = {counted(self.rows_per_step, 'row')} per step"
            + (
                f" (all {len(self.train)} there are)"
                if len(self.train) < self.rows_per_step
                else ""
            ),
            f"Steps   {self.steps} ({self.epochs:.1f} epochs), learning rate "
            f"{trainer.learning_rate:g}, warm-up steps {self.warmup_steps(trainer.warmup_steps)}, "
            f"{trainer.lr_scheduler_type}",
        ]
        if config.collator.name == "shared_schema":
            computed = self.computed_tokens(config)
            most = pass_tokens(config.collator)
            saved = "rows share nothing and are packed without padding"
            if self.tokens >= LITTLE_SAVED * computed:
                saved = (
                    "each schema's tokens are computed once for its questions in a micro-batch, "
                    f"{self.tokens / computed:.1f} times fewer"
                )
            lines.append(
                f"Packs   {computed} tokens an epoch instead of {self.tokens}: {saved}; at most {most} "
                "at once"
            )
        return lines

    def storage(self, config: RunConfig) -> str:
        """How the base weights are stored."""
        if self.stored is not None:
            return f"in {in_words(self.stored)}, as the checkpoint has them"
        mode = config.quant.mode
        return "not quantized" if mode is QuantMode.none else f"in {mode.value}"

    def _method(self, config: RunConfig) -> str:
        """What is trained, and from where."""
        lora, adapter = config.lora, config.model.adapter
        used = [title for key, (title, _) in LORA_VARIANTS.items() if getattr(lora, key)]
        kind = used[0] if used else "LoRA"
        what = f"{kind} r={lora.r} alpha={lora.alpha:g} dropout={lora.dropout:g}"
        if not self.steps:
            return "nothing is trained" if adapter is None else f"{what} of {adapter} as it is"
        if adapter is not None:
            return f"goes on training {what} of {adapter}"
        return f"trains {what if lora.enabled else 'all weights'}"

    def sharing_advice(self, config: RunConfig) -> str | None:
        """What keeps ``shared_schema`` from helping, and what would change it; None if it helps."""
        if config.collator.name != "shared_schema":
            return None
        if self.tokens >= LITTLE_SAVED * self.computed_tokens(config):
            return None
        if self.encoder.template.context_first():
            return (
                "collator=shared_schema: hardly any rows of a micro-batch are about the same schema, "
                "so that rows are only packed without padding; a larger "
                "trainer.per_device_train_batch_size may help"
            )
        rows = [example.row for example in self.train]
        contexts = self.encoder.tokenizer([row.context for row in rows]).input_ids
        questions = self.encoder.tokenizer([row.question for row in rows]).input_ids
        turned = [
            Example(example.row, (*context, *question), example.completion_ids)
            for example, context, question in zip(self.train, contexts, questions, strict=True)
        ]
        ratio = sum(map(len, turned)) / self._computed(turned, config)
        return (
            f"collator=shared_schema: {self.encoder.template.source} has the question before the "
            "schema, so that no two prompts begin alike and rows are only packed without padding: put "
            f"{{context}} before {{question}}, and about {ratio:.1f} times fewer tokens are computed"
        )

    def computed_tokens(self, config: RunConfig) -> int:
        """Tokens that are computed in an epoch, padding left out: packed ones count once."""
        if config.collator.name != "shared_schema":
            return self.tokens
        return self._computed(self.train, config)

    def _computed(self, examples: Sequence[Example], config: RunConfig) -> int:
        """Tokens that packs of these rows compute in the first epoch."""
        order = self._order(config, examples).order(0)
        micro_batch = config.trainer.micro_batch_size()
        return computed_tokens(examples, order, micro_batch, pass_tokens(config.collator))


def make_plan(config: RunConfig, data: RunData, source: ModelSource) -> Plan:
    """Tokenize the rows and check that they fit.

    Raises:
        UserError: for a tokenizer that cannot be loaded, rows that do not fit, a
            ``data.max_length`` beyond the model's window, or a ``model.adapter`` of another shape.
    """
    if config.model.adapter is not None:
        adapter = Path(config.model.adapter).expanduser()
        check_adapter_files(adapter, f"model.adapter={adapter}", config.model.allow_pickle)
        check_adapter(adapter, config.lora)
    window = model_window(source)
    tokenizer = load_tokenizer(source, config.model.pad_token)
    stored = stored_quantization(source)
    check_quantization(config, stored)
    longest = config.data.max_length
    if window is not None and longest > window:
        raise UserError(
            f"data.max_length={longest} is longer than the model's window of {window} tokens: set "
            f"data.max_length={window} or less"
        )
    encoder = Encoder(tokenizer, data.template, config.data.wrap)
    train, dropped = fitting(
        encoder.examples(data.train, config.data.loss_on),
        longest,
        "data.max_length",
        config.data.too_long,
        data.train_source,
    )
    validation = encoder.examples(data.validation)
    if window is not None:
        validation, unfit = fitting(
            validation, window, "the model's window", OnInvalid.drop, data.validation_source
        )
        dropped += unfit
    known = _check_model(config, source, tokenizer, [*train, *validation])
    if config.model.adapter is not None:
        known += trained_otherwise(adapter, encoder, source)
    labels = sum(sum(x != IGNORED for x in example.labels) for example in train)
    plan = Plan(
        source=source,
        tokenizer=tokenizer,
        encoder=encoder,
        train=train,
        validation=validation,
        window=window,
        stored=stored,
        decisions=(*known, *(d.line(data.train_source) for d in dropped)),
        steps=_steps(config, len(train)),
        rows_per_step=config.trainer.rows_per_step(),
        label_tokens=labels,
        tokens=sum(len(example) for example in train),
    )
    if config.collator.name not in COLLATORS:
        plan.collator(config)  # a user's own, which may be missing
    return plan


def _check_model(
    config: RunConfig, source: ModelSource, tokenizer: Any, examples: Sequence[Example]
) -> list[str]:
    """Check the model's shapes before its weights are loaded; gives lines that the user should know."""
    outline = model_outline(source)
    if outline is None:
        return []
    _check_tokens(outline.get_input_embeddings().weight.shape[0], tokenizer, examples)
    if not config.lora.enabled:
        return []
    layers = adapted_layers(source, config=config.lora)
    known = check_layers(config.lora, layers, outline)
    if config.model.adapter is not None:
        _check_adapters_layers(config, source, layers)
    return known


def _check_tokens(rows: int, tokenizer: Any, examples: Sequence[Example]) -> None:
    """Check that the embedding has a row for each token that is used."""
    has = f"the model's embedding has {rows} rows, its tokenizer {len(tokenizer)} tokens"
    if tokenizer.pad_token_id >= rows:
        raise UserError(
            f"{has}: the padding token {tokenizer.pad_token} (id {tokenizer.pad_token_id}) is beyond "
            f"them: set model.pad_token={tokenizer.eos_token}, say, or resize the model's embedding"
        )
    for example in examples:
        beyond = max(example.input_ids)
        if beyond >= rows:
            token = tokenizer.convert_ids_to_tokens(beyond)
            raise UserError(
                f"{has}: row {example.row.number} has {token} (id {beyond}), which is beyond them: take "
                "the tokenizer that the model was trained with, or resize the model's embedding"
            )


def _check_adapters_layers(config: RunConfig, source: ModelSource, asked: dict[str, Any]) -> None:
    from peft import PeftConfig

    folder = Path(str(config.model.adapter)).expanduser()
    try:
        with load_errors("the adapter", folder):
            has = adapted_layers(source, PeftConfig.from_pretrained(str(folder)))
    except UserError as error:
        raise UserError(f"model.adapter={folder}: does not fit this model ({error})") from None

    def option(name: str) -> dict[str, Any]:
        return adapted_layers(source, config=replace(config.lora, target_modules=name))

    check_same_layers(folder, has, asked, option)


def _steps(config: RunConfig, rows: int) -> int:
    """Optimizer steps, counted as the Trainer counts them: an epoch's last step may be smaller."""
    trainer = config.trainer
    if trainer.max_steps is not None:
        return trainer.max_steps
    batches = math.ceil(math.ceil(rows / world_size()) / trainer.micro_batch_size())
    per_epoch = math.ceil(batches / trainer.gradient_accumulation_steps)
    return math.ceil(trainer.num_train_epochs * per_epoch)
