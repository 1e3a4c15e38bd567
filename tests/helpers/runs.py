"""Runs of the command in tests: where they are, and what they leave behind."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]


CACHE = Path(os.environ.get("QC_CACHE", "~/.cache/qc_experiments")).expanduser()


TINY_TRAINING = (
    "trainer.learning_rate=5e-3",
    "trainer.per_device_train_batch_size=4",
    "trainer.gradient_accumulation_steps=1",
    "trainer.eval_strategy=never",
    "trainer.save_strategy=never",
    "trainer.load_best_model_at_end=false",
    "trainer.logging_steps=1",
    "trainer.max_steps=3",
    "data.limit=16",
    "evaluation.limit=4",
    "evaluation.max_new_tokens=8",
    "lora.r=4",
    "lora.dropout=0",
)


@dataclass(frozen=True)
class Run:
    """A finished run's folder and result."""

    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text())

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").open()]

    def rows(self, name: str = "predictions.csv") -> list[dict[str, str]]:
        with (self.folder / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def run_folders(output: Path) -> list[Path]:
    return sorted(path.parent for path in output.glob("*/config.yaml"))


def child(*arguments: str, cwd: Path | None = None, timeout: float = 600) -> Any:
    """Run Python with arguments in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd or ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


MEASURED = ("seconds", "per_second", "peak_memory_bytes", "code_commit")


def adapter_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter" / "adapter_model.safetensors")


def determined(result: dict[str, object]) -> dict[str, object]:
    return {k: v for k, v in result.items() if not any(name in k for name in MEASURED)}


def losses_by_plain_peft(run: Run, base_model: Path) -> tuple[float, float]:
    """Validation loss with the saved adapter and without it, on a base model loaded again."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from qc_experiments.config.schema import Wrap
    from qc_experiments.data.encode import Encoder
    from qc_experiments.data.table import Row
    from qc_experiments.data.template import read_template
    from qc_experiments.evaluation.loss import validation_loss

    base = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(run.folder / "adapter"))
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "adapter")
    encoder = Encoder(tokenizer, read_template(run.folder / "adapter" / "template.txt"), Wrap.plain)
    rows = [Row(1, r["question"], r["query"], r["context"]) for r in run.rows()]
    examples = encoder.examples(rows)
    total, count = validation_loss(model, examples, tokenizer.pad_token_id, 2)
    with model.disable_adapter():
        base_total, _ = validation_loss(model, examples, tokenizer.pad_token_id, 2)
    return total / count, base_total / count


def assert_same(one: Run, other: Run) -> None:
    assert determined(one.result) == determined(other.result)
    assert (one.folder / "metrics.jsonl").read_bytes() == (
        other.folder / "metrics.jsonl"
    ).read_bytes()
    first, second = adapter_weights(one.folder), adapter_weights(other.folder)
    assert all((first[name] == second[name]).all() for name in first)


def metrics_lines(output: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in output.glob("*/metrics.jsonl"))


def wait_for(reached: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    for _ in range(6000):
        if reached() or process.poll() is not None:
            return
        time.sleep(0.02)
    raise AssertionError("did not come to pass")


def sweep_command(tiny_model: Path, output: Path, *settings: str) -> list[str]:
    return [
        "train.py",
        "-m",
        "model=hub",
        f"model.name_or_path={tiny_model}",
        "tracking=none",
        f"paths.output={output}",
        *TINY_TRAINING,
        *settings,
    ]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Start a command at the head of its own group of processes, as a shell does."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def saved_adapter(model: Path, folder: Path, **settings: Any) -> Path:
    """An adapter as PEFT saves it."""
    import peft
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model)
    given = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    peft.get_peft_model(base, peft.LoraConfig(**{**given, **settings})).save_pretrained(folder)
    return folder
