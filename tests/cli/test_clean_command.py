"""`qc clean`: what it would free, what it frees when told, and all that it never touches."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers.holding import run_at_work
from helpers.permissions import permissions_hold
from helpers.runs import Run, assert_same, child, run_folders, start, sweep_command, wait_for
from helpers.written_runs import lock, write_run

from qc_experiments.cli.clean import main
from qc_experiments.models.packaged import QWEN_0_5B, SMOLLM2
from qc_experiments.system.locking import waiting_for
from qc_experiments.system.unfinished import code_mark, kept_at

NOW = f"v1-transformers-{version('transformers')}"


def filled(folder: Path, size: int = 1000) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_bytes(bytes(size))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def clean(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]):
    """Run the command on the folder of runs; gives what it prints."""

    def start(*arguments: str) -> str:
        capsys.readouterr()
        main([str(tmp_path / "outputs"), "--cache", str(cache), *arguments])
        return capsys.readouterr().out

    return start


def model_of(cache: Path, sha256: str, made_by: str = NOW, dtype: str = "float32") -> Path:
    return filled(cache / "models" / f"gguf-{sha256[:24]}-{dtype}-{made_by}", 5000)


def test_checkpoints_of_finished_runs_go_when_told_and_those_of_others_stay(clean, tmp_path):
    runs = tmp_path / "outputs"
    done = filled(write_run(runs / "done") / "checkpoints" / "checkpoint-3", 7000)
    kept = [
        filled(write_run(runs / "sweep" / status, status=status) / "checkpoints" / "checkpoint-3")
        for status in ("failed", "interrupted", "paused")
    ]
    killed = write_run(runs / "killed", status=None)
    lock(killed, 2**22 + 1)
    kept.append(filled(killed / "checkpoints" / "checkpoint-3"))
    text = clean()
    assert "checkpoints: 7.0 kB in 1 place (of finished runs)" in text
    assert "nothing is deleted without --delete" in text
    assert done.exists()
    assert "Freed 7,000 bytes (7.0 kB)" in clean("--delete")
    assert not done.parent.exists()
    assert all(path.exists() for path in kept)
    assert (runs / "done" / "result.json").exists()
    assert "Freed 0 bytes" in clean("--delete")


def test_what_is_half_written_goes_unless_a_process_is_at_it(clean, tmp_path, cache):
    runs = tmp_path / "outputs"
    one = write_run(runs / "one", status="failed")
    left = [filled(one / name) for name in (".adapter", "checkpoints/.draft", "checkpoints/.old")]
    torn = one / ".result.json.0123abcd"
    torn.write_text("half")
    partial = runs / "judged" / ".judged.partial"
    partial.parent.mkdir()
    partial.write_text("{}\n")
    unpacking = filled(cache / "models" / ".unpacking-abc")
    with run_at_work(one), kept_at(partial, "--output x"), waiting_for(cache / "models"):
        assert "drafts: 0 B in 0 places" in clean()
        assert "drafts: 0 B" in clean("--only", "drafts")
        assert "Freed 0 bytes" in clean("--delete")
    assert all(path.exists() for path in (*left, torn, partial, unpacking))
    assert "Freed 4,007 bytes" in clean("--delete", "--only", "drafts")
    assert not any(path.exists() for path in (*left, torn, partial, unpacking))
    assert (one / "checkpoints").exists()


def test_a_run_that_starts_after_it_was_looked_at_is_not_touched(clean, tmp_path, monkeypatch):
    from qc_experiments.runs.cleaning import Cleaning

    checkpoint = filled(write_run(tmp_path / "outputs" / "run") / "checkpoints")
    cleaning = Cleaning(tmp_path / "outputs", tmp_path / "cache", ["checkpoints"])
    assert len(cleaning.find()) == 1
    with run_at_work(tmp_path / "outputs" / "run"):
        assert cleaning.delete() == (0, [])
    assert checkpoint.exists()
    assert cleaning.delete() == (1000, [])


def test_measurements_of_base_models_go_once_the_code_has_changed(clean, tmp_path):
    write_run(tmp_path / "outputs" / "run")
    shared = tmp_path / "outputs" / ".base_model"
    shared.mkdir()
    for name in (f"{code_mark()}-0123.jsonl", "00000000-0123.jsonl", "0123456789abcdef.jsonl"):
        (shared / name).write_text("x" * 100)
    assert "Freed 200 bytes" in clean("--delete", "--only", "cache")
    assert [path.name for path in shared.iterdir()] == [f"{code_mark()}-0123.jsonl"]


def test_unpacked_models_go_that_no_run_names_or_another_version_made(clean, tmp_path, cache):
    write_run(tmp_path / "outputs" / "run", model__name_or_path="embedded")
    named, other = model_of(cache, SMOLLM2.sha256), model_of(cache, QWEN_0_5B.sha256)
    old = model_of(cache, SMOLLM2.sha256, "v1-transformers-4.0.0")
    mine = filled(cache / "models" / "my-own-model")
    file = cache / "models" / SMOLLM2.file_name
    file.write_bytes(b"GGUF")
    assert "Freed 10,000 bytes" in clean("--delete")
    assert named.exists()
    assert not other.exists()
    assert not old.exists()
    assert mine.exists()
    assert file.exists()


def test_unpacked_models_stay_that_an_unfinished_run_names_or_may_name(clean, tmp_path, cache):
    old = model_of(cache, SMOLLM2.sha256, "v1-transformers-4.0.0")
    other = model_of(cache, "0" * 64)
    write_run(tmp_path / "outputs" / "run", status="failed", model__name_or_path="embedded")
    keys = {"model__name_or_path": "owner/name", "model__gguf_file": "some.gguf"}
    write_run(tmp_path / "outputs" / "hub", **keys)
    assert "Freed 0 bytes" in clean("--delete")
    assert old.exists()
    assert other.exists()


def test_model_files_are_read_only_where_unpacked_models_are_asked_for(clean, tmp_path, cache):
    file = tmp_path / "mine.gguf"
    file.touch()
    os.truncate(file, 30 << 30)  # of which nothing is on the disk
    write_run(tmp_path / "outputs" / "run", model__name_or_path=str(file))
    start = time.monotonic()
    clean()  # no model was ever unpacked
    kept = model_of(cache, "0" * 64)
    assert "cache" not in clean("--only", "checkpoints,drafts", "--delete")
    assert time.monotonic() - start < 5
    assert kept.exists()


def test_a_checkpoint_that_an_unfinished_run_goes_on_from_stays(clean, tmp_path):
    runs = tmp_path / "outputs"
    source = filled(write_run(runs / "done") / "checkpoints" / "checkpoint-3")
    write_run(runs / "next", status="interrupted", model__adapter=str(source))
    assert "Freed 0 bytes" in clean("--delete")
    assert source.exists()
    shutil.rmtree(runs / "next")
    assert "Freed 1,000 bytes" in clean("--delete")


def test_links_lead_nowhere(clean, tmp_path, cache):
    """Neither what a link leads to goes, nor is anything deleted through one."""
    outside = filled(tmp_path / "elsewhere" / "checkpoints" / "checkpoint-1")
    linked = write_run(tmp_path / "elsewhere" / "linked")
    filled(linked / "checkpoints")
    runs = tmp_path / "outputs"
    run = write_run(runs / "run")
    (run / "checkpoints").symlink_to(outside.parent)
    (runs / "linked").symlink_to(linked)
    (runs / ".base_model").symlink_to(outside)
    (run / ".adapter").symlink_to(outside)
    models = filled(tmp_path / "elsewhere" / "models" / f"gguf-{'0' * 24}-float32-{NOW}")
    (cache / "models").symlink_to(models.parent)
    (write_run(runs / "other") / "checkpoints" / "inner").mkdir(parents=True)
    (runs / "other" / "checkpoints" / "inner" / "out").symlink_to(outside)
    clean("--delete")
    assert not (runs / "other" / "checkpoints").exists()
    for path in (outside / "weights", linked / "checkpoints" / "weights", models / "weights"):
        assert path.exists(), path


@pytest.mark.parametrize("content", ["text", ""])
def test_a_lock_that_is_a_link_is_not_followed(tmp_path, cache, content):
    target = tmp_path / "precious"
    target.write_text(content)
    run = write_run(tmp_path / "outputs" / "run")
    filled(run / "checkpoints")
    (run / ".lock").symlink_to(target)
    with suppress(SystemExit):  # where nothing in the lock tells of a process
        main([str(tmp_path / "outputs"), "--cache", str(cache), "--delete"])
    assert target.read_text() == content
    assert (run / "checkpoints").exists()


def test_what_may_not_be_deleted_is_one_line_and_the_rest_goes(tmp_path, refused, cache):
    runs = tmp_path / "outputs"
    closed = filled(write_run(runs / "closed") / "checkpoints")
    free = filled(write_run(runs / "free") / "checkpoints")
    closed.chmod(0o500)
    with permissions_hold():
        told = refused(main, [str(runs), "--cache", str(cache), "--delete"])
    closed.chmod(0o700)
    assert f"not all could be deleted: {closed}: Permission denied" in told
    assert not free.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent"], "no such folder"),
        (["empty"], "holds no run"),
        (["empty", "--only", "checkpoint"], "no such kind (did you mean checkpoints?)"),
    ],
)
def test_bad_input_is_one_line(tmp_path, refused, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert said in refused(main, arguments)


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint_after_everything_was_cleaned(
    train, tiny_model, tmp_path
):
    """The finished run keeps all but its checkpoints, and the killed one ends as if it never stopped."""
    outputs, cache = tmp_path / "outputs", tmp_path / "cache"
    saving = ("trainer.save_strategy=steps", "trainer.save_steps=2", f"paths.cache={cache}")
    done = train("lora.r=2", *saving)
    whole = train("trainer.max_steps=30", *saving, output=tmp_path / "whole")
    settings = ("trainer.max_steps=30", *saving)
    words = [one for one in sweep_command(tiny_model, outputs, *settings) if one != "-m"]
    process = start(words)
    wait_for(lambda: any(outputs.glob("*/checkpoints/checkpoint-6")), process)
    main([str(outputs), "--cache", str(cache), "--delete"])  # while it is at work
    process.kill()
    process.communicate()
    [killed] = [path for path in run_folders(outputs) if path != done.folder]
    filled(killed / ".adapter")
    main([str(outputs), "--cache", str(cache), "--delete"])
    assert not (done.folder / "checkpoints").exists()
    assert not (killed / ".adapter").exists()
    assert any((killed / "checkpoints").glob("checkpoint-*/manifest.json"))
    assert (done.folder / "adapter" / "adapter_model.safetensors").exists()
    resumed = child(*words)
    assert resumed.returncode == 0, resumed.stderr
    assert "Goes on from step" in resumed.stdout
    assert_same(Run(killed), whole)


def test_a_measurement_of_this_code_is_used_again_after_cleaning(train, clean, tmp_path, capsys):
    train("lora.r=2")
    clean("--delete")
    train("lora.r=3")
    assert "4 answers are kept from before" in capsys.readouterr().out
