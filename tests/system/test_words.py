"""Nouns agree with their numbers, in whatever is said."""

from __future__ import annotations

import re

from helpers.runs import ROOT

from qc_experiments.system.words import counted


def test_a_noun_agrees_with_its_number():
    assert [counted(n, "run") for n in (0, 1, 2, 1200)] == [
        "0 runs",
        "1 run",
        "2 runs",
        "1,200 runs",
    ]
    assert counted(1, "gold query fails", "gold queries fail") == "1 gold query fails"
    assert counted(3, "gold query fails", "gold queries fail") == "3 gold queries fail"


def test_no_message_leaves_the_number_to_its_reader():
    files = sorted((ROOT / "qc_experiments").rglob("*.py"))
    assert [file for file in files if re.search(r"[a-z]\(s\)", file.read_text())] == []
