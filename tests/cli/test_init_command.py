"""`qc init` starts a project that runs at once."""

from __future__ import annotations

import io
import os
import re
import shlex
import sqlite3
from contextlib import closing

import pytest

from qc_experiments import __main__
from qc_experiments.cli.init import main
from qc_experiments.cli.train import main as train_main


@pytest.fixture
def shop(tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.sqlite")) as connection:
        connection.executescript(
            'CREATE TABLE "order" (id INTEGER PRIMARY KEY, day TEXT); CREATE TABLE customer (name TEXT);'
            "INSERT INTO customer VALUES ('Ann');"
        )
    return tmp_path / "shop.sqlite"


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "it's mine.csv"
    rows = [f"Customer {n}?,SELECT {n} FROM customer" for n in range(6)]
    path.write_text("\n".join(["question,query", *rows]), encoding="utf-8")
    return path


def run_readme(folder, tiny_model, monkeypatch, capsys):
    """Run the commands of the project's README in its folder."""
    monkeypatch.chdir(folder)
    block = re.search(r"```\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    commands = [shlex.split(line) for line in block[1].splitlines()]
    assert [command[1] for command in commands] == ["data", "plan", "train", "compare"]
    for command in commands:
        if command[1] in ("plan", "train"):
            command += ["model=hub", f"model.name_or_path={tiny_model}", "tracking=none"]
            command += ["trainer.max_steps=1", "evaluation.max_new_tokens=4"]
        monkeypatch.setattr("sys.argv", command)
        __main__.main()
    return capsys.readouterr().out


def test_a_project_from_a_csv_and_a_database_runs(
    shop, questions, tmp_path, tiny_model, monkeypatch, capsys
):
    main([str(tmp_path / "project"), "--csv", str(questions), "--db", str(shop)])
    out = run_readme(tmp_path / "project", tiny_model, monkeypatch, capsys)
    assert "6 usable rows" in out
    assert "every query runs on its database" in out
    assert (tmp_path / "project" / "outputs").is_dir()


def test_a_project_from_a_database_alone_has_questions_to_begin_with(
    shop, tmp_path, tiny_model, monkeypatch, capsys
):
    main([str(tmp_path / "project"), "--db", str(shop)])
    assert 'SELECT count(*) FROM ""order""' in (tmp_path / "project/questions.csv").read_text()
    out = run_readme(tmp_path / "project", tiny_model, monkeypatch, capsys)
    assert "4 usable rows" in out


@pytest.mark.parametrize("what", ["folder", "--csv", "--db"])
def test_a_name_that_no_settings_file_can_hold_is_told_before_anything_is_written(
    shop, questions, tmp_path, refused, what
):
    places = {"folder": tmp_path / "project", "--csv": questions, "--db": shop}
    odd = places[what].with_name(os.fsdecode(b"caf\xe9.sqlite"))
    if what != "folder":
        places[what].rename(odd)
    places[what] = odd
    folder, *given = (str(word) for word in (places.pop("folder"), *sum(places.items(), ())))
    assert "its name is not UTF-8" in refused(main, [folder, *given])
    assert not os.path.exists(folder)


def test_a_project_of_odd_names_runs(shop, tmp_path, tiny_model, monkeypatch, capsys):
    odd = tmp_path / "we${ird} name.sqlite"
    shop.rename(odd)
    rows = "\n".join(f"Customer {n}?,SELECT {n} FROM customer" for n in range(6))
    (tmp_path / "mine.csv").write_text(f"Frage,the SQL\n{rows}\n")
    given = ["--csv", str(tmp_path / "mine.csv"), "--question", "Frage", "--query", "the SQL"]
    folder = tmp_path / "my project"
    main([str(folder), *given, "--db", str(odd), "--engine", "sqlite"])
    following = capsys.readouterr().out.splitlines()[-1].removeprefix("next: ").partition(";")[0]
    assert shlex.split(following) == ["cd", str(folder)]
    assert "6 usable rows" in run_readme(folder, tiny_model, monkeypatch, capsys)


def test_a_project_below_a_linked_folder_finds_its_files(shop, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    (tmp_path / "mine.csv").write_text("question,query,hint\nq,SELECT 1,h\n")
    folder = tmp_path / "link" / "project"
    given = ["--csv", str(tmp_path / "mine.csv"), "--evidence", "hint", "--db", str(shop)]
    main([str(folder), *given])
    settings = (folder / "conf/data/mine.yaml").read_text()
    assert "columns:\n  evidence: 'hint'\n" in settings
    for key, path in (("train", tmp_path / "mine.csv"), ("databases", shop)):
        written = re.search(f"^{key}: '(.*)'$", settings, re.MULTILINE)[1]
        assert os.path.samefile(folder / written, path)


def test_a_project_whose_config_dir_was_forgotten_is_told_of_it(
    shop, questions, tmp_path, refused, monkeypatch
):
    main([str(tmp_path / "project"), "--csv", str(questions), "--db", str(shop)])
    monkeypatch.chdir(tmp_path / "project")
    assert "add --config-dir conf" in refused(train_main, ["data=mine"])


def test_rows_with_an_empty_cell_are_named_and_left_out_of_training(
    shop, questions, tmp_path, tiny_model, monkeypatch, capsys, caplog
):
    with questions.open("a", encoding="utf-8") as file:
        file.write("\n,SELECT 7 FROM customer\nNo query?,\n")
    main([str(tmp_path / "project"), "--csv", str(questions), "--db", str(shop)])
    out, tiny = capsys.readouterr().out, ["model=hub", f"model.name_or_path={tiny_model}"]
    assert "1 row with an empty question left out (row 8)" in out
    assert "1 row with an empty query left out (row 9)" in out
    assert "on_invalid: drop" in (tmp_path / "project/conf/data/mine.yaml").read_text()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr("sys.argv", ["qc", "plan", "--config-dir", "conf", "data=mine", *tiny])
    __main__.main()
    assert "1 row with an empty query left out (row 9)" in caplog.text


@pytest.mark.parametrize(
    "url", ["postgresql://me:s3cret@127.0.0.1:1/x", "postgresql://h/x?password=s3cret"]
)
def test_a_password_is_written_nowhere(questions, tmp_path, refused, url):
    line = refused(main, [str(tmp_path / "new"), "--csv", str(questions), "--db", url])
    assert "PGPASSWORD" in line
    assert "s3cret" not in line
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new", "--csv", "rows.csv", "--db", "garbage.sqlite"), "garbage.sqlite: is not a SQLite"),
        (("new", "--csv", "gaps.csv", "--db", "shop.sqlite"), "gaps.csv: no usable row"),
        (("new", "--csv", "rows.csv", "--db", "one"), "one/shop.sqlite is meant: name this file"),
        (("new", "--db", "one"), "one/shop.sqlite is meant: name this file"),
        (("new", "--csv", "rows.csv", "--engine", "duckdb"), "--engine goes with --db"),
        (("new", "--db", "shop.sqlite", "--query", "SQL"), "go with --csv"),
        (("new", "--csv", "rows.csv", "--query", "SQL"), "in qc data and qc init: --query"),
        (("new",), "give --csv FILE"),
        (("new", "--csv", "none.csv"), "none.csv"),
        (("new", "--db", "none.sqlite"), "none.sqlite): name a database's file"),
        (("new", "--csv", "shop.sqlite"), "shop.sqlite"),
        (("new", "--db", "."), "place of many databases"),
        (("full", "--db", "shop.sqlite"), "is not empty"),
        (("shop.sqlite", "--db", "shop.sqlite"), "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    shop, tmp_path, refused, monkeypatch, arguments, said
):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "rows.csv").write_text("question,query\nq,SELECT 1\n")
    (tmp_path / "gaps.csv").write_text("question,query\nq,\n,SELECT 2\n")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "shop.sqlite").write_bytes(shop.read_bytes())
    (tmp_path / "garbage.sqlite").write_bytes(b"no database at all" * 100)
    monkeypatch.chdir(tmp_path)
    assert said in refused(main, list(arguments))
    assert not (tmp_path / "new").exists()


def test_the_end_of_input_at_a_question_is_told_as_no_answer(tmp_path, refused, monkeypatch):
    """Ctrl-D on a terminal."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert "give --csv FILE" in refused(main, [str(tmp_path / "new")])
