"""Time ``qc compare`` on a large sweep: ``python scripts/bench_compare.py [--runs 1000]``.

Makes run folders with random figures, answers to 138 questions and 60 lines of metrics each, times the
reading, the page's making and, in a headless Chromium where there is one, the time from the page's
opening until everything is drawn.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from qc_experiments.comparison.study import compare
from qc_experiments.comparison.views.page import page_html
from qc_experiments.comparison.views.table import csv_table, table_text
from qc_experiments.config.schema import RunConfig, plain
from qc_experiments.evaluation.metrics import VERDICT_COLUMNS
from qc_experiments.evaluation.statistics import wilson
from qc_experiments.runs.summary import PREDICTION_COLUMNS

PREDICTIONS = [*PREDICTION_COLUMNS, *VERDICT_COLUMNS]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Make the runs, time the parts, print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=138)
    parser.add_argument("--chromium", default=next(filter(None, map(shutil.which, BROWSERS)), None))
    parser.add_argument("--output", type=Path, help="keep the runs and the page here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.output or Path(temporary)
        make_runs(folder, options.runs, options.questions)
        started = time.perf_counter()
        study = compare([folder])
        loaded = time.perf_counter()
        page = page_html(study)
        made = time.perf_counter()
        table_text(study)
        csv_table(study)
        written = time.perf_counter()
        print(f"{study.counted()}, {options.questions} questions each")
        print(f"reading, grouping and testing  {loaded - started:6.2f} s")
        print(f"making the page                {made - loaded:6.2f} s  ({len(page) / 1e6:.1f} MB)")
        print(f"table and CSV                  {written - made:6.2f} s")
        path = folder / "compare.html"
        path.write_text(page, encoding="utf-8")
        if options.chromium is None:
            print("drawing: not measured, no Chromium found (--chromium PROGRAM)")
        else:
            print(f"drawing, from opening on       {drawn(path, options.chromium):6.2f} s")


def drawn(page: Path, chromium: str) -> float:
    """Seconds until the page is drawn, by the mark that its script leaves in the document."""
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"]
    command += ["--timeout=60000", "--dump-dom", page.absolute().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found = re.search(r'data-drawn="(\d+)"', done.stdout)
    if found is None:
        raise SystemExit("error: the page was not drawn")
    return int(found[1]) / 1000


def make_runs(folder: Path, count: int, questions: int) -> None:
    """Run folders of an invented sweep.

    Args:
        folder: where they go.
        count: how many.
        questions: held-out questions of each.
    """
    import yaml

    chance = random.Random(0)
    context = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL);\n" * 8
    for number in range(count):
        config = plain(RunConfig())
        config["data"]["name"] = "invented"
        rank, rate = chance.choice([4, 8, 16, 32, 64]), chance.choice([1e-4, 2e-4, 5e-4, 1e-3])
        config["lora"] |= {
            "r": rank,
            "alpha": 2.0 * rank,
            "dropout": chance.choice([0.0, 0.05, 0.1]),
        }
        config["trainer"] |= {"learning_rate": rate, "weight_decay": chance.choice([0.0, 0.01])}
        config["seed"] = number
        run = folder / f"run{number:05d}"
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        skill = 0.3 + 0.004 * rank + 80 * rate + chance.gauss(0, 0.02)
        right = [chance.random() < skill for _ in range(questions)]
        _write_files(run, number, rank, right, context, chance)


def _write_files(
    run: Path, number: int, rank: int, right: list[bool], context: str, chance: random.Random
) -> None:
    with (run / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(PREDICTIONS)
        for place, good in enumerate(right):
            gold = f"SELECT name FROM item WHERE price > {place} ORDER BY name"
            answer = gold if good else f"SELECT nam FROM item WHERE id = {chance.randrange(50)}"
            verdict = [
                int(good),
                "correct" if good else "error",
                "",
                "" if good else "no_such_column",
            ]
            asked = f"Which items cost more than {place}?"
            writer.writerow(
                [place + 2, f"db{place % 12}", asked, gold, context, answer, *verdict, 0.001]
            )
    lines = [
        {"step": 5 * i, "loss": 1.5 / (1 + i * rank / 40) + chance.random() / 20} for i in range(60)
    ]
    lines += [{"step": 100 * i, "eval_loss": 1.2 / i + chance.random() / 20} for i in range(1, 4)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    by_kind: dict[str, dict[str, Any]] = {"by_hardness": {}, "by_database": {}}
    for place, good in enumerate(right):
        for key, name in (
            ("by_hardness", ("easy", "hard")[place % 2]),
            ("by_database", f"db{place % 12}"),
        ):
            share = by_kind[key].setdefault(name, {"hits": 0, "count": 0})
            share["hits"] += good
            share["count"] += 1
    (run / "report.json").write_text(json.dumps(by_kind))
    low, high = wilson(sum(right), len(right))
    result = {
        "status": "finished",
        "execution_accuracy": sum(right) / len(right),
        "execution_accuracy_low": low,
        "execution_accuracy_high": high,
        "execution_correct": sum(right),
        "execution_count": len(right),
        "eval_loss": chance.random(),
        "parameters_trainable": 300_000 * rank,
        "seconds_training": 600 + 20 * rank + 100 * chance.random(),
        "peak_memory_bytes": 3 * 2**30 + rank * 2**24,
        "config_hash": f"{number:064x}",
        "data_hash": "d" * 64,
        "template_hash": "t" * 64,
        "evaluation_hash": "e" * 64,
        "code_commit": "c" * 40,
        "error": None,
    }
    (run / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
