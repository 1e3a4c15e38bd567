"""qc ask and qc predict: a question in, SQL and rows out, sure or not sure, and nothing ever written."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import pty
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from helpers.endpoint import Written, serving
from helpers.runs import ROOT, TINY_TRAINING, run_folders
from helpers.slow import then_slow

from qc_experiments.cli import ask as ask_command
from qc_experiments.cli import predict as predict_command
from qc_experiments.cli import train as train_command
from qc_experiments.cli.ask_shown import rows_text
from qc_experiments.databases.engine import Execution
from qc_experiments.evaluation.shown import cell_text
from qc_experiments.generation import predictor as predicting
from qc_experiments.generation.decoding import Answer

ATTACKS = (
    "INSERT INTO item VALUES (9, 'ink')",
    "DELETE FROM item",
    "DROP TABLE item",
    "UPDATE item SET name = 'x'",
    "CREATE TABLE evil (x INT)",
    "ATTACH DATABASE '{folder}/evil.sqlite' AS evil",
    "VACUUM INTO '{folder}/evil.sqlite'",
    "PRAGMA journal_mode = WAL",
    "PRAGMA user_version = 7",
    "SELECT 1; DROP TABLE item",
    "WITH x AS (SELECT 1) INSERT INTO item SELECT 9, 'ink' FROM x",
    "SELECT writefile('{folder}/evil.txt', 'x')",
    "SELECT load_extension('evil')",
)


@pytest.fixture(scope="module")
def outputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one run has finished."""
    place = tmp_path_factory.mktemp("user") / "outputs"
    where = [f"model.name_or_path={tiny_model}", f"paths.output={place}", "tracking=none"]
    train_command.main(["model=hub", *where, *TINY_TRAINING])
    return place


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    file = tmp_path / "shop" / "shop.sqlite"
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            "CREATE TABLE item (id INT, name TEXT); CREATE TABLE sale (item_id INT);"
            "INSERT INTO item VALUES (1, 'pen'), (2, NULL);"
        )
    return file


