"""Runs that are stopped, killed, starved of disk or fed nonsense, and what is left of them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import (
    ROOT,
    TINY_TRAINING,
    Run,
    adapter_weights,
    assert_same,
    metrics_lines,
    run_folders,
    wait_for,
)
from helpers.slow import then_slow

from qc_experiments.errors import UserError
from qc_experiments.evaluation.journal import Journal
from qc_experiments.generation.choosing import Predicted
from qc_experiments.system.files import write_whole
from qc_experiments.system.locking import locked
from qc_experiments.training.checkpoints import CheckpointStore, cut_metrics, defect
from qc_experiments.training.divergence import LossWatch

STEPS = (
    "trainer.max_steps=6",
    "trainer.save_strategy=steps",
    "trainer.save_steps=2",
    "trainer.logging_steps=3",
    "lora.dropout=0.1",
)


def write_checkpoint(store: CheckpointStore, step: int, progress: dict[str, Any]) -> None:
    written = store.draft() / f"checkpoint-{step}"
    written.mkdir()
    (written / "weights").write_bytes(bytes(1000) + str(step).encode())
    (written / "state.json").write_text("{}")
    store.commit(written, step, progress)


# --- Checkpoints ---------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path / "weights", 500)


def tamper(path: Path) -> None:
    (path / "weights").write_bytes(bytes(1004))


def lose_file(path: Path) -> None:
    (path / "state.json").unlink()


def lose_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def tear_manifest(path: Path) -> None:
    os.truncate(path / "manifest.json", 40)


@pytest.mark.parametrize("harm", [truncate, tamper, lose_file, lose_manifest, tear_manifest])
def test_a_harmed_checkpoint_is_named_and_the_one_before_it_taken(tmp_path, caplog, harm):
    store = CheckpointStore(tmp_path, keep=None)
    for step in (2, 10):
        write_checkpoint(store, step, {"at": step})
    assert store.newest().step == 10
    harm(store.place(10))
    found = store.newest()
    assert found is not None
    assert (found.step, found.progress) == (2, {"at": 2})
    assert f"{store.place(10)}:" in caplog.text
    assert "passed over" in caplog.text
    write_checkpoint(store, 10, {})  # the steps are taken again
    assert store.newest().step == 10


def test_the_newest_and_the_best_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    for step in (1, 2, 3, 4, 10):
        write_checkpoint(store, step, {})
        store.prune(step, store.place(2) if step > 1 else None)
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-10",
    }


def test_a_torn_checkpoint_does_not_take_the_place_of_one_that_is_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep=1)
    for step in (2, 10):
        write_checkpoint(store, step, {})
    truncate(store.place(10))
    write_checkpoint(store, 3, {})  # the training went on from 2
    store.prune(3, None)
    assert store.newest().step == 3


def test_checkpoints_behind_a_rest_are_forgotten(tmp_path):
    store = CheckpointStore(tmp_path, keep=None)
    for step in (2, 4, 6):
        write_checkpoint(store, step, {})
    store.forget_after(4)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2", "checkpoint-4"}


def test_a_draft_that_was_left_behind_is_no_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    write_checkpoint(store, 2, {})
    left = store.draft() / "checkpoint-4"
    left.mkdir()
    (left / "weights").write_text("half")
    assert store.newest().step == 2
    assert not left.exists()


@pytest.mark.parametrize("name", ["open", "fsync", "replace", "write"])
@pytest.mark.parametrize("at", range(8))
def test_a_write_that_fails_leaves_the_checkpoints_as_they_were(tmp_path, monkeypatch, name, at):
    """Each call of each kind fails once; what is found afterwards is whole, old or new."""
    store = CheckpointStore(tmp_path, keep=None)
    write_checkpoint(store, 2, {})
    written = store.draft() / "checkpoint-4"
    written.mkdir()
    (written / "weights").write_text("4")
    count = fail_at(monkeypatch, name, at)
    try:
        store.commit(written, 4, {})
        failed = False
    except OSError:
        failed = True
    monkeypatch.undo()
    assert failed or count() <= at or name == "open"  # a failure to clean up is none
    found = store.newest()
    assert found.step in (2, 4)
    assert defect(found.path) is None
    if not failed:
        assert found.step == 4


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, at: int) -> Callable[[], int]:
    """Let the call number ``at`` of an operating system's function fail as a full disk does."""
    import errno

    calls = [0]

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == at + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **options)

        return call

    if name == "write":
        real_fdopen = os.fdopen

        def fdopen(*arguments: Any, **options: Any) -> Any:
            file = real_fdopen(*arguments, **options)

            class Failing:
                def __enter__(self) -> Any:
                    return self

                def __exit__(self, *_: Any) -> None:
                    file.close()

                def __getattr__(self, attribute: str) -> Any:
                    found = getattr(file, attribute)
                    return failing(found) if attribute == "write" else found

            return Failing()

        monkeypatch.setattr(os, "fdopen", fdopen)
    else:
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    return lambda: calls[0]


