"""A Llama of two tiny layers whose tokens are bytes: whatever loads it takes milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

END = "<|end|>"
TOKENS = 257
"""All bytes, and the end token."""


def byte_tokenizer() -> Any:
    """A tokenizer with a token for each byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*alphabet, END])}
    found = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=found, eos_token=END)


def save_small_model(folder: Path, **settings: Any) -> Path:
    """Save such a model with random weights, the same each time, and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {
        "vocab_size": TOKENS,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "eos_token_id": TOKENS - 1,
    }
    LlamaForCausalLM(LlamaConfig(**(shape | settings))).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
