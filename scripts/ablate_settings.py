"""What does each setting for Spider and Qwen2.5-Coder-0.5B bring? One change each, and a paired test.

    python scripts/ablate_settings.py --spider DIR      all changes
    python scripts/ablate_settings.py "rank 8"          this change and the settings as they are
    python scripts/ablate_settings.py --report          the table and the picture of what there is

Each change is trained on the same rows of train.csv and asked the same
questions about schemas that were held out of it; dev.csv is not touched. It is compared with the settings
as they are on the same questions: McNemar's exact test, p corrected by Holm for the number of changes, with
the lowest seed; further seeds are compared by their loss alone, in pairs of one seed. Finished runs are not
repeated, so that what was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from qc_experiments.comparison.runs import Run, load_runs
from qc_experiments.comparison.significance import holm, pair_bits
from qc_experiments.evaluation.statistics import LEVEL, Paired, wilson

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "spider_ablations.png"
AS_IT_IS = "as it is"
SETTINGS = (
    "experiment=spider_qwen0.5b",
    "collator.max_group=16",
    "trainer.learning_rate=5e-4",
    "trainer.num_train_epochs=1",
    "trainer.per_device_train_batch_size=32",
)
"""The preset in steps that a few hundred rows are enough for."""
CHANGES: dict[str, tuple[str, ...]] = {
    AS_IT_IS: (),
    "rank 8": ("lora=r8",),
    "rank 64": ("lora=r64",),
    "attention's layers alone": ("lora.target_modules=attention",),
    "dropout 0.05": ("lora.dropout=0.05",),
    "learning rate 2e-4": ("trainer.learning_rate=2e-4",),
    "learning rate 1e-3": ("trainer.learning_rate=1e-3",),
    "steps of 16 rows": ("trainer.per_device_train_batch_size=16",),
    "loss on the whole text": ("data.loss_on=full",),
    "4-bit weights (NF4)": ("quant=4bit",),
    "float32 weights": ("model.dtype=float32",),
}
"""Each change by its name, as overrides of the experiment."""


Runs = dict[Any, Run]
"""Finished runs of a configuration by their seed."""


def main() -> None:
    """Train what is missing, and show what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="\n".join(("changes, of which each is given in quotes:", *CHANGES)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="changes to train; all if none is")
    default = os.environ.get("QC_SPIDER", "spider")
    parser.add_argument(
        "--spider", type=Path, default=Path(default), help="folder with train.csv and database/"
    )
    parser.add_argument("--rows", type=int, default=512, help="training rows")
    parser.add_argument("--questions", type=int, default=256, help="held-out questions")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="each change with each")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "outputs" / "ablations", help="folder of the runs"
    )
    parser.add_argument("--report", action="store_true", help="train nothing")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(CHANGES)):
        parser.error(f"no such change: {unknown[0]}; there are {', '.join(CHANGES)}")
    if not options.report and not (options.spider / "train.csv").is_file():
        parser.error(f"--spider {options.spider}: has no train.csv")
    names = [name for name in CHANGES if not options.names or name in (AS_IT_IS, *options.names)]
    if not options.report:
        first, *others = sorted(options.seeds)
        for name in names:
            _train(options, name, first)
        for seed in others:
            for name in names:
                _train(
                    options, name, seed, "evaluation.max_new_tokens=1"
                )  # their loss is what counts
    _report(options.output)


def _folder(output: Path, name: str) -> Path:
    return output / name.replace(" ", "_").replace("(", "").replace(")", "")


def _train(options: argparse.Namespace, name: str, seed: int, *more: str) -> None:
    """Train one configuration; all rows and questions are the same for each."""
    command = (
        *SETTINGS,
        "data.validation=null",
        "data.split_by=schema",
        "data.validation_fraction=0.1",
        f"data.limit={options.rows}",
        f"evaluation.limit={options.questions}",
        "evaluation.base=false",
        "tracking=none",
        "trainer.save_strategy=never",
        *CHANGES[name],
        *more,
        f"seed={seed}",
        f"paths.output={_folder(options.output, name)}",
    )
    environment = {**os.environ, "QC_SPIDER": str(options.spider.absolute())}
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *command], cwd=ROOT, env=environment
    )
    if done.returncode:  # it has said why
        sys.exit(done.returncode)


