"""Does a halving find what the whole grid finds? ``python scripts/bench_halving.py [--output DIR]``.

16 configurations (rank, learning rate, target modules) of the embedded model on the demo data.
First with ``sweep.halving=2``; then the same command without it in the same folder, which trains what the
halving dropped to its end, as if it had never been paused. Printed: the share of the grid's steps that the
halving took, and how far what it chose is from the best of the grid, in standard errors. Both sweeps go on
where they were stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GRID = (
    "lora.r=8,32",
    "trainer.learning_rate=2e-4,5e-4,1e-3,4e-3",
    "lora.target_modules=attention,all-linear",
)
ALIKE = (
    "experiment=quickstart",
    "tracking=none",
    "evaluation.base=false",
    "trainer.eval_strategy=never",
    "trainer.load_best_model_at_end=false",
)


def main() -> None:
    """Run both sweeps and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "bench_halving")
    parser.add_argument("--steps", type=int, default=24, help="optimizer steps of a whole run")
    parser.add_argument("--limit", type=int, help="held-out rows (all)")
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    settings = [*ALIKE, f"trainer.max_steps={options.steps}", f"seed={options.seed}"]
    settings += [f"paths.output={options.output}"]
    if options.limit is not None:
        settings.append(f"evaluation.limit={options.limit}")
    kept = options.output / "halving.json"
    if not kept.exists():  # the whole grid would overwrite what it is read from
        _sweep(*settings, "sweep.halving=2")
        kept.write_text(json.dumps(_results(options.output), indent=1))
    halved = json.loads(kept.read_text())
    _sweep(*settings)
    whole = _results(options.output)
    taken = sum(result["steps"] for result in halved.values())
    steps = sum(result["steps"] for result in whole.values())
    chosen = [name for name, result in halved.items() if result["status"] == "finished"]
    print(f"\n{len(whole)} configurations, {options.steps} steps each, seed {options.seed}")
    print(f"halving took {taken} of the grid's {steps} steps: {taken / steps:.0%}")
    for key, sign in (("eval_loss", 1), ("execution_accuracy", -1)):
        ranked = sorted(whole, key=lambda name: sign * whole[name][key])
        best, found = ranked[0], min(chosen, key=lambda name: sign * whole[name][key])
        print(
            f"{key}: best of the grid {whole[best][key]:.4f} ({best}), of the halving "
            f"{whole[found][key]:.4f} ({found}, place {ranked.index(found) + 1})"
        )
        if key == "execution_accuracy":
            share, count = whole[best][key], whole[best]["execution_count"]
            error = math.sqrt(share * (1 - share) / count)
            away = (share - whole[found][key]) / error if error else 0.0
            print(f"  {away:.2f} standard errors ({error:.3f}, {count} questions) from the best")


def _sweep(*settings: str) -> None:
    command = [sys.executable, str(ROOT / "train.py"), "-m", *settings, *GRID]
    subprocess.run(command, cwd=ROOT, check=True)


def _results(output: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(output.glob("*/result.json")):
        found[path.parent.name] = json.loads(path.read_text())
    return found


if __name__ == "__main__":
    main()
