"""Wrong answers are shown with what they return: bounded, the easiest first, whatever the data holds."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from qc_experiments.cli.evaluate import main
from qc_experiments.comparison.study import compare
from qc_experiments.comparison.views.page import page_data
from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import find_databases
from qc_experiments.evaluation.metrics import assess
from qc_experiments.evaluation.shown import rows_lines
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
    assert r"\x1b[31mink\x1b[0m\nsecond" in text
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


@pytest.fixture
def asked(databases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of `qc evaluate`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return [str(said(tmp_path)), "--databases", str(databases), "--output", str(tmp_path / "out")]


def said(folder: Path, asked=ASKED) -> Path:
    cells = [["shop", *one] for one in asked]
    source = folder / "said.csv"
    source.write_text(csv_text(["db_id", "question", "query", "prediction"], cells))
    return source


def judged_rows(folder: Path) -> list[tuple[str, str]]:
    with (folder / "judged.csv").open(encoding="utf-8", newline="") as file:
        return [(row["gold_rows"], row["predicted_rows"]) for row in csv.DictReader(file)]


def test_evaluate_shows_as_many_as_are_asked_for(asked, capsys, refused):
    for more, count in (((), 3), (("--show", "1"), 1), (("--show", "0"), 0)):
        main([*asked, *more])
        assert capsys.readouterr().out.count("predicted  ") == count
    assert refused(main, [*asked, "--show", "-1"]) == "error: --show -1: must be at least 0"


def test_evaluate_writes_the_first_rows_of_both_for_every_wrong_answer_alone(asked, tmp_path):
    main([*asked, "--rows", "2", "--show", "0"])
    hard, right, empty, failed = judged_rows(tmp_path / "out")
    assert json.loads(hard[0])[2:] == ["3 rows in all"]
    assert json.loads(hard[1]) == [[1]]
    assert right == ("", "")
    gold, predicted = map(json.loads, empty)
    assert gold == [
        [1, "[red]pen[/red]", 1.5, None, "x'00ff'", 1],
        [2, "\\x1b[31mink\\x1b[0m\nsecond line", 4.0, None, None, 2],
        "19 rows in all",
    ]
    assert predicted == []
    assert failed == ("[[19]]", "")


def test_what_stands_in_a_cell_is_short_and_json_whatever_a_query_returns(asked, tmp_path):
    many = ", ".join(map(str, range(50)))
    queries = ("SELECT 9e999, -9e999, '\u202e', 'ä'", f"SELECT {many}", "SELECT name FROM item")
    said(tmp_path, [("?", "SELECT 1, 1, 1", sql) for sql in queries])
    main([*asked, "--rows", "1000"])
    odd, wide, long = (found for _, found in judged_rows(tmp_path / "out"))
    assert odd == r'[["inf", "-inf", "\\u202e", "ä"]]'
    assert json.loads(wide) == [[*range(20), "…"]]
    names = json.loads(long)
    assert names[2] == ["w" * 59 + "…"]
    assert len(names) == 19


def test_rows_come_with_verdicts_that_were_kept_and_go_when_they_are_not_asked_for(
    asked, tmp_path, capsys
):
    (tmp_path / "out" / "judged.csv").mkdir(parents=True)  # all is judged, and cannot be written
    with pytest.raises(SystemExit):
        main(asked)
    (tmp_path / "out" / "judged.csv").rmdir()
    main([*asked, "--rows", "1"])
    assert "Goes on: 4 were judged before" in capsys.readouterr().out
    first = judged_rows(tmp_path / "out")
    assert first[3] == ("[[19]]", "")
    again = [str(tmp_path / "out" / "judged.csv"), *asked[1:3], "--output", str(tmp_path / "two")]
    main([*again, "--rows", "1", "--against", str(tmp_path / "out")])
    assert judged_rows(tmp_path / "two") == first
    assert "both right 1" in capsys.readouterr().out
    main(again)
    header = (tmp_path / "two" / "judged.csv").read_text().splitlines()[0]
    assert header == "db_id,question,query,prediction,correct,verdict,warning,error_class,seconds"


def test_of_a_large_result_only_the_first_rows_are_kept(databases):
    rows = [Row(2, "?", "SELECT 1", "", "shop")]
    found = find_databases(str(databases), "--databases", None)
    with Judge(found, Limits(), cache=None, processes=1) as judge:
        cross = "SELECT a.id FROM item a, item b, item c"
        (first,) = judge.first_rows([(rows[0], cross)], 3)
    assert (len(first.rows or ()), first.count) == (3, 19**3)


def test_a_run_keeps_rows_in_its_predictions_when_asked_and_is_the_same_run(train):
    run = train("evaluation.rows=2")
    wrong = [row for row in run.rows() if row["correct"] == "0"]
    assert wrong
    assert all(isinstance(json.loads(row["gold_rows"]), list) for row in wrong)
    assert "predicted_rows" in run.rows("base_predictions.csv")[0]
    assert train("evaluation.rows=0").folder == run.folder
    found = page_data(compare([run.folder]))["groups"][0]
    texts = [found["texts"][place] for place in found["answers"]["0"][0]]
    assert texts[2] == rows_lines(run.rows()[0]["gold_rows"])


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
