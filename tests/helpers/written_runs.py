"""Run folders as runs write them, made without training."""

from __future__ import annotations

import csv
import json
import socket
from pathlib import Path
from typing import Any

import yaml

from qc_experiments.config.schema import RunConfig, plain
from qc_experiments.evaluation.statistics import wilson
from qc_experiments.system.paths import hash_bytes

COLUMNS = [
    "row",
    "db_id",
    "question",
    "query",
    "context",
    "prediction",
    "correct",
    "verdict",
    "warning",
    "error_class",
    "seconds",
]


def write_answers(folder: Path, bits: str, question: str) -> None:
    with (folder / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for place, bit in enumerate(bits):
            gold = f"SELECT name FROM item WHERE price > {place}"
            answer = gold if bit == "1" else "SELECT nam FROM item"
            verdict = {"1": "correct", "0": "wrong", "-": "gold_error"}[bit]
            known = "" if bit == "-" else bit
            asked = question.format(place)
            cells = [place + 2, f"db{place % 2}", asked, gold, "CREATE ...", answer]
            writer.writerow([*cells, known, verdict, "", "", 0.001])
    shares: dict[str, dict[str, int]] = {}
    for place, bit in enumerate(bits):
        share = shares.setdefault(f"db{place % 2}", {"hits": 0, "count": 0})
        share["hits"] += bit == "1"
        share["count"] += bit != "-"
    report = {"by_hardness": {"easy": {"hits": bits.count("1"), "count": len(bits)}}}
    judged_on = dict.fromkeys(("questions", "golds", "databases", "judge"), "x")
    content = {**report, "by_database": shares, "judged_on": judged_on}
    (folder / "report.json").write_text(json.dumps(content))


def add_rows(folder: Path, known: dict[int, tuple[str, str]]) -> None:
    """Give a run's predictions what gold and prediction return, by the number of the question."""
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    with (folder / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*header, "gold_rows", "predicted_rows"])
        writer.writerows([*row, *known.get(n, ("", ""))] for n, row in enumerate(rows, 1))


def write_run(
    folder: Path,
    bits: str | None = "1100110011",
    *,
    status: str | None = "finished",
    error: str | None = None,
    result: dict[str, Any] | None = None,
    question: str = "Which items cost more than {}?",
    **keys: Any,
) -> Path:
    """A run folder; ``lora__r=8`` sets ``lora.r``; no status leaves out everything written last."""
    folder.mkdir(parents=True)
    config = plain(RunConfig())
    config["data"] |= {"name": "shop", "template": "templates/sql.txt"}
    for key, value in keys.items():
        set_key(config, key.replace("__", "."), value)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    hashes = {"evaluation_hash": "e" * 64, "template_hash": "t" * 64}
    written = {"code_commit": "c" * 40, "data": {"train_hash": "d" * 64, **hashes}}
    (folder / "environment.json").write_text(json.dumps(written))
    lines = [{"step": step, "loss": 2.0 / step} for step in (1, 2, 3, 4)]
    lines += [{"step": 4, "eval_loss": 0.7}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if status is None:
        return folder
    figures: dict[str, Any] = {
        "status": status,
        "error": error,
        "config_hash": hash_bytes(str(folder).encode()),
        "code_commit": "c" * 40,
        "data_hash": "d" * 64,
        **hashes,
    }
    if status == "finished":
        figures |= {"eval_loss": 0.7, "seconds_training": 100.0, "peak_memory_bytes": 2**30}
        figures |= {"parameters_trainable": 300_000 * config["lora"]["r"], "seed": config["seed"]}
        if bits is not None:
            write_answers(folder, bits, question)
            count, correct = len(bits.replace("-", "")), bits.count("1")
            low, high = wilson(correct, count)
            figures |= {
                "execution_accuracy": correct / count,
                "execution_accuracy_low": low,
                "execution_accuracy_high": high,
                "execution_correct": correct,
                "execution_count": count,
            }
    (folder / "result.json").write_text(json.dumps(figures | (result or {})))
    return folder


def set_key(config: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        config = config[part]
    config[last] = value


def lock(folder: Path, pid: int, host: str | None = None, since: str = "now") -> None:
    content = {"pid": pid, "host": host or socket.gethostname(), "since": since}
    (folder / ".lock").write_text(json.dumps(content))
