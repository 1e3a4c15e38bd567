"""Which settings work on Spider? ``python scripts/prove_settings.py --spider DIR [--model M] [--stage S]``.

Stage ``sweep``: configurations of a model (the embedded one: learning rate, rank, alpha; the 0.5B code
model: learning rate, rank) go through a halving on 384 of Spider's training rows, chosen by the
loss on rows of other schemas that are held out of train.csv;
those that get to its end are trained with a second seed, the best of them also with attention's projections
alone as target modules, with both seeds. dev.csv is not touched. Stage
``train``: the configuration with the best mean is trained on ``--rows`` training rows and measured on all
dev rows, with the base model beside it. Both stages go on where they were stopped. Stage ``report`` prints
the tables and draws ``docs/spider_settings.png``, at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
MODELS = {
    "smollm2-135m": (
        ("lora.dropout=0",),
        ("trainer.learning_rate=1e-3,2e-3,4e-3", "lora.r=8,32", "lora.alpha=16,64"),
    ),
    "qwen2.5-coder-0.5b-packaged": (
        ("data.template=pkg://qc_experiments.data/templates/sql_instruction.txt",),
        ("trainer.learning_rate=2e-4,5e-4,1e-3", "lora.r=8,32"),
    ),
}
"""Of each model the settings that all share, and those that are compared."""
SEEDS = "seed=42,43"
TARGETS = "lora.target_modules=attention"
"""What the best is compared with; the presets take all linear layers."""
ALIKE = (
    "data=spider",
    "collator=shared_schema",
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
    parser.add_argument("--stage", choices=("sweep", "train", "report"), default="sweep")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs")
    parser.add_argument("--rows", type=int, default=2048, help="training rows of the last stage")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "spider_settings.png")
    parser.add_argument("--model", choices=MODELS, default="smollm2-135m")
    options = parser.parse_args()
    folder = options.output / f"spider_{options.model}"
    sweep, final = folder / "sweep", folder / "final"
    own, grid = MODELS[options.model]
    if options.stage == "report":
        _report(sweep, final, options.plot, _keys(grid))
        return
    same = (f"model={options.model}", *own, *ALIKE)
    if options.stage == "sweep":
        alike = ("-m", *same, *HELD_OUT, f"paths.output={sweep}")
        _run(options.spider, *alike, "sweep.halving=2", *grid)
        for finalist in _ranked(sweep, grid):
            _run(options.spider, *alike, SEEDS, *finalist)
        _run(options.spider, *alike, SEEDS, *_ranked(sweep, grid)[0], TARGETS)
        return
    best = _ranked(sweep, grid)[0]
    print("The best configuration:", " ".join(best))
    settings = [f"data.limit={options.rows}", "data.max_length=1024", "trainer.num_train_epochs=1"]
    settings.append("trainer.save_steps=16")
    _run(options.spider, *same, *settings, *best, f"paths.output={final}")


def _keys(grid: Sequence[str]) -> list[str]:
    return [setting.partition("=")[0] for setting in grid]


def _ranked(sweep: Path, grid: Sequence[str]) -> list[list[str]]:
    """Overrides of the configurations that were trained to their end, best first; seeds are pooled."""
    from qc_experiments.comparison.study import compare

    keys = _keys((*grid, TARGETS))
    finalists = compare([sweep], "eval_loss").groups[0].configurations
    return [[f"{key}={finalist.facts[key]}" for key in keys] for finalist in finalists]


def _report(sweep: Path, final: Path, plot: Path, swept: Sequence[str]) -> None:
    """Print what the stages found, and draw it."""
    from matplotlib.figure import Figure

    from qc_experiments.comparison.views.table import comparison_table
    from qc_experiments.evaluation.plot import COLOURS

    print(comparison_table([sweep], "eval_loss"))
    curves = _curves(sweep, swept)
    first = [(config, losses[0][1]) for config, losses in curves]
    print("\n| swept value | configurations | mean loss after the first round | least |")
    print("| --- | --- | --- | --- |")
    for key, levels in _by_level(first).items():
        for level, losses in levels.items():
            print(f"| {key} {level} | {len(losses)} | {mean(losses):.4f} | {min(losses):.4f} |")
    reports = [json.loads(path.read_text()) for path in sorted(final.glob("*/report.json"))]
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    axes = figure.subplots(1, 3 if reports else 2, width_ratios=[5, 4, 4][: 3 if reports else 2])
    _draw_levels(axes[0], first, COLOURS)
    _draw_curves(axes[1], curves, COLOURS)
    if reports:
        _draw_accuracy(axes[2], reports[-1], COLOURS)
    for one in axes:
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    figure.savefig(plot, dpi=110)
    print(f"\nDrawn: {plot}")


Curve = tuple[dict[str, Any], list[tuple[int, float]]]
"""A run's swept values, and its held-out loss after each of its pauses, with the step."""


