"""Does all of it work on this GPU, and how fast? ``make gpu``, or ``python scripts/check_gpu.py``.

One table, and the same as JSON (``--output``): attention by each kernel, packed rows against padded ones
in each number format, memory against the plan, training, stop, resume and answers with real models, tests
marked ``gpu``, steps beside a peer. A check that fails is a line of the table, and the exit code is 1.
Nothing is fetched from a network. ``--device cpu`` does the same on a tiny model in some minutes, to test
this script.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tiny_model import embedded_tokenizer, save_tiny_model

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
ATTENTIONS = ("blocks", "mask", "flex")
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


def main() -> None:
    """Run all checks, or those that are named."""
    checks: dict[str, Callable[[Place], Rows]] = {
        "machine": machine,
        "attention": attention,
        "packed against padded": packed_against_padded,
        "runs": runs,
        "memory": memory,
        "tests": tests,
        "speed": speed,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "gpu.json")
    parser.add_argument("--only", nargs="*", choices=list(checks), default=list(checks))
    default = os.environ.get("QC_SPIDER")
    parser.add_argument("--spider", type=Path, default=default and Path(default))
    parser.add_argument(
        "--peers", type=Path, help="environments of peers, as of `make bench-peers`"
    )
    options = parser.parse_args()
    import torch

    from qc_experiments.models.base import silence_transformers
    from qc_experiments.system.processes import quiet_libraries

    quiet_libraries()
    silence_transformers()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: torch sees no GPU here; --device cpu tries the checks on a tiny model")
    found: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory(prefix="qc_gpu_") as folder:
        work = Path(folder)
        tiny = save_tiny_model(work / "tiny", embedded_tokenizer())
        place = Place(options.device, work, tiny, options.spider, options.peers)
        for name in options.only:
            started = time.perf_counter()
            rows = _safely(partial(checks[name], place))
            found[name] = {**rows, "seconds": time.perf_counter() - started}
            for key, value in found[name].items():
                print(f"| {name} | {key} | {_shown(value)} |", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2, default=str) + "\n")
    failed = [f"{n}: {k}" for n, rows in found.items() for k, v in rows.items() if _failed(v)]
    print(f"\n{options.output}: {len(failed)} failed{': ' if failed else ''}{'; '.join(failed)}")
    sys.exit(1 if failed else 0)


def _safely(check: Callable[[], Rows]) -> Rows:
    try:
        return check()
    except Exception as error:  # what fails is what this script is for: the others go on
        return {"error": f"FAILED {type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def _failed(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("FAILED")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def machine(place: Place) -> Rows:
    """What is measured on, and the best product of matrices on it."""
    import torch
    from bench_step import _matrix_peak

    found: Rows = {"torch": torch.__version__, "CUDA": torch.version.cuda}
    if place.on_gpu:
        found["name"] = torch.cuda.get_device_name()
        found["memory, GB"] = torch.cuda.mem_get_info()[1] / 1e9
        found["cuDNN"] = torch.backends.cudnn.version()
        found["bfloat16 units"] = torch.cuda.is_bf16_supported(including_emulation=False)
    found["bfloat16 TFLOP/s"] = _matrix_peak(place.device, torch.bfloat16) / 1e12
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


def _loaded(place: Place, *settings: str) -> tuple[Any, Any, Any]:
    """Config, model with its adapter, and what computes it, as a run has them."""
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
    return config, model, precision_of(config.model)


def packed_against_padded(place: Place) -> Rows:
    """How far gradients of packed rows are from padded ones: by attention, and in each number format."""
    import torch

    from qc_experiments.config.schema import PackAttention
    from qc_experiments.packing.agreement import PackAgreement

    found: Rows = {}
    formats = {
        "float32": ("model.dtype=float32",),
        "bfloat16": ("model.dtype=bfloat16",),
        "4 bits": ("quant=4bit",),
        "8 bits": ("quant=8bit",),
    }
    rows = _rows(embedded_tokenizer(), 16)
    for name, settings in formats.items():
        for kernel in ATTENTIONS:
            if kernel == "flex" and not place.on_gpu:
                continue  # torch has no way back for it on a CPU

            def compared(settings: Any = settings, kernel: str = kernel) -> Rows:
                _, model, precision = _loaded(place, *settings)
                for parameter in model.parameters():  # B = 0 would hide A's gradients
                    if parameter.requires_grad:
                        torch.nn.init.normal_(parameter, std=0.02)
                with precision():
                    away = PackAgreement().difference(
                        model, rows, gradients=True, attention=PackAttention(kernel)
                    )
                verdict = "" if away.is_rounding else "FAILED: more than rounding, "
                return {"away": f"{verdict}{away.found:.2g} (at most {away.limit:g})"}

            found[f"{name}, {kernel}"] = next(iter(_safely(compared).values()))
    return found


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
    found: Rows = {}
    for name, model in _models(place).items():

        def whole(name: str = name, model: tuple[str, ...] = model) -> Rows:
            result = _train(place, name, *model)
            return {
                "": f"loss {result['eval_loss']:.4f}, {result['pack_attention']}, "
                f"{result['examples_per_second']:.1f} examples/s, "
                f"{result['peak_memory_bytes'] / 1e9:.2f} GB, {result['wall']:.0f} s in all"
            }

        found[name] = next(iter(_safely(whole).values()))
    variants = {
        "seq2seq": ("collator=seq2seq",),
        "4 bits": ("quant=4bit",),
        "8 bits": ("quant=8bit",),
        "all weights": ("lora=none",),
        "float32": ("model.dtype=float32",),
        "deterministic": ("trainer.full_determinism=true",),
        "checkpointing": ("trainer.gradient_checkpointing=true",),
    }
    tiny = _models(place)["tiny"]
    for name, settings in variants.items():

        def one(name: str = name, settings: tuple[str, ...] = settings) -> Rows:
            return {"": f"loss {_train(place, name, *tiny, *settings)['eval_loss']:.4f}"}

        found[f"tiny, {name}"] = next(iter(_safely(one).values()))

    def resumed() -> Rows:
        strict = ("trainer.full_determinism=true", *tiny)
        whole = _train(place, "undisturbed", *strict)
        again = _train(
            place, "killed", *strict, kill_at="*/checkpoints/checkpoint-3/trainer_state.json"
        )
        same = whole["eval_loss"] == again["eval_loss"]
        return {"": "the same" if same else f"FAILED: {whole['eval_loss']}, {again['eval_loss']}"}

    found["killed and resumed, deterministic"] = next(iter(_safely(resumed).values()))
    return found


def memory(place: Place) -> Rows:
    """Peak memory beside what `qc plan` says, as far as this device can say it."""
    found: Rows = {}
    for name, model in _models(place).items():

        def compared(name: str = name, model: tuple[str, ...] = model) -> Rows:
            result = _train(place, f"memory {name}", *model, "collator.max_tokens=2048")
            lines = (Path(result["folder"]) / "train.log").read_text().splitlines()
            planned = next(line.split(";")[0] for line in lines if "Memory " in line)
            reserved = result["peak_reserved_bytes"]
            return {
                "": f"{' '.join(planned.split())}; measured {result['peak_memory_bytes'] / 1e9:.2f} GB"
                + (f", {reserved / 1e9:.2f} GB reserved" if reserved else "")
            }

        found[name] = next(iter(_safely(compared).values()))
    return found


def tests(place: Place) -> Rows:
    """Tests that need a GPU."""
    if not place.on_gpu:
        return {"skipped": "no GPU"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or ["nothing was printed"])[-1]
    return {"pytest -m gpu": last if done.returncode == 0 else f"FAILED {last}"}


def speed(place: Place) -> Rows:
    """Steps of `bench_training.py`, beside TRL with packing where its environment is there."""
    if not place.on_gpu:
        shapes: dict[str, int] = {"tiny": 4}
    else:
        shapes = BENCHED
    if place.spider is None:
        return {"skipped": "QC_SPIDER names no folder with Spider's train.csv"}
    found: Rows = {}
    for shape, micro in shapes.items():
        command = [
            *(sys.executable, str(ROOT / "scripts" / "bench_training.py")),
            *("--shape", shape, "--device", place.device, "--rounds", "1"),
            *("--micro-batch", str(micro), "--steps", "3" if place.on_gpu else "1"),
            *("--spider", str(place.spider), "--methods", "shared_schema", "seq2seq"),
        ]
        if place.peers is not None:
            command += ["trl", "--peers", str(place.peers)]

        def timed(command: list[str] = command) -> Rows:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr[-300:])
            lines = done.stdout.split("\n\n")[-1].strip().splitlines()
            return {line.split("  ")[1].strip(): " ".join(line.split()) for line in lines}

        found |= {f"{shape}, {name}": line for name, line in _safely(timed).items()}
    return found


if __name__ == "__main__":
    main()
