"""Every command, for every path it takes: what is no readable file or folder there ends in one line."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from helpers.permissions import permissions_hold
from helpers.written_runs import write_run

from qc_experiments.cli.compare import main as compare_main
from qc_experiments.cli.data import main as data_main
from qc_experiments.cli.evaluate import main as evaluate_main
from qc_experiments.cli.plan import main as plan
from qc_experiments.cli.predict import main as predict_main
from qc_experiments.cli.train import main as train_main
from qc_experiments.cli.wandb import main as wandb_main

LONG = "n" * 300
BAD = ("closed/in", "secret", LONG, "broken", "loop", "pipe", "zero", "~no_such_user_here/x")
"""Behind a closed folder, closed itself, and so on: each of them was a traceback, or hung."""

ROWS = "question,query,context,db_id,prediction\n" + "".join(
    f'q{n},SELECT {n},"CREATE TABLE t(x);",shop,SELECT 1\n' for n in range(4)
)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with one of each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "secret").mkdir(mode=0)  # a folder and a file in one: neither can be opened
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "dbs" / "shop").mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / "dbs" / "shop" / "shop.sqlite")) as connection:
        connection.execute("CREATE TABLE t(x)")
    write_run(tmp_path / "runs" / "one")
    return tmp_path


def train(*overrides: str) -> list[str]:
    return ["data=csv", "data.train=rows.csv", "tracking=none", "paths.output=out", *overrides]


COMPOSED = ("train", "plan", "sweep")
CASES: dict[str, tuple[Callable[..., object], Callable[[str], list[str]]]] = {
    "data check": (data_main, lambda bad: ["check", bad]),
    "data check --databases": (data_main, lambda bad: ["check", "rows.csv", "--databases", bad]),
    "data show --template": (data_main, lambda bad: ["show", "rows.csv", "--template", bad]),
    "data context": (data_main, lambda bad: ["context", bad]),
    "evaluate": (evaluate_main, lambda bad: [bad, "--databases", "dbs", "--output", "o"]),
    "evaluate --databases": (
        evaluate_main,
        lambda bad: ["rows.csv", "--databases", bad, "--output", "o"],
    ),
    "evaluate --output": (
        evaluate_main,
        lambda bad: ["rows.csv", "--databases", "dbs", "--output", bad],
    ),
    "evaluate --against": (
        evaluate_main,
        lambda bad: ["rows.csv", "--databases", "dbs", "--output", "o", "--against", bad],
    ),
    "predict --adapter": (
        predict_main,
        lambda bad: ["--adapter", bad, "--input", "rows.csv", "--output", "o.csv"],
    ),
    "predict --db": (
        predict_main,
        lambda bad: ["--adapter", "runs", "--question", "q", "--db", bad],
    ),
    "predict --input": (
        predict_main,
        lambda bad: ["--adapter", "runs", "--input", bad, "--output", "o.csv"],
    ),
    "predict --output": (
        predict_main,
        lambda bad: ["--adapter", "runs", "--input", "rows.csv", "--output", bad],
    ),
    "compare": (compare_main, lambda bad: [bad]),
    "compare --output": (compare_main, lambda bad: ["runs", "--output", bad]),
    "wandb": (wandb_main, lambda bad: [bad]),
    "train data.train": (train_main, lambda bad: train(f"data.train={bad}")),
    "train data.validation": (train_main, lambda bad: train(f"data.validation={bad}")),
    "train data.template": (train_main, lambda bad: train(f"data.template={bad}")),
    "train data.databases": (train_main, lambda bad: train(f"data.databases={bad}")),
    "train model.adapter": (train_main, lambda bad: train("TINY", f"model.adapter={bad}")),
    "train model.name_or_path": (
        train_main,
        lambda bad: train(
            "model=hub", f"model.name_or_path={bad if bad[0] == '~' else f'./{bad}'}"
        ),
    ),
    "train --config-dir": (train_main, lambda bad: ["--config-dir", bad, *train()]),
    "plan paths.output": (plan, lambda bad: train("TINY", f"paths.output={bad}")),
    "train paths.output": (train_main, lambda bad: train("TINY", f"paths.output={bad}")),
    "train paths.cache": (train_main, lambda bad: train(f"paths.cache={bad}")),
    "sweep paths.output": (
        train_main,
        lambda bad: ["-m", *train("TINY", f"paths.output={bad}", "lora.r=0")],
    ),
}


FEW = ("closed/in", LONG, "pipe", "~no_such_user_here/x")
"""For what composes a config first, which takes its time."""
PAIRS = [(case, bad) for case in CASES for bad in (FEW if case.split()[0] in COMPOSED else BAD)]


@pytest.mark.parametrize(("case", "bad"), PAIRS, ids=[f"{case}-{bad[:12]}" for case, bad in PAIRS])
def test_a_bad_path_ends_in_one_line(case, bad, places, refused, tiny_model):
    command, arguments_for = CASES[case]
    arguments: list[str] = []
    for argument in arguments_for(f'"{bad}"' if bad[0] == "~" and "train " in case else bad):
        tiny = ["model=hub", f"model.name_or_path={tiny_model}"]
        arguments += tiny if argument == "TINY" else [argument]
    with permissions_hold():
        line = refused(command, arguments)
    assert "Errno" not in line
