"""Votes of many samples are measured by a script that goes on where it was stopped."""

from __future__ import annotations

import csv

import pytest
from helpers.runs import ROOT, child

from qc_experiments.system.files import csv_text


@pytest.mark.slow
def test_votes_are_counted_and_no_sample_is_asked_for_twice(train, tmp_path):
    with (ROOT / "qc_experiments" / "demo" / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:4]
    rows[3]["context"] += "\n-- " + "very long " * 2000  # the run was not asked it
    held_out = tmp_path / "held_out.csv"
    held_out.write_text(csv_text(list(rows[0]), [list(row.values()) for row in rows]))
    run = train(f"data.validation={held_out}")

    def measured(*options: str) -> str:
        output = ("--output", str(tmp_path / "votes"), "--candidates", "2")
        done = child("scripts/measure_votes.py", str(run.folder), *output, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = measured()
    table = [line.split("|")[1].strip() for line in first.splitlines() if line.startswith("|")]
    assert table == ["votes", "---", "1", "2"]
    assert "of 3;" in first
    (samples,) = (tmp_path / "votes").rglob("samples.jsonl")
    kept = samples.read_bytes()
    assert measured() == first
    assert samples.read_bytes() == kept
    measured("--temperature", "0.5")
    assert samples.read_bytes() == kept
    assert len(list((tmp_path / "votes").rglob("samples.jsonl"))) == 2
    with (samples.parent / "votes_2" / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
