"""Base models whose checkpoints are quantized already: what their own config says, and what goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qc_experiments.config.schema import QuantConfig, QuantMode, RunConfig
from qc_experiments.errors import UserError
from qc_experiments.models.source import ModelSource


def stored_quantization(source: ModelSource) -> QuantConfig | None:
    """How a checkpoint stores its weights, as a run would ask for it; None where they are not quantized."""
    if source.gguf_file is not None:
        return None  # unpacked when it is loaded
    config = source.config()
    found = getattr(config, "quantization_config", None)
    if found is None:
        found = getattr(config.get_text_config(), "quantization_config", None)
    if found is None:
        return None
    settings: Mapping[str, Any] = found if isinstance(found, Mapping) else found.to_dict()
    in_4_bits, in_8_bits = (bool(settings.get(f"load_in_{bits}bit")) for bits in (4, 8))
    method = str(settings.get("quant_method") or "bitsandbytes").rpartition(".")[2]
    if method.lower() != "bitsandbytes" or in_4_bits == in_8_bits:
        raise UserError(
            f"{source.named}: its weights are stored in {method.lower()}, which "
            "cannot be trained here: only bitsandbytes' 4 and 8 bits can; take the model that is not "
            "quantized, with quant=4bit"
        )
    if in_8_bits:
        return QuantConfig(QuantMode.int8)
    return QuantConfig(
        QuantMode.int4,
        str(settings.get("bnb_4bit_quant_type", "fp4")),
        bool(settings.get("bnb_4bit_use_double_quant", False)),
    )


def check_quantization(config: RunConfig, stored: QuantConfig | None) -> None:
    """Refuse other storage than that of weights that are stored quantized, and to change them."""
    if stored is None:
        return
    has = f"model.name_or_path={config.model.name_or_path}: its weights are stored in {in_words(stored)}"
    asked, lora = config.quant, config.lora
    same = asked == stored or (asked.mode is stored.mode is QuantMode.int8)
    if asked.mode is not QuantMode.none and not same:
        raise UserError(
            f"{has}, the run asks for {in_words(asked)}: use quant=none, which takes them as they are"
        )
    if not lora.enabled:
        raise UserError(
            f"{has}, are frozen and cannot be trained: use lora=r16, or the model that is not quantized"
        )
    if lora.init not in ("default", "gaussian"):
        raise UserError(
            f"{has}, and lora.init={lora.init} needs them unquantized: use lora.init=default"
        )


def in_words(quant: QuantConfig) -> str:
    """A storage of weights as users are told of it."""
    if quant.mode is not QuantMode.int4:
        return quant.mode.value
    doubly = "with" if quant.double_quant else "without"
    return f"int4 ({quant.quant_type}, {doubly} double quantization)"