def _report(output: Path) -> None:
    found: dict[str, Runs] = {}
    for name in CHANGES:
        folder = _folder(output, name)
        there = load_runs([folder])[0] if folder.is_dir() else []
        done = {run.config["seed"]: run for run in there if run.finished and run.outcomes}
        done = dict(sorted(done.items()))
        if done:
            found[name] = done
    if AS_IT_IS not in found:
        print(
            f"error: --output {output}: holds no finished run of the settings as they are",
            file=sys.stderr,
        )
        sys.exit(2)
    against = {
        name: _paired(_first(found[AS_IT_IS]), _first(found[name]))
        for name in found
        if name != AS_IT_IS
    }
    p_values = [one.p_value() or 1.0 for one in against.values()]
    corrected = dict(zip(against, holm(p_values), strict=True))
    print(
        "| change | right | difference | won, lost | p (Holm) | loss | against it | minutes | memory |"
    )
    print("| --- " * 9 + "|")
    for name, runs in found.items():
        hits, count = _right(runs)
        cells = [f"{100 * hits / count:.1f} % ({hits} of {count})"]
        if name in against:
            table = against[name]
            low, high = (100 * (end or 0.0) for end in table.interval())
            cells += [
                f"{100 * (table.difference() or 0.0):+.1f} ({low:+.1f} to {high:+.1f})",
                f"{table.only_second}, {table.only_first}",
                f"{corrected[name]:.2g}",
            ]
        else:
            cells += ["", "", ""]
        cells += [f"{_mean(runs, 'eval_loss'):.4f}", _loss_difference(found[AS_IT_IS], runs)]
        cells.append(f"{_mean(runs, 'seconds_training') / 60:.1f}")
        cells.append(f"{_mean(runs, 'peak_memory_bytes') / 1e9:.2f} GB")
        print(f"| {name} | {' | '.join(cells)} |")
    beyond = [name for name, p in corrected.items() if p < LEVEL]
    print(f"\nBeyond chance (p < {LEVEL:g}): {', '.join(beyond) or 'none'}")
    _draw(found)
    print(f"Drawn: {PICTURE.relative_to(ROOT)}")


def _first(runs: Runs) -> Run:
    """The run that is tested: answers of several seeds to one question are not independent."""
    return next(iter(runs.values()))


def _paired(one: Run, other: Run) -> Paired:
    assert one.outcomes
    assert other.outcomes
    if one.outcomes.asked != other.outcomes.asked or one.config["seed"] != other.config["seed"]:
        sys.exit(
            f"{other.folder}: was asked other questions, or has another seed, than {one.folder}"
        )
    return pair_bits(one.outcomes.bits, other.outcomes.bits)


def _right(runs: Runs) -> tuple[int, int]:
    result = _first(runs).result
    return result["execution_correct"], result["execution_count"]


def _mean(runs: Runs, key: str) -> float:
    return mean(run.figure(key) or float("nan") for run in runs.values())


def _loss_difference(base: Runs, runs: Runs) -> str:
    """Of the loss, in pairs of one seed: the mean, and each where there are several."""
    pairs = [
        (run.figure("eval_loss"), base[seed].figure("eval_loss"))
        for seed, run in runs.items()
        if seed in base
    ]
    each = [own - other for own, other in pairs if own is not None and other is not None]
    if runs is base or not each:
        return ""
    several = f" ({', '.join(f'{one:+.4f}' for one in each)})" if len(each) > 1 else ""
    return f"{mean(each):+.4f}{several}"


def _draw(found: dict[str, Runs]) -> None:
    from matplotlib.figure import Figure

    from qc_experiments.evaluation.plot import COLOURS

    figure = Figure(figsize=(10, 1.2 + 0.3 * len(found)), layout="constrained")
    accuracy, loss = figure.subplots(1, 2, sharey=True)
    for place, (name, runs) in enumerate(found.items()):
        hits, count = _right(runs)
        low, high = wilson(hits, count)
        value, colour = hits / count, COLOURS[1] if name == AS_IT_IS else COLOURS[0]
        errors = [[100 * (value - low)], [100 * (high - value)]]
        accuracy.errorbar(100 * value, place, xerr=errors, fmt="o", color=colour, capsize=3)
        losses = [run.figure("eval_loss") for run in runs.values()]
        loss.plot(losses, [place] * len(losses), "o", color=colour)
    accuracy.set_yticks(range(len(found)), list(found))
    accuracy.invert_yaxis()
    accuracy.set_xlabel("right answers in %, with 95 % intervals")
    loss.set_xlabel("loss on held-out schemas, one dot per seed")
    for axes in (accuracy, loss):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
