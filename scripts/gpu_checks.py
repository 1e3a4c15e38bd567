"""What `check_gpu.py` checks: each function takes a `Place`, and gives rows of its table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_model import embedded_tokenizer

ROOT = Path(__file__).resolve().parents[1]
LARGE = "model=qwen2.5-coder-0.5b-packaged"
SHORT = (
    "tracking=none",
    "lora.dropout=0",
    "data.limit=64",
    "trainer.max_steps=6",
    "trainer.per_device_train_batch_size=16",
    "trainer.save_strategy=steps",
    "trainer.save_steps=3",
    "trainer.eval_strategy=never",
    "trainer.load_best_model_at_end=false",
    "evaluation.limit=32",
    "evaluation.base=false",
)
BENCHED = {  # with the rows of a padded micro-batch
    "qwen2.5-coder-0.5b": 16,
    "qwen2-1.5b": 8,
    "llama-8b-4bit": 4,
}


@dataclass(frozen=True)
class Place:
    """Where it is checked."""

    device: str
    work: Path
    tiny: Path  # a folder with a tiny model
    spider: Path | None
    peers: Path | None

    @property
    def on_gpu(self) -> bool:
        """Whether that is a GPU."""
        return self.device == "cuda"


Rows = dict[str, Any]

FAILED = "FAILED"
"""With which the text of a check begins that failed."""


def tried(check: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a check finds, or that it failed and why: what fails is what these scripts are for."""
    try:
        return check(*arguments, **options)
    except Exception as error:
        return f"{FAILED} {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def machine(place: Place) -> Rows:
    """What is measured on, and the best product of matrices on it."""
    import torch
    from bench_step import matrix_peak

    found: Rows = {"torch": torch.__version__, "CUDA": torch.version.cuda}
    if place.on_gpu:
        found["name"] = torch.cuda.get_device_name()
        found["memory, GB"] = torch.cuda.mem_get_info()[1] / 1e9
        found["cuDNN"] = torch.backends.cudnn.version()
        found["bfloat16 units"] = torch.cuda.is_bf16_supported(including_emulation=False)
    found["bfloat16 TFLOP/s"] = matrix_peak(place.device, torch.bfloat16) / 1e12
    return found


