"""Training on two processes: the same objective as on one."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from helpers.runs import TINY_TRAINING, Run, child, run_folders

# The order of the rows differs with the number of processes; so a step takes them all.
EVERY_STEP_SEES_EVERY_ROW = ("data.limit=8",)


@pytest.mark.parametrize("collator", ["seq2seq", "shared_schema"])
def test_two_processes_train_as_one_does(train, tiny_model, tmp_path, collator):
    chosen = (f"collator={collator}", *EVERY_STEP_SEES_EVERY_ROW)
    alone = train(
        *chosen,
        "trainer.per_device_train_batch_size=8",
        output=tmp_path / "alone",
    )
    output = tmp_path / "together"
    script = Path(sys.executable).parent / "torchrun"
    done = child(
        str(script),
        "--nproc_per_node=2",
        "train.py",
        "model=hub",
        f"model.name_or_path={tiny_model}",
        "tracking=none",
        f"paths.output={output}",
        *TINY_TRAINING,
        *chosen,
        "trainer.per_device_train_batch_size=4",
    )
    assert done.returncode == 0, done.stderr
    (folder,) = run_folders(output)
    together = Run(folder)
    assert len(together.metrics) == 3
    for one, other in zip(alone.metrics, together.metrics, strict=True):
        assert one["step"] == other["step"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert together.result["eval_loss"] == pytest.approx(alone.result["eval_loss"], rel=1e-3)
    assert done.stdout.count("held-out questions") == 1


def test_two_processes_share_the_answering_and_find_what_one_does(train, tiny_model, tmp_path):
    untrained = ("trainer.max_steps=0", "evaluation.base=false", "evaluation.limit=12")
    alone = train(*untrained, output=tmp_path / "alone")
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
        *untrained,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = run_folders(output)

    def answered(where: Path) -> list[tuple[str, ...]]:
        with (where / "predictions.csv").open(encoding="utf-8", newline="") as file:
            return [(row["row"], row["prediction"], row["verdict"]) for row in csv.DictReader(file)]

    assert len(answered(folder)) == 12
    assert answered(folder) == answered(alone.folder)
