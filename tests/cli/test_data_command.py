"""`qc data` as users start it: in a process of its own, with files of theirs."""

from __future__ import annotations

import argparse
import csv
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest
from helpers.slow import then_slow

from qc_experiments.cli.data import main
from qc_experiments.cli.data_show import row_config

DEMO = Path(str(files("qc_experiments.demo")))
SCHEMA = "CREATE TABLE t (a INTEGER, größe TEXT);"


@pytest.fixture
def qc(tmp_path: Path):
    """Run ``qc data`` in a folder of its own; code, output, and lines of the error stream."""

    def start(*arguments: object, **environment: str) -> tuple[int, str, list[str]]:
        done = subprocess.run(
            [sys.executable, "-m", "qc_experiments", "data", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
            capture_output=True,
            timeout=120,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode().splitlines()

    return start


@pytest.fixture
def refusal(qc):
    """The one line with which ``qc data`` refuses."""

    def start(*arguments: object) -> str:
        code, out, err = qc(*arguments)
        assert code == 2
        assert len(err) == 1, err
        assert err[0].startswith("error: ")
        assert "Traceback" not in out
        return err[0]

    return start


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(
        "question,query,context,db_id\n"
        f'How many?,SELECT count(*) FROM t,"{SCHEMA}",shop\n'
        f'Which?,SELECT b FROM t,"{SCHEMA}",shop\n'
        f'How many?,SELECT count(*) FROM t,"{SCHEMA}",shop\n'
        f'How many?,SELECT 1 FROM t,"{SCHEMA}",shop\n'
        f'When?,,"{SCHEMA}",shop\n'
        "Where?,SELECT 1,in words,shop\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    path = tmp_path / "databases" / "shop" / "shop.sqlite"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA.replace("a INTEGER", "a INTEGER, b TEXT"))
    return tmp_path / "databases"


def test_check_says_what_was_found_and_which_queries_fail(qc, rows):
    code, out, err = qc("check", rows.name)
    assert (code, err) == (1, [])
    lines = out.splitlines()
    assert lines[0] == "mine.csv: 4 usable rows, 2 contexts, 1 db_id"
    found = {
        number: [line for line in lines[1:] if line.endswith(f": row {number}")]
        for number in range(2, 8)
    }
    assert [len(found[number]) for number in range(2, 8)] == [0, 1, 1, 1, 1, 2]
    for number, words in ((3, "does not show (b)"), (4, "repeat"), (5, "another query")):
        assert words in found[number][0]
    assert "empty query" in found[6][0]
    assert "differs from that of other rows" in found[7][0]
    assert "was not tried: the context is not a schema" in found[7][1]


def test_check_runs_the_queries_on_the_databases_where_there_are_some(qc, rows, databases):
    before = (databases / "shop" / "shop.sqlite").read_bytes()
    code, out, err = qc("check", rows.name, "--databases", "databases")
    assert (code, err) == (1, [])  # a row has an empty cell, which training refuses
    assert "every query runs on its database" in out
    assert "training refuses empty cells" in out
    assert (databases / "shop" / "shop.sqlite").read_bytes() == before


def test_check_takes_other_column_names(qc, tmp_path):
    (tmp_path / "other.csv").write_text(
        f'Frage,SQL,context\nq,SELECT a FROM t,"{SCHEMA}"\n', encoding="utf-8"
    )
    code, out, _ = qc("check", "other.csv", "--question", "Frage", "--query", "SQL")
    assert code == 0
    assert "1 usable row," in out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("check", "none.csv"), ["none.csv", "no such file"]),
        (("check", "."), ["is a folder, not a CSV"]),
        (("check", "mine.csv", "--question", "Frage"), ["mine.csv", "no column Frage"]),
        (("check", "mine.csv", "--databases", "none"), ["--databases", "none", "no such file"]),
        (("show", "none.csv"), ["none.csv"]),
        (("show", "mine.csv", "--row", "1"), ["no usable row 1: the CSV has none; usable: rows 2"]),
        (("show", "mine.csv", "--row", "6"), ["no usable row 6: with an empty query left out"]),
        (("show", "mine.csv", "--collator", "seq2seq"), ["--collator goes with --model"]),
        (("show", "mine.csv", "--tokens"), ["--tokens goes with --model"]),
        (("show", "mine.csv", "--max-length", "20"), ["--max-length goes with --model"]),
        (("show", "mine.csv", "--engine", "sqlite"), ["--engine goes with --databases"]),
        (
            ("show", "mine.csv", "--model", "smollm2-135m", "--max-length", "0"),
            ["error: --max-length=0: must be at least 8"],
        ),
        (("show", "mine.csv", "--databases", "postgresql://[me:s3cret"), ["--databases: the URL"]),
        (("check", "mine.csv", "--template", "none.txt"), ["--template goes with --model"]),
        (("show", "mine.csv", "--template", "none.txt"), ["--template", "none.txt"]),
        (("context", "none.sqlite"), ["none.sqlite", "no such file"]),
        (("context", "mine.csv"), ["error: mine.csv: is not a SQLite database", "--db"]),
        (("context", "nosuch://me:s3cret@host/db"), ["--db", "knows no database nosuch"]),
        (("context", "mysql+nodriver://me:s3cret@host/db"), ["--db", "mysql+nodriver"]),
        (("context", "sqlite:////none/where.db"), ["--db", "no such file"]),
        (("context", "sqlite:///new.db?nosuch=1"), ["--db", "no such file"]),
        (("context", "mysql+pymysql://me:s3cret@host:abc/db"), ["--db", "cannot read this URL"]),
        (("context", "mysql://me:s3cret@host/db"), ["--db", "pip install mysqlclient"]),
        (("context", "sqlite:///shop.db", "--values", "3"), ["--values", "only the schema"]),
        (("context", "sqlite:///shop.db", "--private", "a"), ["--private", "only the schema"]),
        (("context", "--db", "postgresql://me:s3cret@[h/db"), ["--db: the URL cannot be read"]),
        (
            ("context", "--db", "databases/shop/shop.sqlite", "--no-types"),
            ["--no-types", "--format compact"],
        ),
        (
            ("context", "--db", "databases/shop/shop.sqlite", "--values", "-1"),
            ["error: --values=-1: must be at least 0"],
        ),
        (("context",), ["--db is missing"]),
        (("context", "--db", "."), ["place of many databases"]),
        (("context", "mine.csv", "--db", "databases"), ["--output is missing"]),
        (
            ("context", "--db", "databases/shop/shop.sqlite", "-o", "x.csv"),
            ["--output goes with a CSV"],
        ),
        (("context", "none.csv", "--db", "databases", "-o", "x.csv"), ["none.csv", "no such file"]),
        (
            ("context", "--db", "databases/shop/shop.sqlite", "--private", "("),
            ["error: --private", "no regular expression"],
        ),
        (
            ("context", "--db", "databases/shop/shop.sqlite", "--private", "salary"),
            ["--private", "salary", "matches no column"],
        ),
        (("show", "mine.csv", "--model", "databases"), ["databases"]),
        (
            ("show", "mine.csv", "--model", "smollm2-135m", "--collator", "none"),
            ["collator", "none"],
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(refusal, rows, databases, arguments, parts):
    line = refusal(*arguments)
    for part in parts:
        assert part in line
    assert "s3cret" not in line
    assert not (rows.parent / "new.db").exists()


@pytest.mark.parametrize("name", ["models (old), it's/a=b #1", "${x}", "null"])
def test_a_model_and_a_template_are_called_whatever_they_are_called(name):
    asked = argparse.Namespace(model=name, template=name, max_length=None)
    config = row_config(asked)
    assert (config.model.name_or_path, config.data.template) == (name, name)


SHOP = "databases/shop/shop.sqlite"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "mine.csv", "--fix", "./mine.csv"), "is an input"),
        (("check", "mine.csv", "--databases", SHOP, "--fix", SHOP), "is an input"),
        (("check", "mine.csv", "--databases", "databases", "--json", SHOP), "is a file that is no"),
        (("check", "mine.csv", "--validation", "val.csv", "--fix", "val.csv"), "is an input"),
        (("check", "mine.csv", "--like", "val.csv", "--page", "val.csv"), "is an input"),
        (("check", "mine.csv", "--page", "new", "--json", "./new"), "is what --page names"),
        (("check", "mine.csv", "--page", "val.csv"), "is a file that is no web page"),
        (("check", "mine.csv", "--fix", "notes.md"), "is a file that is no CSV"),
        (("context", "mine.csv", "--db", SHOP, "-o", SHOP), "is an input"),
        (("context", "mine.csv", "--db", SHOP, "-o", "link.csv"), "is an input"),
        (("import", "mine.csv", "-o", SHOP), "is a file that is no CSV"),
        (("import", "mine.csv", "-o", "mine.csv"), "is an input"),
    ],
)
def test_nothing_is_written_over_an_input_another_output_or_a_file_of_another_kind(
    rows, databases, refused, monkeypatch, arguments, said
):
    monkeypatch.chdir(rows.parent)
    (rows.parent / "val.csv").write_bytes(rows.read_bytes())
    (rows.parent / "notes.md").write_text("# Mine\n")
    (rows.parent / "link.csv").symlink_to(rows)
    before = {path: path.read_bytes() for path in rows.parent.rglob("*.*") if path.is_file()}
    assert said in refused(main, list(arguments))
    after = {path: path.read_bytes() for path in rows.parent.rglob("*.*") if path.is_file()}
    assert after == before