@pytest.fixture
def ask(outputs: Path, shop: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def start(*arguments: str, code: int = 0) -> str:
        found = 0
        try:
            ask_command.main(["--db", str(shop), "--outputs", str(outputs), *arguments])
        except SystemExit as end:
            found = int(end.code or 0)
        said = capsys.readouterr()
        (folder,) = run_folders(outputs)
        assert (found, said.err) == (code, f"Loading {folder / 'adapter'} ...\n")
        return said.out

    return start


@pytest.fixture
def model_writes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the model write certain candidates; one that knows SQL is not at hand here."""

    def to_write(*candidates: str, probability: float = 0.5) -> None:
        answers = [Answer((1,), sql, math.log(probability)) for sql in candidates]

        def write(model, prompts, settings, on_answer, checks):
            return [answers[:] for _ in prompts]

        monkeypatch.setattr(predicting, "write_answers", write)

    return to_write


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*")}


def test_a_question_gives_its_sql_and_rows(ask, model_writes):
    model_writes("SELECT nam FROM item", "SELECT id, name FROM item")
    lines = [line.rstrip() for line in ask("Which items?").splitlines()]
    assert lines[0] == "SELECT id, name FROM item"  # the first that runs
    assert lines[2].split() == ["id", "name"]
    assert lines[4].split() == ["1", "pen"]
    assert lines[5].split() == ["2", "NULL"]
    assert lines[-1] == "2 rows; confidence 0.5"
    assert ask("--sql-only", "Which items?") == "SELECT id, name FROM item\n"


def test_how_an_answer_was_got_is_said(ask, model_writes, outputs):
    model_writes("SELECT nam FROM item", "SELECT name FROM item", "SELECT 1 WHERE 0")
    said = ask("--explain", "Names?")
    (folder,) = run_folders(outputs)
    assert f"-- model: {folder / 'adapter'}" in said
    assert " tokens\n-- 3 different candidates:" in said
    assert "1. SELECT nam FROM item -> fails: no such column: nam\n" in said
    assert "2. SELECT name FROM item -> 2 rows (taken)\n" in said
    assert "3. SELECT 1 WHERE 0 -> no rows\n" in said
    assert "-- confidence: 0.5," in said
    assert "-- tables: item (of 2)" in said


def test_a_model_behind_a_server_answers_and_its_answers_vote(shop, monkeypatch, capsys):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    said = ("SELECT 7", "SELECT name FROM item", "SELECT name FROM item WHERE 1", "DROP TABLE item")
    before = content(shop.parent)
    with serving(lambda question, times: Written(said)) as server:
        voted = ("--samples", "4", "--temperature", "0.7", "--explain")
        ask_command.main(
            [
                *("--db", str(shop), "--endpoint", server.url, "--model", "big", *voted),
                "Names?",
            ]
        )
    told = capsys.readouterr().out
    assert f"-- model: big of {server.url}" in told
    assert "-- 4 different candidates:" in told
    assert "2. SELECT name FROM item -> 2 rows (taken)" in told
    assert "4. DROP TABLE item -> fails: not authorized: a query may only read" in told
    assert "-- confidence: 0.5, the share of the answers that return the same rows" in told
    assert "2 rows; confidence 0.5" in told
    assert "CREATE TABLE item" in server.bodies[0]["messages"][0]["content"]
    assert content(shop.parent) == before


def test_a_server_that_is_down_or_a_model_without_one_is_one_line(shop, refused, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    down = ["--endpoint", "http://127.0.0.1:9/v1", "--model", "big", "--retries", "0"]
    line = refused(ask_command.main, ["--db", str(shop), *down, "Names?"])
    assert "http://127.0.0.1:9/v1: no server answers there" in line
    line = refused(ask_command.main, ["--db", str(shop), "--model", "big", "Names?"])
    assert "--model goes with --endpoint" in line


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1 FROM item AS a, sale AS b", "item, sale (of 2)"),
        ("SELECT (SELECT max(id) FROM main.item)", "item (of 2)"),
        ("WITH sale AS (SELECT 1) SELECT * FROM sale", "none (of 2)"),
        ("SELECT item, sale FROM absent", "none (of 2)"),
        ("SELECT FROM WHERE", "not known (it is no query that can be parsed)"),
    ],
)
def test_the_tables_are_those_that_the_query_reads(ask, model_writes, sql, tables):
    model_writes(sql)
    code = 0 if "absent" not in sql and "WHERE" not in sql else 1
    assert f"-- tables: {tables}\n" in ask("--explain", "?", code=code)


def test_a_query_that_would_write_is_told_in_plain_words(ask, model_writes):
    model_writes("DELETE FROM item")
    said = "fails: not authorized: a query may only read, and only where it has the right to"
    assert f"DELETE FROM item\n{said}; confidence 0.5\n" == ask("Do it", code=1)


def test_a_query_that_fails_shows_the_databases_own_error(ask, model_writes):
    model_writes("SELECT nam FROM item")
    said = ask("Names?", code=1)
    assert said == "SELECT nam FROM item\nfails: no such column: nam; confidence 0.5\n"


@pytest.mark.parametrize("sql", ATTACKS)
@pytest.mark.parametrize("decoding", then_slow("guided", "greedy"))
def test_whatever_a_model_writes_the_database_stays_as_it_is(
    ask, model_writes, shop, sql, decoding
):
    before = content(shop.parent)
    model_writes(sql.format(folder=shop.parent))
    # Of several statements the first is the answer, and may run.
    ask("--decoding", decoding, "--explain", "Do it", code=0 if sql.startswith("SELECT 1;") else 1)
    assert content(shop.parent) == before


def test_questions_come_from_a_pipe_one_per_line(ask, model_writes, monkeypatch):
    model_writes("SELECT count(*) FROM item")
    monkeypatch.setattr(sys, "stdin", io.StringIO("How many?\n\nAnd now?\n"))
    assert ask("--sql-only") == 2 * "SELECT count(*) FROM item\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ufeffHow many?\nAnd now?\n"))  # of Windows
    said = ask()
    assert [line for line in said.splitlines() if line.startswith("--")] == [
        "-- How many?",
        "-- And now?",
    ]
    assert said.count("1 row; confidence 0.5") == 2


def piped(
    outputs: Path, shop: Path, given: bytes | None, *arguments: bytes
) -> tuple[int, str, str]:
    """What ``qc ask`` does as a command, with this standard input; with a closed one where there is none."""
    command = [sys.executable, "-m", "qc_experiments", "ask", "--db", shop, "--outputs", outputs]
    closed = ["sh", "-c", 'exec "$@" <&-', "sh"] if given is None else []
    done = subprocess.run(
        [*closed, *command, *arguments],
        input=given,
        stdin=None if given is not None else subprocess.DEVNULL,
        capture_output=True,
        cwd=ROOT,
        timeout=120,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("given", then_slow(None, b" \n\n", b""))
def test_no_question_at_all_is_refused(outputs, shop, given):
    code, out, said = piped(outputs, shop, given)
    assert (code, out) == (2, "")
    assert said.splitlines()[-1].startswith("error: no question: give one as an argument, or")
    assert len(said.splitlines()) == (1 if given is None else 2)  # nothing loads for a closed one


@pytest.mark.slow
def test_bytes_that_are_no_text_are_refused(outputs, shop, tmp_path, refused):
    code, out, said = piped(outputs, shop, b"", b"caf\xe9?")
    assert (code, out) == (2, "")
    assert said == "error: QUESTION is not UTF-8: convert it, with iconv say\n"
    code, out, said = piped(outputs, shop, b"\ncaf\xe9?\n", b"--sql-only")
    assert (code, out) == (2, "")
    assert said.splitlines()[1:] == [
        "error: line 2: the question is not UTF-8: convert it, with iconv say"
    ]
    given = ["--adapter", "latest", "--outputs", str(outputs), "--db", str(shop)]
    for option, more in (("--question", []), ("--evidence", ["--question", "x"])):
        line = refused(predict_command.main, [*given, *more, option, "caf\udce9?"])
        assert line == f"error: {option} is not UTF-8: convert it, with iconv say"


IN_AND_OUT = ("--input", "in.csv", "--output", "out.csv")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((*IN_AND_OUT, "--evidence", "x"), "--evidence goes with --question; hints of --input"),
        ((*IN_AND_OUT, "--context-column", "x"), "--context-column goes without --db"),
        ((*IN_AND_OUT, "--db-id-column", "x"), "goes with a folder of databases as --db"),
        (("--question", "x", "--db-id-column", "x"), "--db-id-column goes with --input"),
        (("--question", "x", "--question-column", "x"), "--question-column goes with --input"),
        (("--question", "x", "--evidence", "x"), "template.txt has no {evidence}: put it into"),
    ],
)
def test_what_qc_predict_would_not_look_at_is_refused(outputs, shop, refused, given, said):
    model = ["--adapter", "latest", "--outputs", str(outputs), "--db", str(shop)]
    assert said in refused(predict_command.main, [*model, *given])


def test_what_the_model_is_not_sure_of_is_not_run(ask, model_writes, outputs, shop, capsys):
    model_writes("SELECT name FROM item", probability=0.25)
    held = "-- not sure: confidence 0.25 is below 0.6\n"
    assert ask("--not-below", "0.6", "Names?") == held
    assert "2 rows" in ask("--not-below", "0.25", "Names?")
    given = ["--adapter", "latest", "--outputs", str(outputs), "--db", str(shop)]
    predict_command.main([*given, "--question", "Names?", "--not-below", "0.6"])
    printed = capsys.readouterr()
    assert printed.out == held
    assert printed.err == f"Loading {run_folders(outputs)[0] / 'adapter'} ...\n"


def test_predictions_of_a_csv_have_their_confidence(outputs, shop, tmp_path, model_writes, capsys):
    (tmp_path / "in.csv").write_text("question,confidence\nNames?,mine\nWho?,mine\n")
    given = ["--adapter", str(run_folders(outputs)[0]), "--db", str(shop)]
    given += ["--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")]
    predict_command.main(given)  # the tiny model's own answers
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == 2 * [["question", "prediction", "confidence"]]
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    model_writes("SELECT name FROM item", probability=0.25)
    predict_command.main([*given, "--not-below", "0.6"])
    assert "not sure of 2, which are empty" in capsys.readouterr().out
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == ["Names?,,0.25", "Who?,,0.25"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--not-below", "1.5", "x"], "--not-below 1.5: must be from 0 to 1"),
        ([" "], "QUESTION is empty"),
        (
            ["--adapter", "", "x"],
            "--adapter is empty: name a run's folder, or latest for the newest",
        ),
        (["--adapter", "absent", "x"], "--adapter absent: no such folder"),
        (["--db", "absent.sqlite", "x"], "absent.sqlite"),
        (["--db", str(ROOT / "qc_experiments/demo/databases"), "x"], "is a place of many"),
        (["how " * 9000], "exceeds the model's window"),
    ],
)
def test_mistakes_are_told_in_one_line(outputs, shop, refused, arguments, said):
    given = ["--db", str(shop), "--outputs", str(outputs), *arguments]
    assert said in refused(ask_command.main, given)


def test_a_table_shows_twenty_rows_and_steers_no_terminal():
    rows = [(n, f"\x1b[2J{'x' * 99}\nnext", None, b"\x00\xff", 0.1) for n in range(1234)]
    text = rows_text(Execution(rows, ("id", "a\nname", "c", "d", "e")), 100)
    lines = text.splitlines()
    assert lines[-1] == "1,234 rows (the first 20 are shown)"
    assert len(lines) == 3 + 20 + 1
    assert all(len(line) <= 100 for line in lines)
    assert "\x1b" not in text
    assert "\\x1b[2J" in text
    assert "x'00ff'" in text
    many = rows_text(Execution([tuple(range(50))], tuple("c" * 50)), 80)
    assert many.splitlines()[-1] == "1 row (10 of 50 columns fit)"
    assert rows_text(Execution([], ("a",)), 80) == "no rows"
    assert cell_text("a\tb\\") == "a\\tb\\\\"


class Terminal:
    """A process at a terminal of its own."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.handle, inner = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "qc_experiments", *command],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            cwd=ROOT,
            env={**os.environ, "TERM": "dumb", **environment},
            start_new_session=True,
        )
        os.close(inner)
        self.said = ""

    def wait_for(self, text: str, seconds: float = 120) -> str:
        """What is said until a text comes."""
        until = time.monotonic() + seconds
        while text not in self.said:
            ready, _, _ = select.select([self.handle], [], [], max(0, until - time.monotonic()))
            assert ready, self.said
            self.said += os.read(self.handle, 4096).decode()
        before, _, self.said = self.said.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())


