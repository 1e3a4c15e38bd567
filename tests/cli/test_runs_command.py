"""`qc runs`: every state of a run, what resumes it, and one line where there is nothing to list."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from helpers.holding import run_at_work
from helpers.permissions import permissions_hold
from helpers.runs import start, sweep_command, wait_for
from helpers.written_runs import lock, write_run

from qc_experiments.cli.runs import main
from qc_experiments.runs import overview as listing
from qc_experiments.system.locking import at_work


def listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    main([str(folder), "--json"])
    return {one["name"]: one for one in json.loads(capsys.readouterr().out)}


def started_by(folder: Path, *command: str) -> None:
    content = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps({**content, "command": list(command)}))


def test_each_run_is_listed_with_its_state_score_size_and_what_goes_on_with_it(tmp_path, capsys):
    write_run(tmp_path / "good")
    failed = write_run(tmp_path / "failed", status="failed", error="OutOfMemoryError: too large")
    started_by(failed, "train.py", "lora.r=8", "data.train=my rows.csv")
    for step in (9, 12):
        (failed / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
    paused = {"objective": 0.5, "steps": 12}
    sweep = ("qc", "train", "-m", "lora.r=8,16", "sweep.halving=2")
    started_by(write_run(tmp_path / "paused", status="paused", result=paused), *sweep)
    torn = write_run(tmp_path / "torn")
    (torn / "result.json").write_text('{"status": ')
    gone = write_run(tmp_path / "gone", status=None)
    lock(gone, 2**22 + 1)
    other = write_run(tmp_path / "loss", bits=None, result={"objective": 0.7})
    (other / "big").write_bytes(bytes(3_000_000))
    found = listed(tmp_path, capsys)
    assert {name: one["status"] for name, one in found.items()} == {
        "good": "finished",
        "failed": "failed",
        "paused": "paused",
        "torn": "unreadable",
        "gone": "interrupted",
        "loss": "finished",
    }
    score = ("metric", "score", "count")
    assert [found["good"][key] for key in score] == ["execution_accuracy", 0.6, 10]
    assert [found["loss"][key] for key in score] == ["eval_loss", 0.7, None]
    assert [found["paused"][key] for key in score] == ["eval_loss", 0.5, None]
    assert found["failed"]["resume"] == "python train.py lora.r=8 'data.train=my rows.csv'"
    assert found["failed"]["step"] == 12
    assert found["paused"]["resume"] == "qc train -m lora.r=8,16 sweep.halving=2"
    assert (found["gone"]["resume"], found["gone"]["step"]) == ("the same command", 0)
    assert found["good"]["resume"] is found["good"]["step"] is found["torn"]["resume"] is None
    assert found["loss"]["bytes"] > 3_000_000
    assert "result.json is no JSON" in found["torn"]["why"]
    main([str(tmp_path)])
    text = capsys.readouterr().out
    assert text.startswith("6 runs: ")
    for part in ("60.0 % of 10", "eval_loss 0.7000", "3.0 MB", "from step 12", "from the start"):
        assert part in text, part
    assert "OutOfMemoryError: too large" in text
    assert "  python train.py lora.r=8" in text


def test_a_run_is_at_work_while_a_process_holds_its_lock_and_no_longer(tmp_path, capsys):
    folder = write_run(tmp_path / "run", status=None)
    with run_at_work(folder) as process:
        assert listed(tmp_path, capsys)["run"]["status"] == "running"
        process.kill()
        process.wait()
        found = listed(tmp_path, capsys)["run"]
    assert found["status"] == "interrupted"
    assert f"process {process.pid} ended without a result" in found["why"]


@pytest.mark.parametrize(
    ("since", "status"),
    [
        (None, "running"),  # now
        ("2020-01-01T00:00:00+00:00", "interrupted"),  # before the process that has its number
        ("no time", "running"),
    ],
)
def test_a_process_that_has_the_number_of_a_dead_one_is_not_its_run(
    tmp_path, capsys, since, status
):
    folder = write_run(tmp_path / "run", status=None)
    lock(folder, os.getpid(), since=since or datetime.now(UTC).isoformat(timespec="seconds"))
    assert listed(tmp_path, capsys)["run"]["status"] == status
    assert at_work(folder) is (status == "running")


@pytest.mark.slow
def test_a_killed_training_is_listed_with_the_command_that_goes_on_and_a_finished_one_without(
    train, tiny_model, tmp_path, capsys
):
    finished = train()
    settings = ("lora.r=2", "trainer.max_steps=5000", "trainer.save_strategy=steps")
    words = [
        one for one in sweep_command(tiny_model, tmp_path / "outputs", *settings) if one != "-m"
    ]
    process = start([*words, "trainer.save_steps=2", "evaluation.base=false"])
    try:
        reached = tmp_path / "outputs"
        wait_for(lambda: any(reached.glob("*/checkpoints/checkpoint-4")), process)
        found = listed(tmp_path / "outputs", capsys)
        [killed] = [one for one in found.values() if one["folder"] != str(finished.folder)]
        assert (killed["status"], killed["resume"]) == ("running", None)
    finally:
        process.kill()
        process.communicate()
    [killed] = [one for one in listed(reached, capsys).values() if one["status"] != "finished"]
    assert killed["status"] == "interrupted"
    assert killed["step"] >= 4
    assert killed["resume"].startswith("python train.py ")
    assert "lora.r=2" in killed["resume"]
    [done] = [one for one in listed(reached, capsys).values() if one["status"] == "finished"]
    assert done["score"] == finished.result["execution_accuracy"]
    assert done["count"] == 4


def test_folders_that_are_closed_are_told_beside_the_json(tmp_path, capsys):
    write_run(tmp_path / "run")
    (tmp_path / "closed").mkdir(mode=0)
    with permissions_hold():
        main([str(tmp_path), "--json"])
    said = capsys.readouterr()
    assert [one["name"] for one in json.loads(said.out)] == ["run"]
    assert said.err == f"{tmp_path}/closed: cannot be looked into (Permission denied)\n"


@pytest.mark.parametrize(
    "command", [[["train.py"]], ["train.py", {"lora": 1}], [None], [], "qc", 5]
)
def test_a_command_that_is_no_list_of_words_ends_no_listing(tmp_path, capsys, command):
    folder = write_run(tmp_path / "run", status="failed", error="out of memory")
    content = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps({**content, "command": command}))
    found = listed(tmp_path, capsys)["run"]
    assert (found["status"], found["why"]) == ("failed", "out of memory")
    assert found["resume"]


@pytest.mark.parametrize("key", ["status", "error", "objective", "execution_accuracy"])
@pytest.mark.parametrize("value", [5, True, [1], {"a": 1}, "words"])
def test_a_result_of_another_kind_ends_no_listing(tmp_path, capsys, key, value):
    write_run(tmp_path / "run", bits=None, result={key: value})
    assert list(listed(tmp_path, capsys)) == ["run"]
    main([str(tmp_path)])
    assert capsys.readouterr().out.startswith("1 run: ")


def test_a_run_on_another_machine_counts_as_at_work_until_it_is_silent(tmp_path, capsys):
    folder = write_run(tmp_path / "run", status=None)
    lock(folder, os.getpid(), socket.gethostname() + "-other")
    assert listed(tmp_path, capsys)["run"]["status"] == "running"
    long_ago = time.time() - 7200
    for path in folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert listed(tmp_path, capsys)["run"]["status"] == "interrupted"


def test_five_hundred_runs_are_listed_in_seconds(tmp_path, capsys):
    first = write_run(tmp_path / "run0")
    for number in range(1, 500):
        shutil.copytree(first, tmp_path / f"run{number}")
    started = time.perf_counter()
    main([str(tmp_path)])
    assert time.perf_counter() - started < 10
    assert capsys.readouterr().out.startswith("500 runs: 500 finished")


def test_a_run_that_is_deleted_while_runs_are_listed_is_left_out(tmp_path, capsys, monkeypatch):
    for name in ("here", "gone"):
        write_run(tmp_path / name)
    real = listing.weigh

    def weigh(path: Path) -> tuple[int, float]:
        if path.name == "gone":
            shutil.rmtree(path)
        return real(path)

    monkeypatch.setattr(listing, "weigh", weigh)
    assert list(listed(tmp_path, capsys)) == ["here"]


def test_names_and_errors_of_runs_do_not_steer_the_terminal(tmp_path, capsys):
    write_run(tmp_path / "r\x1b[31m", status="failed", error="[bold]\x1b]0;x\x07 :smile:")
    main([str(tmp_path)])
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert r"r\x1b[31m" in text
    assert ":smile:" in text


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no such folder, so no run here yet: train one with qc train, or name"),
        (lambda path: path.write_text("x"), "is a file, not a folder"),
        (lambda path: path.mkdir(), "holds no run"),
    ],
)
def test_what_is_no_folder_of_runs_is_said_in_one_line(tmp_path, refused, make, said):
    make(tmp_path / "place")
    assert said in refused(main, [str(tmp_path / "place")])


def test_a_folder_without_permission_is_said_in_one_line(tmp_path, refused):
    closed = tmp_path / "closed"
    write_run(closed / "run")
    closed.chmod(0)
    with permissions_hold():
        assert "no permission to read it" in refused(main, [str(closed)])
    closed.chmod(0o700)
