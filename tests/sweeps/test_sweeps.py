"""Sweeps that are killed, jobs that die, and jobs that pause: what finishes is what would have finished."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import (
    ROOT,
    Run,
    assert_same,
    child,
    metrics_lines,
    run_folders,
    start,
    sweep_command,
    wait_for,
)
from helpers.slow import then_slow

from qc_experiments.cli.plan import main as plan
from qc_experiments.cli.train import main
from qc_experiments.config.compose import composed, register_schema, to_run_config
from qc_experiments.config.schema import RunConfig, SweepConfig
from qc_experiments.runs.train import run as run_once
from qc_experiments.sweeps import jobs
from qc_experiments.sweeps.halving import Report, Round, Sweep, closing_lines, shares, tell
from qc_experiments.sweeps.worker import Worker
from qc_experiments.system.processes import usable_cores
from qc_experiments.training.checkpoints import CheckpointStore

NEEDS_PROC = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="finds processes through /proc"
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


@pytest.mark.parametrize(
    "settings",
    [
        ("lora.dropout=0.1",),
        pytest.param(("collator=shared_schema", "quant=4bit"), marks=pytest.mark.slow),
    ],
)
def test_a_job_of_a_sweep_is_the_run_alone_bit_for_bit(train, tiny_model, tmp_path, settings):
    command = sweep_command(tiny_model, tmp_path / "sweep", "lora.r=2,4", *settings)
    done = child(*command)
    assert done.returncode == 0, done.stderr
    assert "Job 1 (2 of 2" in done.stdout
    for rank in (4, 2):
        alone = train(f"lora.r={rank}", *settings, output=tmp_path / "alone")
        job = runs_by_name(tmp_path / "sweep")[alone.folder.name]
        assert_same(job, alone)
        # which `qc runs` shows where a job is left to go on with
        assert json.loads((job.folder / "environment.json").read_text())["command"] == command


@NEEDS_PROC
@pytest.mark.slow
def test_a_job_that_is_killed_is_recorded_and_the_others_finish(tiny_model, tmp_path):
    settings = ("trainer.max_steps=60", "lora.r=2,3,4")
    process = start(sweep_command(tiny_model, tmp_path, *settings))
    wait_for(lambda: metrics_lines(tmp_path) > 10, process)
    [worker] = children_of(process.pid)
    os.kill(worker, signal.SIGKILL)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "1 job failed" in said
    assert "ended by SIGKILL" in said
    assert "3 runs: 2 finished, 1 failed." in said
    statuses = sorted(run.result["status"] for run in runs_by_name(tmp_path).values())
    assert statuses == ["failed", "finished", "finished"]
    again = child(*sweep_command(tiny_model, tmp_path, *settings))
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("Finished before: ") == 2
    assert finished(tmp_path) == 3


@pytest.mark.slow
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
        "tracking=wandb",
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
    assert done.stdout.count("Finished before: ") >= 8
    expected, found = runs_by_name(tmp_path / "whole"), runs_by_name(tmp_path / "cut")
    assert expected.keys() == found.keys()
    assert len(found) == 12
    for name, run in expected.items():
        assert_same(found[name], run)
        assert len(list((found[name].folder / "wandb").glob("offline-run-*"))) == 1


@pytest.mark.slow
def test_ctrl_c_reaches_the_job_and_the_same_command_goes_on(train, tiny_model, tmp_path):
    settings = ("trainer.max_steps=150", "lora.r=2,3")
    output = tmp_path / "sweep"
    process = start(sweep_command(tiny_model, output, *settings))
    wait_for(lambda: metrics_lines(output) > 5, process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    [run] = runs_by_name(output).values()
    assert run.result["status"] == "interrupted"
    steps = [line["step"] for line in run.metrics][-1]
    assert (run.folder / "checkpoints" / f"checkpoint-{steps}").is_dir()
    before = CheckpointStore(run.folder / "checkpoints", None).newest()
    again = child(*sweep_command(tiny_model, output, *settings))
    assert again.returncode == 0, again.stderr
    assert f"Goes on from step {steps} of 150" in again.stdout
    assert finished(output) == 2
    alone = train("lora.r=2", "trainer.max_steps=150", output=tmp_path / "alone")
    assert_same(run, alone)
    # A run that was stopped and went on must not look cheaper than one that was not.
    assert before is not None
    assert run.result["seconds_training"] > before.progress["seconds"] > 0
    parts = run.result["seconds_training"] + run.result["seconds_evaluation"]
    assert run.result["seconds_total"] > parts


def threads(output: Path) -> set[int]:
    """Numbers of threads with which the runs computed."""
    written = (json.loads(p.read_text()) for p in output.glob("*/environment.json"))
    return {one["hardware"]["threads"] for one in written}


@pytest.mark.slow  # the README's commands try both in short
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_other_launchers_run_the_jobs_and_skip_what_is_done(tiny_model, tmp_path, launcher):
    settings = (f"hydra/launcher={launcher}", "lora.r=2,-1,4")
    done = child(*sweep_command(tiny_model, tmp_path, *settings))
    assert done.returncode == 1
    assert "1 job failed" in done.stderr
    assert "lora.r=-1: must be" in done.stderr
    assert finished(tmp_path) == 2
    share = max(1, usable_cores() // 3)  # of the cores, for each of three jobs at once
    assert threads(tmp_path) == {int(os.environ.get("OMP_NUM_THREADS", share))}
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
    assert again.stdout.count("Finished before: ") == 3
    assert finished(tmp_path) == 3


def submitit_jobs(output: Path) -> list[int]:
    """Processes in which submitit runs the jobs of a sweep, by their command lines."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().decode().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if "submitit.core._submit" in words and any(word.startswith(str(output)) for word in words):
            found.append(int(place.name))
    return found


