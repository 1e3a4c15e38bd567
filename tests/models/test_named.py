"""Which saved model is meant by a run's folder, its name, or the word latest."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from qc_experiments.errors import UserError
from qc_experiments.models.named import named_model


def run(folder: Path, at: int, status: str = "finished", saves: str | None = "adapter") -> Path:
    """A run's folder as far as is looked at; it ended at a time."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 1\n")
    if saves is not None:
        (folder / saves).mkdir()
        (folder / saves / "prompting.json").write_text("{}")
    result = folder / "result.json"
    result.write_text(json.dumps({"status": status}))
    os.utime(result, (at, at))
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    place = tmp_path / "outputs"
    run(place / "old", 100)
    run(place / "sweep" / "part" / "new", 300, saves="model")
    run(place / "middle", 200)
    run(place / "failed", 400, status="failed")
    run(place / "paused", 500, status="paused", saves=None)
    run(place / "unreadable", 600)
    (place / "unreadable" / "result.json").write_text("[")
    working = run(place / "working", 700)
    (working / "result.json").unlink()
    return place


def test_latest_is_the_run_that_finished_last(outputs):
    newest = outputs / "sweep" / "part" / "new" / "model"
    assert named_model("latest", "--adapter", str(outputs)) == newest
    os.utime(outputs / "old" / "result.json", (350, 350))
    assert named_model("latest", "--adapter", str(outputs)) == outputs / "old" / "adapter"


def test_a_run_is_named_by_its_folder_its_model_or_its_name(outputs, monkeypatch):
    adapter = outputs / "old" / "adapter"
    for text in (str(outputs / "old"), str(adapter), "old"):
        assert named_model(text, "--adapter", str(outputs)) == adapter
    run(outputs.parent / "latest", 1)
    monkeypatch.chdir(outputs.parent)
    assert named_model("./latest", "--adapter", "outputs") == Path("latest/adapter")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{outputs}", "is not a run but holds some: name one, such as {outputs}/failed, or latest"),
        ("{outputs}/paused", "the run has not saved adapter or model/ yet"),
        ("{outputs}/absent", "no such folder; name a run's folder, or latest"),
        ("{outputs}/old/config.yaml", "is a file, not a folder"),
    ],
)
def test_what_is_no_run_is_told_in_one_line(outputs, text, said):
    with pytest.raises(UserError, match=r"^--adapter ") as refused:
        named_model(text.format(outputs=outputs), "--adapter", str(outputs))
    assert said.format(outputs=outputs) in str(refused.value)


def test_without_a_finished_run_there_is_no_latest(tmp_path):
    with pytest.raises(UserError, match=r"no run here yet \(.*absent: no such folder\): train"):
        named_model("latest", "--adapter", str(tmp_path / "absent"))
    run(tmp_path / "outputs" / "paused", 1, status="paused", saves=None)
    with pytest.raises(UserError, match=r"no run below .* has finished"):
        named_model("latest", "--adapter", str(tmp_path / "outputs"))