def test_what_was_written_before_is_written_again(rows, monkeypatch):
    monkeypatch.chdir(rows.parent)
    given = ["check", "mine.csv", "--page", "out", "--json", "it.json", "--fix", "fixed.csv"]
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            main(given)
        assert stopped.value.code == 1


def test_check_refuses_a_broken_csv_by_its_row(refusal, tmp_path):
    (tmp_path / "broken.csv").write_text('question,query,context\n"q\nq",s,c\nq,"s,c\n')
    assert "broken.csv: row 3" in refusal("check", "broken.csv")


def test_show_prints_prompt_and_completion_of_a_row(qc, rows):
    code, out, err = qc("show", rows.name, "--row", "3")
    assert (code, err) == (0, [])
    assert out == (
        f"Schema:\n{SCHEMA}\nQuestion: Which?\nSQL:[the model writes:] SELECT b FROM t[end]\n"
    )


def test_show_takes_the_first_row_and_a_template_of_the_users(qc, rows, tmp_path):
    (tmp_path / "mine.txt").write_text("{question} {{{context}}}\n```\n{query}\n```\n")
    code, out, _ = qc("show", rows.name, "--template", "mine.txt")
    assert code == 0
    assert out == (
        f"How many? {{{SCHEMA}}}\n```\n[the model writes:]SELECT count(*) FROM t\n```[end]\n"
    )


