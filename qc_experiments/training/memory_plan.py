"""What memory a run needs at most, known from its model's shape before anything is loaded.

Counted are numbers that are there at once: weights, what is kept of a pass for its way back, logits, and
the keys and values of answers. What was counted for CPUs was compared with measured peaks
(`scripts/check_memory_plan.py`, docs/log.md); for GPUs it is arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qc_experiments.config.model import auto_is_bfloat16
from qc_experiments.config.schema import DType, QuantMode, RunConfig, changes_base
from qc_experiments.generation.generate import SHARED_BATCH
from qc_experiments.models.base import attention_widths
from qc_experiments.models.device import GPU
from qc_experiments.models.loss import GPU_LOGITS_AT_ONCE, LOGITS_AT_ONCE
from qc_experiments.system.words import duration
from qc_experiments.training.device_plan import OF_PEAK, Device

GB = 1e9
LIBRARIES = {"cpu": 1.1 * GB, GPU: 1.2 * GB}
"""What torch and the others take themselves, in resident memory or on a card."""
TRAINED = 16
"""Bytes of a trained weight: itself, its gradient and AdamW's two moments in float32."""
QUANTIZED = {QuantMode.int4: 0.55, QuantMode.int8: 1.05}
"""Bytes of a weight that is stored so, scales included."""
LOGIT = 14
"""Bytes of a logit while its loss and gradient are taken."""
GROWTH = 1.2
"""What a long run in 16 bits adds on a CPU, as a share of a pass and its logits; in float32 nothing was added
(docs/log.md), and on a GPU it was not measured."""
MOST_PASS_TOKENS, MULTIPLE = 16384, 128
SURE = 0.87
"""Share of a device's memory up to which a plan fits for sure: plans are within 15 % of what is measured."""


@dataclass(frozen=True)
class ModelShape:
    """Numbers of a model that its memory depends on."""

    hidden: int
    intermediate: int  # of the MLP
    layers: int
    queries: int  # numbers of a token's queries in a layer
    keys: int  # of its keys, or its values
    vocabulary: int
    parameters: int
    linear: int  # of these, in layers that quantization stores in fewer bits
    trained: int

    @classmethod
    def of(cls, outline: Any, adapted: dict[str, Any], config: RunConfig) -> ModelShape | None:
        """That of a model's outline, with the layers that an adapter is put on.

        None for models that are made otherwise than of attention and MLPs, such as recurrent ones.
        """
        found = outline.config.get_text_config()
        try:
            queries, keys = attention_widths(found)
        except AttributeError:
            return None
        inner = getattr(found, "intermediate_size", None) or 4 * found.hidden_size
        ends = {id(outline.get_input_embeddings()), id(outline.get_output_embeddings())}
        linear = sum(
            module.weight.numel()
            for module in outline.modules()
            if getattr(module, "in_features", 0) and id(module) not in ends
        )
        total = sum(parameter.numel() for parameter in outline.parameters())
        trained = total
        if config.lora.enabled:
            widths = [sum(layer.weight.shape) for layer in adapted.values()]
            trained = config.lora.r * sum(widths)
        return cls(
            hidden=found.hidden_size,
            intermediate=max(inner) if isinstance(inner, list) else inner,
            layers=found.num_hidden_layers,
            queries=queries,
            keys=keys,
            vocabulary=found.vocab_size,
            parameters=total,
            linear=linear,
            trained=trained,
        )


