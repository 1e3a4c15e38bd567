"""GGUF files of a Llama of one layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter, quants
from helpers.small_model import END, byte_tokenizer

WIDTH = 64
TOKENS = 258
"""All bytes, two of them as one, and the end token."""
EMBEDDING = np.random.default_rng(0).normal(size=(TOKENS, WIDTH)).astype("f") * 0.02


def write_gguf(
    path: Path, embedding: Kind, head: Kind | None = None, noise: float = 0.0, lost: str = ""
) -> Path:
    """Write a Llama of one layer; its head is the embedding with noise, or not stored."""
    random = np.random.default_rng(1)
    writer = GGUFWriter(path, "llama")
    tokens = byte_tokenizer().convert_ids_to_tokens(list(range(TOKENS - 2)))
    tokens += [tokens[0] + tokens[1], END]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (TOKENS - 1) + [3])
    writer.add_token_merges([f"{tokens[0]} {tokens[1]}"])
    writer.add_eos_token_id(TOKENS - 1)
    writer.add_vocab_size(TOKENS)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    tensors = {"token_embd.weight": (EMBEDDING, embedding)}
    if head is not None:
        other = random.normal(size=EMBEDDING.shape).astype("f") * 0.02
        tensors["output.weight"] = (EMBEDDING + noise * other, head)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        tensors[f"{name}.weight"] = (np.ones(WIDTH, "f"), Kind.F32)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        values = random.normal(size=(WIDTH, WIDTH)).astype("f") * 0.1
        tensors[f"blk.0.{name}.weight"] = (values, Kind.Q8_0)
    for name, (values, kind) in tensors.items():
        if name != lost:
            writer.add_tensor(name, quants.quantize(values.astype("f"), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
