"""What a run will compute, known before it computes anything: tokens, batches, steps, folder."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qc_experiments.collators.shared_schema import pass_tokens, shared_schema
from qc_experiments.collators.standard import Collate, CollatorInput, build_collator
from qc_experiments.config.plugins import COLLATORS
from qc_experiments.config.schema import (
    LORA_VARIANTS,
    DType,
    LossOn,
    QuantConfig,
    QuantMode,
    RunConfig,
)
from qc_experiments.data.encode import IGNORED, Encoder, Example
from qc_experiments.errors import UserError
from qc_experiments.generation.generate import SHARED_BATCH
from qc_experiments.models import adapter_checks
from qc_experiments.models.base import load_tokenizer, model_window
from qc_experiments.models.device import GPU, check_device, to_train
from qc_experiments.models.lora import check_adapter_files
from qc_experiments.models.source import ModelSource
from qc_experiments.models.stored_quantization import (
    check_quantization,
    in_words,
    stored_quantization,
)
from qc_experiments.system.processes import world_size
from qc_experiments.system.words import counted
from qc_experiments.training.device_plan import Device, device_of
from qc_experiments.training.encoded_rows import encode_rows
from qc_experiments.training.inputs import RunData
from qc_experiments.training.memory_plan import (
    MULTIPLE,
    MemoryPlan,
    ModelShape,
    formats_of,
    memory_line,
    memory_plan,
    pass_tokens_within,
    time_line,
)
from qc_experiments.training.optimizers import check_optimizer

LITTLE_SAVED = 1.1  # packs that save less than this factor are worth a word


@dataclass(frozen=True)
class Plan:
    """The rows of a run in tokens, and what follows from their number."""

    source: ModelSource
    tokenizer: Any
    encoder: Encoder
    train: list[Example]  # training rows that fit
    validation: list[Example]  # held-out rows that fit the model's window
    also: list[Example]  # of another task, of which the loss is taken
    window: int | None  # longest input of the model in tokens, where it says
    stored: QuantConfig | None  # how the checkpoint quantizes its weights, if it does
    decisions: tuple[str, ...]  # lines about rows that were left out
    steps: int  # optimizer steps of the whole run
    rows_per_step: int  # effective batch size
    label_tokens: int  # labels of all training rows
    tokens: int  # tokens of all training rows, padding left out
    device: Device  # that it is planned for
    shape: ModelShape | None  # of the model, where its config tells it
    dialect: str  # what sqlglot calls the SQL that is learned

    @property
    def epochs(self) -> float:
        """Passes over the training rows."""
        return self.steps / math.ceil(len(self.train) / self.rows_per_step)

    def collator(self, config: RunConfig) -> Collate:
        """What makes batches of the training rows."""
        return build_collator(self._collator_input(config, self.train))

    def _collator_input(self, config: RunConfig, rows: Sequence[Example]) -> CollatorInput:
        per_step = self.rows_per_step
        sized = replace(config.collator, max_tokens=self.pass_tokens(config))
        return CollatorInput(sized, self.tokenizer, rows, per_step, config.seed)

    def pass_tokens(self, config: RunConfig) -> int:
        """Most tokens of a pass of packs: as asked, else as the device's memory allows."""
        if config.collator.max_tokens is not None or self.device.kind != GPU or self.shape is None:
            return pass_tokens(config.collator)
        formats = formats_of(config, self.device.kind)
        fitting = pass_tokens_within(self.device.memory, self.shape, formats, config)
        return max(fitting, MULTIPLE)

    def largest_pass(self, config: RunConfig) -> int:
        """Most tokens whose way back is kept at once."""
        rows, micro = self.train, config.trainer.micro_batch_size()
        if config.collator.name == "shared_schema":
            return shared_schema(self._collator_input(config, rows)).largest_pass(rows, micro)
        return micro * max(map(len, rows))

    def memory(self, config: RunConfig) -> MemoryPlan | None:
        """What the run needs at most; None where the model's shape is not known."""
        if self.shape is None:
            return None
        evaluation = config.evaluation
        prompts = [len(example.prompt_ids) for example in self.validation]
        width = max(evaluation.candidates, evaluation.num_beams)
        texts = min(len(prompts) * width, SHARED_BATCH * evaluation.batch_size)
        longest = max(prompts, default=0) + evaluation.max_new_tokens
        formats, most = formats_of(config, self.device.kind), self.largest_pass(config)
        return memory_plan(self.shape, formats, config, most, texts, longest)

    def warmup_steps(self, warmup: float) -> int:
        """Steps of warm-up, for ``trainer.warmup_steps``: a value below 1 is a share of all steps.

        Its first step has a learning rate of 0, so that a run of one step has none.
        """
        if self.steps == 1:
            return 0
        return int(warmup) if warmup >= 1 else math.ceil(self.steps * warmup)

    def _warmup(self, config: RunConfig) -> int:
        """Steps of warm-up; the scheduler ``constant`` begins at its full rate."""
        trainer = config.trainer
        constant = trainer.lr_scheduler_type == "constant"
        return 0 if constant else self.warmup_steps(trainer.warmup_steps)

    def warmup_advice(self, config: RunConfig) -> str | None:
        """What keeps the learning rate from its peak; None if it gets there."""
        if not 0 < self.steps <= self._warmup(config):
            return None
        return (
            f"trainer.warmup_steps={config.trainer.warmup_steps:g}: the run has "
            f"{counted(self.steps, 'step')}, so that its learning rate never reaches "
            f"{config.trainer.learning_rate:g}: set a share of them, such as trainer.warmup_steps=0.1"
        )

    def lines(self, config: RunConfig) -> list[str]:
        """What the user is told before the run computes anything."""
        trainer, rows, per_step = config.trainer, len(self.train), self.rows_per_step
        other = f", {len(self.also)} of another task" if self.also else ""
        loss_on = "the SQL" if config.data.loss_on is LossOn.completion else "the whole text"
        lines = [
            f"Model   {self.source.label}; {self._method(config)}; base weights {self.storage(config)}",
            *_files_line(self.train),
            f"Rows    {rows} to train on, {len(self.validation)} held out{other}; longest "
            f"{max(map(len, self.train))} tokens, {self.tokens / rows:.0f} on average",
            f"Loss    on {loss_on}: {self.label_tokens} of {self.tokens} tokens "
            f"({self.label_tokens / self.tokens:.0%})",
            f"Batch   {counted(trainer.micro_batch_size(), 'row')} x "
            f"{counted(trainer.gradient_accumulation_steps, 'accumulation step')} x "
            f"{counted(world_size(), 'device')} = {counted(per_step, 'row')} per step"
            + (f" (all {rows} there are)" if rows < per_step else ""),
            f"Steps   {self.steps} ({self.epochs:.1f} epochs), learning rate "
            f"{trainer.learning_rate:g}, warm-up steps {self._warmup(config)}, "
            f"{trainer.lr_scheduler_type}",
        ]
        if config.collator.name == "shared_schema":
            computed = self.computed_tokens(config)
            saved = "rows share nothing and are packed without padding"
            if self.tokens >= LITTLE_SAVED * computed:
                saved = (
                    "each schema's tokens are computed once for its questions in a micro-batch, "
                    f"{self.tokens / computed:.1f} times fewer"
                )
            lines.append(
                f"Packs   {computed} tokens an epoch instead of {self.tokens}: {saved}; at most "
                f"{self.pass_tokens(config)} at once"
            )
        needed = self.memory(config)
        if needed is not None:
            lines.append(memory_line(needed, self.device, config, self.largest_pass(config)))
        tokens = self.computed_tokens(config) * self.epochs
        if self.shape and (line := time_line(self.shape, self.device, config, tokens)):
            lines.append(line)
        return lines

    def storage(self, config: RunConfig) -> str:
        """How the base weights are stored."""
        if self.stored is not None:
            return f"in {in_words(self.stored)}, as the checkpoint has them"
        mode = config.quant.mode
        if not config.lora.enabled:
            return "in float32, as they are trained"
        if mode is not QuantMode.none:
            return f"in {mode.value}"
        if config.model.dtype is DType.auto and to_train(config).dtype is DType.bfloat16:
            return "in bfloat16, which this CPU multiplies faster (model.dtype=float32: exact)"
        return "not quantized"

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
        template = self.encoder.template
        if template.context_first():
            return (
                "collator=shared_schema: hardly any rows of a micro-batch are about the same schema, "
                "so that rows are only packed without padding; a larger "
                "trainer.per_device_train_batch_size may help"
            )
        contexts = self.tokenizer([example.row.context for example in self.train]).input_ids
        questions = self.tokenizer([example.row.question for example in self.train]).input_ids
        turned = [
            Example(example.row, (*context, *question), example.completion_ids)
            for example, context, question in zip(self.train, contexts, questions, strict=True)
        ]
        ratio = sum(map(len, turned)) / self._packed_tokens(config, turned)
        return (
            f"collator=shared_schema: {template.source} has the question before the "
            "schema, so that no two prompts begin alike and rows are only packed without padding: put "
            f"{{context}} before {{question}}, and about {ratio:.1f} times fewer tokens are computed"
        )

    def computed_tokens(self, config: RunConfig) -> int:
        """Tokens that are computed in an epoch, padding left out: packed ones count once."""
        packs = config.collator.name == "shared_schema"
        return self._packed_tokens(config, self.train) if packs else self.tokens

    def _packed_tokens(self, config: RunConfig, examples: Sequence[Example]) -> int:
        collator = shared_schema(self._collator_input(config, examples))
        return collator.computed_tokens(examples, config.trainer.micro_batch_size())