@dataclass(frozen=True)
class Formats:
    """In how many bytes numbers are kept, and where."""

    device: str  # cpu or cuda
    weight: float  # bytes of a base weight that is not quantized
    computed: float  # of a number of a pass
    quantized: QuantMode = QuantMode.none


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes at the run's peak, by what takes them."""

    libraries: float
    weights: float
    trained: float  # adapter, its gradients and the optimizer's moments
    of_pass: float  # kept of a pass for its way back
    logits: float  # of its labels, with their gradients
    answers: float  # keys and values of the answers that are written at once
    texts: int  # these answers
    growth: float  # of a pass and its logits, in a long run

    @property
    def always(self) -> float:
        """What is there all the time."""
        return self.libraries + self.weights + self.trained

    @property
    def total(self) -> float:
        """At a run's beginning. Passes and answers are not there at once."""
        return self.always + max(self.of_pass + self.logits, self.answers)

    @property
    def at_most(self) -> float:
        """After many steps."""
        return self.always + max((self.of_pass + self.logits) * (1 + self.growth), self.answers)

    def text(self) -> str:
        """In words: what is there at the peak, the largest first."""
        parts = {
            "libraries": self.libraries,
            "weights": self.weights,
            "what is trained": self.trained,
        }
        if self.of_pass + self.logits >= self.answers:
            parts |= {"a pass": self.of_pass, "logits": self.logits}
        else:
            parts["answers"] = self.answers
        named = sorted(parts.items(), key=lambda one: -one[1])
        return ", ".join(f"{name} {size / GB:.1f}" for name, size in named if size >= 0.05 * GB)


def kept_per_token(shape: ModelShape, formats: Formats, config: RunConfig) -> float:
    """Bytes that are kept of each token of a pass."""
    h, i = shape.hidden, shape.intermediate
    if formats.device == GPU:
        layer = (28 * h + 8 * i + 4 * (shape.queries - shape.keys)) * formats.computed / 2
    else:
        attention = 2 * shape.queries + 6 * shape.keys
        layer = (4 * h + attention + 2 * i) * formats.computed
        if not config.lora.enabled:
            layer = (8 * h + attention + 4 * i) * formats.computed
        elif config.lora.dropout:
            layer = (
                (4 * h + attention + 4 * i) * formats.computed + 6 * h + i
            )  # a byte of each mask
    if config.trainer.gradient_checkpointing:
        return shape.layers * h * formats.computed + layer
    return shape.layers * layer


def memory_plan(
    shape: ModelShape,
    formats: Formats,
    config: RunConfig,
    tokens: int,
    texts: int = 0,
    text_tokens: int = 0,
) -> MemoryPlan:
    """What a run needs at most.

    Args:
        shape: of its model.
        formats: in which its numbers are kept.
        config: of the run.
        tokens: of its largest pass.
        texts: answers that are written at once.
        text_tokens: of the longest with its prompt.
    """
    plain = shape.parameters
    weights = 0.0
    if formats.quantized is not QuantMode.none:
        plain -= shape.linear
        weights = shape.linear * QUANTIZED[formats.quantized]
    weights += plain * formats.weight
    full = not config.lora.enabled
    at_once = GPU_LOGITS_AT_ONCE if formats.device == GPU else LOGITS_AT_ONCE
    return MemoryPlan(
        libraries=LIBRARIES[formats.device],
        weights=0.0 if full else weights,  # else they are what is trained
        trained=shape.trained * TRAINED,
        of_pass=tokens * kept_per_token(shape, formats, config),
        logits=min(at_once, tokens * shape.vocabulary) * LOGIT,
        answers=texts * text_tokens * shape.layers * 2 * shape.keys * formats.computed,
        texts=texts,
        growth=GROWTH if formats.device != GPU and formats.computed < 4 else 0.0,
    )


def formats_of(config: RunConfig, device: str) -> Formats:
    """In how many bytes a run's numbers are kept on a device, this machine's or another one."""
    dtype, changes = config.model.dtype, changes_base(config.lora)
    narrow = dtype in (DType.bfloat16, DType.float16)
    if device == GPU:
        narrow |= dtype is DType.auto
    elif dtype is DType.auto:
        narrow = auto_is_bfloat16(config.lora, config.quant)
    stored_wide = not config.lora.enabled or (changes and dtype is DType.auto)
    computed = 2.0 if narrow else 4.0
    return Formats(device, 4.0 if stored_wide else computed, computed, config.quant.mode)


