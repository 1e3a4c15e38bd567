"""Wrong answers are shown with what they return: bounded, the easiest first, whatever the data holds."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from qc_experiments.cli.evaluate import main
from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import find_databases
from qc_experiments.evaluation.metrics import assess
from qc_experiments.evaluation.wrong_answers import wrong_answers
from qc_experiments.judging.judge import Judge
from qc_experiments.system.files import csv_text

HARD = (
    "SELECT a.name FROM item AS a JOIN item AS b ON a.id = b.id WHERE a.price > 1 AND b.name IN "
    "(SELECT name FROM item) GROUP BY a.name ORDER BY count(*) LIMIT 3"
)
ASKED = (
    ("Hard?", HARD, "SELECT 1"),
    ("Names?", "SELECT name FROM item", "SELECT name FROM item"),
    ("All?", "SELECT * FROM item", "SELECT name FROM item WHERE id > 100"),
    ("How many?", "SELECT count(*) FROM item", "SELECT nam FROM item"),
)


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    folder = tmp_path / "databases"
    (folder / "shop").mkdir(parents=True)
    with closing(sqlite3.connect(folder / "shop" / "shop.sqlite")) as file, file:
        file.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL, a, b, c)")
        rows = [
            (1, "[red]pen[/red]", 1.5, None, b"\x00\xff", 1),
            (2, "\x1b[31mink\x1b[0m\nsecond line", 4.0, None, None, 2),
            (3, "w" * 100_000, 2.0, None, None, 3),
            *((n, f"n{n}", 1.0, None, None, n) for n in range(4, 20)),
        ]
        file.executemany("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?)", rows)
    return folder


def shown(databases: Path | None, asked=ASKED, count: int = 9) -> str:
    schema = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL, a, b, c)"
    rows = [Row(n, q, sql, schema, "shop") for n, (q, sql, _) in enumerate(asked, 2)]
    found = None if databases is None else find_databases(str(databases), "--databases", None)
    with Judge(found, Limits(), cache=None, processes=1) as judge:
        judged = assess(rows, [one[2] for one in asked], judge)
        return wrong_answers(judged, judge, count)


def test_the_easiest_wrong_answers_come_first_with_what_both_queries_return(databases):
    text = shown(databases)
    assert text.startswith("Wrong answers: 3 of 4\n")
    assert text.index("How many?") < text.index("Hard?")
    assert "Names?" not in text
    assert "How many? (row 5, easy, shop)" in text
    parts = [" ".join(line.split()) for line in text.splitlines()]
    place = parts.index("gold SELECT count(*) FROM item")
    assert parts[place + 1 : place + 5] == [
        "count(*)",
        "19",
        "predicted SELECT nam FROM item",
        "fails: no such column: nam",
    ]
    assert "(no rows)" in text
    assert "the easiest 1 of them" in shown(databases, count=1)
    assert shown(databases, count=0) == ""
    assert shown(databases, ASKED[1:2]) == ""


def test_a_result_is_cut_to_a_few_rows_columns_and_characters(databases):
    lines = shown(databases).splitlines()
    head = next(line for line in lines if "id | name" in line)
    assert head.split() == ["id", "|", "name", "|", "price", "|", "a", "|", "..."]
    assert "... 16 more" in "\n".join(lines)
    assert any("w" * 29 + "…" in line for line in lines)
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100


def test_nothing_in_a_cell_a_question_or_a_query_steers_the_terminal(databases):
    asked = [
        (
            "\x1b]0;title\x07 [bold]why[/bold] :smile:",
            "SELECT * FROM item",
            "SELECT '\u202e', x'00'",
        )
    ]
    text = shown(databases, asked)
    assert text.isprintable() or set(text) - set("\n") == {c for c in text if c.isprintable()}
    assert r"\x1b]0;title\x07 [bold]why[/bold] :smile:" in text
    assert "[red]pen[/red]" in text
    assert r"\x1b[31mink\x1b[0m second" in text
    assert "x'00'" in text


def test_a_text_of_megabytes_costs_nothing(databases):
    text = shown(databases, [("Why? " * 1_000_000, "SELECT 1", f"SELECT '{'x' * 1_000_000}'")])
    assert len(text) < 3000
    assert "…" in text


def test_without_databases_gold_and_prediction_are_shown_alone():
    text = shown(None)
    assert text.startswith("Answers that are not the gold query: 3 of 4\n")
    assert "predicted  SELECT nam FROM item" in text
    assert "count(*)\n" not in text.replace("SELECT count(*)", "")


def test_a_database_that_is_gone_meanwhile_costs_the_results_alone(databases):
    rows = [Row(2, "How many?", "SELECT count(*) FROM item", "", "shop")]
    with Judge(
        find_databases(str(databases), "--databases", None), Limits(), cache=None, processes=1
    ) as judge:
        judged = assess(rows, ["SELECT 7"], judge)
        shutil.rmtree(databases)
        text = wrong_answers(judged, judge, 3)
    assert "SELECT 7" in text


def test_evaluate_shows_as_many_as_are_asked_for(databases, tmp_path, capsys, refused, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    source = tmp_path / "said.csv"
    cells = [["shop", *one] for one in ASKED]
    source.write_text(csv_text(["db_id", "question", "query", "prediction"], cells))
    asked = [str(source), "--databases", str(databases), "--output", str(tmp_path / "out")]
    for more, count in (((), 3), (("--show", "1"), 1), (("--show", "0"), 0)):
        main([*asked, *more])
        assert capsys.readouterr().out.count("predicted  ") == count
    assert refused(main, [*asked, "--show", "-1"]) == "error: --show -1: must be at least 0"


def test_a_run_shows_some_at_its_end_and_in_its_summary(train, capsys):
    run = train()
    printed = capsys.readouterr().out
    text = (run.folder / "summary.txt").read_text()
    assert "Wrong answers: 4 of 4, the easiest 3 of them" in text
    assert text.count("predicted  ") == 3
    assert "In execution accuracy 4 questions are too few to judge (0 won, 0 lost)" in text
    assert text in printed
    capsys.readouterr()
    assert train("evaluation.show=0").folder == run.folder  # it is the same run
    assert "has finished before" in capsys.readouterr().out


def test_a_run_without_databases_shows_what_is_not_the_gold_query(train):
    text = (train("data.databases=null", "evaluation.show=1").folder / "summary.txt").read_text()
    assert "Answers that are not the gold query: 4 of 4, the easiest 1 of them" in text
    assert text.count("predicted  ") == 1
    assert "In exact match 4 questions are too few to judge" in text
