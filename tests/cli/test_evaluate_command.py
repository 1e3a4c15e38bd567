"""`qc evaluate` from the outside: files in, files out, one line for every mistake."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from helpers.runs import child

from qc_experiments.cli.evaluate import main
from qc_experiments.evaluation.comparison import comparison_lines
from qc_experiments.evaluation.predictions import UNFINISHED
from qc_experiments.evaluation.statistics import Paired

HEADER = ["db_id", "question", "query", "prediction", "note"]
ROWS = [
    ["shop", "Names?", "SELECT name FROM item", "SELECT name FROM item ORDER BY 1", "a"],
    ["shop", "How many?", "SELECT count(*) FROM item", "SELECT 7", "b, with a comma"],
    [
        "shop",
        "Cheapest?",
        "SELECT name FROM item ORDER BY price LIMIT 1",
        "SELECT nam FROM item",
        "",
    ],
    ["shop", "Broken", "SELECT absent FROM item", "SELECT 1", "d"],
    ["zoo", "Kinds?", "SELECT DISTINCT kind FROM animal", 'SELECT "kinds" FROM animal', "e"],
]


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    folder = tmp_path / "databases"
    for name, script in (
        (
            "shop",
            "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL);"
            "INSERT INTO item VALUES (1, 'pen', 1.5), (2, 'ink', 4.0);",
        ),
        (
            "zoo",
            "CREATE TABLE animal (id INTEGER PRIMARY KEY, kind TEXT);"
            "INSERT INTO animal VALUES (1, 'cat'), (2, 'cat'), (3, 'dog');",
        ),
    ):
        (folder / name).mkdir(parents=True)
        with closing(sqlite3.connect(folder / name / f"{name}.sqlite")) as connection:
            connection.executescript(script)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def write(path: Path, rows: list[list[str]], header: list[str] | None = None) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header or HEADER, *rows])
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def evaluate(predictions: Path, databases: Path, output: Path, *more: str) -> dict:
    main([str(predictions), "--databases", str(databases), "--output", str(output), *more])
    return json.loads((output / "report.json").read_text())


def test_the_verdicts_stand_behind_the_inputs_columns(databases, tmp_path, capsys):
    source = write(tmp_path / "predictions.csv", ROWS)
    report = evaluate(source, databases, tmp_path / "new" / "judged")
    judged = read(tmp_path / "new" / "judged" / "judged.csv")
    assert list(judged[0]) == [*HEADER, "correct", "verdict", "warning", "error_class", "seconds"]
    assert [[row[name] for name in HEADER] for row in judged] == ROWS
    assert [(row["correct"], row["verdict"], row["error_class"]) for row in judged] == [
        ("1", "correct", ""),
        ("0", "wrong", "wrong_rows"),
        ("0", "wrong", "no_such_column"),
        ("", "gold_error", "no_such_column"),
        ("0", "wrong", "wrong_rows"),
    ]
    assert judged[4]["warning"] == '"kinds" names no column and was taken as text'
    assert all(float(row["seconds"]) >= 0 for row in judged)
    assert report["figures"]["execution_accuracy"]["count"] == 4
    assert report["gold_errors"][0]["row"] == 5
    shown = capsys.readouterr().out
    fails = "1 gold query fails, and the question counts in exact match and valid SQL alone: row 5"
    for text in (
        "25.0 %",
        "1 of 4",
        "no_such_column",
        fails,
        "zoo",
        "judged.csv",
        "on 2 databases",
    ):
        assert text in shown, text


def test_where_not_all_wrong_answers_are_shown_what_shows_more_is_said(databases, tmp_path, capsys):
    source = write(tmp_path / "predictions.csv", ROWS)
    evaluate(source, databases, tmp_path / "few", "--show", "2")
    assert "\n--show N shows more wrong answers\n" in capsys.readouterr().out
    for show in ("0", "3"):
        evaluate(source, databases, tmp_path / f"judged{show}", "--show", show)
        assert "--show" not in capsys.readouterr().out


def test_databases_may_lie_in_one_folder_without_folders_of_their_own(databases, tmp_path):
    source = write(tmp_path / "predictions.csv", ROWS)
    first = evaluate(source, databases, tmp_path / "one")
    os.replace(databases / "zoo" / "zoo.sqlite", databases / "zoo.sqlite")
    assert evaluate(source, databases, tmp_path / "two")["figures"] == first["figures"]


@pytest.mark.parametrize("name", ["zoo/zoo.db", "zoo.sqlite3", "zoo/zoo.sqlite3"])
def test_a_database_that_lies_elsewhere_is_found_and_its_place_named(
    databases, tmp_path, refused, name
):
    os.replace(databases / "zoo" / "zoo.sqlite", databases / name)
    source = write(tmp_path / "predictions.csv", ROWS)
    line = refused(evaluate, source, databases, tmp_path / "judged")
    assert "row 6 names db_id zoo, but there is no" in line
    assert f"found {databases / name}: move it to {databases / 'zoo' / 'zoo'}.sqlite" in line


def test_judging_again_gives_the_same_and_its_own_output_can_be_judged(databases, tmp_path):
    source = write(tmp_path / "predictions.csv", ROWS)
    first = evaluate(source, databases, tmp_path / "one")
    second = evaluate(tmp_path / "one" / "judged.csv", databases, tmp_path / "two")
    for report in (first, second):
        del report["seconds"], report["predictions"]
    assert first == second
    rows = [read(tmp_path / name / "judged.csv") for name in ("one", "two")]
    for row in (*rows[0], *rows[1]):
        del row["seconds"]
    assert rows[0] == rows[1]


def test_two_systems_are_compared_question_by_question(databases, tmp_path, capsys):
    better = [[*row[:3], row[2], row[4]] for row in ROWS]
    evaluate(write(tmp_path / "weak.csv", ROWS), databases, tmp_path / "weak")
    capsys.readouterr()
    report = evaluate(
        write(tmp_path / "strong.csv", better),
        databases,
        tmp_path / "strong",
        "--against",
        str(tmp_path / "weak"),
    )
    found = report["against"]
    table = [found[name] for name in ("both", "only_first", "only_second", "neither", "count")]
    assert table == [1, 0, 3, 0, 4]
    assert found["difference"] == 0.75
    assert found["mcnemar_p"] == 0.25
    assert found["low"] < 0.75 < found["high"] <= 1
    shown = capsys.readouterr().out
    assert "4 questions are too few to judge (3 won, 0 lost)" in shown


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("question", "the questions"),
        ("gold", "the gold queries"),
        ("database", "the databases' contents"),
        ("timeout", "the judge"),
        ("rows", "the questions"),
    ],
)
def test_unlike_evaluations_are_not_compared(databases, tmp_path, refused, change, named):
    evaluate(write(tmp_path / "one.csv", ROWS), databases, tmp_path / "one")
    rows = [list(row) for row in ROWS]
    more = []
    if change == "question":
        rows[0][1] = "Other?"
    elif change == "gold":
        rows[0][2] = "SELECT name FROM item WHERE 1"
    elif change == "rows":
        rows = rows[:-1]
    elif change == "timeout":
        more = ["--timeout", "4"]
    else:
        with closing(sqlite3.connect(databases / "zoo" / "zoo.sqlite")) as connection, connection:
            connection.execute("DELETE FROM animal WHERE id = 3")
    source = write(tmp_path / "two.csv", rows)
    arguments = [str(source), "--databases", str(databases), "--output", str(tmp_path / "two")]
    line = refused(main, [*arguments, "--against", str(tmp_path / "one"), *more])
    assert named in line
    assert "cannot be compared" in line
    assert not (tmp_path / "two").exists()


def test_columns_of_other_names(databases, tmp_path):
    header = ["base", "frage", "gold", "pred", "note"]
    source = write(tmp_path / "p.csv", ROWS, header)
    flags = [
        *("--db-id-column", "base", "--question-column", "frage"),
        *("--query-column", "gold", "--prediction-column", "pred"),
    ]
    report = evaluate(source, databases, tmp_path / "out", *flags)
    assert report["count"] == 5


def test_predictions_without_golds_name_their_rows_by_place(databases, tmp_path):
    whole = evaluate(write(tmp_path / "whole.csv", ROWS), databases, tmp_path / "judged")
    golds = write(tmp_path / "golds.csv", [row[:3] for row in ROWS], HEADER[:3])
    said = [[str(place), row[3]] for place, row in enumerate(ROWS, 1)]
    source = write(tmp_path / "predictions.csv", said[::-1], ["row", "prediction"])
    output = tmp_path / "apart"
    report = evaluate(source, databases, output, "--golds", str(golds))
    assert report["figures"] == whole["figures"]
    assert report["judged_on"] == whole["judged_on"]
    assert [row["prediction"] for row in read(output / "judged.csv")] == [row[3] for row in ROWS]


@pytest.mark.parametrize(
    ("rows", "header", "named"),
    [
        (
            [["0", "SELECT 1"]],
            ["row", "prediction"],
            "row 2: row is '0', and must be a number from 1 to 5",
        ),
        ([["9" * 5000, "a"]], ["row", "prediction"], "row 2: row is '99999999999999999999'"),
        ([["1", "a"], ["1", "b"]], ["row", "prediction"], "row 3: row 1 stands there twice"),
        (
            [["2", "a"], ["4", "b"]],
            ["row", "prediction"],
            "no prediction for rows 1, 3, 5 of the 5 of",
        ),
        ([["1", "a"]], ["place", "prediction"], "with --golds it is a row's place in"),
        ([["1", "a", "1", "0"]], ["row", "prediction", *["confidence"] * 2], "confidence twice"),
        (
            [["2", ROWS[0][1], "a"]],
            ["row", "question", "prediction"],
            "row 2: its question is not that of row 3 of",
        ),
    ],
)
def test_predictions_that_do_not_fit_their_golds_are_refused(
    databases, tmp_path, refused, rows, header, named
):
    golds = write(tmp_path / "golds.csv", [row[:3] for row in ROWS], HEADER[:3])
    source = write(tmp_path / "predictions.csv", rows, header)
    line = refused(evaluate, source, databases, tmp_path / "out", "--golds", str(golds))
    assert named in line
    assert str(source) in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("header", "flags", "kept_as"),
    [
        (HEADER[:3], ["--prediction-column", "query"], "predicted_query"),
        (HEADER[:3], ["--prediction-column", "question"], "predicted_question"),
        (
            ["db_id", "question", "sql"],
            ["--query-column", "sql", "--prediction-column", "sql"],
            "predicted_sql",
        ),
        (
            ["db_id", "sql", "predicted_sql"],
            [
                *("--question-column", "sql", "--query-column", "predicted_sql"),
                *("--prediction-column", "sql"),
            ],
            "predicted_predicted_sql",
        ),
    ],
)
def test_golds_and_predictions_may_call_their_columns_alike(
    databases, tmp_path, header, flags, kept_as
):
    whole = evaluate(write(tmp_path / "whole.csv", ROWS), databases, tmp_path / "judged")
    golds = write(tmp_path / "golds.csv", [row[:3] for row in ROWS], header)
    said = [[str(place), row[3]] for place, row in enumerate(ROWS, 1)]
    source = write(tmp_path / "said.csv", said, ["row", flags[-1]])
    output = tmp_path / "apart"
    report = evaluate(source, databases, output, "--golds", str(golds), *flags)
    assert report["figures"] == whole["figures"]
    assert report["judged_on"] == whole["judged_on"]
    judged = read(output / "judged.csv")
    assert [[row[name] for name in (*header, kept_as)] for row in judged] == [r[:4] for r in ROWS]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--prediction-column", "query"], "--query-column and --prediction-column name the same"),
        (["--query-column", "prediction"], "the same column, prediction: name two"),
        (["--question-column", "db_id"], "--db-id-column and --question-column name the same"),
        (["--golds", "golds.csv", "--query-column", "question"], "--question-column and --query-"),
        (["--golds", "golds.csv", "--prediction-column", "row"], "--prediction-column row: with"),
        (["--golds", "golds.csv", "--question-column", "confidence"], "confidence: with --golds"),
        (["--golds", "p.csv", "--prediction-column", "query"], "the same column, query"),
        (
            ["--prediction-column", "verdict"],
            "--prediction-column verdict: judged.csv has a verdict",
        ),
    ],
)
def test_one_column_is_not_taken_for_two(databases, tmp_path, refused, monkeypatch, flags, named):
    monkeypatch.chdir(tmp_path)
    source = write(Path("p.csv"), [[str(n), *r] for n, r in enumerate(ROWS, 1)], ["row", *HEADER])
    write(Path("golds.csv"), [row[:3] for row in ROWS], HEADER[:3])
    assert named in refused(evaluate, source, databases, tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_a_column_confidence_is_set_against_the_verdicts(databases, tmp_path, capsys, refused):
    sure = ["0.9", "0.2", "0.3", "0.99", ""]  # of the fourth the gold fails
    rows = [[*row, one] for row, one in zip(ROWS, sure, strict=True)]
    source = write(tmp_path / "p.csv", rows, [*HEADER, "confidence"])
    output = tmp_path / "judged"
    found = evaluate(source, databases, output)["confidence"]
    assert (found["count"], found["auroc"]) == (3, 1.0)
    assert found["aurc"] == pytest.approx((0 + 1 / 2 + 2 / 3) / 3)
    assert (found["coverage"]["25"]["hits"], found["coverage"]["25"]["count"]) == (1, 1)
    shown = capsys.readouterr().out
    assert "surest" not in shown  # of three questions it would say nothing
    assert "surer" not in shown
    assert "confidence.png" in shown
    assert (output / "confidence.png").read_bytes().startswith(b"\x89PNG")
    assert [row["confidence"] for row in read(output / "judged.csv")] == sure

    golds = write(tmp_path / "golds.csv", [row[:3] for row in ROWS], HEADER[:3])
    said = [
        [str(place), row[3], one]
        for place, (row, one) in enumerate(zip(ROWS, sure, strict=True), 1)
    ]
    apart = write(tmp_path / "said.csv", said, ["row", "prediction", "confidence"])
    again = evaluate(apart, databases, tmp_path / "apart", "--golds", str(golds))
    assert again["confidence"] == found

    evaluate(write(tmp_path / "many.csv", 7 * rows, [*HEADER, "confidence"]), databases, output)
    shown = capsys.readouterr().out
    assert "right among the surest" in shown
    assert "confidence, 21 questions: a right answer is surer than a wrong one in 100.0 %" in shown

    # A confidence beside the golds is that of something else.
    golds = write(
        tmp_path / "golds.csv", [[*row[:3], "0.9"] for row in ROWS], [*HEADER[:3], "confidence"]
    )
    apart = write(tmp_path / "said.csv", [row[:2] for row in said], ["row", "prediction"])
    assert "confidence" not in evaluate(apart, databases, tmp_path / "apart", "--golds", str(golds))
    assert "confidence" not in read(tmp_path / "apart" / "judged.csv")[0]

    assert "confidence" not in evaluate(write(tmp_path / "p.csv", ROWS), databases, output)
    assert not (output / "confidence.png").exists()  # that of the evaluation before
    source = write(tmp_path / "p.csv", [[*ROWS[0], "high"]], [*HEADER, "confidence"])
    line = refused(evaluate, source, databases, output)
    assert "row 2: confidence is 'high', not a number" in line


def test_perturbed_databases_are_a_metric_of_their_own(databases, tmp_path, monkeypatch, capsys):
    lucky = [
        ["zoo", "How many cats?", "SELECT count(*) FROM animal WHERE kind = 'cat'", "SELECT 2", ""]
    ]
    source = write(tmp_path / "p.csv", lucky)
    plain = evaluate(source, databases, tmp_path / "out")
    assert plain["figures"]["fuzz_accuracy"]["value"] is None
    cache = tmp_path / "cache"
    monkeypatch.chdir(tmp_path)  # a relative folder, too: children work elsewhere
    fuzzed = evaluate(source, databases, tmp_path / "out", "--fuzz", "5", "--cache", "cache")
    assert fuzzed["figures"]["execution_accuracy"]["value"] == 1
    assert fuzzed["figures"]["fuzz_accuracy"]["value"] == 0
    assert len(list((cache / "perturbed").rglob("*.sqlite"))) == 5
    assert [row["fuzz_correct"] for row in read(tmp_path / "out" / "judged.csv")] == ["0"]
    again = tmp_path / "out" / "judged.csv"
    evaluate(again, databases, tmp_path / "again")
    assert "fuzz_correct" not in read(tmp_path / "again" / "judged.csv")[0]
    assert "place of the CSV's own correct, verdict, warning" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "header", "named"),
    [
        (ROWS, ["db_id", "question", "query", "sql", "note"], "--prediction-column"),
        (ROWS, ["db", "question", "query", "prediction", "note"], "--db-id-column"),
        (ROWS, ["db_id", "question", "query", "prediction", "prediction"], "prediction twice"),
        ([], HEADER, "no rows"),
        ([["shop", "q", " ", "SELECT 1", ""]], HEADER, "empty query in row 2: without a gold"),
        ([*ROWS, ["", "q", "SELECT 1", "SELECT 1", ""]], HEADER, "row 7 has no db_id"),
        ([*ROWS, ["bank", "q", "SELECT 1", "SELECT 1", ""]], HEADER, "row 7 names db_id bank"),
        ([["../shop", "q", "SELECT 1", "SELECT 1", ""]], HEADER, "no name"),
        ([["shop", "q"]], HEADER, "row 2"),
    ],
)
def test_a_file_that_cannot_be_judged_is_refused_by_row_and_column(
    databases, tmp_path, refused, rows, header, named
):
    source = write(tmp_path / "p.csv", rows, header)
    output = tmp_path / "out"
    arguments = [str(source), "--databases", str(databases), "--output", str(output)]
    line = refused(main, arguments)
    assert named in line
    assert str(source) in line
    assert not output.exists()


@pytest.mark.parametrize(
    ("flag", "value", "named"),
    [
        ("--databases", "absent", "absent): name a database's file, a folder of databases, or a"),
        ("--databases", "mysql://host/x", "no kind of database"),
        ("--timeout", "0", "above 0 seconds"),
        ("--timeout", "inf", "at most 86400"),
        ("--output", "p.csv", "is a file"),
        ("--fuzz", "-1", "at least 0"),
        ("--processes", "0", "at least 1"),
        ("--against", "absent", "holds no evaluation"),
        ("--output", "p.csv/out", "cannot be written"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(
    databases, tmp_path, refused, monkeypatch, flag, value, named
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "p.csv", ROWS)
    flags = {"--databases": str(databases), "--output": "out", flag: value}
    arguments = ["p.csv", *(text for pair in flags.items() for text in pair)]
    assert named in refused(main, arguments)


def test_a_baseline_is_not_overwritten(databases, tmp_path, refused, monkeypatch):
    source = write(tmp_path / "p.csv", ROWS)
    evaluate(source, databases, tmp_path / "out")
    arguments = [str(source), "--databases", str(databases), "--output", str(tmp_path / "out")]
    (tmp_path / "link").symlink_to("out")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (str(tmp_path / "out"), str(tmp_path / "link"), "~/out"):
        assert "is what --against names" in refused(main, [*arguments, "--against", name])


def test_a_missing_file_is_refused(databases, refused):
    arguments = ["absent.csv", "--databases", str(databases), "--output", "out"]
    assert "absent.csv" in refused(main, arguments)


def test_a_header_is_told_as_it_is_in_the_file(databases, tmp_path, refused):
    """Though of a single database no column db_id is needed."""
    given = write(tmp_path / "given.csv", [["Names?", "SELECT 1"]], ["question", "query"])
    place = str(databases / "shop" / "shop.sqlite")
    line = refused(main, [str(given), "--databases", place, "--output", str(tmp_path / "out")])
    assert "no column prediction; the header has question, query:" in line


def test_the_command_runs_without_torch_and_leaves_the_databases_alone(databases, tmp_path):
    """Judging is of use on its own, also where nothing for training is installed."""
    before = {path: path.read_bytes() for path in databases.rglob("*") if path.is_file()}
    source = write(tmp_path / "p.csv", ROWS)
    code = (
        "import sys\n"
        "sys.argv[1:] = ['evaluate', *sys.argv[1:]]\n"
        "from qc_experiments.__main__ import main\n"
        "main()\n"
        "heavy = {'torch', 'transformers', 'peft', 'datasets', 'wandb', 'hydra'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = child(
        "-c", code, str(source), "--databases", str(databases), "--output", str(tmp_path / "out")
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert {path: path.read_bytes() for path in databases.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_leaves_nothing_half_written(databases, tmp_path):
    import signal
    import subprocess
    import time

    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    )
    source = write(tmp_path / "p.csv", [["shop", "q", "SELECT 1", endless, ""]] * 50)
    output = tmp_path / "out"
    arguments = [str(source), "--databases", str(databases), "--output", str(output)]
    with subprocess.Popen(
        [sys.executable, "-m", "qc_experiments", "evaluate", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what it runs in the background, this test perhaps, with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert "Judging 50 predictions" in process.stdout.readline()
        # In the midst of judging: Python may lose a signal that comes while it still imports.
        threads = Path(f"/proc/{process.pid}/task")
        for _ in range(100):
            time.sleep(0.2)
            if not threads.exists() or any(one.read_text() for one in threads.glob("*/children")):
                break
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    # Nothing, or what was judged so far and is kept for the same command.
    assert not output.exists() or [path.name for path in output.iterdir()] == [UNFINISHED]


def test_a_comparison_says_when_a_difference_is_more_than_chance():
    lines = comparison_lines(Paired(30, 2, 20, 12), "base", "adapter")
    assert lines[-1].startswith("adapter is better than base: +28.1 points")
    assert "20 won, 2 lost of 64 questions, McNemar's exact p < 0.001" in lines[-1]
    assert comparison_lines(Paired(0, 0, 0, 0), "a", "b") == ["Nothing was measured for both."]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "has no tables"), (b"words " * 99, "not a database"), (None, "malformed")],
)
def test_what_is_no_database_is_refused(databases, tmp_path, refused, content, problem):
    path = databases / "zoo" / "zoo.sqlite"
    path.write_bytes(path.read_bytes()[:4096] if content is None else content)
    source = write(tmp_path / "p.csv", ROWS)
    arguments = [str(source), "--databases", str(databases), "--output", str(tmp_path / "out")]
    line = refused(main, arguments)
    assert str(path) in line
    assert problem in line


def test_where_all_golds_fail_it_is_said_why_there_is_no_accuracy(databases, tmp_path, capsys):
    source = write(tmp_path / "p.csv", [ROWS[3]] * 3)
    with pytest.raises(SystemExit) as stopped:
        evaluate(source, databases, tmp_path / "out")
    assert stopped.value.code == 2
    told = capsys.readouterr()
    assert "rows 2, 3, 4: no_such_column: no such column: absent" in told.out
    assert "there is no execution accuracy: all 3 gold queries fail" in told.err
    assert (tmp_path / "out" / "report.json").exists()
