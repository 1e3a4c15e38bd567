"""Other frameworks for `bench_training.py`: how each is installed, run by its own command, and timed.

Each has a virtual environment of its own below the folder given to ``--peers``, at the versions named
here. All run in float32 or bfloat16 with LoRA r=16 on all linear layers, without dropout, on the rows and
with the effective batch of the benchmark, and with the memory settings that make them fastest on a CPU
(the same that our own runs make for themselves). Times are those that a framework reports of its
training, loading left out. LLaMA-Factory's plainest template with an end token adds a few tokens to each row.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TORCH = "torch==2.13.0"
REQUIREMENTS = {
    "litgpt": (TORCH, "litgpt==0.5.13", "requests"),
    "llama_factory": (TORCH, "torchvision==0.28.0", "llamafactory==0.9.5"),
    "trl": (TORCH, "trl==1.16.0", "peft", "transformers==5.23.0", "datasets"),
}
PEERS = tuple(REQUIREMENTS)
MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""As `keep_memory` and `set_up_allocators` of `qc_experiments.system.memory`."""


@dataclass(frozen=True)
class Job:
    """What a peer trains on.

    Attributes:
        model: folder of the base model.
        rows: prompt and completion of each row.
        rows_per_step: effective batch size.
        micro_batch: rows of a micro-batch.
        max_length: longest row in tokens.
        threads: of torch.
        seed: of the run.
        name: what LitGPT calls the model, which it knows by its folder's name.
        bfloat16: whether it trains in that, as the framework itself does; else in float32.
        on_gpu: whether it trains there (TRL alone).
        in_4_bits: whether the base weights are stored so (TRL alone).
        packing: whether rows are packed to the longest length (TRL alone).
    """

    model: Path
    rows: Sequence[tuple[str, str]]
    rows_per_step: int
    micro_batch: int
    max_length: int
    threads: int
    seed: int
    name: str
    bfloat16: bool = False
    on_gpu: bool = False
    in_4_bits: bool = False
    packing: bool = False


def install(peer: str, folder: Path) -> None:
    """Make a peer's environment, once."""
    ready = folder / peer / ".ready"
    if ready.exists():
        return
    print(f"Installing {peer} into {folder / peer} (once, some minutes) ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / peer)], check=True)
    pip = [str(folder / peer / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    constraint = folder / "constraints.txt"
    constraint.write_text(f"{TORCH}\n")
    subprocess.run([*pip, "install", "-q", "-c", str(constraint), *REQUIREMENTS[peer]], check=True)
    if peer == "llama_factory":
        _without_vision(folder / peer, pip)
    ready.touch()


def _without_vision(environment: Path, pip: list[str]) -> None:
    """LLaMA-Factory wants torchvision and torchaudio; their builds need a GPU's libraries."""
    subprocess.run([*pip, "uninstall", "-q", "-y", "torchvision", "torchaudio"], check=False)
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "torchaudio").mkdir(exist_ok=True)
    (packages / "torchaudio" / "__init__.py").write_text(
        "import importlib.machinery\n"
        "__version__ = '2.13.0'\n"
        "__spec__ = importlib.machinery.ModuleSpec('torchaudio', None)\n"
    )


def run(peer: str, folder: Path, job: Job) -> tuple[float, int]:
    """Train one optimizer step or more with a peer.

    Args:
        peer: its name.
        folder: of the environments.
        job: what it trains on.

    Returns:
        Seconds of its training, and its peak memory in bytes.
    """
    work = folder / f"work_{peer}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    command, seconds_in = _COMMANDS[peer](folder / peer / "bin", work, job)
    environment = {
        **os.environ,
        **MEMORY,
        "OMP_NUM_THREADS": str(job.threads),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(work / "hf"),
        "TOKENIZERS_PARALLELISM": "false",
        "DISABLE_VERSION_CHECK": "1",
        "WANDB_DISABLED": "true",
    }
    log = work / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=work, env=environment)
        status, memory = _waited(process, on_gpu=job.on_gpu)
    text = log.read_text()
    if status:
        raise SystemExit(f"error: {peer} failed; its output is in {log}")
    return seconds_in(text), memory


def _waited(process: subprocess.Popen[bytes], *, on_gpu: bool) -> tuple[int, int]:
    """Wait for the end; exit status, and the peak of its memory in bytes: the GPU's, seen from outside."""
    most = 0
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    while on_gpu:
        pid, status, _ = os.wait4(process.pid, os.WNOHANG)
        if pid:
            return status, most
        done = subprocess.run(query, capture_output=True, text=True, check=True)
        most = max(most, int(done.stdout.splitlines()[0]) << 20)
        time.sleep(0.2)
    _, status, usage = os.wait4(process.pid, 0)
    return status, usage.ru_maxrss * 1024


def _litgpt(binaries: Path, work: Path, job: Job) -> tuple[list[str], Callable[[str], float]]:
    model = work / job.name
    shutil.copytree(job.model, model)
    subprocess.run(
        [str(binaries / "litgpt"), "convert_to_litgpt", str(model)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    data = work / "data"
    data.mkdir()
    rows = [{"instruction": prompt, "output": completion} for prompt, completion in job.rows]
    (data / "train.json").write_text(json.dumps(rows))
    (data / "val.json").write_text(json.dumps(rows[:1]))
    steps = len(rows) // job.rows_per_step
    options = {
        "precision": "bf16-true" if job.bfloat16 else "32-true",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "lora_query": True,
        "lora_key": True,
        "lora_value": True,
        "lora_projection": True,
        "lora_mlp": True,
        "data": json.dumps(
            {
                "class_path": "litgpt.data.JSON",
                "init_args": {
                    "json_path": str(data),
                    "mask_prompt": True,
                    "prompt_style": {"class_path": "litgpt.prompts.Default"},
                    "num_workers": 0,
                },
            }
        ),
        "train.global_batch_size": job.rows_per_step,
        "train.micro_batch_size": job.micro_batch,
        "train.max_steps": steps,
        "train.epochs": 2,
        "train.lr_warmup_steps": steps + 1,  # its scheduler divides by the steps that remain
        "train.max_seq_length": job.max_length,
        "eval.initial_validation": False,
        "eval.final_validation": False,
        "eval.interval": 1000,
        "seed": job.seed,
        "out_dir": work / "out",
    }
    command = [str(binaries / "litgpt"), "finetune_lora", str(model)]
    command += [f"--{key}={value!s}" for key, value in options.items()]

    def seconds(text: str) -> float:
        return sum(float(found) for found in re.findall(r"iter time: ([\d.]+) ms", text)) / 1000

    return command, seconds


def _llama_factory(
    binaries: Path, work: Path, job: Job
) -> tuple[list[str], Callable[[str], float]]:
    rows = [
        {"instruction": prompt, "input": "", "output": completion}
        for prompt, completion in job.rows
    ]
    (work / "rows.json").write_text(json.dumps(rows))
    (work / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}))
    options = {
        "model_name_or_path": str(job.model),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "lora_target": "all",
        "dataset": "rows",
        "dataset_dir": str(work),
        "template": "default",
        "cutoff_len": job.max_length,
        "output_dir": str(work / "out"),
        "per_device_train_batch_size": job.micro_batch,
        "gradient_accumulation_steps": job.rows_per_step // job.micro_batch,
        "max_steps": len(rows) // job.rows_per_step,
        "learning_rate": 5e-4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_gradient_checkpointing": True,
        "bf16": job.bfloat16,
        "use_cpu": True,
        "seed": job.seed,
    }
    config = work / "run.yaml"
    config.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in options.items()))
    return [str(binaries / "llamafactory-cli"), "train", str(config)], _trainer_seconds


