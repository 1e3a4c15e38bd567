"""The picture of accuracies, whatever databases and files are called."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from qc_experiments.evaluation.plot import accuracy_plot

SHARE = {"value": 0.5, "low": 0.3, "high": 0.7, "hits": 1, "count": 2}


def report(*names: str) -> dict[str, Any]:
    return {
        "figures": {"execution_accuracy": SHARE, "exact_match": SHARE},
        "by_hardness": {"easy": SHARE},
        "by_database": dict.fromkeys(names, SHARE),
    }


@pytest.mark.parametrize(
    "name",
    ["商店", "متجر", "store 🏪", "a$b$c", "$\\frac{$", "größe", "x" * 200, "a\nb"],
)
def test_any_name_is_drawn_without_a_word_on_the_terminal(capfd, caplog, name):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        picture = accuracy_plot({name: report(name, "shop"), "other": report(name, "shop")})
    assert picture.startswith(b"\x89PNG")
    # What earlier tests left open is collected at any time, and says so.
    of_plot = [one for one in said if not issubclass(one.category, ResourceWarning)]
    assert [str(one.message) for one in of_plot] == []
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
