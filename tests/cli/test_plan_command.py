"""`qc plan` says what a run would do, and nothing else."""

from __future__ import annotations

import pytest
from helpers.runs import TINY_TRAINING, child

from qc_experiments.cli.plan import main


@pytest.mark.slow
def test_nothing_of_the_libraries_is_printed_where_wandb_is_offline(
    tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    model = ("model=hub", f"model.name_or_path={tiny_model}", f"paths.output={tmp_path}")
    done = child("-m", "qc_experiments", "plan", *model, *TINY_TRAINING)
    assert done.returncode == 0, done.stderr
    assert "Steps" in done.stdout
    assert "WANDB" not in done.stdout


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("mine.csv", "is an input"),
        ("other.csv", "is a file that is no experiment"),
        ("folder", "is a folder"),
        ("mine.csv/x/mine.yaml", "mine.csv is no folder"),
    ],
)
def test_a_preset_is_written_over_nothing_else(tmp_path, refused, monkeypatch, target, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    text = "question,query,context\nq,SELECT a FROM t,CREATE TABLE t (a)\n"
    for name in ("mine.csv", "other.csv"):
        (tmp_path / name).write_text(text)
    given = ["data=csv", "data.train=mine.csv", "experiment=auto", f"plan.save={target}"]
    assert said in refused(main, given)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "mine.csv", "other.csv"}
    assert (tmp_path / "mine.csv").read_text() == (tmp_path / "other.csv").read_text() == text
