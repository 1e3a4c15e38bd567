"""A model as a GGUF file, for llama.cpp, Ollama and their kin, by the ``gguf`` package's writer and name map.

What differs from family to family stands in `FAMILIES`: llama.cpp rotates the positions of Llama's queries
and keys in pairs of neighbours, so that their rows are reordered, and adds nothing to Gemma's norms, which
in transformers are stored less one. Whatever a config asks for that is not known here is refused: a file that
loads and answers nonsense would be worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.errors import UserError
from qc_experiments.export.gguf_vocabulary import write_vocabulary

TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
"""How weights can be stored: all that the package's writer can quantize to that llama.cpp computes with."""
COARSE = ("q5_1", "q5_0", "q4_1", "q4_0")
"""Embedding and output layer, on which most depends, are stored in q8_0 beside these."""
BLOCK = 32
"""Weights of a row that quantized types store together."""


@dataclass(frozen=True)
class Family:
    """What is particular to a family of models.

    Attributes:
        architecture: its name in a GGUF file.
        pairs: whether rows of queries and keys are reordered, from halves to pairs of neighbours.
        norms_less_one: whether transformers stores norms less one.
    """

    architecture: str
    pairs: bool = False
    norms_less_one: bool = False


FAMILIES = {
    "llama": Family("llama", pairs=True),
    "mistral": Family("llama", pairs=True),
    "smollm3": Family("smollm3", pairs=True),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "gemma": Family("gemma", norms_less_one=True),
    "gemma2": Family("gemma2", norms_less_one=True),
    "gemma3_text": Family("gemma3", norms_less_one=True),
}
"""By ``model_type`` in config.json."""


@dataclass(frozen=True)
class About:
    """What a file says of itself besides weights: a name, and what prompts begin with and look like."""

    name: str
    adds_bos: bool
    chat_template: str | None


def check_family(config: Any) -> Family:
    """The family of a model; a `UserError` for one that cannot be written, or a setting that is not known."""
    kind = config.model_type
    if kind not in FAMILIES:
        raise UserError(
            f"--format gguf: cannot write the family {kind}; known are {', '.join(FAMILIES)}: take --format "
            "merged, and llama.cpp's own converter on its folder"
        )
    window = getattr(config, "sliding_window", None)
    windows = bool(window) and getattr(config, "use_sliding_window", True)
    refused = {
        "attention that slides": windows and not kind.startswith("gemma"),
        "layers without positions in another pattern than every fourth": kind == "smollm3"
        and getattr(config, "no_rope_layer_interval", 4) != 4,
        "queries scaled otherwise than by their size": kind in ("gemma2", "gemma3_text")
        and config.query_pre_attn_scalar != config.head_dim,
    }
    for what, is_so in refused.items():
        if is_so:
            raise UserError(f"--format gguf: this {kind} has {what}, which cannot be written")
    return FAMILIES[kind]


def write_gguf(model: Any, tokenizer: Any, path: Path, kind: str, about: About) -> None:
    """Write a model with its tokenizer.

    Args:
        model: in float32.
        tokenizer: its own.
        path: the file.
        kind: one of `TYPES`.
        about: what it says of itself.

    Raises:
        UserError: for a family, a setting or a tokenizer that cannot be written.
    """
    import gguf

    config = model.config.get_text_config()
    family = check_family(config)
    writer = gguf.GGUFWriter(path, family.architecture)
    try:
        writer.add_name(about.name)
        _write_settings(writer, config)
        writer.add_file_type(gguf.LlamaFileType[_file_type(kind)])
        rows = model.get_input_embeddings().weight.shape[0]
        write_vocabulary(writer, tokenizer, rows, adds_bos=about.adds_bos)
        if about.chat_template is not None:
            writer.add_chat_template(about.chat_template)
        _write_weights(writer, model, family, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _file_type(kind: str) -> str:
    return "ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}"


def _write_settings(writer: Any, config: Any) -> None:
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(size)
    if (softcap := getattr(config, "attn_logit_softcapping", None)) is not None:
        writer.add_attn_logit_softcapping(softcap)
    if (softcap := getattr(config, "final_logit_softcapping", None)) is not None:
        writer.add_final_logit_softcapping(softcap)
    if config.model_type in ("gemma2", "gemma3_text"):
        writer.add_sliding_window(config.sliding_window)
        every = 2 if config.model_type == "gemma2" else 6
        kinds = [
            "full_attention" if (layer + 1) % every == 0 else "sliding_attention"
            for layer in range(config.num_hidden_layers)
        ]
        if list(config.layer_types) != kinds:
            raise UserError(
                f"--format gguf: this {config.model_type} has not full attention in every {every}th layer, "
                "as llama.cpp expects"
            )
    _write_positions(writer, config)


def _write_positions(writer: Any, config: Any) -> None:
    import gguf
    import numpy as np

    rope: Mapping[str, Any] = config.rope_parameters
    if "full_attention" in rope:
        writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
        rope = rope["full_attention"]
    writer.add_rope_freq_base(rope["rope_theta"])
    match rope.get("rope_type", "default"):
        case "default":
            pass
        case "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
        case "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(rope["factor"])
            before = rope.get("original_max_position_embeddings") or config.max_position_embeddings
            writer.add_rope_scaling_orig_ctx_len(before)
        case "llama3":
            from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

            size = getattr(config, "head_dim", None) or (
                config.hidden_size // config.num_attention_heads
            )
            plain = 1.0 / rope["rope_theta"] ** (np.arange(0, size, 2, dtype="f") / size)
            scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
            writer.add_tensor("rope_freqs.weight", (plain / scaled.numpy()).astype("f"))
        case other:
            raise UserError(f"--format gguf: cannot write positions of the kind {other}")


def _write_weights(writer: Any, model: Any, family: Family, kind: str) -> None:
    import gguf

    config = model.config.get_text_config()
    architecture = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == family.architecture)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    heads = config.num_attention_heads
    turned = {
        "q_proj": heads,
        "k_proj": getattr(config, "num_key_value_heads", None) or heads,
    }
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for name, weight in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        stored_as = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if stored_as is None:
            raise UserError(f"--format gguf: gguf {_version()} has no name for the weight {name}")
        values = weight.detach().float().cpu().numpy()
        layer = name.split(".")[-2]
        if family.pairs and layer in turned:
            values = _in_pairs(values, turned[layer])
        if family.norms_less_one and layer.endswith("norm"):
            values = values + 1
        what = _stored_type(values, stored_as, kind)
        quantized = gguf.quants.quantize(values, what)
        writer.add_tensor(stored_as, quantized, raw_dtype=what)


def _in_pairs(values: Any, heads: int) -> Any:
    """Rows of each head in the order 0, n/2, 1, n/2 + 1, ... in place of 0, 1, 2, ..."""
    rows, *rest = values.shape
    return values.reshape(heads, 2, rows // heads // 2, *rest).swapaxes(1, 2).reshape(values.shape)


def _stored_type(values: Any, name: str, kind: str) -> Any:
    import gguf

    wanted = kind.upper()
    if values.ndim == 1:
        wanted = "F32"
    elif kind in COARSE and name in ("token_embd.weight", "output.weight"):
        wanted = "Q8_0"
    if wanted.startswith("Q") and values.shape[-1] % BLOCK:
        wanted = "F16"
    return gguf.GGMLQuantizationType[wanted]


def _version() -> str:
    from importlib.metadata import version

    return version("gguf")