def _trl(binaries: Path, work: Path, job: Job) -> tuple[list[str], Callable[[str], float]]:
    data = work / "data"
    data.mkdir()
    lines = [json.dumps({"prompt": p, "completion": c}) for p, c in job.rows]
    (data / "train.jsonl").write_text("\n".join(lines))
    options = {
        "model_name_or_path": job.model,
        "dataset_name": data,
        "output_dir": work / "out",
        "use_peft": True,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "lora_target_modules": "all-linear",
        "dtype": "bfloat16" if job.bfloat16 else "float32",
        "load_in_4bit": job.in_4_bits,
        "packing": job.packing,
        "per_device_train_batch_size": job.micro_batch,
        "gradient_accumulation_steps": job.rows_per_step // job.micro_batch,
        # Packs hold several rows each, so that as many steps would go through the rows more than once.
        "max_steps": -1 if job.packing else len(lines) // job.rows_per_step,
        "num_train_epochs": 1,
        "max_length": job.max_length,
        "learning_rate": 5e-4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": job.bfloat16,
        "gradient_checkpointing": False,
        "use_cpu": not job.on_gpu,
        "seed": job.seed,
    }
    command = [str(binaries / "python"), "-m", "trl.scripts.sft"]
    for key, value in options.items():
        command += [f"--{key}", str(value)]
    return command, _trainer_seconds


def _trainer_seconds(text: str) -> float:
    """What transformers' Trainer says its training took."""
    found = re.findall(r"train_runtime'?\"?\s*[:=]\s*'?\"?([\d:.]+)", text)
    if not found:
        raise SystemExit("error: the output does not say how long the training took")
    seconds = 0.0
    for part in found[-1].split(":"):  # 0:03:20.12, or seconds
        seconds = seconds * 60 + float(part)
    return seconds


_COMMANDS = {"litgpt": _litgpt, "llama_factory": _llama_factory, "trl": _trl}


def timed(peer: str, folder: Path, job: Job) -> dict[str, float]:
    """A peer's figures, named as `bench_training.py` names its own."""
    started = time.perf_counter()
    seconds, memory = run(peer, folder, job)
    return {
        "examples_per_second": len(job.rows) / seconds,
        "seconds": seconds,
        "peak_bytes": float(memory),
        "seconds_with_loading": time.perf_counter() - started,
    }
