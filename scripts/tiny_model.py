"""A tiny random Llama with the embedded model's tokenizer: ``python scripts/tiny_model.py FOLDER``.

It learns nothing of use, but every part of a run works with it, in seconds.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def save_tiny_model(folder: Path, tokenizer: Any) -> Path:
    """Save a Llama of two layers with random weights, the same each time, and a tokenizer.

    Args:
        folder: where to.
        tokenizer: the embedded model's own.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def embedded_tokenizer() -> Any:
    """The embedded model's own tokenizer."""
    from transformers import AutoTokenizer

    from qc_experiments.models.packaged import embedded_model

    cache = Path(os.environ.get("QC_CACHE", "~/.cache/qc_experiments")).expanduser()
    return AutoTokenizer.from_pretrained(embedded_model(cache))


if __name__ == "__main__":
    print(save_tiny_model(Path(sys.argv[1]), embedded_tokenizer()))