@NEEDS_PROC
@pytest.mark.slow
def test_a_job_that_a_scheduler_preempts_is_queued_again_and_goes_on(train, tiny_model, tmp_path):
    """SIGUSR2 is what submitit has Slurm send before it takes the machine away."""
    settings = ("trainer.max_steps=60", "lora.dropout=0.1", "lora.r=3")
    output = tmp_path / "sweep"
    process = start(
        [
            *sweep_command(tiny_model, output, *settings),
            "hydra/launcher=submitit_local",
            f"hydra.launcher.submitit_folder={output}/.submitit/%j",
        ]
    )
    wait_for(lambda: metrics_lines(output) > 10, process)
    [job] = submitit_jobs(output)
    os.kill(job, signal.SIGUSR2)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    [run] = runs_by_name(output).values()
    log = (run.folder / "train.log").read_text()
    assert "a checkpoint written" in log
    assert "Goes on from step" in log
    assert_same(run, train(*settings, output=tmp_path / "alone"))


@pytest.mark.slow
@NEEDS_PROC
def test_a_job_that_asks_for_too_much_memory_is_recorded_and_the_others_finish(
    tiny_model, tmp_path
):
    command = sweep_command(tiny_model, tmp_path, "lora.r=2,1000000,4", "lora.alpha=16")
    limited = f"ulimit -v {6 << 20}; exec {shlex.join([sys.executable, *command])}"
    done = subprocess.run(
        ["bash", "-c", limited], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert "job 1" in done.stderr
    assert "out of memory" in done.stderr
    assert "Traceback" not in done.stderr
    runs = runs_by_name(tmp_path)
    statuses = {run.result["status"]: run for run in runs.values()}
    assert finished(tmp_path) == 2
    assert "Traceback" in (statuses["failed"].folder / "train.log").read_text()


@pytest.mark.slow
def test_ctrl_c_ends_joblibs_jobs_without_promising_a_checkpoint(tiny_model, tmp_path):
    settings = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "lora.r=2,3")
    command = sweep_command(tiny_model, tmp_path, *settings, "trainer.max_steps=150")
    process = start(command)
    wait_for(lambda: metrics_lines(tmp_path) > 10, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "the same command goes on from here" in said
    assert "a checkpoint written" not in said
    again = child(*command)
    assert again.returncode == 0, again.stderr
    assert finished(tmp_path) == 2


def test_an_error_that_jobs_share_is_told_once():
    reports = [Report(job, f"r={job}", "failed", "no such file") for job in range(3)]
    reports += [Report(3, "r=3", "failed", "out of memory")]
    assert closing_lines(reports) == ["jobs 0, 1, 2: no such file", "job 3 (r=3): out of memory"]
    assert closing_lines([Report(0, "", "failed", "no")]) == ["job 0: no"]  # the settings as given


@pytest.mark.slow  # as above
def test_a_trial_that_fails_does_not_end_a_search(tiny_model, tmp_path):
    settings = (
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.sampler.seed=1",
        "data.max_length=choice(8,512)",  # no row has 8 tokens
    )
    done = child(*sweep_command(tiny_model, tmp_path, *settings))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert " failed in" in done.stderr
    assert finished(tmp_path) == 1


# --- Halving -------------------------------------------------------------------------------------


def test_the_shares_of_the_rounds():
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


def told(place: Path, number: int, worths: dict[int, float], **settings: Any) -> None:
    for job, worth in worths.items():
        report = Report(job, "", "paused", None, (), worth, **{"halving": 2, **settings})
        tell(place, number, report)


def test_the_better_half_goes_on(tmp_path):
    sweep = Sweep(tmp_path)
    told(tmp_path, 0, {0: 0.5, 1: 0.1, 2: 0.4, 3: 0.2, 4: 0.9})
    sweep.gather()
    assert sweep.next_round()
    assert json.loads((tmp_path / "round.json").read_text()) == {"number": 1, "jobs": [1, 2, 3]}
    told(tmp_path, 1, {1: 0.3, 2: 0.1, 3: 0.2})
    sweep.gather()
    assert sweep.next_round()
    assert json.loads((tmp_path / "round.json").read_text()) == {"number": 2, "jobs": [2, 3]}


def test_only_what_was_measured_alike_is_ranked_together(tmp_path, caplog):
    sweep = Sweep(tmp_path)
    told(tmp_path, 0, {0: 0.5, 1: 0.4}, measured_on="a")
    told(tmp_path, 0, {2: 0.1, 3: 0.2}, measured_on="b")
    with caplog.at_level("INFO"):
        assert next_jobs(sweep, tmp_path) == [1, 2]
    assert "of 2 groups that were measured on other questions" in caplog.text


@pytest.mark.slow
def test_runs_held_out_on_other_rows_are_not_ranked_together(tiny_model, tmp_path):
    settings = ("data.validation=null", "data.split_seed=1,2", "sweep.halving=2")
    done = child(*sweep_command(tiny_model, tmp_path, *settings, "trainer.max_steps=8"))
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs go on (of 2 groups that were measured on other questions" in done.stdout
    assert finished(tmp_path) == 2


def next_jobs(sweep: Sweep, place: Path) -> list[int]:
    sweep.gather()
    assert sweep.next_round()
    return json.loads((place / "round.json").read_text())["jobs"]


def test_equals_are_not_told_apart_by_their_order(tmp_path):
    sweep = Sweep(tmp_path)
    told(tmp_path, 0, {0: 0.5, 1: 0.4, 2: 0.4, 3: 0.4}, steps=1)
    assert next_jobs(sweep, tmp_path) == [1, 2, 3]
    # Of 4 steps an eighth and a quarter are the same one: nobody has learned anything since.
    told(tmp_path, 1, {1: 0.4, 2: 0.4, 3: 0.4}, steps=1)
    assert next_jobs(sweep, tmp_path) == [1, 2, 3]
    told(tmp_path, 2, {1: 0.3, 2: 0.2, 3: 0.1}, steps=2)
    assert next_jobs(sweep, tmp_path) == [2, 3]


def test_a_loss_that_is_no_number_is_the_worst(tmp_path):
    sweep = Sweep(tmp_path)
    told(tmp_path, 0, {0: math.nan, 1: 0.5, 2: math.inf, 3: 0.4})
    assert next_jobs(sweep, tmp_path) == [1, 3]
    told(tmp_path, 1, {1: math.nan, 3: math.nan})
    assert len(next_jobs(sweep, tmp_path)) == 1


def test_who_failed_does_not_make_room_for_who_is_worse(tmp_path):
    sweep = Sweep(tmp_path)
    told(tmp_path, 0, {0: 0.5, 1: 0.1, 2: 0.4, 3: 0.2})
    for job in range(4, 8):
        tell(tmp_path, 0, Report(job, "", "failed", "no"))
    assert next_jobs(sweep, tmp_path) == [1, 3]


def test_two_combinations_that_are_the_same_run_are_one_to_choose(tmp_path):
    sweep = Sweep(tmp_path)
    found = {0: ("a", 0.1), 1: ("a", 0.1), 2: ("b", 0.2), 3: ("c", 0.3)}
    for job, (folder, loss) in found.items():
        tell(tmp_path, 0, Report(job, "", "paused", None, (folder,), loss, halving=2))
    assert next_jobs(sweep, tmp_path) == [0, 2]


def test_a_job_that_could_not_report_is_named_and_not_ranked_by_what_it_was_before(tmp_path):
    sweep = Sweep(tmp_path, [f"lora.r={job}" for job in range(5)])
    told(tmp_path, 0, {0: 0.4, 1: 0.2, 2: 0.3, 3: 0.9})  # nothing of job 4
    assert next_jobs(sweep, tmp_path) == [1, 2]
    (line,) = closing_lines(sweep.failed())
    assert line.startswith("job 4 (lora.r=4): ended without a report")
    (tmp_path / ".round1-1.json.ab12").write_text('{"job": 1, "overr')  # as a full disk leaves it
    tell(tmp_path, 1, Report(2, "", "paused", None, (), 0.35, halving=2))
    assert next_jobs(sweep, tmp_path) == [2]
    assert sorted(one.job for one in sweep.failed()) == [1, 4]
    assert all("ended without a report" in (one.error or "") for one in sweep.failed())


def test_more_is_better_where_it_is_an_accuracy(tmp_path):
    sweep = Sweep(tmp_path)
    told(tmp_path, 0, {0: 0.5, 1: 0.1}, greater_is_better=True)
    sweep.gather()
    assert sweep.next_round()
    assert json.loads((tmp_path / "round.json").read_text())["jobs"] == [0]


@pytest.mark.slow
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


def paused_run(tiny_model: Path, output: Path, share: float, *settings: str) -> dict[str, Any]:
    """What a run is worth after a share of its steps."""
    arguments = sweep_command(tiny_model, output, "trainer.max_steps=16", *settings)[2:]
    register_schema()
    return run_once(to_run_config(composed(arguments, None)), share)


def test_runs_are_compared_at_the_same_step_whatever_they_did_before(tiny_model, tmp_path):
    """A run that has come further, by an earlier sweep, is not worth more for it."""
    expected = paused_run(tiny_model, tmp_path / "fresh", 0.25)
    assert expected["steps"] == 4
    far = paused_run(tiny_model, tmp_path / "far", 0.75)
    assert far["steps"] == 12
    found = paused_run(tiny_model, tmp_path / "far", 0.25)
    assert (found["steps"], found["eval_loss"]) == (4, expected["eval_loss"])
    [folder] = run_folders(tmp_path / "far")
    assert [line["step"] for line in Run(folder).metrics] == [1, 2, 3, 4]


def test_a_kill_between_checkpoint_and_measurement_moves_no_round(tiny_model, tmp_path):
    expected = paused_run(tiny_model, tmp_path, 0.25)
    [folder] = run_folders(tmp_path)
    (folder / "paused.json").unlink()
    (folder / "result.json").unlink()
    found = paused_run(tiny_model, tmp_path, 0.25)
    assert {**found, "code_commit": None} == {**expected, "code_commit": None}


def test_a_pause_is_read_as_older_versions_wrote_it(tiny_model, tmp_path):
    paused_run(tiny_model, tmp_path, 0.25)
    [folder] = run_folders(tmp_path)
    known = json.loads((folder / "paused.json").read_text())
    known["0.25"]["eval_loss"] = 9.0
    (folder / "rungs.json").write_text(json.dumps(known))
    (folder / "paused.json").unlink()
    assert paused_run(tiny_model, tmp_path, 0.25)["eval_loss"] == 9.0


def test_a_run_that_ends_within_a_round_still_has_its_base_measured(tiny_model, tmp_path):
    early = (
        "trainer.early_stopping_patience=1",
        "trainer.eval_strategy=steps",
        "trainer.eval_steps=1",
        "trainer.save_strategy=steps",
        "trainer.save_steps=1",
        "trainer.load_best_model_at_end=true",
        "trainer.learning_rate=0.5",
    )
    paused = paused_run(tiny_model, tmp_path, 0.75, *early)
    assert paused["steps"] < 12, "it did not stop early; the test proves nothing"
    assert paused["status"] == "paused"
    ended = paused_run(tiny_model, tmp_path, 1.0, *early)
    assert ended["status"] == "finished"
    assert ended["base_eval_loss"] is not None


def test_another_objective_is_not_answered_with_the_first(tiny_model, tmp_path):
    by_loss = paused_run(tiny_model, tmp_path, 0.25)
    by_match = paused_run(tiny_model, tmp_path, 0.25, "objective=exact_match")
    assert by_loss["exact_match"] is None
    assert by_match["exact_match"] is not None
    assert by_match["eval_loss"] == by_loss["eval_loss"]


def test_a_halving_of_a_search_is_refused(tiny_model, tmp_path):
    settings = (
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.n_jobs=1",
        "lora.alpha=interval(2,32)",
        "sweep.halving=2",
    )
    done = child(*sweep_command(tiny_model, tmp_path, *settings))
    assert done.returncode == 2
    assert "sweep.halving goes through a grid" in done.stderr
    assert "Traceback" not in done.stderr
    assert run_folders(tmp_path) == []


def told_about(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    plan(["-m", *arguments])
    return capsys.readouterr().out


def refused_sweep(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_what_a_sweep_will_do_is_told_beforehand(capsys, tmp_path):
    said = told_about(capsys, "sweep=recommended", "sweep.halving=2", f"paths.output={tmp_path}")
    assert f"A sweep of 12 runs in {tmp_path}: seed=42,43 " in said
    assert "sweep.halving=2" in said
    assert "Job 0: seed=42 trainer.learning_rate=" in said
    assert said.count("Job ") == 12
    # What the command line gives holds instead of the preset's.
    said = told_about(capsys, "sweep=recommended", "lora.r=8")
    assert "A sweep of 6 runs" in said
    assert run_folders(tmp_path) == []


def test_a_sweep_of_nothing_is_one_run_with_the_settings_as_given(capsys, tmp_path):
    said = told_about(capsys, f"paths.output={tmp_path}", "data.limit=8")
    assert "A sweep of 1 run in" in said
    assert "Job 0: the settings as given" in said


PRESETS = sorted(path.stem for path in (ROOT / "conf" / "sweep").glob("*.yaml"))


@pytest.mark.parametrize(
    "preset", then_slow("recommended", *(one for one in PRESETS if one != "recommended"))
)
def test_each_preset_composes_and_says_its_runs(capsys, preset):
    about = (ROOT / "conf" / "sweep" / f"{preset}.yaml").read_text()
    said = told_about(capsys, f"sweep={preset}")
    runs = said.count("Job ")
    assert runs > 1
    assert re.search(rf"\b{runs} runs", about)


@pytest.mark.parametrize("presets", [("sweep=seeds", "sweep=dropout"), ("sweep=seeds,dropout",)])
def test_two_presets_are_refused(capsys, presets):
    assert "name one, and give" in refused_sweep(capsys, "-m", *presets)


@pytest.mark.parametrize(
    ("setting", "advice"),
    [("lora.r=shuffle(4,8)", "no shuffle"), ("sweep.halving=2,4", "give it one value")],
)
def test_a_halving_that_would_compare_unlike_with_unlike_is_refused(capsys, setting, advice):
    first = () if setting.startswith("sweep.halving") else ("sweep.halving=2",)
    settings = ("-m", *first, "lora.alpha=8,16", "model.name_or_path=/nowhere")
    assert advice in refused_sweep(capsys, *settings, setting)


def test_what_is_right_only_with_its_swept_values_is_told_too(capsys):
    with pytest.raises(SystemExit):  # the files are not there
        told_about(capsys, "model=hub", "model.name_or_path=a/b,c/d", "data=csv", "data.train=x,y")
    said = capsys.readouterr()
    assert "Job 3: model.name_or_path=c/d data.train=y" in said.out
    assert "4 jobs of 4 will be refused" in said.err


def test_a_plan_of_one_run_refuses_what_the_run_refuses(capsys):
    with pytest.raises(SystemExit):
        plan(["sweep.halving=2"])
    assert "add -m" in capsys.readouterr().err


def test_a_job_whose_folder_cannot_be_told_ends_no_other(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise TypeError("can only join an iterable")

    job = jobs.Jobs(tmp_path, os.getpid(), ())
    monkeypatch.setattr(Worker, "run", broken)
    monkeypatch.setattr(jobs, "_folders", broken)
    report = job._run(0, "lora.r=2", RunConfig(), Round(), None)
    assert (report.status, report.folders) == ("failed", ())
    assert "can only join" in (report.error or "")


@pytest.mark.slow
def test_failed_jobs_are_named_where_a_folder_cannot_be_made(tiny_model, tmp_path):
    """A file where a run's folder should be."""
    settings = ("trainer.max_steps=1", "lora.r=2,3")
    done = child(*sweep_command(tiny_model, tmp_path / "first", *settings))
    assert done.returncode == 0, done.stderr
    (tmp_path / "second").mkdir()
    for folder in runs_by_name(tmp_path / "first"):
        (tmp_path / "second" / folder).write_text("")
    done = child(*sweep_command(tiny_model, tmp_path / "second", *settings))
    assert done.returncode == 1
    assert "2 jobs failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_halving_of_one_run_is_refused(capsys):
    assert "add -m" in refused_sweep(capsys, "sweep.halving=2", "model.name_or_path=/nowhere")


def test_a_search_for_the_worst_is_refused(capsys):
    said = refused_sweep(
        capsys,
        "-m",
        "hydra/sweeper=optuna",
        "hydra.sweeper.direction=minimize",
        "objective=execution_accuracy",
        "lora.alpha=interval(8,64)",
        "model.name_or_path=/nowhere",
    )
    assert "must be maximize with objective=execution_accuracy" in said


def test_an_interval_without_a_search_is_refused(capsys):
    said = refused_sweep(capsys, "-m", "lora.alpha=interval(8,64)", "model.name_or_path=/nowhere")
    assert "add hydra/sweeper=optuna" in said


@pytest.mark.slow  # as above
def test_a_search_in_which_all_trials_fail_names_them(tiny_model, tmp_path):
    settings = (
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.n_jobs=1",
        "data.max_length=choice(8,9)",
    )
    done = child(*sweep_command(tiny_model, tmp_path, *settings))
    assert done.returncode == 1
    assert "2 jobs failed" in done.stderr
    assert "Traceback" not in done.stderr