@pytest.mark.parametrize("name", ["open", "fsync", "replace", "write"])
@pytest.mark.parametrize("at", range(3))
def test_a_file_is_the_old_one_or_the_new_one(tmp_path, monkeypatch, name, at):
    path = tmp_path / "result.json"
    write_whole(path, "old")
    fail_at(monkeypatch, name, at)
    try:
        write_whole(path, "new")
        expected = ["new"]
    except OSError:
        expected = ["old", "new"]  # new where only the folder's own entry could not be forced
    monkeypatch.undo()
    assert path.read_text() in expected
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_metrics_are_cut_back_to_the_checkpoint_whatever_their_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step')
    cut_metrics(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


# --- Going on ------------------------------------------------------------------------------------


def command(tiny_model: Path, output: Path, *settings: str) -> list[str]:
    return [
        sys.executable,
        "train.py",
        "model=hub",
        f"model.name_or_path={tiny_model}",
        "tracking=none",
        f"paths.output={output}",
        *TINY_TRAINING,
        *settings,
    ]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, after: str) -> None:
    """Let training end as by a kill, right after a step or after its checkpoint."""
    from qc_experiments.training import trainer

    kept = trainer.TextToSqlTrainer._save_checkpoint
    computed = trainer.TextToSqlTrainer.training_step

    def save(self: Any, *arguments: Any) -> None:
        kept(self, *arguments)
        if after == "checkpoint" and self.state.global_step == step:
            raise KeyboardInterrupt

    def train_step(self: Any, *arguments: Any, **options: Any) -> Any:
        if after == "step" and self.state.global_step == step:
            raise KeyboardInterrupt
        return computed(self, *arguments, **options)

    monkeypatch.setattr(trainer.TextToSqlTrainer, "_save_checkpoint", save)
    monkeypatch.setattr(trainer.TextToSqlTrainer, "training_step", train_step)


@pytest.mark.parametrize("collator", then_slow("shared_schema", "seq2seq"))
@pytest.mark.parametrize("step_after", then_slow((4, "checkpoint"), (3, "step"), (6, "checkpoint")))
def test_a_run_goes_on_as_if_it_had_not_stopped(train, tmp_path, monkeypatch, collator, step_after):
    """With dropout, in the middle of a logging interval and of an epoch, at its end and the run's."""
    settings = (*STEPS, f"collator={collator}", "trainer.eval_strategy=epoch")
    whole = train(*settings, output=tmp_path / "whole")
    interrupt_at(monkeypatch, *step_after)
    with pytest.raises(SystemExit):
        train(*settings, output=tmp_path / "cut")
    monkeypatch.undo()
    assert_same(train(*settings, output=tmp_path / "cut"), whole)


