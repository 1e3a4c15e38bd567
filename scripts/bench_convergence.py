"""Does grouping questions by schema cost learning? ``python scripts/bench_convergence.py --spider DIR``.

The embedded model learns 512 of Spider's training rows in steps of 64, once in the order of
``shared_schema`` (at most ``collator.max_group`` questions a schema in a step) and once in the random
order of ``seq2seq``, from the same initial adapter, for each of several seeds; then both are measured on
the same sample of dev rows. The gradients of packed and padded rows agree to rounding (a test), so the
random order is computed in packs as well, which takes a fraction of the time; only the order differs.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
"""Student's t for two-sided intervals of 95 %, by degrees of freedom."""


def main() -> None:
    """Train both orders with each seed and print the paired differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("QC_SPIDER", "spider")
    parser.add_argument("--spider", type=Path, default=Path(default), help="train.csv and dev.csv")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rows-per-step", type=int, default=64)
    parser.add_argument("--max-group", type=int, default=8)
    parser.add_argument("--dev-rows", type=int, default=300)
    parser.add_argument("--max-length", type=int, default=1024, help="longest row in tokens")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument(
        "--record", type=Path, help="file that keeps each run; runs in it are not repeated"
    )
    options = parser.parse_args()
    from qc_experiments.system.memory import keep_memory

    keep_memory()
    kept: dict[str, float] = {}
    if options.record and options.record.exists():
        kept = json.loads(options.record.read_text())
    for seed in options.seeds:
        for order in ("shared_schema", "seq2seq"):
            key = f"{order} {seed}"
            if key not in kept:
                started = time.perf_counter()
                kept[key] = _dev_loss(options, order, seed)
                seconds = time.perf_counter() - started
                print(
                    f"seed {seed}  {order:<14} dev loss {kept[key]:.4f}  {seconds:.0f} s",
                    flush=True,
                )
                if options.record:
                    options.record.write_text(json.dumps(kept, indent=1))
    pairs = [(kept[f"shared_schema {seed}"], kept[f"seq2seq {seed}"]) for seed in options.seeds]
    differences = [one - other for one, other in pairs]
    mean = statistics.fmean(differences)
    print(
        f"differences (shared_schema - seq2seq): {', '.join(f'{d:+.4f}' for d in differences)} nats"
    )
    freedom = len(differences) - 1
    if freedom in T_95:
        half = T_95[freedom] * statistics.stdev(differences) / math.sqrt(len(differences))
        print(f"mean {mean:+.4f} nats, 95 % interval {mean - half:+.4f} to {mean + half:+.4f}")


def _dev_loss(options: argparse.Namespace, order: str, seed: int) -> float:
    """Dev loss in nats per label token after training in an order."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer

    from qc_experiments.collators.shared_schema import SchemaSampler
    from qc_experiments.config.schema import PathsConfig
    from qc_experiments.evaluation.loss import validation_loss
    from qc_experiments.models.cpu_layers import lean_layers
    from qc_experiments.models.packaged import embedded_model
    from qc_experiments.packing.loss import backward_pack
    from qc_experiments.packing.prefix_tree import pack_rows

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = embedded_model(Path(PathsConfig().cache).expanduser())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    train = _examples(options.spider / "train.csv", tokenizer, options.max_length)
    dev = _examples(options.spider / "dev.csv", tokenizer, options.max_length)
    dev = random.Random(0).sample(dev, min(len(dev), options.dev_rows))
    if order == "shared_schema":
        prompts = [example.prompt_ids for example in train]
        places = SchemaSampler(prompts, options.rows_per_step, options.max_group, seed).order(0)
    else:
        places = random.Random(seed).sample(range(len(train)), len(train))
    rows = [train[place] for place in places[: options.steps * options.rows_per_step]]
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(seed)
    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", lora_dropout=0.0)
    )
    lean_layers(model)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 1, options.steps + 1)
    schedule.step()  # the first step has the whole learning rate, the last one a share
    for step in range(options.steps):
        batch = rows[step * options.rows_per_step : (step + 1) * options.rows_per_step]
        labels = sum(len(row.completion_ids) for row in batch)
        loss = 0.0
        for pack in pack_rows(batch, 1024):
            loss += float(backward_pack(model, pack, 1 / labels))
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        print(f"  seed {seed} {order} step {step + 1}/{options.steps}: loss {loss:.4f}", flush=True)
    total, count = validation_loss(model, dev, tokenizer.pad_token_id, 4)
    return total / count


def _examples(path: Path, tokenizer: Any, longest: int) -> list[Any]:
    from qc_experiments.config.schema import DataConfig, Wrap
    from qc_experiments.data.encode import Encoder
    from qc_experiments.data.table import Row
    from qc_experiments.data.template import read_template
    from qc_experiments.system.paths import resolve_path

    template = read_template(resolve_path(DataConfig().template, "template"))
    encoder = Encoder(tokenizer, template, Wrap.plain)
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            Row(n, cells["question"], cells["query"], cells["context"])
            for n, cells in enumerate(csv.DictReader(file), 2)
        ]
    return [e for e in encoder.examples(rows) if len(e) <= longest]


if __name__ == "__main__":
    main()
