"""A run on Spider, where it is at hand (QC_SPIDER, or a folder beside the checkout)."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from helpers.runs import ROOT

SPIDER = Path(os.environ.get("QC_SPIDER", ROOT.parent / "shared" / "data" / "spider"))
pytestmark = pytest.mark.skipif(
    not (SPIDER / "dev.csv").is_file(), reason="Spider is not at hand: set QC_SPIDER to its folder"
)


def test_64_training_rows_and_execution_accuracy_on_20_dev_rows(train, monkeypatch):
    monkeypatch.setenv("QC_SPIDER", str(SPIDER))
    run = train("data=spider", "data.limit=64", "evaluation.limit=20", "data.max_length=2048")
    assert run.result["execution_count"] == 20
    assert 60 <= run.result["examples"] <= 64  # rows beyond the window are left out
    assert {row["db_id"] for row in run.rows()} <= {p.name for p in (SPIDER / "database").iterdir()}
    assert {row["verdict"] for row in run.rows()} <= {"correct", "wrong"}


def golds(name: str) -> list[dict[str, str]]:
    with (SPIDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_dev_gold_is_judged_right_against_itself(tmp_path, monkeypatch):
    from qc_experiments.cli import evaluate as command

    rows = golds("dev.csv")
    source = tmp_path / "golds.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["db_id", "question", "query", "prediction"])
        for row in rows:
            writer.writerow([row["db_id"], row["question"], row["query"], row["query"]])
    output, databases = tmp_path / "out", str(SPIDER / "database")
    cache = str(tmp_path / "cache")
    arguments = [str(source), "--databases", databases, "--output", str(output)]
    command.main([*arguments, "--timeout", "20", "--cache", cache])
    report = json.loads((output / "report.json").read_text())
    for name in ("execution_accuracy", "ex_bird", "ex_test_suite", "exact_match", "valid_sql"):
        found = report["figures"][name]
        assert (found["hits"], found["count"]) == (972, 972), name
    assert report["gold_errors"] == []
    assert 0 < len(report["ambiguous_golds"]) < 100
    assert set(report["by_hardness"]) == {"easy", "medium", "hard", "extra"}


def test_extraction_leaves_every_gold_as_it_is():
    from qc_experiments.sql.extraction import answer_complete, extract_sql

    for name in ("train.csv", "dev.csv", "train_others.csv"):
        for row in golds(name):
            query = row["query"].strip().rstrip(";").strip()
            assert extract_sql(query) == query, row
            assert extract_sql(f"```sql\n{query}\n```") == query, row
            assert extract_sql(f"Here is the query:\n{query};\nIt counts.") == query, row
            assert not answer_complete(query), row