@pytest.mark.parametrize("patience", then_slow(1, 2))
def test_an_early_stop_stays_one(train, tmp_path, monkeypatch, patience):
    """Killed after its last checkpoint or the one before, a run stops where it would have stopped."""
    settings = (
        *STEPS,
        "trainer.learning_rate=1e-9",  # nothing improves
        "trainer.max_steps=null",
        "trainer.num_train_epochs=6",
        "trainer.eval_strategy=epoch",
        "trainer.save_strategy=epoch",
        f"trainer.early_stopping_patience={patience}",
        "trainer.load_best_model_at_end=true",
    )
    whole = train(*settings, output=tmp_path / "whole")
    assert whole.result["steps"] == 4 * (1 + patience)
    interrupt_at(monkeypatch, 8, "checkpoint")
    with pytest.raises(SystemExit):
        train(*settings, output=tmp_path / "cut")
    monkeypatch.undo()
    assert_same(train(*settings, output=tmp_path / "cut"), whole)


@pytest.mark.slow
def test_a_torn_checkpoint_costs_its_steps_and_nothing_else(train, tmp_path, monkeypatch, capsys):
    whole = train(*STEPS, output=tmp_path / "whole")
    interrupt_at(monkeypatch, 4, "checkpoint")
    with pytest.raises(SystemExit):
        train(*STEPS, output=tmp_path / "cut")
    monkeypatch.undo()
    [folder] = run_folders(tmp_path / "cut")
    os.truncate(folder / "checkpoints" / "checkpoint-4" / "optimizer.pt", 100)
    capsys.readouterr()
    cut = train(*STEPS, output=tmp_path / "cut")
    said = capsys.readouterr()
    assert "optimizer.pt is not as it was written" in said.err
    assert "Goes on from step 2" in said.out
    assert_same(cut, whole)


@pytest.mark.parametrize("name", then_slow("SIGTERM", "SIGUSR1", "SIGINT"))
def test_a_signal_ends_a_run_behind_a_checkpoint(train, tiny_model, tmp_path, name):
    settings = ("trainer.max_steps=400", "trainer.logging_steps=1", "trainer.save_strategy=epoch")
    output = tmp_path / "cut"
    process = subprocess.Popen(
        command(tiny_model, output, *settings), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: any(output.glob("*/metrics.jsonl")) and metrics_lines(output) > 2, process)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + getattr(signal, name)
    assert "Traceback" not in errors
    [folder] = run_folders(output)
    assert json.loads((folder / "result.json").read_text())["status"] == "interrupted"
    found = CheckpointStore(folder / "checkpoints", 2).newest()
    assert found is not None
    last = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open()][-1]
    assert found.step == last  # nothing that was computed is lost


@pytest.mark.slow
def test_a_second_signal_ends_at_once(tiny_model, tmp_path):
    output = tmp_path / "cut"
    process = subprocess.Popen(
        command(tiny_model, output, "trainer.max_steps=400"), cwd=ROOT, stderr=subprocess.PIPE
    )
    wait_for(lambda: metrics_lines(output) > 1, process)
    for _ in range(50):
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
        if process.poll() is not None:
            break
    process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)


def test_answers_are_not_asked_for_twice(train, tmp_path, monkeypatch):
    from qc_experiments.evaluation import evaluator
    from qc_experiments.generation import predictor

    settings = ("evaluation.limit=6",)
    monkeypatch.setattr(evaluator, "PART_ROWS", 2)
    whole = train(*settings, output=tmp_path / "whole")
    written = predictor.write_answers
    asked: list[int] = []

    def write(model: Any, prompts: Any, *others: Any) -> Any:
        if len(asked) == 4:  # three parts of the base model, one of the trained one
            raise KeyboardInterrupt
        asked.append(len(prompts))
        return written(model, prompts, *others)

    monkeypatch.setattr(predictor, "write_answers", write)
    with pytest.raises(SystemExit):
        train(*settings, output=tmp_path / "cut")
    asked.clear()
    asked_again: list[int] = []
    monkeypatch.setattr(
        predictor,
        "write_answers",
        lambda model, prompts, *others: (
            asked_again.append(len(prompts)) or written(model, prompts, *others)
        ),
    )
    cut = train(*settings, output=tmp_path / "cut")
    assert asked_again == [2, 2]
    assert_same(cut, whole)
    assert not list(cut.folder.glob("*answers.jsonl"))