def attention(place: Place) -> Rows:
    """Seconds of a call of attention with a shape that is new each time, by kernel."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    def seconds(lengths: range) -> float:
        started = time.perf_counter()
        for length in lengths:
            query, key = (
                torch.randn(
                    1, 16, n, 64, device=place.device, dtype=torch.bfloat16, requires_grad=True
                )
                for n in (192, length)
            )
            mask = torch.ones(192, length, dtype=torch.bool, device=place.device)
            scaled_dot_product_attention(query, key, key, attn_mask=mask).sum().backward()
        if place.on_gpu:
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / len(lengths)

    found: Rows = {}
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        for name, allowed in (("cuDNN allowed", True), ("cuDNN off", False)):
            torch.backends.cuda.enable_cudnn_sdp(allowed)
            start = 600 if allowed else 900
            seconds(range(start, start + 1))
            found[f"a new shape, {name}, ms"] = 1e3 * seconds(range(start + 1, start + 9))
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
    return found


def _rows(tokenizer: Any, count: int) -> list[Any]:
    from qc_experiments.config.schema import DataConfig, Wrap
    from qc_experiments.data.encode import Encoder
    from qc_experiments.data.table import read_table
    from qc_experiments.data.template import read_template
    from qc_experiments.system.paths import resolve_path

    data = DataConfig()
    template = read_template(resolve_path(data.template, "template"))
    path = resolve_path("pkg://qc_experiments.demo/train.csv", "train")
    rows = read_table(path, data.columns, data.on_invalid).rows[:count]
    return list(Encoder(tokenizer, template, Wrap.plain).examples(rows))


def _loaded(place: Place, *settings: str) -> tuple[Any, Any]:
    """A model with its adapter, and how it is computed, as a run has them."""
    from qc_experiments.config.compose import composed, register_schema, to_run_config
    from qc_experiments.models.base import load_base_model, model_source
    from qc_experiments.models.device import precision_of, to_train
    from qc_experiments.models.lora import add_adapter

    register_schema()
    asked = ("model=hub", f"model.name_or_path={place.tiny}", "lora.dropout=0", *settings)
    config = to_run_config(composed(list(asked), None))
    source = model_source(to_train(config), Path(config.paths.cache).expanduser())
    base = load_base_model(source, to_train(config), config.quant)
    model = add_adapter(base, config.lora, gradient_checkpointing=False)
    return model, precision_of(config.model)


def packed_against_padded(place: Place) -> Rows:
    """How far gradients of packed rows are from padded ones: by attention, and in each number format."""
    formats = {
        "float32": ("model.dtype=float32",),
        "bfloat16": ("model.dtype=bfloat16",),
        "4 bits": ("quant=4bit",),
        "8 bits": ("quant=8bit",),
    }
    # Torch has no way back for flex on a CPU.
    kernels = ("blocks", "mask", "flex") if place.on_gpu else ("blocks", "mask")
    return {
        f"{name}, {kernel}": tried(_away, place, kernel, *settings)
        for name, settings in formats.items()
        for kernel in kernels
    }


def _away(place: Place, kernel: str, *settings: str) -> str:
    import torch

    from qc_experiments.config.schema import PackAttention
    from qc_experiments.packing.agreement import PackAgreement

    model, precision = _loaded(place, *settings)
    for parameter in model.parameters():  # B = 0 would hide A's gradients
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.02)
    rows = _rows(embedded_tokenizer(), 16)
    with precision():
        away = PackAgreement().difference(
            model, rows, gradients=True, attention=PackAttention(kernel)
        )
    verdict = "" if away.is_rounding else f"{FAILED}: more than rounding, "
    return f"{verdict}{away.found:.2g} (at most {away.limit:g})"


def _train(place: Place, name: str, *settings: str, kill_at: str = "") -> Rows:
    """Train in a process of its own; with ``kill_at``, kill it when that file is there, and go on."""
    output = place.work / name.replace(" ", "_")
    command = [sys.executable, str(ROOT / "train.py"), *SHORT, *settings, f"paths.output={output}"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    if not place.on_gpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    started = time.perf_counter()
    if kill_at:
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        while first.poll() is None and not list(output.glob(kill_at)):
            time.sleep(0.02)
        if list(output.glob("*/result.json")):
            raise RuntimeError("it ended before it could be killed")
        first.kill()
        first.wait()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr[-300:])
    [folder] = [path.parent for path in output.glob("*/result.json")]
    result = json.loads((folder / "result.json").read_text())
    return {**result, "folder": str(folder), "wall": time.perf_counter() - started}


def _models(place: Place) -> dict[str, tuple[str, ...]]:
    tiny = ("model=hub", f"model.name_or_path={place.tiny}")
    if not place.on_gpu:
        return {"tiny": tiny}
    from qc_experiments.config.schema import PathsConfig
    from qc_experiments.models.packaged import MODELS, available

    found = {"tiny": tiny, "135M": ("model=smollm2-135m",)}
    cache = Path(PathsConfig().cache).expanduser()
    if available(MODELS["qwen2.5-coder-0.5b"], cache) is not None:
        found["0.5B"] = (LARGE,)
    return found


def runs(place: Place) -> Rows:
    """Training, a kill and its resume, QLoRA, all weights, collators: losses and answers of real runs."""
    found: Rows = {name: tried(_whole, place, name, *m) for name, m in _models(place).items()}
    variants = {
        "4 bits": ("quant=4bit",),
        "all weights": ("lora=none",),
        "seq2seq": ("collator=seq2seq",),
        "8 bits": ("quant=8bit",),
        "float32": ("model.dtype=float32",),
        "checkpointing": ("trainer.gradient_checkpointing=true",),
    }
    tiny = _models(place)["tiny"]
    # On a CPU the tests of the project train all of these.
    for name in variants if place.on_gpu else ("4 bits", "all weights"):
        found[f"tiny, {name}"] = tried(_whole, place, f"tiny {name}", *tiny, *variants[name])
    found["killed and resumed, deterministic"] = tried(_resumed, place, *tiny)
    return found


def _whole(place: Place, name: str, *settings: str) -> str:
    result = _train(place, name, *settings)
    return (
        f"loss {result['eval_loss']:.4f}, {result['pack_attention'] or 'no packs'}, "
        f"{result['examples_per_second']:.1f} examples/s, "
        f"{result['peak_memory_bytes'] / 1e9:.2f} GB, {result['wall']:.0f} s in all"
    )


def _resumed(place: Place, *model: str) -> str:
    strict = ("trainer.full_determinism=true", *model)
    whole = _train(place, "undisturbed", *strict)
    place_of_step_3 = "*/checkpoints/checkpoint-3/trainer_state.json"
    again = _train(place, "killed", *strict, kill_at=place_of_step_3)
    if whole["eval_loss"] == again["eval_loss"]:
        return "the same"
    return f"{FAILED}: {whole['eval_loss']} undisturbed, {again['eval_loss']} resumed"


def memory(place: Place) -> Rows:
    """Peak memory beside what `qc plan` says, as far as this device can say it."""
    return {name: tried(_memory, place, name, *m) for name, m in _models(place).items()}


def _memory(place: Place, name: str, *model: str) -> str:
    result = _train(place, f"memory {name}", *model, "collator.max_tokens=2048")
    lines = (Path(result["folder"]) / "train.log").read_text().splitlines()
    planned = next(line.split("about ")[1].split(";")[0] for line in lines if "Memory " in line)
    reserved = result["peak_reserved_bytes"]
    return f"planned {planned}, measured {result['peak_memory_bytes'] / 1e9:.2f} GB" + (
        f", {reserved / 1e9:.2f} GB reserved" if reserved else ""
    )


def tests(place: Place) -> Rows:
    """Tests that need a GPU."""
    if not place.on_gpu:
        return {"skipped": "no GPU"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or ["nothing was printed"])[-1]
    return {"pytest -m gpu": last if done.returncode == 0 else f"{FAILED} {last}"}


def speed(place: Place) -> Rows:
    """Steps of `bench_training.py`, beside TRL with packing where its environment is there."""
    if place.spider is None:
        return {"skipped": "QC_SPIDER names no folder with Spider's train.csv"}
    shapes = BENCHED if place.on_gpu else {"tiny": 4}
    return {shape: tried(_bench, place, shape, micro) for shape, micro in shapes.items()}


def _bench(place: Place, shape: str, micro: int) -> str:
    command = [
        *(sys.executable, str(ROOT / "scripts" / "bench_training.py")),
        *("--shape", shape, "--device", place.device, "--rounds", "1"),
        *("--micro-batch", str(micro), "--steps", "3" if place.on_gpu else "1"),
        *("--spider", str(place.spider), "--methods", "shared_schema", "seq2seq"),
    ]
    if place.peers is not None:
        command += ["trl", "--peers", str(place.peers)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-300:])
    lines = done.stdout.split("\n\n")[-1].strip().splitlines()
    return " / ".join(" ".join(line.split()) for line in lines)
