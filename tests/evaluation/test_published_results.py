"""What docs/results says of Spider comes out again when its predictions are judged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers.runs import ROOT

from qc_experiments import evaluate

RESULTS = sorted((ROOT / "docs" / "results").glob("*/report.json"))
SPIDER = Path(os.environ.get("QC_SPIDER", ROOT / "spider"))


@pytest.mark.slow
@pytest.mark.skipif(not (SPIDER / "dev.csv").exists(), reason="needs Spider: QC_SPIDER=DIR")
@pytest.mark.parametrize("kept", RESULTS, ids=[path.parent.name for path in RESULTS])
def test_published_predictions_give_the_figures_that_are_reported(kept, tmp_path):
    found = evaluate(
        kept.with_name("predictions.csv"),
        SPIDER / "database",
        tmp_path / "judged",
        golds=str(SPIDER / "dev.csv"),
        fuzz=5,
    )
    said = json.loads(kept.read_text())
    assert found["figures"] == said["figures"]
    assert found["by_hardness"] == said["by_hardness"]


def test_the_pages_say_what_the_reports_say():
    page = (ROOT / "docs" / "results" / "index.md").read_text()
    readme = (ROOT / "README.md").read_text()
    for kept in RESULTS:
        figures = json.loads(kept.read_text())["figures"]
        right, valid = figures["execution_accuracy"], figures["valid_sql"]
        share, low, high = (f"{100 * right[key]:.1f}" for key in ("value", "low", "high"))
        others = [
            f"{100 * figures[k]['value']:.1f}"
            for k in ("ex_bird", "ex_test_suite", "fuzz_accuracy")
        ]
        cells = [f"**{share} %** ({right['hits']} of {right['count']}; {low} to {high})", *others]
        assert " | ".join([*cells, f"{100 * valid['value']:.1f}"]) in page
        found = f"{share} % ({right['hits']}) | {low} to {high} % | {100 * valid['value']:.1f} %"
        assert found in readme.replace("**", "")


def test_published_files_quote_no_gold():
    assert RESULTS
    for kept in RESULTS:
        said = json.loads(kept.read_text())
        assert all(set(one) == {"row", "db_id"} for one in said["gold_errors"])
        assert all(set(one) == {"row", "db_id"} for one in said["ambiguous_golds"])
        header = kept.with_name("predictions.csv").read_text().splitlines()[0]
        assert header == "row,prediction"