def test_show_finds_the_hint_in_a_column_of_another_name(tmp_path, capsys):
    row = "q,SELECT a FROM t,CREATE TABLE t (a),x=1"
    (tmp_path / "it.csv").write_text(f"question,query,context,hint\n{row}\n")
    (tmp_path / "mine.txt").write_text("{context} {evidence} {question} {query}")
    given = ["--template", str(tmp_path / "mine.txt"), "--evidence", "hint"]
    main(["show", str(tmp_path / "it.csv"), *given])
    assert "CREATE TABLE t (a) x=1 q" in capsys.readouterr().out


def test_show_works_on_a_terminal_that_has_few_letters(qc, rows):
    code, out, err = qc("show", rows.name, PYTHONIOENCODING="ascii")
    assert (code, err) == (0, [])
    assert "SELECT count(*) FROM t" in out


@pytest.mark.parametrize(
    "collator", then_slow("shared_schema", "seq2seq", "language_modeling", "default")
)
def test_show_decodes_a_row_from_the_batch_of_a_collator(qc, rows, tiny_model, collator):
    given = ("--row", "3", "--model", tiny_model, "--collator", collator, "--tokens")
    code, out, err = qc("show", rows.name, *given)
    assert (code, err) == (0, [])
    shown, _, tokens = out.rpartition("row 3: ")
    whole = collator == "language_modeling"  # which trains on the prompt as well
    before = "[[" if whole else ""
    assert f"{before}Schema:\n{SCHEMA}\nQuestion: Which?\nSQL:" in shown
    assert "SELECT b FROM t" in shown[shown.index("[[") : shown.index("]]")]
    count, labelled = re.findall(r"\d+", tokens.splitlines()[0])
    listed = tokens.splitlines()[1:]
    assert len(listed) == int(count)
    assert sum(line.split()[1] == "loss" for line in listed) == int(labelled)
    assert (int(count) == int(labelled)) == whole


