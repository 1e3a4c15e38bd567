"""The table of metrics: what everything else reads, and nothing repeats."""

from __future__ import annotations

from pathlib import Path

import pytest

import qc_experiments
from qc_experiments.config.metrics import (
    LOSS,
    METRICS,
    RESULT,
    Metric,
    indented,
    metric_of,
    plain_metric,
    recorded,
)

PACKAGE = Path(qc_experiments.__file__).parent


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.key)
def test_no_other_module_spells_a_metric_out(metric):
    places = {
        str(path.relative_to(PACKAGE))
        for pattern in ("*.py", "*.js")
        for path in PACKAGE.rglob(pattern)
        if any(f"{mark}{metric.key}{mark}" in path.read_text("utf-8") for mark in "\"'")
    }
    # The page has columns and plots of its own for two of them.
    assert places - {"comparison/views/page.js"} == {"config/metrics.py"}


def test_a_result_holds_every_metric_and_that_of_the_base_model():
    keys = list(RESULT)
    for metric in METRICS:
        assert metric.key in keys
        assert (f"base_{metric.key}" in keys) == metric.during_training
    own = Metric("mine", "my metric", lambda judged: [True] * len(judged))
    assert list(recorded((own,)).keys() - RESULT.keys()) in (
        ["mine", "base_mine"],
        ["base_mine", "mine"],
    )
    assert [key for key in recorded((own,)) if "mine" not in key] == keys


def test_values_are_shown_as_shares_or_numbers():
    share = Metric("mine", "my metric", lambda judged: 0.5)
    assert (share.shown(0.256), share.shown(0.256, unit=False)) == ("25.6 %", "25.6")
    assert (LOSS.shown(1.5), LOSS.shown(None)) == ("1.5000", "")
    assert LOSS.long_title == "validation loss (nats per token)"
    assert [indented(one) for one in METRICS[1:4]] == [
        "execution accuracy",
        "  after one repair",
        "  on all perturbed databases",
    ]


def test_what_is_written_down_of_a_metric_is_enough_to_show_it():
    metric = Metric("mine", "my metric", lambda judged: 2, False, False, "words")
    read = metric_of("mine", plain_metric(metric))
    assert plain_metric(read) == plain_metric(metric)
    assert read.kind is metric.kind
