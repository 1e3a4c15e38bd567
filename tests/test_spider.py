"""A run on Spider, where it is at hand (QC_SPIDER, or a folder beside the checkout)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import ROOT

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
    assert {row["verdict"] for row in run.rows()} <= {"correct", "wrong_rows", "error"}


def test_every_dev_gold_runs_and_is_judged_correct_against_itself():
    from qc_experiments.config import ColumnsConfig, OnInvalid
    from qc_experiments.data.table import read_table
    from qc_experiments.evaluation.metrics import figures, judge

    table = read_table(SPIDER / "dev.csv", ColumnsConfig(), OnInvalid.error)
    golds = [row.query for row in table.rows]
    found = figures(judge(table.rows, golds, SPIDER / "database", timeout=20))
    assert found["execution_correct"] == found["execution_count"] == len(table.rows)
    assert found["exact_match"] == 1.0
