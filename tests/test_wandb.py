"""The W&B run that a training leaves behind, read back by W&B itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run

from qc_experiments.config import WandbMode
from qc_experiments.tracking.wandb_run import wandb_mode


def offline_run(run: Run) -> Path:
    found = list((run.folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(found) == 1
    return found[0]


def inspect(path: Path, *flags: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", *flags, "--json", str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


@pytest.fixture
def tracked(train) -> Run:
    return train("tracking=wandb", "tracking.tags=[demo]", "tracking.group=mine", "lora.r=2")


def test_the_offline_run_holds_config_history_and_summary(tracked):
    path = offline_run(tracked)
    found = json.loads(inspect(path, "--summary"))
    assert found["config"]["lora"]["r"] == 2
    assert found["config"]["trainer"]["gradient_accumulation_steps"] == 1
    text = json.dumps(found)
    for key in ("eval_loss", "execution_accuracy", "base_eval_loss", "examples_per_second"):
        assert key in text
    records = [json.loads(line) for line in inspect(path).splitlines()]
    steps = [record for record in records if record.get("type") == "history"]
    assert len(steps) >= 3
    whole = json.dumps(records)
    assert "table-file" in whole  # the predictions
    assert f"{tracked.metrics[0]['loss']}"[:8] in whole
    assert list((path.parent / "files" / "media" / "table").glob("predictions*"))


def test_each_job_of_a_sweep_is_a_run_of_its_own(train, tmp_path):
    import wandb

    one = train("tracking=wandb", "lora.r=2", output=tmp_path)
    two = train("tracking=wandb", "lora.r=3", output=tmp_path)
    assert wandb.run is None
    assert offline_run(one).name != offline_run(two).name
    assert json.loads(inspect(offline_run(two), "--summary"))["config"]["lora"]["r"] == 3


def test_nothing_is_written_outside_the_runs_folder(tracked, tmp_path):
    outside = [p for p in tmp_path.rglob("wandb") if tracked.folder not in p.parents]
    assert outside == []


def test_without_a_login_the_mode_is_offline(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb_mode(WandbMode.auto) == "offline"
    assert wandb_mode(WandbMode.online) == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode(WandbMode.auto) == "disabled"
    assert wandb_mode(WandbMode.offline) == "offline"