def test_what_was_measured_of_other_weights_is_measured_again(train, tmp_path, monkeypatch):
    """Without a checkpoint a training starts over, and on a GPU it may end with other weights."""
    from qc_experiments.judging.judge import Judge
    from qc_experiments.training import trainer

    monkeypatch.setattr(Judge, "judge", interrupted)
    with pytest.raises(SystemExit):
        train("evaluation.base=false", output=tmp_path / "cut")
    [folder] = run_folders(tmp_path / "cut")
    assert (folder / "answers.jsonl").exists()
    monkeypatch.undo()
    step = trainer.TextToSqlTrainer.before_update

    def away(self: Any, *given: Any) -> None:
        step(self, *given)
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                if "lora_B" in name:
                    weight += 0.5

    monkeypatch.setattr(trainer.TextToSqlTrainer, "before_update", away)
    cut = train("evaluation.base=false", output=tmp_path / "cut")
    whole = train("evaluation.base=false", output=tmp_path / "whole")
    assert cut.result["eval_loss"] == whole.result["eval_loss"]


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_torn_journal_keeps_what_is_whole(tmp_path):
    path = tmp_path / "answers.jsonl"
    journal = Journal(path, "one")
    kept = [Predicted("SELECT 1", confidence=0.25), Predicted("SELECT 2", "SELECT 3")]
    journal.add([1, 2], kept)
    journal.add([3], [Predicted("SELECT 4", None)])
    os.truncate(path, path.stat().st_size - 5)
    again = Journal(path, "one")
    assert again.answers([1, 2]) == kept
    assert again.answers([3]) is None
    again.add([3], [Predicted("SELECT 5", None)])
    assert Journal(path, "one").answers([3]) == [Predicted("SELECT 5", None)]
    assert Journal(path, "another").answers([1, 2]) is None


def test_a_journal_of_an_older_version_is_read_without_confidences(tmp_path):
    path = tmp_path / "answers.jsonl"
    Journal(path, "one").add([1], [Predicted("SELECT 1", confidence=0.25)])
    line = json.loads(path.read_text())
    del line["confidence"]
    path.write_text(json.dumps(line) + "\n")
    assert Journal(path, "one").answers([1]) == [Predicted("SELECT 1")]


# --- One process at a time -----------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from qc_experiments.system.locking import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_refused_and_the_first_named(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        named = rf"process {holder.pid} on .* computes this run"
        with pytest.raises(UserError, match=named), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    with locked(tmp_path):  # a dead process holds nothing
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    with locked(tmp_path):  # nor does one that is done
        pass


def test_a_locked_run_is_refused_in_one_line(train, tmp_path, monkeypatch, capsys, refused):
    run = train()
    (run.folder / "result.json").unlink()
    with locked(run.folder):
        line = refused(lambda: train(output=run.folder.parent))
    assert f"process {os.getpid()} on" in line
    assert train(output=run.folder.parent).result["status"] == "finished"


# --- Nonsense ------------------------------------------------------------------------------------


def test_an_exploding_loss_ends_the_run_and_names_step_and_rows(train, tmp_path, refused):
    settings = (
        "trainer.learning_rate=0.9",
        "lora=none",
        "trainer.max_grad_norm=0",
        "trainer.max_steps=20",
        "trainer.lr_scheduler_type=constant",
        "trainer.warmup_steps=0",
        "trainer.save_strategy=steps",
        "trainer.save_steps=1",
    )
    line = refused(lambda: train(*settings, output=tmp_path))
    assert "step " in line
    assert "training rows " in line
    assert "trainer.learning_rate" in line
    [folder] = run_folders(tmp_path)
    assert json.loads((folder / "result.json").read_text())["status"] == "failed"
    assert CheckpointStore(folder / "checkpoints", None).newest() is not None


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 100.0])
def test_the_watch_names_the_rows_of_the_step(loss):
    watch = LossWatch(vocabulary=100)
    watch.add(torch.tensor(1.0), [2, 3])
    watch.add(torch.tensor(loss), [9])
    with pytest.raises(UserError, match=r"step 7: the loss .*rows") as stopped:
        watch.end_step(7, 1.0)
    assert "9" in str(stopped.value)


