"""`qc plan` says what a run would do, and nothing else."""

from __future__ import annotations

from helpers.runs import TINY_TRAINING, child


def test_nothing_of_the_libraries_is_printed_where_wandb_is_offline(
    tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    model = ("model=hub", f"model.name_or_path={tiny_model}", f"paths.output={tmp_path}")
    done = child("-m", "qc_experiments", "plan", *model, *TINY_TRAINING)
    assert done.returncode == 0, done.stderr
    assert "Steps" in done.stdout
    assert "WANDB" not in done.stdout
