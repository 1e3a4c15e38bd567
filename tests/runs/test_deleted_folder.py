"""A run whose folder is deleted or moved while it works: one line and exit code 2, whatever it was doing."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.runs import metrics_lines, run_folders, start, sweep_command, wait_for
from helpers.slow import then_slow


class Deleting(logging.Handler):
    """Removes the run's folder as soon as something is said."""

    def __init__(self, said: str, remove: Callable[[Path], None], output: Path) -> None:
        super().__init__()
        self._said, self._remove, self._output = said, remove, output
        self.done = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.done and self._said in record.getMessage():
            self.done = True
            [folder] = run_folders(self._output)
            self._remove(folder)


@pytest.fixture
def deleting() -> Iterator[Callable[..., Deleting]]:
    log = logging.getLogger("qc_experiments")
    made: list[Deleting] = []

    def listen(*arguments: object) -> Deleting:
        made.append(Deleting(*arguments))  # type: ignore[arg-type]
        log.addHandler(made[-1])
        return made[-1]

    yield listen
    for one in made:
        log.removeHandler(one)


def move(folder: Path) -> None:
    os.rename(folder, folder.parent.parent / "moved")


def delete_two_files(folder: Path) -> None:
    for name in ("config.yaml", "environment.json"):
        (folder / name).unlink()


@pytest.mark.parametrize(
    "gone",
    then_slow(
        ("step    1/3", shutil.rmtree, ("evaluation.base=false",)),
        ("Run  ", shutil.rmtree, ("evaluation.base=false",)),
        ("Measuring the base model", shutil.rmtree, ()),
        ("Trains ", shutil.rmtree, ("evaluation.base=false", "lora.init=pissa")),
        ("step    1/3", move, ("evaluation.base=false",)),
        (
            "step    1/3",
            shutil.rmtree,
            ("evaluation.base=false", "trainer.save_strategy=steps", "trainer.save_steps=1"),
        ),
        ("Trained in", shutil.rmtree, ("evaluation.base=false",)),
        ("held-out questions", shutil.rmtree, ("evaluation.base=false",)),  # all is written
        ("step    2/3", delete_two_files, ("evaluation.base=false",)),
    ),
)
def test_a_run_whose_folder_goes_ends_in_one_line(train, refused, deleting, tmp_path, gone):
    said, remove, settings = gone
    listener = deleting(said, remove, tmp_path / "outputs")
    line = refused(train, *settings)
    assert listener.done
    assert "was deleted or moved while the run was at work" in line
    assert str(tmp_path / "outputs") in line
    if remove is not delete_two_files:
        assert run_folders(tmp_path / "outputs") == []
        names = [path.name for path in (tmp_path / "outputs").iterdir()]
        assert not [name for name in names if not name.startswith(".")]  # the same command runs


@pytest.mark.slow
def test_in_a_sweep_that_job_is_named_as_failed(tiny_model, tmp_path):
    settings = ("evaluation.base=false", "lora.r=2,4", "trainer.max_steps=40")
    process = start(sweep_command(tiny_model, tmp_path, *settings))
    wait_for(lambda: metrics_lines(tmp_path) > 2, process)
    shutil.rmtree(run_folders(tmp_path)[0])
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1, said
    assert "1 job failed" in said
    assert "job 0 (lora.r=2): " in said.split("1 job failed")[1]
    assert "was deleted or moved while the run was at work" in said.split("1 job failed")[1]
    assert "Traceback" not in said
    [left] = run_folders(tmp_path)
    assert (left / "result.json").exists()
    assert "1 run: 1 finished" in said


@pytest.mark.slow
def test_a_sweep_whose_folder_goes_ends_in_one_line(tiny_model, tmp_path):
    output = tmp_path / "outputs"
    settings = ("evaluation.base=false", "lora.r=2,4", "trainer.max_steps=40")
    process = start(sweep_command(tiny_model, output, *settings))
    wait_for(lambda: metrics_lines(output) > 2, process)
    shutil.rmtree(output)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 2, said
    assert f"{output}: was deleted or moved while the sweep was running" in said
    assert "Traceback" not in said
