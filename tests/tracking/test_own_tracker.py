"""A user's own tracker, from outside the package: a module on PYTHONPATH, a YAML in --config-dir."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from helpers.runs import TINY_TRAINING, run_folders

from qc_experiments.cli.train import main

MODULE = '''
import json


class Notebook:
    """Writes everything it is told into one file."""

    def __init__(self, run):
        self.file = (run.folder / "notebook.jsonl").open("w")
        self.note(name=run.name, lr=run.settings["trainer"]["learning_rate"])

    def note(self, **what):
        self.file.write(json.dumps(what) + "\\n")

    def log(self, step, figures):
        self.note(step=step, loss=figures.get("loss"))

    def table(self, name, columns, rows):
        self.note(table=name, rows=len(rows))

    def summary(self, figures):
        self.note(status=figures["status"])

    def close(self, exit_code):
        self.note(exit_code=exit_code)
        self.file.close()


def refusing(run):
    raise AssertionError("never made")


def no_notes(config):
    from qc_experiments.errors import UserError
    raise UserError(f"tracking.project={config.project}: no notes today")


refusing.check = no_notes


def broken(run):
    raise ConnectionError("nobody there")


class Half(Notebook):
    table = summary = None


def half(run):
    return Half(run)


def none(run):
    return None


number = 5


class Leaving(Notebook):
    def log(self, step, figures):
        raise SystemExit(3)
'''


@pytest.fixture
def own(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    """Arguments of ``qc train`` with the module and option file of a user: ``own("my_trackers.broken")``."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "my_trackers.py").write_text(MODULE)
    (tmp_path / "conf" / "tracking").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.delitem(sys.modules, "my_trackers", raising=False)

    def arguments(name: str) -> list[str]:
        (tmp_path / "conf" / "tracking" / "mine.yaml").write_text(f"name: {name}\n")
        return [
            *("--config-dir", str(tmp_path / "conf"), "tracking=mine"),
            *("model=hub", f"model.name_or_path={tiny_model}"),
            *(f"paths.output={tmp_path / 'out'}", *TINY_TRAINING, "trainer.max_steps=1"),
        ]

    return arguments


def test_a_users_tracker_is_told_everything(own, tmp_path):
    main(own("my_trackers.Notebook"))
    [folder] = run_folders(tmp_path / "out")
    notes = [json.loads(line) for line in (folder / "notebook.jsonl").read_text().splitlines()]
    assert notes[0]["name"] == folder.name
    assert any(note.get("step") == 1 and note["loss"] for note in notes)
    assert {"status": "finished"} in notes
    assert notes[-1] == {"exit_code": 0}


def test_its_own_check_refuses_before_anything_is_written(own, tmp_path, refused):
    line = refused(main, own("my_trackers.refusing"))
    assert line == "error: tracking.project=qc_experiments: no notes today"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Half", "its tracker (Half) lacks the methods table, summary"),
        ("half", "its tracker (Half) lacks the methods table, summary"),
        ("none", "its tracker (NoneType) lacks the methods log, table, summary, close"),
        ("number", "it is 5, not a function"),
    ],
)
def test_what_is_no_tracker_is_refused_before_the_training(own, tmp_path, refused, name, said):
    line = refused(main, own(f"my_trackers.{name}"))
    assert line == f"error: tracking.name=my_trackers.{name}: {said}"
    assert not list(tmp_path.glob("out/*/checkpoints/*"))


def test_one_that_leaves_does_not_end_the_run(own, tmp_path, capsys):
    main(own("my_trackers.Leaving"))
    assert "failed and gets no more data (SystemExit: 3)" in capsys.readouterr().err
    [folder] = run_folders(tmp_path / "out")
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"


def test_one_that_cannot_be_started_does_not_end_the_run(own, capsys):
    main(own("my_trackers.broken"))
    said = capsys.readouterr().err
    assert "my_trackers.broken could not be started (ConnectionError: nobody there)" in said
