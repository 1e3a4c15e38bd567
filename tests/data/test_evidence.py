"""Hints that come with questions, in training and whenever the model is asked."""

from __future__ import annotations

import csv

import pytest

from qc_experiments.cli import predict
from qc_experiments.data.table import Row, hash_rows
from qc_experiments.data.template import Template
from qc_experiments.generation.saved import SavedPredictor
from qc_experiments.models.saved import SavedPrompting

SCHEMA = "CREATE TABLE t (a INTEGER, b INTEGER)"
TEMPLATE = "{context}\nHint: {evidence}\n{question}\nSQL: {query}"
ROWS = [
    (
        f"How many of kind {n}?",
        f"SELECT count(*) FROM t WHERE a = {n}",
        SCHEMA,
        f"kind {n} is a = {n}",
    )
    for n in range(6)
]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "hints.txt").write_text(TEMPLATE, encoding="utf-8")
    for name, columns in (("with.csv", 4), ("without.csv", 3)):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            header = ("question", "query", "context", "evidence")
            csv.writer(file).writerows(row[:columns] for row in (header, *ROWS))
    return tmp_path


def test_the_hint_stands_where_the_template_says():
    assert Template(TEMPLATE, "mine").prompt("c", "q", "h") == "c\nHint: h\nq\nSQL:"
    assert not Template("{context}{question}{query}", "mine").takes_evidence


def test_a_model_is_trained_and_asked_with_hints(train, files, monkeypatch, refused, capsys):
    settings = ("data=csv", f"data.template={files / 'hints.txt'}", "trainer.max_steps=1")
    settings += ("evaluation.max_new_tokens=4", "data.engine=duckdb")
    run = train(*settings, f"data.train={files / 'with.csv'}")
    assert SavedPrompting.load(run.folder / "adapter").dialect == "duckdb"
    adapter, asked = str(run.folder / "adapter"), []
    prompts = SavedPredictor.prompts

    def remember(self, rows, names):
        asked.extend(self._encoder.template.prompt(r.context, r.question, r.evidence) for r in rows)
        return prompts(self, rows, names)

    monkeypatch.setattr(SavedPredictor, "prompts", remember)
    given = ["--adapter", adapter, "--output", str(files / "out.csv")]
    predict.main([*given, "--input", str(files / "with.csv")])
    assert "Hint: kind 3 is a = 3\n" in asked[3]
    capsys.readouterr()
    line = refused(predict.main, [*given, "--input", str(files / "without.csv")])
    assert "without.csv: has no column evidence" in line


def test_a_template_with_a_field_that_the_csv_lacks_is_refused(train, files, refused):
    template, rows = files / "hints.txt", files / "without.csv"
    line = refused(lambda: train("data=csv", f"data.template={template}", f"data.train={rows}"))
    assert "hints.txt: has {evidence}" in line
    assert "without.csv has no column evidence" in line


def test_hints_that_no_template_takes_are_told(train, files, capsys):
    train("data=csv", f"data.train={files / 'with.csv'}", "trainer.max_steps=1")
    assert "its column evidence is not used" in capsys.readouterr().err


def test_hints_are_a_part_of_the_data_and_rows_without_hash_as_before():
    plain = Row(2, "q", "SELECT 1", SCHEMA)
    assert hash_rows([plain]) == hash_rows([Row(2, "q", "SELECT 1", SCHEMA, evidence="")])
    assert hash_rows([plain]) != hash_rows([Row(2, "q", "SELECT 1", SCHEMA, evidence="h")])