def test_a_gradient_that_is_no_number_ends_the_run():
    watch = LossWatch(vocabulary=100)
    watch.add(torch.tensor(1.0), [4])
    watch.end_step(2, 2.0)
    watch.add(torch.tensor(1.0), [5])
    with pytest.raises(UserError, match=r"step 3: the gradient's norm is nan .training rows 5\)"):
        watch.end_step(3, float("nan"))


def test_other_settings_in_a_runs_folder_are_shown(train, tmp_path, refused):
    run = train()
    other = run.folder.parent / "other"
    shutil.copytree(run.folder, other)
    fresh = train("lora.r=2", output=tmp_path / "elsewhere")
    shutil.rmtree(fresh.folder)
    shutil.copytree(other, fresh.folder)
    line = refused(lambda: train("lora.r=2", output=tmp_path / "elsewhere"))
    assert "lora.r=4 there, 2 here" in line


# --- A full disk ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few MB, where this process may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this process may not mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_a_run_that_goes_on_once_there_is_room(
    train, tmp_path, small_disk, refused
):
    settings = (*STEPS, "trainer.save_total_limit=null", "trainer.max_steps=20", "lora.r=16")
    whole = train(*settings, output=tmp_path / "whole")
    line = refused(lambda: train(*settings, output=small_disk))
    assert "make room" in line or "cannot be written" in line
    [folder] = run_folders(small_disk)
    found = CheckpointStore(folder / "checkpoints", None).newest()
    assert found is not None
    assert found.step < 20
    subprocess.run(["mount", "-o", "remount,size=500m", str(small_disk)], check=True)
    assert_same(train(*settings, output=small_disk), whole)


# --- Weights & Biases ----------------------------------------------------------------------------


