"""Sweeps that are killed, jobs that die, and jobs that rest: what finishes is what would have finished."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY_TRAINING, Run, child, run_folders
from test_never_lose_work import assert_same, metrics_lines, wait_for

from qc_experiments.config import SweepConfig
from qc_experiments.sweeping.jobs import Report, Sweep, shares


def sweep_command(tiny_model: Path, output: Path, *settings: str) -> list[str]:
    return [
        "train.py",
        "-m",
        "model=hub",
        f"model.name_or_path={tiny_model}",
        "tracking=none",
        f"paths.output={output}",
        *TINY_TRAINING,
        *settings,
    ]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def runs_by_name(output: Path) -> dict[str, Run]:
    return {folder.name: Run(folder) for folder in run_folders(output)}


def children_of(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in text.split()]


def finished(output: Path) -> int:
    found = 0
    for folder in run_folders(output):
        try:
            result = json.loads((folder / "result.json").read_text())
        except (OSError, ValueError):
            continue
        found += result["status"] == "finished"
    return found


def test_a_job_of_a_sweep_is_the_run_alone_bit_for_bit(train, tiny_model, tmp_path):
    done = child(*sweep_command(tiny_model, tmp_path / "sweep", "lora.r=2,4", "lora.dropout=0.1"))
    assert done.returncode == 0, done.stderr
    assert "Job 1: " in done.stdout
    for rank in (4, 2):
        alone = train(f"lora.r={rank}", "lora.dropout=0.1", output=tmp_path / "alone")
        assert_same(runs_by_name(tmp_path / "sweep")[alone.folder.name], alone)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the worker through /proc")
def test_a_job_that_is_killed_is_recorded_and_the_others_finish(tiny_model, tmp_path):
    settings = ("trainer.max_steps=150", "lora.r=2,3,4")
    process = start(sweep_command(tiny_model, tmp_path, *settings))
    wait_for(lambda: metrics_lines(tmp_path) > 10, process)
    [worker] = children_of(process.pid)
    os.kill(worker, signal.SIGKILL)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "1 job(s) failed" in said
    assert "ended by SIGKILL" in said
    statuses = sorted(run.result["status"] for run in runs_by_name(tmp_path).values())
    assert statuses == ["failed", "finished", "finished"]
    again = child(*sweep_command(tiny_model, tmp_path, *settings))
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("This run has finished before") == 2
    assert finished(tmp_path) == 3


def test_a_job_with_a_mistake_does_not_end_the_others(tiny_model, tmp_path):
    done = child(*sweep_command(tiny_model, tmp_path, "data.max_length=8,512"))
    assert done.returncode == 1
    assert "job 0" in done.stderr
    assert "Traceback" not in done.stderr
    assert finished(tmp_path) == 1


@pytest.mark.slow
def test_a_sweep_killed_three_times_ends_as_an_undisturbed_one(tiny_model, tmp_path):
    settings = (
        "lora.r=2,4,8",
        "lora.alpha=4,8",
        "lora.dropout=0,0.1",
        "trainer.max_steps=30",
        "trainer.save_strategy=steps",
        "trainer.save_steps=5",
    )
    whole = child(*sweep_command(tiny_model, tmp_path / "whole", *settings), timeout=1200)
    assert whole.returncode == 0, whole.stderr
    draw = random.Random(0)
    for share in (0.2, 0.45, 0.7):
        process = start(sweep_command(tiny_model, tmp_path / "cut", *settings))
        wait_for(lambda most=12 * share: finished(tmp_path / "cut") >= most, process)
        time.sleep(draw.uniform(0, 2))
        process.kill()
        process.wait()
    done = child(*sweep_command(tiny_model, tmp_path / "cut", *settings), timeout=1200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("This run has finished before") >= 8
    expected, found = runs_by_name(tmp_path / "whole"), runs_by_name(tmp_path / "cut")
    assert expected.keys() == found.keys()
    assert len(found) == 12
    for name, run in expected.items():
        assert_same(found[name], run)


def test_ctrl_c_reaches_the_job_and_the_same_command_goes_on(tiny_model, tmp_path):
    settings = ("trainer.max_steps=300", "lora.r=2,3")
    process = start(sweep_command(tiny_model, tmp_path, *settings))
    wait_for(lambda: metrics_lines(tmp_path) > 5, process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    [run] = runs_by_name(tmp_path).values()
    assert run.result["status"] == "interrupted"
    steps = [line["step"] for line in run.metrics][-1]
    assert (run.folder / "checkpoints" / f"checkpoint-{steps}").is_dir()


@pytest.mark.slow  # the README's commands try both in short
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_other_launchers_run_the_jobs_and_skip_what_is_done(tiny_model, tmp_path, launcher):
    settings = (f"hydra/launcher={launcher}", "lora.r=2,-1,4")
    done = child(*sweep_command(tiny_model, tmp_path, *settings))
    assert done.returncode == 1
    assert "1 job(s) failed" in done.stderr
    assert "lora.r=-1: must be" in done.stderr
    assert finished(tmp_path) == 2
    times = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/result.json")}
    again = child(*sweep_command(tiny_model, tmp_path, *settings))
    assert again.returncode == 1
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/result.json")} == times


@pytest.mark.slow  # as above
def test_a_search_is_seeded_and_answers_at_once_for_trials_that_are_done(tiny_model, tmp_path):
    settings = (
        "hydra/sweeper=optuna",
        "hydra.sweeper.direction=minimize",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.sampler.seed=1",
        "lora.alpha=interval(2,32)",
    )
    done = child(*sweep_command(tiny_model, tmp_path, *settings))
    assert done.returncode == 0, done.stderr
    assert finished(tmp_path) == 3
    again = child(*sweep_command(tiny_model, tmp_path, *settings))
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("This run has finished before") == 3
    assert finished(tmp_path) == 3


# --- Halving -------------------------------------------------------------------------------------


def test_the_shares_of_the_rungs():
    assert shares(None) == [1.0]
    assert shares(2) == [0.125, 0.25, 0.5, 1.0]
    assert shares(3) == pytest.approx([1 / 9, 1 / 3, 1.0])
    assert shares(100) == [0.01, 1.0]
    # 16 jobs at 2: 16/8 + 8/8 + 4/4 + 2/2 of a job's steps.
    assert (
        sum(
            n * (b - a)
            for n, a, b in [(16, 0, 1 / 8), (8, 1 / 8, 1 / 4), (4, 1 / 4, 0.5), (2, 0.5, 1)]
        )
        < 0.35 * 16
    )
    assert SweepConfig(halving=2).halving == 2


def told(place: Path, rung: int, worths: dict[int, float], **settings: Any) -> None:
    lines = [
        json.dumps(vars(Report(job, "", "paused", None, (), worth, **{"halving": 2, **settings})))
        for job, worth in worths.items()
    ]
    (place / f"rung{rung}.jsonl").write_text("\n".join(lines))


def test_the_better_half_goes_on(tmp_path):
    sweep = Sweep(tmp_path)
    told(tmp_path, 0, {0: 0.5, 1: 0.1, 2: 0.4, 3: 0.2, 4: 0.9})
    sweep.gather()
    assert sweep.next_rung()
    assert json.loads((tmp_path / "rung.json").read_text()) == {"number": 1, "jobs": [1, 2, 3]}
    told(tmp_path, 1, {1: 0.3, 2: 0.1, 3: 0.2})
    sweep.gather()
    assert sweep.next_rung()
    assert json.loads((tmp_path / "rung.json").read_text()) == {"number": 2, "jobs": [2, 3]}


def test_more_is_better_where_it_is_an_accuracy(tmp_path):
    sweep = Sweep(tmp_path)
    told(tmp_path, 0, {0: 0.5, 1: 0.1}, greater_is_better=True)
    sweep.gather()
    assert sweep.next_rung()
    assert json.loads((tmp_path / "rung.json").read_text())["jobs"] == [0]


def test_a_halving_sweep_trains_few_to_their_end_as_if_alone(train, tiny_model, tmp_path):
    settings = (
        "trainer.learning_rate=1e-4,1e-3,3e-3,1e-2",
        "sweep.halving=2",
        "trainer.max_steps=16",
        "lora.dropout=0.1",
    )
    output = tmp_path / "sweep"
    done = child(*sweep_command(tiny_model, output, *settings))
    assert done.returncode == 0, done.stderr
    runs = runs_by_name(output)
    steps = sorted(run.result["steps"] for run in runs.values())
    assert steps == [2, 2, 4, 16]  # of 4, 2 go on, and 1 of them, to its end
    ended = [run for run in runs.values() if run.result["status"] == "finished"]
    for run in ended:
        value = run.folder.name.partition("_lr")[2].partition("_")[0]
        alone = train(
            f"trainer.learning_rate={value}",
            "trainer.max_steps=16",
            "lora.dropout=0.1",
            output=tmp_path / "alone",
        )
        assert_same(run, alone)
    assert f"{4 - len(ended)} paused" in done.stdout
    again = child(*sweep_command(tiny_model, output, *settings))
    assert again.returncode == 0, again.stderr
    assert "step    3/16" not in again.stdout  # nothing is trained twice
