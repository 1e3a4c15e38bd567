"""One method of `bench_training.py`, timed in a process of its own; its options come as JSON."""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qc_experiments.data.encode import Example

PACKAGED = "qwen2.5-coder-0.5b"  # real weights, once fetched with `qc models fetch`
LEARNING_RATE = 5e-4
CHECKED_ROWS = 8
"""Rows whose gradients are compared, packed and padded."""


def main() -> None:
    """Time it, and print its figures."""
    options = argparse.Namespace(**json.loads(sys.argv[1]))
    options.spider = Path(options.spider)
    if options.method != "plain" and options.device == "cpu":
        from qc_experiments.system.memory import set_up_allocators

        set_up_allocators()
    print(json.dumps(_timed_method(options)))


def _timed_method(options: argparse.Namespace) -> dict[str, Any]:
    """Time one method; returns its figures."""
    import torch
    import transformers

    from qc_experiments.collators.shared_schema import pass_tokens
    from qc_experiments.config.schema import CollatorConfig
    from qc_experiments.models.cpu_layers import lean_layers
    from qc_experiments.packing.agreement import gradient_difference
    from qc_experiments.packing.prefix_tree import pack_rows
    from qc_experiments.system.memory import keep_memory

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    on_gpu = options.device == "cuda"
    lean = options.method != "plain" and not on_gpu
    if lean:
        keep_memory()
    options.max_tokens = pass_tokens(CollatorConfig(max_tokens=options.max_tokens))
    folder = model_folder(options)
    batches = planned_batches(options, folder)
    model = _model(options, folder)
    if options.method != "plain":
        lean_layers(model)
    if on_gpu:
        model = as_trained(model)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, fused=on_gpu)
    step = {"shared_schema": _packed_step, "seq2seq": _padded_step, "plain": _padded_step}
    peak = matrix_peak(options.device, getattr(torch, options.type))

    def take(batch: list[Example]) -> tuple[int, float]:
        found = step[options.method](model, batch, options)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()
        return found

    # A first step, so that nothing is made for the first time in the measured ones; on a CPU a small one.
    take(batches[0] if on_gpu else batches[0][:4])
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    found: dict[str, Any] = {}
    if options.method == "shared_schema":
        few = batches[0][:CHECKED_ROWS]
        found["difference"] = gradient_difference(model, few, pack_rows(few, options.max_tokens))
    found |= _timed(take, batches, peak)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {**found, "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else resident}


def as_trained(model: Any) -> Any:
    """A model on a GPU as the Trainer has it: mixed precision within its forward, and nowhere else."""
    import torch
    from accelerate import Accelerator

    from qc_experiments.models.device import prepare

    prepare(torch.device("cuda"))
    return Accelerator(mixed_precision="bf16").prepare_model(model)


def _timed(
    take: Callable[[list[Example]], tuple[int, float]], batches: list[list[Example]], peak: float
) -> dict[str, Any]:
    """Rows and tokens per second of the steps, and their share of the best product's speed."""
    tokens = operations = 0.0
    started = time.perf_counter()
    for batch in batches:
        counted, flops = take(batch)
        tokens += counted
        operations += flops
    seconds = time.perf_counter() - started
    return {
        "examples_per_second": sum(map(len, batches)) / seconds,
        "seconds": seconds,
        "tokens": tokens,
        "peak_share": operations / seconds / peak,
    }


def _model(options: argparse.Namespace, folder: Path) -> Any:
    """The model that is trained, with its adapter."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from qc_experiments.models.lora import as_loaded

    dtype = getattr(torch, options.type)
    if options.shape in ("embedded", PACKAGED):
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(options.device)
    else:
        with torch.device(options.device):
            torch.manual_seed(options.seed)
            base = AutoModelForCausalLM.from_config(model_shape(options.shape), dtype=dtype)
        if options.shape.endswith("4bit"):
            place = Path("build") / options.shape
            if not place.exists():
                base.save_pretrained(place)
            del base
            quantized = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
            base = AutoModelForCausalLM.from_pretrained(
                place, quantization_config=quantized, dtype=dtype, device_map=options.device
            )
            ends = (base.get_input_embeddings(), base.get_output_embeddings())
            base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
            as_loaded([(end, dtype) for end in ends])
    torch.manual_seed(options.seed)
    settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", lora_dropout=0.0)
    return get_peft_model(base, settings)


def model_shape(name: str) -> Any:
    """The config of a model that is made with random weights."""
    from transformers import LlamaConfig, Qwen2Config

    shapes = {
        "tiny": LlamaConfig(
            vocab_size=49152,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        ),
        "qwen2-1.5b": Qwen2Config(
            vocab_size=151936,
            hidden_size=1536,
            intermediate_size=8960,
            num_hidden_layers=28,
            num_attention_heads=12,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        ),
        "llama-8b-4bit": LlamaConfig(
            vocab_size=128256,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
        ),
    }
    return shapes[name]


def model_folder(options: argparse.Namespace) -> Path:
    """Of the tokenizer, and of the weights unless they are random."""
    from qc_experiments.config.schema import ModelConfig, PathsConfig
    from qc_experiments.models.base import model_source
    from qc_experiments.models.packaged import embedded_model

    cache = Path(PathsConfig().cache).expanduser()
    if options.shape != PACKAGED:
        return embedded_model(cache)
    return Path(model_source(ModelConfig(name_or_path=f"packaged:{PACKAGED}"), cache).name_or_path)


def planned_batches(options: argparse.Namespace, folder: Path) -> list[list[Example]]:
    """Effective batches as shared_schema plans them; every method takes these rows."""
    from transformers import AutoTokenizer

    from qc_experiments.collators.shared_schema import SchemaSampler
    from qc_experiments.config.schema import DataConfig, Wrap
    from qc_experiments.data.encode import Encoder
    from qc_experiments.data.table import Row
    from qc_experiments.data.template import read_template
    from qc_experiments.system.paths import resolve_path

    template = read_template(resolve_path(DataConfig().template, "template"))
    encoder = Encoder(AutoTokenizer.from_pretrained(folder), template, Wrap.plain)
    with (options.spider / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            Row(n, cells["question"], cells["query"], cells["context"])
            for n, cells in enumerate(csv.DictReader(file), 2)
        ]
    examples = [e for e in encoder.examples(rows) if len(e) <= DataConfig().max_length]
    prompts = [example.prompt_ids for example in examples]
    order = SchemaSampler(prompts, options.rows_per_step, options.max_group, options.seed).order(0)
    packed = [examples[place] for place in order[: options.steps * options.rows_per_step]]
    size = options.rows_per_step
    return [packed[start : start + size] for start in range(0, len(packed), size)]


def _labels(rows: Sequence[Example]) -> int:
    return sum(label != -100 for row in rows for label in row.labels[1:])


def _packed_step(model: Any, rows: list[Example], options: argparse.Namespace) -> tuple[int, float]:
    from qc_experiments.packing.loss import backward_pack
    from qc_experiments.packing.prefix_tree import pack_rows

    labels = _labels(rows)
    packs = pack_rows(rows, options.max_tokens)
    operations = 0.0
    for pack in packs:
        backward_pack(model, pack, 1 / labels)
        seen = sum((n.end - n.start) * (n.position + (n.end - n.start + 1) / 2) for n in pack.nodes)
        operations += _operations(model, len(pack), seen, len(pack.label_places))
    return sum(map(len, packs)), operations


def _padded_step(model: Any, rows: list[Example], options: argparse.Namespace) -> tuple[int, float]:
    from qc_experiments.models.loss import pad_batch, summed_loss

    labels = _labels(rows)
    shuffled = random.Random(options.seed).sample(rows, len(rows))
    tokens, operations = 0, 0.0
    for start in range(0, len(shuffled), options.micro_batch):
        chosen = shuffled[start : start + options.micro_batch]
        batch = {k: v.to(model.device) for k, v in pad_batch(chosen).items()}
        (summed_loss(model, batch) / labels).backward()
        size, length = batch["input_ids"].shape
        tokens += size * length
        operations += _operations(model, size * length, size * length**2 / 2, _labels(chosen))
    return tokens, operations


def _operations(model: Any, tokens: float, seen: float, labels: float) -> float:
    """Floating-point operations of matrix products, forward and backward.

    Args:
        model: the PEFT model.
        tokens: that pass through its layers.
        seen: keys that queries attend to, summed over the queries.
        labels: whose logits are computed.
    """
    config = model.config
    linear = [m.get_base_layer() for m in model.modules() if hasattr(m, "lora_A")]
    frozen = sum(layer.in_features * layer.out_features for layer in linear)
    trained = sum(p.numel() for n, p in model.named_parameters() if p.requires_grad)
    # Frozen weights need the product forward and the gradient of the input; trained ones both gradients.
    layers = tokens * (4 * frozen + 6 * trained)
    width = config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    attention = seen * config.num_hidden_layers * width * 2 * 2 * 3
    return float(layers + attention + labels * config.vocab_size * config.hidden_size * 4)


def matrix_peak(device: str, dtype: Any) -> float:
    """Operations a second of the best matrix product of some sizes, in the number format of the run."""
    import torch

    on_gpu = device == "cuda"
    sizes = [(1024, 576, 1536), (2048, 1536, 576), (2048, 2048, 2048), (4096, 896, 4864)]
    if on_gpu:
        sizes = [(8192, 8192, 8192), (8192, 1536, 8960), (16384, 4096, 14336)]
    best = 0.0
    for m, k, n in sizes:
        a = torch.randn(m, k, device=device, dtype=dtype)
        b = torch.randn(k, n, device=device, dtype=dtype)
        a @ b
        for _ in range(3):
            started = time.perf_counter()
            for _ in range(10):
                a @ b
            if on_gpu:
                torch.cuda.synchronize()
            best = max(best, 10 * 2 * m * k * n / (time.perf_counter() - started))
    return best


if __name__ == "__main__":
    main()
