"""Kill runs at random moments, go on with them, and compare: ``python scripts/kill_and_resume.py``.

For each variant a tiny random Llama is trained once undisturbed. Then the same command is killed with
SIGKILL at a moment drawn at random, or as soon as a checkpoint, an evaluation or a W&B run is being
written, and run again to its end. The adapter, ``metrics.jsonl`` and ``result.json`` (but for measured
keys and the commit) must be those of the undisturbed run, byte for byte, and W&B's offline run must hold
each step once.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_model import embedded_tokenizer, save_tiny_model

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ("seconds", "per_second", "memory", "code_commit")
COMMON = (
    "data.limit=48",
    "trainer.max_steps=60",
    "trainer.per_device_train_batch_size=2",
    "trainer.gradient_accumulation_steps=3",
    "trainer.learning_rate=5e-3",
    "trainer.eval_strategy=epoch",
    "trainer.save_strategy=steps",
    "trainer.save_steps=5",
    "trainer.logging_steps=3",
    "trainer.load_best_model_at_end=false",
    "evaluation.limit=8",
    "evaluation.max_new_tokens=16",
    "lora.r=4",
    "lora.dropout=0.1",
    "tracking.mode=offline",
)
VARIANTS = {
    "seq2seq": ("collator=seq2seq",),
    "shared_schema": ("collator=shared_schema",),
    "qlora": ("collator=shared_schema", "quant=4bit"),
}


def main() -> None:
    """Kill and compare; exits with 1 if any run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="killed runs of each variant")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    alike = True
    with tempfile.TemporaryDirectory(prefix="qc_kill_") as folder:
        work = Path(folder)
        model = save_tiny_model(work / "model", embedded_tokenizer())
        for variant in options.variants:
            alike &= _variant(variant, model, work, options.kills, options.seed)
    sys.exit(0 if alike else 1)


def _variant(variant: str, model: Path, work: Path, kills: int, seed: int) -> bool:
    draw = random.Random(f"{variant} {seed}")
    settings = (
        "model=hub",
        f"model.name_or_path={model}",
        *COMMON,
        *VARIANTS[variant],
    )
    started = time.monotonic()
    expected = _found(_run(settings, work / f"{variant}_undisturbed"))
    seconds = time.monotonic() - started
    print(f"{variant}: undisturbed in {seconds:.0f} s", flush=True)
    same = 0
    for number in range(kills):
        output = work / f"{variant}_{number}"
        moment, waits = _moment(draw, number, seconds, output)
        process = _start(settings, output)
        waits(process)
        process.kill()
        process.wait()
        reached = _reached(output)
        found = _found(_run(settings, output))
        wrong = [name for name in expected if found[name] != expected[name]]
        same += not wrong
        verdict = f"differs in {', '.join(wrong)}" if wrong else "the same"
        print(f"{variant} {number + 1:>2}: killed {moment} ({reached}): {verdict}", flush=True)
        if not wrong:
            shutil.rmtree(output)
    print(f"{variant}: {same} of {kills} the same\n", flush=True)
    return same == kills


def _moment(
    draw: random.Random, number: int, seconds: float, output: Path
) -> tuple[str, Callable[[subprocess.Popen[bytes]], None]]:
    """A moment to kill at, in words, and what waits for it."""
    watched = {
        4: ("in a checkpoint", "*/checkpoints/.draft/*/*"),
        5: ("in an evaluation", "*/base_answers.jsonl"),
        6: ("in a W&B write", "*/wandb/offline-run-*/*.wandb"),
        7: ("in the last evaluation", "*/adapter"),
    }
    if number % 8 not in watched:
        after = draw.uniform(0.25, 1.0) * seconds
        return f"after {after:.1f} s", lambda process: _wait(process, lambda: False, after)
    words, pattern = watched[number % 8]
    later = draw.uniform(0, 0.2)

    def wait(process: subprocess.Popen[bytes]) -> None:
        _wait(process, lambda: any(output.glob(pattern)), 10 * seconds)
        time.sleep(later)

    return words, wait


def _wait(process: subprocess.Popen[bytes], reached: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None and not reached():
        time.sleep(0.002)


def _reached(output: Path) -> str:
    """How far a killed run had come."""
    steps = sorted(int(p.name.partition("-")[2]) for p in output.glob("*/checkpoints/checkpoint-*"))
    lines = sum(len(path.read_text().splitlines()) for path in output.glob("*/metrics.jsonl"))
    return f"checkpoints {steps}, {lines} lines of metrics"


def _start(settings: tuple[str, ...], output: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        [sys.executable, "train.py", *settings, f"paths.output={output}"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _run(settings: tuple[str, ...], output: Path) -> Path:
    """Run to the end; returns the run's folder."""
    process = _start(settings, output)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"error: the run failed:\n{errors.decode()}")
    [config] = output.glob("*/config.yaml")
    return config.parent


def _found(folder: Path) -> dict[str, object]:
    """All that must be the same."""
    result = json.loads((folder / "result.json").read_text())
    return {
        "adapter": (folder / "adapter" / "adapter_model.safetensors").read_bytes(),
        "metrics.jsonl": (folder / "metrics.jsonl").read_bytes(),
        "result.json": {k: v for k, v in result.items() if not any(m in k for m in MEASURED)},
        "predictions.csv": _predictions(folder / "predictions.csv"),
        "W&B": _wandb_steps(folder),
    }


def _predictions(path: Path) -> list[dict[str, str]]:
    """The table without the seconds that queries took."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def _wandb_steps(folder: Path) -> list[list[tuple[int, object]]]:
    """Step and loss of each line that each offline run of a folder holds; there must be one run."""
    runs = []
    for path in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb")):
        done = subprocess.run(
            [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        records = [json.loads(line) for line in done.stdout.splitlines()]
        history = [record for record in records if record.get("type") == "history"]
        runs.append([_step_and_loss(record) for record in history])
    return runs


def _step_and_loss(record: dict[str, Any]) -> tuple[int, object]:
    figures = record["history"]["item"]
    return int(figures["_step"]), figures.get("loss", figures.get("eval_loss"))


if __name__ == "__main__":
    main()
