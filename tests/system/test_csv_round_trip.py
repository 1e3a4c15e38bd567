"""Every CSV that we write is read back as it was: by our reader, by Python's and by pandas."""

from __future__ import annotations

import csv
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas
import pytest
from helpers.written_runs import write_run
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qc_experiments.cli.compare import main as compare_main
from qc_experiments.cli.evaluate import main as evaluate_main
from qc_experiments.comparison.predictions import read_answers
from qc_experiments.data.table import read_cells
from qc_experiments.system.files import csv_text, write_whole

EXAMPLES = int(os.environ.get("QC_EXAMPLES", "150"))
"""More of them by hand: ``QC_EXAMPLES=100000 pytest tests/test_csv_round_trip.py``."""

AWKWARD = "\r\n\"', \t;=+-@a\u2028\u2029\x0b\x0c\x1c\x1f\x85\xa0\ufeffé😀\\#N/A"
texts = st.text(st.sampled_from(AWKWARD) | st.characters(codec="utf-8", exclude_characters="\0"))


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(1, 3))
    row = st.lists(texts, min_size=width, max_size=width)
    return draw(st.lists(row, min_size=1, max_size=4))


def read_by_all(path: Path) -> dict[str, list[list[str]]]:
    """Header and rows as each reader finds them."""
    header, numbered = read_cells(path)
    with path.open(encoding="utf-8", newline="") as file:
        python = list(csv.reader(file))
    frame = pandas.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    return {
        "ours": [header, *(cells for _, cells in numbered)],
        "python": python,
        "pandas": [list(frame.columns), *frame.to_numpy().tolist()],
    }


@settings(max_examples=EXAMPLES, deadline=None)
@given(table=tables())
@example(table=[["SELECT name\rFROM author"], ["a\r\nb"], ["\r"], ["\n"]])
@example(table=[[""], [" "], ["\t"], [""]])
@example(table=[["\ufeff", "\ufeffa"], ["", ""]])
@example(table=[['"', '""'], ["=1+1", "-x"], [" a ", "\u2028"]])
def test_any_cell_comes_back(tmp_path_factory, table):
    header = ["question", "prediction", "note"][: len(table[0])]
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    path.write_bytes(csv_text(header, table).encode())
    for reader, found in read_by_all(path).items():
        assert found == [header, *table], reader


@settings(max_examples=EXAMPLES, deadline=None)
@given(names=st.lists(texts.map(str.strip).filter(bool), min_size=2, max_size=4, unique=True))
@example(names=["\ufeffquestion", "a\rb"])
def test_any_name_of_a_column_comes_back(tmp_path_factory, names):
    path = tmp_path_factory.getbasetemp() / "header.csv"
    path.write_bytes(csv_text(names, [["x"] * len(names)]).encode())
    for reader, found in read_by_all(path).items():
        assert found[0] == names, reader


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "caf\udce9", "\udfff\ud83d"])
def test_what_no_csv_can_hold_is_replaced_and_the_file_is_whole(tmp_path, text):
    path = tmp_path / "p.csv"
    write_whole(path, csv_text(["question", "prediction"], [["q", text], ["r", "SELECT 1"]]))
    held = "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)
    for reader, found in read_by_all(path).items():
        assert found[1:] == [["q", held], ["r", "SELECT 1"]], reader


def test_a_text_with_what_utf_8_cannot_hold_is_written_all_the_same(tmp_path):
    write_whole(tmp_path / "summary.txt", "Files: out\udcff\n")
    assert (tmp_path / "summary.txt").read_text() == "Files: out\\udcff\n"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask


PREDICTIONS = ["SELECT name\rFROM item", "SELECT 'a\r\nb'\n", " SELECT 1 ", "=cmd()", '"', "\ufeff"]


def test_judged_csv_is_read_again_by_all_and_judged_the_same(tmp_path):
    (tmp_path / "db" / "shop").mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / "db" / "shop" / "shop.sqlite")) as connection:
        connection.executescript("CREATE TABLE item (name TEXT); INSERT INTO item VALUES ('pen');")
    header = ["db_id", "question", "query", "prediction"]
    rows = [["shop", "Names?\r", "SELECT name FROM item", one] for one in PREDICTIONS]
    write_whole(tmp_path / "p.csv", csv_text(header, rows))
    arguments = ["--databases", str(tmp_path / "db"), "--cache", str(tmp_path / "cache")]
    found = []
    for source, output in ((tmp_path / "p.csv", "one"), (tmp_path / "one" / "judged.csv", "two")):
        evaluate_main([str(source), *arguments, "--output", str(tmp_path / output)])
        read = read_by_all(tmp_path / output / "judged.csv")
        assert read["ours"] == read["python"] == read["pandas"]
        found.append([cells[:-1] for cells in read["ours"]])  # without the seconds
    assert found[0] == found[1]
    assert [cells[:4] for cells in found[0]] == [header, *rows]
    assert [cells[4] for cells in found[0][1:]] == ["1", "0", "0", "0", "0", "0"]


def test_compare_reads_and_writes_them_too(tmp_path):
    folder = write_run(tmp_path / "runs" / "a\rb", "11", result={"config_hash": "1"})
    header = ["row", "db_id", "question", "query", "prediction", "correct"]
    rows = [["2", "shop", "q\r", "SELECT 1", one, "1"] for one in PREDICTIONS]
    write_whole(folder / "predictions.csv", csv_text(header, rows))
    assert [one.prediction for one in read_answers(folder / "predictions.csv")] == PREDICTIONS
    write_run(tmp_path / "runs" / "c", status="failed", error="ValueError: a\rb", lora__r=8)
    compare_main([str(tmp_path / "runs")])
    read = read_by_all(tmp_path / "runs" / "compare.csv")
    assert read["ours"] == read["python"] == read["pandas"]
    assert sorted(cells[2] for cells in read["ours"][1:]) == ["a\rb", "c"]