def test_a_failing_service_does_not_end_the_run(train, monkeypatch, capsys):
    import wandb

    def failing(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("the service is down")

    monkeypatch.setattr(wandb.Run, "log", failing)
    run = train("tracking=wandb")
    assert run.result["status"] == "finished"
    assert len(run.metrics) == 3
    said = capsys.readouterr().err
    assert said.count("Weights & Biases failed") == 1


def test_a_run_behind_a_failed_one_is_its_own(train, tmp_path, monkeypatch):
    """A W&B run that nobody finished would take the figures of the next job of a process."""
    import wandb
    from helpers.wandb_files import offline_run

    monkeypatch.setattr(wandb.Run, "log", lambda *_, **__: 1 / 0)
    train("tracking=wandb", "lora.r=2", output=tmp_path)
    assert wandb.run is None
    monkeypatch.undo()
    run = train("tracking=wandb", "lora.r=3", output=tmp_path)
    assert offline_run(run)


def test_a_service_that_cannot_be_started_does_not_end_the_run(train, monkeypatch, capsys):
    import wandb

    def failing(*arguments: Any, **options: Any) -> None:
        raise wandb.errors.CommError("no answer")

    monkeypatch.setattr(wandb, "init", failing)
    assert train("tracking=wandb").result["status"] == "finished"
    assert capsys.readouterr().err.count("could not be started") == 1


def test_an_interruption_neither_doubles_nor_loses_steps(train, tmp_path, monkeypatch):
    from helpers.wandb_files import inspect, offline_run

    settings = (*STEPS, "tracking=wandb", "trainer.logging_steps=1")
    whole = train(*settings, output=tmp_path / "whole")
    interrupt_at(monkeypatch, 5, "step")
    with pytest.raises(SystemExit):
        train(*settings, output=tmp_path / "cut")
    monkeypatch.undo()
    cut = train(*settings, output=tmp_path / "cut")

    def history(run: Run) -> list[tuple[int, float | None]]:
        records = [json.loads(line) for line in inspect(offline_run(run)).splitlines()]
        items = [r["history"]["item"] for r in records if r.get("type") == "history"]
        return [(item["_step"], item.get("loss")) for item in items]

    assert history(cut) == history(whole)
    assert [step for step, loss in history(cut) if loss is not None] == [1, 2, 3, 4, 5, 6]


# --- The end, the best, and who listens ----------------------------------------------------------


def test_a_signal_behind_the_result_does_not_take_it_back(train, tmp_path, monkeypatch, capsys):
    """Closing W&B may take a minute, in which Ctrl-C is pressed or a scheduler ends the job."""
    from qc_experiments.judging.judge import Judge

    close = Judge.close

    def interrupting(judge: Judge) -> None:
        close(judge)
        if list(tmp_path.glob("outputs/*/result.json")):  # it is closed after the golds, too
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Judge, "close", interrupting)
    with pytest.raises(SystemExit) as ended:
        train()
    monkeypatch.setattr(Judge, "close", close)
    assert ended.value.code == 130
    run = train()
    assert run.result["status"] == "finished"
    assert "This run has finished before" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_whose_reader_is_gone_goes_on(tiny_model, tmp_path):
    settings = [
        "model=hub",
        f"model.name_or_path={tiny_model}",
        "tracking=none",
        f"paths.output={tmp_path}",
        *TINY_TRAINING,
    ]
    command = shlex.join([sys.executable, "train.py", *settings])
    done = subprocess.run(
        ["bash", "-c", f"{command} 2>&1 | head -1; echo ${{PIPESTATUS[0]}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    [folder] = run_folders(tmp_path)
    assert Run(folder).result["status"] == "finished"
    assert done.stdout.splitlines()[-1] == "0"


def test_what_a_kill_left_of_a_file_does_not_block_the_folder(train):
    run = train()
    for path in run.folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (run.folder / ".environment.json.x1y2").write_text("{")
    assert train().result["status"] == "finished"


BEST = (
    "trainer.max_steps=6",
    "trainer.eval_strategy=steps",
    "trainer.eval_steps=2",
    "trainer.save_strategy=steps",
    "trainer.save_steps=2",
    "trainer.load_best_model_at_end=true",
    "trainer.learning_rate=0.03",
    "trainer.lr_scheduler_type=constant",
    "trainer.warmup_steps=0",
    "lora.alpha=64",
)


@pytest.mark.parametrize("kept", ["1", "3"])
def test_the_best_checkpoint_is_the_adapter_and_the_newest_is_kept(train, kept):
    """transformers itself fails here with a limit of one, or removes the newest checkpoint."""
    from safetensors.numpy import load_file

    run = train(*BEST, "collator=seq2seq", f"trainer.save_total_limit={kept}")
    losses = {line["step"]: line["eval_loss"] for line in run.metrics if "eval_loss" in line}
    best = min(losses, key=lambda step: losses[step])
    assert list(losses) == [2, 4, 6]
    assert best != 6, "the last step is the best; the test proves nothing"
    checkpoints = run.folder / "checkpoints"
    assert (checkpoints / "checkpoint-6").is_dir()
    saved = load_file(checkpoints / f"checkpoint-{best}" / "adapter_model.safetensors")
    assert all((saved[name] == value).all() for name, value in adapter_weights(run.folder).items())


@pytest.mark.slow
def test_a_run_that_was_moved_before_its_end_finds_its_best_checkpoint(train, tmp_path):
    whole = train(*BEST, output=tmp_path / "whole")
    cut = train(*BEST, output=tmp_path / "cut")
    (cut.folder / "result.json").unlink()
    (tmp_path / "cut").rename(tmp_path / "moved")
    again = train(*BEST, output=tmp_path / "moved")
    assert_same(whole, again)
