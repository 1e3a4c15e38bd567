"""A user's own collator, from outside the package: a module on PYTHONPATH, a YAML in --config-dir."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.runs import TINY_TRAINING, Run, run_folders

from qc_experiments.cli.train import main
from qc_experiments.config.plugins import COLLATORS, check_name, content_hash
from qc_experiments.errors import UserError

MODULE = '''
import torch
from torch.utils.data import SequentialSampler


class InOrder:
    """Pads on the right and takes the rows in their order."""

    def __init__(self, given):
        self.pad = given.tokenizer.pad_token_id
        self.order = SequentialSampler(given.examples)

    def check(self, model):
        print("can train", type(model).__name__)

    def __call__(self, examples):
        width = max(map(len, examples))
        def filled(rows, value):
            return torch.tensor([row + [value] * (width - len(row)) for row in rows])
        return {
            "input_ids": filled([e.input_ids for e in examples], self.pad),
            "attention_mask": filled([[1] * len(e) for e in examples], 0),
            "labels": filled([e.labels for e in examples], -100),
        }


def half(given):
    return lambda examples: {"input_ids": torch.zeros(1, 1)}


def batches(change):
    """Makes collators whose batches a function has changed."""
    return lambda given: lambda examples: change(InOrder(given)(examples))


number = 5
leaves = lambda given: exit(1)
gives_none = lambda given: None
raises = lambda given: lambda examples: 1 / 0
no_dict = batches(lambda batch: list(batch))
loses_rows = batches(lambda batch: {key: rows[:1] for key, rows in batch.items()})
other_length = batches(lambda batch: {**batch, "labels": batch["labels"][:, 1:]})
lists = batches(lambda batch: {**batch, "labels": batch["labels"].tolist()})
unlabelled = batches(lambda batch: {**batch, "labels": torch.full_like(batch["labels"], -100)})
'''


@pytest.fixture
def own(tmp_path: Path, tiny_model: Path):
    """Arguments of ``qc train`` with the module and option file of a user: ``own("my_collators.half")``."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "my_collators.py").write_text(MODULE)
    (tmp_path / "conf" / "collator").mkdir(parents=True)

    def arguments(name: str) -> list[str]:
        (tmp_path / "conf" / "collator" / "mine.yaml").write_text(f"name: {name}\n")
        return [
            *("--config-dir", str(tmp_path / "conf"), "collator=mine"),
            *("model=hub", f"model.name_or_path={tiny_model}", "tracking=none"),
            *(f"paths.output={tmp_path / 'out'}", *TINY_TRAINING, "trainer.max_steps=2"),
        ]

    return arguments


@pytest.mark.slow
def test_a_run_with_a_users_collator(own, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "qc_experiments", "train", *own("my_collators.InOrder")],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "code")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "can train" in done.stdout
    [folder] = run_folders(tmp_path / "out")
    assert Run(folder).result["status"] == "finished"
    assert "my_collators.InOrder" in folder.name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("my_collators.missing", "has no attribute 'missing'"),
        ("no_such_module.collator", "is its folder on PYTHONPATH?"),
        ("my_collators.half", "its batch lacks attention_mask, labels"),
        ("my_collators.number", "it is 5, not a function"),
        ("my_collators.leaves", "fails on a trial (SystemExit: 1)"),
        ("my_collators.gives_none", "it gives None, not a function"),
        ("my_collators.raises", "fails on a trial (ZeroDivisionError: division by zero)"),
        ("my_collators.no_dict", "its batch is list, not a dict"),
        ("my_collators.loses_rows", "not [rows, length] as the input_ids of 2 rows"),
        ("my_collators.other_length", "its labels has the shape"),
        ("my_collators.lists", "its labels is list, not a tensor"),
        ("my_collators.unlabelled", "its labels are all -100"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line_before_anything_is_written(
    own, tmp_path, monkeypatch, refused, name, reason
):
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.delitem(sys.modules, "my_collators", raising=False)
    line = refused(main, own(name))
    assert f"collator.name={name}" in line
    assert reason in line
    assert not (tmp_path / "out").exists()


def test_the_file_of_a_users_collator_is_part_of_the_runs_identity(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "hashed_collator.py").write_text("one = 1")
    before = content_hash("hashed_collator.one", COLLATORS)
    (tmp_path / "hashed_collator.py").write_text("one = 2")
    assert before != content_hash("hashed_collator.one", COLLATORS)
    assert content_hash("seq2seq", COLLATORS) is None


def test_a_name_that_is_neither_ours_nor_dotted_is_refused_at_the_door():
    with pytest.raises(UserError, match="must be one of default, seq2seq"):
        check_name("collator.name", "seq3seq", COLLATORS)
