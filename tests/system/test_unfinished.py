"""`qc evaluate` and `qc predict` that are ended in the middle: the same command goes on, to the same end."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import ROOT
from helpers.slow import then_slow

from qc_experiments.cli.evaluate import main as evaluate_main
from qc_experiments.cli.predict import main as predict_main
from qc_experiments.errors import UserError
from qc_experiments.evaluation.predictions import UNFINISHED
from qc_experiments.evaluation.verdict_journal import VerdictJournal
from qc_experiments.generation import prefixes
from qc_experiments.generation.choosing import Predicted
from qc_experiments.generation.saved import SavedPredictor
from qc_experiments.judging.verdict import Verdict
from qc_experiments.system.files import csv_text, write_whole
from qc_experiments.system.unfinished import kept_at

SLOW = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {}) SELECT max(x) FROM n"
)


def asking(tmp_path: Path, steps: int) -> list[str]:
    """Arguments of an evaluation of 40 predictions that take so many steps, without --output."""
    (tmp_path / "db" / "shop").mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / "db" / "shop" / "shop.sqlite")) as connection:
        connection.executescript("CREATE TABLE item (name TEXT); INSERT INTO item VALUES ('pen');")
    gold = "SELECT name FROM item"
    rows = [
        ["shop", f"q{n}", gold, f"{gold}\r" if n % 3 else SLOW.format(steps + n)] for n in range(40)
    ]
    write_whole(tmp_path / "p.csv", csv_text(["db_id", "question", "query", "prediction"], rows))
    return [
        *(str(tmp_path / "p.csv"), "--databases", str(tmp_path / "db")),
        *("--cache", str(tmp_path / "cache"), "--processes", "2"),
    ]


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    """An evaluation that is over at once."""
    return asking(tmp_path, 10)


@pytest.fixture
def slowly(tmp_path: Path) -> list[str]:
    """One that takes a second, so that it can be ended in its middle."""
    return asking(tmp_path, 400_000)


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "qc_experiments", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what it runs in the background, this test perhaps, with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(12_000):
        if reached() or process.poll() is not None:
            break
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    assert reached()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def judged(output: Path) -> tuple[list[list[str]], dict[str, Any]]:
    """What an evaluation found, seconds apart."""
    with (output / "judged.csv").open(encoding="utf-8", newline="") as file:
        rows = [row[:-1] for row in csv.reader(file)]
    report = json.loads((output / "report.json").read_text())
    del report["seconds"]
    return rows, report


@pytest.mark.parametrize("ended", then_slow(("SIGKILL", -9), ("SIGINT", 130), ("SIGTERM", 143)))
def test_an_evaluation_goes_on_where_it_was_ended(slowly, tmp_path, capsys, ended):
    name, code = ended
    output = tmp_path / "cut"
    with started("evaluate", *slowly, "--output", str(output)) as process:
        wait_for(lambda: lines(output / UNFINISHED) > 4, process)
        process.send_signal(getattr(signal, name))
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert [path.name for path in output.iterdir()] == [UNFINISHED]
    kept = lines(output / UNFINISHED)
    told = f"interrupted: {kept} of 40 verdicts are kept; the same command goes on from there\n"
    assert errors == ("" if code < 0 else told)
    assert 4 < kept < 40
    with (output / UNFINISHED).open("a") as file:
        file.write('{"model": "')  # as a power cut leaves it
    evaluate_main([*slowly, "--output", str(output)])
    assert f"Goes on: {kept} were judged before" in capsys.readouterr().out
    evaluate_main([*slowly, "--output", str(tmp_path / "whole")])
    assert judged(output) == judged(tmp_path / "whole")
    assert sorted(path.name for path in output.iterdir()) == [
        "accuracy.png", "judged.csv", "report.json",
    ]  # fmt: skip


@pytest.mark.parametrize("change", ["prediction", "gold", "database", "--timeout", "--fuzz"])
def test_what_was_judged_of_something_else_is_judged_again(asked, tmp_path, capsys, change):
    output = tmp_path / "out"
    (output / "judged.csv").mkdir(parents=True)  # all is judged, and cannot be written
    with pytest.raises(SystemExit):
        evaluate_main([*asked, "--output", str(output)])
    assert "cannot be written" in capsys.readouterr().err
    assert lines(output / UNFINISHED) == 40
    (output / "judged.csv").rmdir()
    text = (tmp_path / "p.csv").read_text()
    if change == "prediction":
        (tmp_path / "p.csv").write_text(text.replace("LIMIT 10)", "LIMIT 11)"))
    elif change == "gold":
        (tmp_path / "p.csv").write_text(text.replace("q1,SELECT name", "q1,SELECT max(name)"))
    elif change == "database":
        with closing(sqlite3.connect(tmp_path / "db" / "shop" / "shop.sqlite")) as connection:
            connection.executescript("INSERT INTO item VALUES ('ink')")
    more = {"--timeout": ["--timeout", "4"], "--fuzz": ["--fuzz", "1"]}.get(change, [])
    evaluate_main([*asked, *more, "--output", str(output)])
    said = capsys.readouterr().out
    assert "starts again" in said
    assert "Goes on" not in said
    assert not (output / UNFINISHED).exists()


def test_what_could_not_be_written_is_not_judged_again(asked, tmp_path, capsys):
    output = tmp_path / "out"
    (output / "judged.csv").mkdir(parents=True)
    with pytest.raises(SystemExit):
        evaluate_main([*asked, "--output", str(output)])
    (output / "judged.csv").rmdir()
    evaluate_main([*asked, "--output", str(output)])
    assert "Goes on: 40 were judged before" in capsys.readouterr().out


def test_an_output_folder_that_is_deleted_ends_the_evaluation_in_one_line(slowly, tmp_path):
    output = tmp_path / "out"
    with started("evaluate", *slowly, "--output", str(output)) as process:
        wait_for(lambda: lines(output / UNFINISHED) > 4, process)
        shutil.rmtree(output)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors == f"error: --output {output}: its folder is gone, with what had been done\n"
    assert not output.exists()


def test_two_processes_do_not_write_the_same_output(asked, tmp_path, refused):
    output = tmp_path / "out"
    with kept_at(output / UNFINISHED, "--output"):
        line = refused(evaluate_main, [*asked, "--output", str(output)])
    assert "another process is writing it" in line
    assert not output.exists()  # nothing was kept


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_something_else_in_the_place_of_what_is_kept_is_named(asked, tmp_path, refused, make):
    (tmp_path / "out").mkdir()
    make(tmp_path / "out" / UNFINISHED)
    assert UNFINISHED in refused(evaluate_main, [*asked, "--output", str(tmp_path / "out")])


def fill(journal: VerdictJournal) -> None:
    for place in range(10):
        journal.add(place, Verdict(True, "correct", seconds=0.5))


def test_a_full_disk_costs_the_line_that_did_not_fit(tmp_path):
    path = tmp_path / "kept"
    journal = VerdictJournal(path, "work", "--output out")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (1000, limits[1])
    )  # what a full disk does, for one file
    try:
        with pytest.raises(UserError, match=r"--output out: cannot be written \(File too large\)"):
            fill(journal)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not path.read_bytes().endswith(b"\n")
    again = VerdictJournal(path, "work", "--output out")
    assert again.known == dict.fromkeys(
        range(len(again.known)), Verdict(True, "correct", seconds=0.5)
    )
    assert 0 < len(again.known) < 10
    again.add(9, Verdict(None, "gold_error", "other", "caf\udce9 \u2028"))
    assert VerdictJournal(path, "work", "").known[9].error == "caf\udce9 \u2028"
    assert not VerdictJournal(path, "another", "").known


# ---- qc predict ----------------------------------------------------------------------------------


@pytest.fixture
def predicting(train, tmp_path) -> list[str]:
    """Arguments of `qc predict` for 80 questions, without --output."""
    adapter = train("data.limit=8", "evaluation.limit=2").folder / "adapter"
    rows = [
        [f"How many are called {n}?", "CREATE TABLE pet (name TEXT)", "a\rb"] for n in range(80)
    ]
    write_whole(tmp_path / "q.csv", csv_text(["question", "context", "note"], rows))
    return [
        *("predict", "--adapter", str(adapter), "--input", str(tmp_path / "q.csv")),
        *("--batch-size", "2"),
    ]


@pytest.mark.slow
def test_predictions_go_on_where_they_were_ended(predicting, tmp_path, capsys):
    output, kept = tmp_path / "cut.csv", tmp_path / ".cut.csv.partial"
    with started(*predicting, "--output", str(output)) as process:
        wait_for(lambda: lines(kept) >= 2, process)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert not output.exists()
    answered = 8 * lines(kept)
    assert 16 <= answered < 80
    capsys.readouterr()
    predict_main([*predicting[1:], "--output", str(output)])
    assert f"Goes on: {answered} of 80 were answered before" in capsys.readouterr().out
    assert not kept.exists()
    # What another model or other settings have answered is no part of it.
    (tmp_path / ".whole.csv.partial").write_text(
        json.dumps({"model": "x", "rows": list(range(8)), "sql": ["x"] * 8}) + "\n"
    )
    predict_main([*predicting[1:], "--output", str(tmp_path / "whole.csv")])
    assert "starts again" in capsys.readouterr().out
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    with output.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["question"] for row in found] == [f"How many are called {n}?" for n in range(80)]


@pytest.mark.parametrize(
    ("shares", "done", "told"),
    [
        pytest.param(
            *(True, 0, "0 of 80 answers are kept; the same command starts again"),
            marks=pytest.mark.slow,
        ),
        (True, 2, "16 of 80 answers are kept; the same command goes on from there"),
        # Where each prompt is computed whole, a part is one batch of two.
        pytest.param(
            *(False, 1, "2 of 80 answers are kept; the same command goes on from there"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_interruption_says_how_many_answers_are_kept(
    predicting, tmp_path, capsys, monkeypatch, shares, done, told
):
    parts: list[int] = []

    def answer(self: Any, pairs: list[Any], database: Any, on_answer: Any) -> list[Predicted]:
        if len(parts) == done:
            raise KeyboardInterrupt
        parts.append(len(pairs))
        return [Predicted("SELECT 1")] * len(pairs)

    monkeypatch.setattr(SavedPredictor, "answer", answer)
    if not shares:
        monkeypatch.setattr(prefixes, "cannot_share_prefixes", lambda model, longest: "it cannot")
    with pytest.raises(SystemExit) as stopped:
        predict_main([*predicting[1:], "--output", str(tmp_path / "cut.csv")])
    assert stopped.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"interrupted: {told}"


def test_other_weights_are_another_work(tiny_model):
    import torch
    from transformers import AutoModelForCausalLM

    from qc_experiments.models.base import weights_hash

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    before = weights_hash(model)
    assert (
        weights_hash(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16))
        == before
    )
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    assert weights_hash(model) != before
