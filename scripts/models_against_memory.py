"""The table of docs/how-to/which-settings.md: what models need on a card, counted as `qc plan` counts it.

python scripts/models_against_memory.py

Nothing is loaded: the shapes are those that the models' publishers give in their config.json.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.models.llama import LlamaConfig
from transformers.models.qwen2 import Qwen2Config

from qc_experiments.config.schema import LoraConfig, QuantMode, RunConfig
from qc_experiments.models.device import GPU
from qc_experiments.training.memory_plan import GB, ModelShape, formats_of, memory_plan

TOKENS, ANSWERS, ANSWER_TOKENS = 4096, 64, 1024
SHAPES: dict[str, tuple[type, tuple[int, int, int, int, int, int], bool]] = {
    "smollm2-135m": (LlamaConfig, (576, 1536, 30, 9, 3, 49152), True),
    "smollm2-360m": (LlamaConfig, (960, 2560, 32, 15, 5, 49152), True),
    "qwen2.5-coder-0.5b": (Qwen2Config, (896, 4864, 24, 14, 2, 151936), True),
    "qwen2.5-coder-1.5b": (Qwen2Config, (1536, 8960, 28, 12, 2, 151936), True),
    "smollm2-1.7b": (LlamaConfig, (2048, 8192, 24, 32, 32, 49152), True),
    "qwen2.5-coder-7b": (Qwen2Config, (3584, 18944, 28, 28, 4, 152064), False),
    "llama3.1-8b": (LlamaConfig, (4096, 14336, 32, 32, 8, 128256), False),
}
"""Hidden and MLP width, layers, heads, key heads, vocabulary; and whether the head is the embedding."""


def shape_of(name: str, config: RunConfig) -> ModelShape:
    """A model's shape with LoRA on all its linear layers."""
    kind, (hidden, inner, layers, heads, keys, vocabulary), tied = SHAPES[name]
    settings: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }
    with torch.device("meta"):
        outline = AutoModelForCausalLM.from_config(kind(**settings))
    head = outline.get_output_embeddings()
    layers_by_name = {
        name: module
        for name, module in outline.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    found = ModelShape.of(outline, layers_by_name, config)
    assert found is not None
    return found


def main() -> None:
    """Print the table."""
    plain = RunConfig()
    checkpointing = replace(plain.trainer, gradient_checkpointing=True)
    ways = {
        "LoRA": plain,
        "LoRA, 4 bits": replace(plain, quant=replace(plain.quant, mode=QuantMode.int4)),
        "LoRA, 4 bits, checkpointing": replace(
            plain, quant=replace(plain.quant, mode=QuantMode.int4), trainer=checkpointing
        ),
        "all weights, checkpointing": replace(
            plain, lora=LoraConfig(enabled=False), trainer=checkpointing
        ),
    }
    print(f"| GB | {' | '.join(ways)} |")
    print(f"| --- |{' --- |' * len(ways)}")
    for name in SHAPES:
        cells = []
        for config in ways.values():
            shape, formats = shape_of(name, config), formats_of(config, GPU)
            needed = memory_plan(shape, formats, config, TOKENS, ANSWERS, ANSWER_TOKENS)
            cells.append(f"{needed.total / GB:.0f}")
        print(f"| `{name}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