def make_plan(config: RunConfig, data: RunData, source: ModelSource) -> Plan:
    """Tokenize the rows and check that they, the model and a ``model.adapter`` fit together."""
    device = device_of(config.plan.device)
    check_device(config, device.kind)
    check_optimizer(config.trainer.optim)
    adapter = None
    if config.model.adapter is not None:
        adapter = Path(config.model.adapter).expanduser()
        check_adapter_files(adapter, f"model.adapter={adapter}", config.model.allow_pickle)
        adapter_checks.check_adapter(adapter, config.lora)
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
    rows = encode_rows(config, data, encoder, window)
    known = list(rows.lines)
    layers: dict[str, Any] = {}
    outline = adapter_checks.model_outline(source)
    if outline is not None:
        _check_tokens(
            len(outline.get_input_embeddings().weight),
            tokenizer,
            [*rows.train, *rows.validation, *rows.also],
        )
        if config.lora.enabled:
            layers = adapter_checks.adapted_layers(source, config.lora)
            known += adapter_checks.check_layers(config.lora, layers, outline)
            if adapter is not None:
                adapter_checks.check_same_layers(adapter, source, config.lora, layers)
    if adapter is not None:
        known += adapter_checks.trained_otherwise(adapter, encoder, source)
    plan = Plan(
        source=source,
        tokenizer=tokenizer,
        encoder=encoder,
        train=rows.train,
        validation=rows.validation,
        also=rows.also,
        window=window,
        stored=stored,
        decisions=tuple(known),
        steps=_steps(config, len(rows.train)),
        rows_per_step=config.trainer.rows_per_step(),
        label_tokens=sum(x != IGNORED for example in rows.train for x in example.labels),
        tokens=sum(map(len, rows.train)),
        device=device,
        shape=None if outline is None else ModelShape.of(outline, layers, config),
        dialect=data.dialect,
    )
    if config.collator.name not in COLLATORS:
        plan.collator(config)  # a user's own, which may be missing
    return plan


def _files_line(train: Sequence[Example]) -> list[str]:
    """How many rows come from which file, where there are several."""
    counts = Counter(example.row.source for example in train)
    named = ", ".join(f"{counted(count, 'row')} of {file}" for file, count in counts.items())
    return [] if None in counts else [f"Files   {named}"]


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


def _steps(config: RunConfig, rows: int) -> int:
    """Optimizer steps, counted as the Trainer counts them: an epoch's last step may be smaller."""
    trainer = config.trainer
    if trainer.max_steps is not None:
        return trainer.max_steps
    batches = math.ceil(math.ceil(rows / world_size()) / trainer.micro_batch_size())
    per_epoch = math.ceil(batches / trainer.gradient_accumulation_steps)
    return math.ceil(trainer.num_train_epochs * per_epoch)
