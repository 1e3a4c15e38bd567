"""Training on two processes: the same objective as on one."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from helpers.runs import TINY_TRAINING, Run, child, run_folders

# The order of the rows differs with the number of processes; so a step takes them all.
EVERY_STEP_SEES_EVERY_ROW = ("data.limit=8",)


@pytest.fixture
def together(tiny_model, tmp_path):
    """Train the tiny model on two processes: its run, and what was printed."""

    def start(*settings: str) -> tuple[Run, str]:
        output = tmp_path / "together"
        done = child(
            str(Path(sys.executable).parent / "torchrun"),
            "--nproc_per_node=2",
            "train.py",
            "model=hub",
            f"model.name_or_path={tiny_model}",
            "tracking=none",
            f"paths.output={output}",
            *TINY_TRAINING,
            *settings,
        )
        assert done.returncode == 0, done.stderr
        (folder,) = run_folders(output)
        return Run(folder), done.stdout

    return start


@pytest.mark.slow
@pytest.mark.parametrize("collator", ["seq2seq", "shared_schema"])
def test_two_processes_train_as_one_does(train, together, tmp_path, collator):
    chosen = (f"collator={collator}", *EVERY_STEP_SEES_EVERY_ROW)
    rows = "trainer.per_device_train_batch_size="
    alone = train(*chosen, f"{rows}8", output=tmp_path / "alone")
    run, printed = together(*chosen, f"{rows}4")
    assert len(run.metrics) == 3
    for one, other in zip(alone.metrics, run.metrics, strict=True):
        assert one["step"] == other["step"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert run.result["eval_loss"] == pytest.approx(alone.result["eval_loss"], rel=1e-3)
    assert printed.count("held-out questions") == 1


@pytest.mark.slow
def test_two_processes_share_the_answering_and_find_what_one_does(train, together, tmp_path):
    untrained = ("trainer.max_steps=0", "evaluation.base=false", "evaluation.limit=12")
    alone = train(*untrained, output=tmp_path / "alone")
    run, _ = together(*untrained)

    def answered(where: Path) -> list[tuple[str, ...]]:
        with (where / "predictions.csv").open(encoding="utf-8", newline="") as file:
            return [(row["row"], row["prediction"], row["verdict"]) for row in csv.DictReader(file)]

    assert len(answered(run.folder)) == 12
    assert answered(run.folder) == answered(alone.folder)