def _curves(sweep: Path, swept: Sequence[str]) -> list[Curve]:
    from qc_experiments.comparison.facts import facts
    from qc_experiments.comparison.study import compare

    keys = ["seed", *swept]
    found = []
    for run in compare([sweep], "eval_loss").runs:
        places = (run.folder / name for name in ("paused.json", "rungs.json"))  # of older runs
        pauses: dict[str, Any] = next(
            (json.loads(one.read_text()) for one in places if one.exists()), {}
        )
        results = [*pauses.values(), *([run.result] if run.finished else ())]
        losses = sorted({one["steps"]: one["eval_loss"] for one in results}.items())
        known = {**run.config, **facts(run)}
        if losses and pauses:
            found.append(({key.split(".")[-1]: known[key] for key in keys}, losses))
    return found


def _by_level(
    first: list[tuple[dict[str, Any], float]],
) -> dict[str, dict[Any, list[float]]]:
    """Losses by swept key and value, in the order of the grid."""
    found: dict[str, dict[Any, list[float]]] = {}
    for config, loss in sorted(first, key=lambda one: str(one[0])):
        for key, value in config.items():
            if key != "seed":
                found.setdefault(key, {}).setdefault(value, []).append(loss)
    return {key: dict(sorted(levels.items())) for key, levels in found.items()}


def _draw_levels(
    axes: Axes, first: list[tuple[dict[str, Any], float]], colours: tuple[str, ...]
) -> None:
    place, ticks = 0.0, []
    for colour, (key, levels) in zip(colours, _by_level(first).items(), strict=False):
        for level, losses in levels.items():
            axes.plot([place] * len(losses), losses, "o", color=colour, alpha=0.4, markersize=5)
            axes.plot([place - 0.3, place + 0.3], [mean(losses)] * 2, color=colour, linewidth=3)
            ticks.append((place, f"{key.replace('learning_rate', 'lr')}\n{level}"))
            place += 1
        place += 0.5
    axes.set_xticks([tick[0] for tick in ticks], [tick[1] for tick in ticks], fontsize=7)
    axes.set_title("All configurations after the first round; bars: means", fontsize=10)
    axes.set_ylabel("loss on held-out schemas")


def _draw_curves(axes: Axes, curves: list[Curve], colours: tuple[str, ...]) -> None:
    last = max(losses[-1][0] for _, losses in curves)
    best = sorted((c for c in curves if c[1][-1][0] == last), key=lambda c: c[1][-1][1])
    named = {id(curve): colour for curve, colour in zip(best, colours, strict=False)}
    for curve in sorted(curves, key=lambda c: id(c) in named):
        config, losses = curve
        colour = named.get(id(curve))
        known = {key.replace("learning_rate", "lr"): value for key, value in config.items()}
        values = " ".join(f"{key} {value}" for key, value in known.items())
        axes.plot(
            [step for step, _ in losses],
            [loss for _, loss in losses],
            "o-",
            color=colour or "#bbbbbb",
            markersize=4,
            label=values if colour else None,
        )
    axes.set_title("What the halving kept (grey: dropped)", fontsize=10)
    axes.set_xlabel("steps of 16 rows")
    axes.set_ylabel("loss on held-out schemas")
    axes.legend(fontsize=7, frameon=False)


def _draw_accuracy(axes: Axes, report: dict[str, Any], colours: tuple[str, ...]) -> None:
    rows = {"all": report["figures"]["execution_accuracy"], **report["by_hardness"]}
    for place, one in enumerate(rows.values()):
        value, low, high = (100 * one[key] for key in ("value", "low", "high"))
        axes.errorbar(
            value, place, xerr=[[value - low], [high - value]], fmt="o", color=colours[0], capsize=3
        )
    axes.set_yticks(range(len(rows)), [f"{k} ({v['count']})" for k, v in rows.items()])
    axes.invert_yaxis()
    axes.set_title("The winner on Spider's dev rows", fontsize=10)
    axes.set_xlabel("execution accuracy in %, with 95 % intervals")


def _run(spider: Path, *arguments: str) -> None:
    environment = {**os.environ, "QC_SPIDER": str(spider.absolute())}
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    main()