def pass_tokens_within(free: float, shape: ModelShape, formats: Formats, config: RunConfig) -> int:
    """Most tokens of a pass that fit into so many free bytes, as a multiple of 128; 0 if none do."""
    unit = memory_plan(shape, formats, config, MOST_PASS_TOKENS)
    fixed = unit.always + unit.logits
    tokens = int((0.9 * free - fixed) / kept_per_token(shape, formats, config))
    return max(0, min(MOST_PASS_TOKENS, tokens // MULTIPLE * MULTIPLE))


def memory_line(needed: MemoryPlan, device: Device, config: RunConfig, tokens: int) -> str:
    """The plan's line on memory: how much is needed, and what to change first if it does not fit.

    ``tokens`` are those of the largest pass.
    """
    line = f"Memory  about {needed.total / GB:.1f} GB ({needed.text()})"
    if needed.at_most > 1.05 * needed.total:
        line += f", {needed.at_most / GB:.1f} GB after many steps"
    has = f"{device.name} has {device.memory / GB:.1f} GB{device.of_it}"
    if needed.at_most <= device.memory:
        sure = needed.at_most <= SURE * device.memory
        return f"{line}: {'fits' if sure else 'may just fit'}, {has}"
    if device.memory <= needed.libraries:
        return f"{line}: does not fit, {has}, which torch and its libraries take alone"
    first, others = _remedies(needed, device, config, tokens)
    told = ""
    if first:
        told = f"set {' and '.join(first)}" + ("; if that is not enough, also " if others else "")
    return f"{line}: does not fit, {has}; {told or 'set '}{', then '.join(others)}"


def _remedies(
    needed: MemoryPlan, device: Device, config: RunConfig, tokens: int
) -> tuple[list[str], list[str]]:
    """What makes a run fit by itself where anything does, and what else takes less."""
    first: list[str] = []
    others: list[str] = []
    room = device.memory - needed.always
    for_passes = room / (1 + needed.growth)
    if needed.of_pass + needed.logits > for_passes:
        share = max(0.0, for_passes - needed.logits) / needed.of_pass
        rows = config.trainer.micro_batch_size()
        if config.collator.name == "shared_schema":
            fitting = max(MULTIPLE, int(share * tokens) // MULTIPLE * MULTIPLE)
            (first if share else others).append(f"collator.max_tokens={fitting}")
        elif rows > 1:
            fitting = max(1, int(share * rows))
            (first if share else others).append(f"trainer.per_device_train_batch_size={fitting}")
        if not config.trainer.gradient_checkpointing:
            others.append("trainer.gradient_checkpointing=true")
    if needed.answers > room:
        share = max(0.0, room) / needed.answers
        smaller = max(1, int(share * needed.texts / SHARED_BATCH))
        (first if share else others).append(f"evaluation.batch_size={smaller}")
    if not config.lora.enabled:
        others.append("lora=r16")
    elif config.quant.mode is QuantMode.none:
        others.append("quant=4bit")
    return first, [*others, "a smaller model"]


def time_line(shape: ModelShape, device: Device, config: RunConfig, tokens: float) -> str | None:
    """The plan's line on the time to train on so many tokens; None where a device's speed is not known.

    A frozen weight costs four operations a token (two forwards, two for the gradient of what comes in), a
    trained one six, and with checkpointing two more for the second way forwards.
    """
    if device.operations is None:
        return None
    again = 2 if config.trainer.gradient_checkpointing else 0
    adapter = shape.trained if config.lora.enabled else 0
    of_weights = shape.linear * ((4 if config.lora.enabled else 6) + again)
    operations = tokens * (of_weights + adapter * (6 + again))
    seconds = operations / (OF_PEAK * device.operations)
    return (
        f"Time    the training about {duration(seconds)} on {device.name}, at a third of the speed that "
        "its maker gives (an estimate)"
    )
