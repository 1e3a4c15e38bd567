"""Small models of every family, and rows to train them on."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

import torch
from helpers.examples import example
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.models.gemma import GemmaConfig
from transformers.models.gemma3 import Gemma3TextConfig
from transformers.models.granite import GraniteConfig
from transformers.models.llama import LlamaConfig
from transformers.models.mistral import MistralConfig
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen3 import Qwen3Config

from qc_experiments.config.schema import LossOn
from qc_experiments.data.encode import Example

TINY = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**TINY),
    "smollm: tied embeddings, three key heads": LlamaConfig(
        **{**TINY, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 72},
        tie_word_embeddings=True,
    ),
    "qwen2": Qwen2Config(**TINY),
    "qwen3": Qwen3Config(**TINY, head_dim=16),
    "gemma": GemmaConfig(**TINY, head_dim=16),
    "gemma3: sliding windows shorter than the rows": Gemma3TextConfig(
        **TINY,
        head_dim=16,
        sliding_window=24,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "mistral: a sliding window": MistralConfig(**TINY, sliding_window=24),
    "granite": GraniteConfig(**TINY),
}


def made(config: PretrainedConfig, **options: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        deepcopy(config), attn_implementation="sdpa", **options
    ).float()


def adapted(model: Any, **options: Any) -> Any:
    settings = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, **options}
    return get_peft_model(model, LoraConfig(**settings))


def some_rows(seed: int, count: int = 9, full: bool = False) -> list[Example]:
    """Rows of two schemas, with an instruction in common, some answers and prompts alike."""
    draw = random.Random(seed)

    def tokens(least: int, most: int) -> list[int]:
        return [draw.randint(5, 250) for _ in range(draw.randint(least, most))]

    instruction = tokens(0, 30)
    schemas = [instruction + tokens(10, 90) for _ in range(2)]
    questions = [tokens(1, 20) for _ in range(4)]
    rows = []
    for _ in range(count):
        prompt = draw.choice(schemas) + draw.choice(questions)
        completion = [draw.randint(5, 9) for _ in range(draw.randint(1, 8))]
        rows.append(example(prompt, completion, LossOn.full if full else LossOn.completion))
    return rows


def loss_and_gradients(model: Any, loss: Any) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    value = loss()
    if isinstance(value, torch.Tensor):
        value.backward()
    found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return float(value.detach() if isinstance(value, torch.Tensor) else value), torch.cat(found)
