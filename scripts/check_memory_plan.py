"""Is the memory that `qc plan` names what a run takes? ``python scripts/check_memory_plan.py [NAME ...]``.

Runs of a few steps on the demo data, each in a process of its own, with the embedded model and, where it
is fetched (`qc models fetch qwen2.5-coder-0.5b`), a model of half a billion weights. Printed is what was
planned beside the peak that was measured (``peak_memory_bytes`` of result.json).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALIKE = (
    "tracking=none",
    "lora.dropout=0",
    "collator.max_group=32",
    "trainer.per_device_train_batch_size=128",
    "trainer.max_steps=1",
    "trainer.eval_strategy=never",
    "trainer.load_best_model_at_end=false",
    "trainer.save_strategy=never",
    "evaluation.base=false",
    "evaluation.limit=2",
    "evaluation.max_new_tokens=8",
)
LARGE = "model=qwen2.5-coder-0.5b-packaged"
SETTINGS = {
    "135M float32": ("model.dtype=float32",),
    "135M float32, passes of 4096": ("model.dtype=float32", "collator.max_tokens=4096"),
    "135M bfloat16, passes of 4096": ("model.dtype=bfloat16", "collator.max_tokens=4096"),
    "135M checkpointing, passes of 4096": (
        "model.dtype=float32",
        "collator.max_tokens=4096",
        "trainer.gradient_checkpointing=true",
    ),
    "135M dropout, passes of 4096": (
        "model.dtype=float32",
        "collator.max_tokens=4096",
        "lora.dropout=0.1",
    ),
    "135M padded, 16 rows": (
        "model.dtype=float32",
        "collator=seq2seq",
        "trainer.per_device_train_batch_size=16",
    ),
    "135M all weights": ("lora=none",),
    "0.5B bfloat16": (LARGE, "model.dtype=bfloat16"),
    "0.5B bfloat16, passes of 4096": (LARGE, "model.dtype=bfloat16", "collator.max_tokens=4096"),
    "0.5B float32": (LARGE, "model.dtype=float32"),
    "0.5B float32, padded, 8 rows": (
        LARGE,
        "model.dtype=float32",
        "collator=seq2seq",
        "trainer.per_device_train_batch_size=8",
    ),
}


def main() -> None:
    """Run the settings that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="\n".join(("names, of which each is given in quotes:", *SETTINGS)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="settings to run; all if none is")
    names = parser.parse_args().names or list(SETTINGS)
    if unknown := [name for name in names if name not in SETTINGS]:
        parser.error(f"no such settings: {unknown[0]}; there are {'; '.join(SETTINGS)}")
    print("| settings | planned, GB | measured, GB | planned / measured | largest parts |")
    print("| --- " * 5 + "|", flush=True)
    for name in names:
        planned, parts, measured = _run(*SETTINGS[name])
        ratio = f"{planned / measured:.2f}"
        print(f"| {name} | {planned:.1f} | {measured:.2f} | {ratio} | {parts} |", flush=True)


def _run(*settings: str) -> tuple[float, str, float]:
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "train.py", *ALIKE, *settings, f"paths.output={place}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        planned = re.search(r"^Memory  about ([\d.]+) GB \((.*?)\)", done.stdout, re.MULTILINE)
        [result] = Path(place).glob("*/result.json")
        measured = json.loads(result.read_text())["peak_memory_bytes"] / 1e9
    assert planned is not None
    return float(planned[1]), planned[2], measured


if __name__ == "__main__":
    main()