def test_a_talk_at_a_terminal(outputs, shop, tmp_path):
    cache = tmp_path / "cache"
    before = content(shop.parent)
    given = ["--db", str(shop), "--outputs", str(outputs), "--cache", str(cache), "--explain"]
    at = Terminal(["ask", *given])
    at.wait_for("question> ")
    at.type("How many items?\n")
    assert "-- confidence: " in at.wait_for("question> ")
    at.type("half a quest")
    at.wait_for("half a quest")
    time.sleep(0.5)  # nobody is so fast
    at.process.send_signal(signal.SIGINT)
    at.wait_for("interrupted")
    at.wait_for("question> ")
    at.type("Which itmes?\x1b[D\x1b[D\x1b[D\x1b[D\x7fe\n")  # edited on the way
    assert "-- confidence: " in at.wait_for("question> ")
    at.type("Names?\n")
    assert "-- confidence: " in at.wait_for("question> ")
    at.type("\x04")
    assert at.process.wait(60) == 0
    history = cache / "ask_history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert history.read_text().splitlines() == ["How many items?", "Which iemes?", "Names?"]
    assert content(shop.parent) == before
    again = Terminal(["ask", *given])
    again.wait_for("question> ")
    again.type("\x1b[A\n")  # the last one, from the file
    again.wait_for("-- confidence: ")
    again.wait_for("question> ")
    # Between its prompt and its wait for a key, readline overlooks a signal until a key comes.
    time.sleep(0.5)
    again.process.send_signal(signal.SIGTERM)
    assert again.process.wait(60) == 143
    assert history.read_text().splitlines()[-1] == "Names?"


def test_ctrl_c_ends_the_answer_of_the_moment_alone(
    ask, model_writes, monkeypatch, tmp_path, capsys
):
    """While the model writes: the loop goes on, and the next answer comes."""
    model_writes("SELECT count(*) FROM item")
    write = predicting.write_answers
    asked: list[int] = []

    def interrupted_first(*given):
        asked.append(1)
        if len(asked) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return write(*given)

    monkeypatch.setattr(predicting, "write_answers", interrupted_first)
    lines = iter(["First?", "Second?"])

    def typed(prompt: str) -> str:
        for line in lines:
            return line
        raise EOFError

    monkeypatch.setattr("builtins.input", typed)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    said = ask("--cache", str(tmp_path / "cache"))
    assert said.index("interrupted") < said.index("1 row; confidence 0.5")
