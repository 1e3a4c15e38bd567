"""Nouns agree with their numbers, in whatever is said."""

from __future__ import annotations

import re

from helpers.runs import ROOT

from qc_experiments.system.words import age, counted, size


def test_a_noun_agrees_with_its_number():
    assert [counted(n, "run") for n in (0, 1, 2, 1200)] == [
        "0 runs",
        "1 run",
        "2 runs",
        "1,200 runs",
    ]
    assert counted(1, "gold query fails", "gold queries fail") == "1 gold query fails"
    assert counted(3, "gold query fails", "gold queries fail") == "3 gold queries fail"


def test_bytes_and_ages_are_said_as_people_do():
    sizes = (0, 999, 1000, 1_250_000, 3.4e9, 2e12)
    assert [size(n) for n in sizes] == ["0 B", "999 B", "1.0 kB", "1.2 MB", "3.4 GB", "2000.0 GB"]
    ages = (-5, 0, 119, 120, 7199, 7200, 3 * 86_400)
    told = ["now", "now", "now", "2 min", "119 min", "2 h", "3 days"]
    assert [age(seconds) for seconds in ages] == told


def test_no_message_leaves_the_number_to_its_reader():
    files = sorted((ROOT / "qc_experiments").rglob("*.py"))
    assert [file for file in files if re.search(r"[a-z]\(s\)", file.read_text())] == []
