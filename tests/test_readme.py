"""Every command of the README runs: shortened here, the quickstart in full among the slow tests."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from helpers.runs import ROOT, Run, child, run_folders

from qc_experiments import __main__
from qc_experiments.cli import evaluate as evaluation_command
from qc_experiments.cli import train as command_line

README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", README, re.DOTALL))
BASH = [
    line
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
SHORTENED = (
    "data.limit=8",
    "trainer.max_steps=1",
    "evaluation.limit=2",
    "evaluation.max_new_tokens=4",
)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of a user with the files that the README shows."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    database = tmp_path / "my_databases" / "pets" / "pets.sqlite"
    database.parent.mkdir(parents=True)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE pet (id INTEGER PRIMARY KEY, name TEXT, kind TEXT)")
        connection.execute("INSERT INTO pet VALUES (1, 'Mia', 'cat'), (2, 'Rex', 'dog')")
        connection.commit()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_has_files_and_commands():
    assert set(FILES) == {
        "my.csv",
        "my_template.txt",
        "my_conf/lora/mine.yaml",
        "gpt.csv",
        "other.csv",
    }
    assert len(BASH) >= 12
    assert {shlex.split(line)[0] for line in BASH} == {"python", "qc"}


@pytest.mark.parametrize("command", BASH)
def test_a_command_of_the_readme_runs(command, workplace, tiny_model, monkeypatch, capfd):
    words = shlex.split(command)
    trains = words[:2] in (["python", "train.py"], ["qc", "train"])
    if trains:
        words += [*SHORTENED, f"model.name_or_path={tiny_model}"]
        if "sweep=recommended" in words:
            words += ["lora.r=16", "seed=42", "trainer.max_steps=4"]  # one alone tells nobody apart
    elif words[:2] == ["qc", "plan"]:
        words.append(f"model.name_or_path={tiny_model}")
    elif "outputs/RUN/adapter" in words:
        command_line.main(
            [
                "data=csv",
                "data.train=my.csv",
                "tracking=none",
                f"model.name_or_path={tiny_model}",
                *SHORTENED,
            ]
        )
        adapter = run_folders(workplace / "outputs")[0] / "adapter"
        words = [str(adapter) if word == "outputs/RUN/adapter" else word for word in words]
    elif words[1] in ("compare", "wandb"):
        tracking = "tracking=none" if words[1] == "compare" else "tracking=wandb"
        for rank in ("lora.r=2", "lora.r=3"):
            command_line.main([rank, tracking, f"model.name_or_path={tiny_model}", *SHORTENED])
    elif words[:2] == ["qc", "evaluate"]:
        shutil.copy(workplace / "gpt.csv", workplace / "predictions.csv")
        if "--against" in words:
            before = ["gpt.csv", "--databases", "my_databases", "--output", "judged"]
            evaluation_command.main(before)
    capfd.readouterr()
    if words[0] == "python":
        command_line.main(words[2:])
    else:
        monkeypatch.setattr(sys, "argv", words)
        __main__.main()
    if trains:
        runs = [Run(folder) for folder in run_folders(workplace / "outputs")]
        assert runs
        rests = {"finished", "paused"} if "sweep.halving=2" in words else {"finished"}
        assert {run.result["status"] for run in runs} == rests
        # submitit keeps what its jobs say in files of its own.
        shown = "2 runs: 2 finished" if "submitit" in command else "held-out questions"
        assert shown in capfd.readouterr().out
    else:
        assert capfd.readouterr().out.strip()


def test_the_quickstart_runs_as_a_process_with_the_embedded_model(tmp_path):
    done = child(
        "train.py",
        "experiment=quickstart",
        *SHORTENED,
        "tracking=none",
        f"paths.output={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    assert "the training will take about" in done.stdout
    assert "execution accuracy by hardness" in done.stdout


@pytest.mark.slow
def test_the_quickstart_in_full_learns_what_the_readme_says(tmp_path):
    done = child("train.py", "experiment=quickstart", f"paths.output={tmp_path}", timeout=3000)
    assert done.returncode == 0, done.stderr
    (folder,) = run_folders(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    assert result["base_execution_accuracy"] < 0.05
    shown = re.search(r"execution accuracy +([\d.]+) % \(\d+ of \d+\) +([\d.]+) %", README)
    assert shown
    # Another machine rounds otherwise, and greedy decoding turns on that; so within the interval.
    assert result["execution_accuracy_low"] <= float(shown[2]) / 100
    assert float(shown[2]) / 100 <= result["execution_accuracy_high"]
