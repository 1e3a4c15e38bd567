"""Which settings work on Spider? ``python scripts/prove_settings.py --spider DIR [--stage sweep|train]``.

Stage ``sweep``: 24 configurations of the embedded model (learning rate, rank, alpha, target modules) go
through a halving on 384 of Spider's training rows, chosen by the loss on rows of other schemas that are held
out of train.csv; those that get to its end are trained with a second seed. dev.csv is not touched. Stage
``train``: the configuration with the best mean is trained on ``--rows`` training rows and measured on all
dev rows, with the base model beside it. Both stages go on where they were stopped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GRID = (
    "trainer.learning_rate=1e-3,2e-3,4e-3",
    "lora.r=8,32",
    "lora.alpha=16,64",
    "lora.target_modules=attention,all-linear",
)
ALIKE = (
    "data=spider",
    "collator=shared_schema",
    "lora.dropout=0",
    "trainer.per_device_train_batch_size=16",
    "trainer.gradient_accumulation_steps=1",
    "trainer.eval_strategy=never",
    "trainer.load_best_model_at_end=false",
    "trainer.save_strategy=steps",
    "evaluation.max_new_tokens=96",
)
HELD_OUT = (
    "data.validation=null",
    "data.split_by=schema",
    "data.validation_fraction=0.1",
    "data.limit=384",
    "data.max_length=768",
    "evaluation.limit=64",
    "evaluation.base=false",
    "trainer.num_train_epochs=1",
    "trainer.save_steps=4",
)


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("QC_SPIDER", "spider")
    parser.add_argument("--spider", type=Path, default=Path(default))
    parser.add_argument("--stage", choices=("sweep", "train"), default="sweep")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs")
    parser.add_argument("--rows", type=int, default=2048, help="training rows of the last stage")
    options = parser.parse_args()
    sweep = options.output / "spider_sweep"
    if options.stage == "sweep":
        alike = ("-m", *ALIKE, *HELD_OUT, f"paths.output={sweep}")
        _run(options.spider, *alike, "sweep.halving=2", *GRID)
        for finalist in _ranked(sweep):
            _run(options.spider, *alike, "seed=42,43", *finalist)
        return
    best = _ranked(sweep)[0]
    print("The best configuration:", " ".join(best))
    settings = [f"data.limit={options.rows}", "data.max_length=1024", "trainer.num_train_epochs=1"]
    settings.append("trainer.save_steps=16")
    _run(options.spider, *ALIKE, *settings, *best, f"paths.output={options.output / 'spider'}")


def _ranked(sweep: Path) -> list[list[str]]:
    """Overrides of the configurations that were trained to their end, best first; seeds are pooled."""
    from qc_experiments.compare import compare

    keys = [setting.partition("=")[0] for setting in GRID]
    finalists = compare([sweep], "eval_loss").groups[0].configurations
    return [[f"{key}={finalist.facts[key]}" for key in keys] for finalist in finalists]


def _run(spider: Path, *arguments: str) -> None:
    environment = {**os.environ, "QC_SPIDER": str(spider.absolute())}
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    main()