def test_a_models_folder_is_no_option_whatever_file_lies_beside_it(qc, rows, tiny_model, tmp_path):
    (tmp_path / "mine").symlink_to(tiny_model)
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    code, out, _ = qc("show", rows.name, "--row", "3", "--model", str(tmp_path / "mine"))
    assert code == 0
    assert "SELECT b FROM t" in out


@pytest.mark.slow
def test_show_says_that_training_leaves_a_row_out(qc, rows, tiny_model):
    code, out, _ = qc("show", rows.name, "--model", tiny_model, "--max-length", "20")
    assert code == 0
    assert out.endswith(
        "leaves it out: it is longer than 20 tokens (--max-length, in training data.max_length)\n"
    )


def test_context_is_added_to_a_csv_from_the_database_of_each_row(qc, rows, databases):
    given = ("--db", "databases", "--output", "with.csv", "--format", "compact")
    assert qc("context", rows.name, *given)[0] == 0
    before, after = (
        list(csv.reader((rows.parent / name).open(encoding="utf-8")))
        for name in (rows.name, "with.csv")
    )
    assert after[0] == ["question", "query", "db_id", "context"]
    assert [row[:2] for row in after] == [row[:2] for row in before]
    assert {row[3] for row in after[1:]} == {"t(a INT, b TEXT, größe TEXT)"}


@pytest.mark.parametrize("name", ["shop.sqlite", "shop.db", "shop"])
def test_context_prints_the_schema_that_a_prompt_takes(qc, tmp_path, name):
    with closing(sqlite3.connect(tmp_path / name)) as connection:
        connection.executescript(f"{SCHEMA} CREATE TABLE u (x); CREATE INDEX i ON u (x);")
    before = (tmp_path / name).read_bytes()
    assert qc("context", name) == (0, f"{SCHEMA}\nCREATE TABLE u (x);\n", [])
    assert (tmp_path / name).read_bytes() == before


def test_context_of_a_database_without_tables_is_refused(refusal, tmp_path):
    with closing(sqlite3.connect(tmp_path / "empty.sqlite")) as connection:
        connection.execute("VACUUM")
    assert "empty.sqlite: has no tables" in refusal("context", "empty.sqlite")


@pytest.mark.parametrize(
    "arguments", [(), ("nope",), ("check",), ("show", "mine.csv", "--row", "x")]
)
def test_a_wrong_call_is_told_in_one_line(qc, arguments):
    code, out, err = qc(*arguments)
    assert (code, out, len(err)) == (2, "", 1)
    assert "--help lists what it takes" in err[0]


@pytest.mark.parametrize("action", ["check", "show", "context"])
def test_each_action_has_a_help_page(qc, action):
    code, out, err = qc(action, "--help")
    assert (code, err) == (0, [])
    assert out.startswith(f"usage: qc data {action}")


def test_the_schema_of_a_database_that_sqlalchemy_reads(qc, tmp_path):
    """Through the road of MySQL and others, whose servers are not at hand: SQLAlchemy's own SQLite."""
    pytest.importorskip("sqlalchemy")
    with closing(sqlite3.connect(tmp_path / "it.db")) as connection:
        connection.executescript(
            "CREATE TABLE t (a INTEGER PRIMARY KEY, b VARCHAR(9)); "
            "CREATE TABLE u (a INTEGER REFERENCES t(a), shape NOT NULL);"
        )
    url = f"sqlite:///{tmp_path / 'it.db'}"
    code, out, err = qc("context", "--db", url, "--format", "compact")
    assert (code, err) == (0, [])
    assert out == "t(a INT PRIMARY KEY, b VARCHAR(9))\nu(a INT, shape)\nForeign keys:\nu.a=t.a\n"
    (tmp_path / "q.csv").write_text("question,query\nq,SELECT a FROM t\n", encoding="utf-8")
    assert qc("context", "q.csv", "--db", url, "-o", "with.csv")[0] == 0
    assert "CREATE TABLE t (" in (tmp_path / "with.csv").read_text()
