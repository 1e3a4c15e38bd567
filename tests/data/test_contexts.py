"""Contexts that are made from databases: in training, prediction and evaluation, of one file or a folder."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing

import pytest

from qc_experiments.errors import UserError

SHOP = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL)"
ROWS = [
    ("How many items are there?", "SELECT count(*) FROM item"),
    ("List the names of all items.", "SELECT name FROM item"),
    ("What is the highest price?", "SELECT max(price) FROM item"),
    ("Which items cost less than 2?", "SELECT name FROM item WHERE price < 2"),
]


def make_database(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{SHOP}; INSERT INTO item VALUES (1, 'tea', 1.5), (2, 'cup', 4);")
    return path


def write_rows(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def shop(tmp_path):
    return make_database(tmp_path / "shop.sqlite")


@pytest.fixture
def questions(tmp_path):
    return write_rows(tmp_path / "my.csv", ("question", "query"), ROWS)


def rows_of(*overrides):
    from qc_experiments.config.compose import composed, register_schema, to_run_config
    from qc_experiments.training.inputs import load_data

    register_schema()
    data = load_data(to_run_config(composed(["data=csv", *overrides], None)))
    return sorted((*data.train, *data.validation), key=lambda row: row.number)


def refusal(*overrides):
    with pytest.raises(UserError) as error:
        rows_of(*overrides)
    return str(error.value)


def test_one_file_needs_neither_context_nor_db_id(shop, questions):
    rows = rows_of(f"data.train={questions}", f"data.databases={shop}")
    assert len(rows) == len(ROWS)
    assert {row.context for row in rows} == {f"{SHOP};"}
    assert {row.db_id for row in rows} == {"shop"}


@pytest.mark.parametrize("place", ["shop.sqlite", "shop/shop.sqlite"])
def test_a_folder_is_flat_or_has_a_folder_for_each_database(tmp_path, place):
    make_database(tmp_path / "all" / place)
    rows = [(*row, "shop") for row in ROWS]
    path = write_rows(tmp_path / "my.csv", ("question", "query", "db_id"), rows)
    found = rows_of(f"data.train={path}", f"data.databases={tmp_path / 'all'}")
    assert {row.context for row in found} == {f"{SHOP};"}


def test_a_form_is_written_from_databases_and_the_judge_still_knows_the_tables(shop, questions):
    rows = rows_of(
        f"data.train={questions}", f"data.databases={shop}", "data.schema_format=m_schema"
    )
    assert all("(name:TEXT, Examples: [cup, tea])" in row.context for row in rows)
    assert {row.schema for row in rows} == {f"{SHOP};"}


def test_a_form_is_written_from_statements_where_there_is_no_database(tmp_path):
    path = write_rows(
        tmp_path / "my.csv", ("question", "query", "context"), [(*row, SHOP) for row in ROWS]
    )
    rows = rows_of(f"data.train={path}", "data.schema_format=compact")
    assert {row.context for row in rows} == {"item(id INT PRIMARY KEY, name TEXT, price REAL)"}


def test_rows_about_several_databases_are_not_judged_on_one(shop, tmp_path):
    rows = [(*row, name) for row, name in zip(ROWS, ("shop", "shop", "bank", "zoo"), strict=True)]
    path = write_rows(tmp_path / "my.csv", ("question", "query", "db_id"), rows)
    line = refusal(f"data.train={path}", f"data.databases={shop}")
    assert "3 databases (bank, shop, zoo)" in line


@pytest.mark.parametrize("form", ["null", "m_schema"])
@pytest.mark.parametrize("db_id", ["", "zoo"])
def test_rows_mixed_with_those_of_one_file_keep_their_own_contexts(
    shop, questions, tmp_path, form, db_id
):
    zoo = "CREATE TABLE pet (name TEXT)"
    header = ("question", "query", "context", "db_id")
    rows = [
        ("Which pets?", "SELECT name FROM pet", zoo, db_id),
        ("Which?", *ROWS[1][1:], SHOP, "shop"),
    ]
    more = write_rows(tmp_path / "more.csv", header, rows)
    given = [f"data.train=[{questions},{more}]", f"data.databases={shop}"]
    found = {row.question: row for row in rows_of(*given, f"data.schema_format={form}")}
    expected = zoo if form == "null" else "# Table: pet\n[\n(name:TEXT)\n]"
    assert (found["Which pets?"].context, found["Which pets?"].db_id) == (expected, db_id or None)
    assert ("Examples" in found["Which?"].context) == (form == "m_schema")
    write_rows(more, ("question", "query", "db_id"), [("Which pets?", "SELECT 1", "zoo")])
    assert "more.csv: its rows are about 2 databases (shop, zoo)" in refusal(*given)


@pytest.mark.parametrize(
    ("header", "cells", "said"),
    [
        (("question", "query", "db_id"), ("q", "SELECT 1", "zoo"), ["row 2", "db_id zoo"]),
        (("question", "query", "db_id"), ("q", "SELECT 1", ""), ["row 2", "no db_id"]),
        (("question", "query"), ("q", "SELECT 1"), ["row 2", "no db_id"]),
        (("question", "query", "db_id"), ("q", "SELECT 1", "a/b"), ["my.csv: row 2: db_id a/b"]),
    ],
)
def test_a_row_without_its_database_is_named(tmp_path, header, cells, said):
    make_database(tmp_path / "all" / "shop.sqlite")
    path = write_rows(tmp_path / "my.csv", header, [cells])
    line = refusal(f"data.train={path}", f"data.databases={tmp_path / 'all'}")
    assert all(text in line for text in said), line


def test_a_form_of_a_context_that_is_no_schema_is_refused(tmp_path):
    path = write_rows(
        tmp_path / "my.csv", ("question", "query", "context"), [("q", "SELECT 1", "some tables")]
    )
    line = refusal(f"data.train={path}", "data.schema_format=compact")
    assert "row 2" in line
    assert "no CREATE statements" in line


def test_a_run_says_its_form_and_predicts_in_it(train, shop, questions, tmp_path, monkeypatch):
    """The prompt of `qc predict --db` is the one that the model was trained on."""
    from qc_experiments.cli import predict
    from qc_experiments.generation.saved import SavedPredictor

    run = train(
        *("data=csv", f"data.train={questions}", f"data.databases={shop}"),
        *("data.schema_format=m_schema", "data.schema.values=1", "trainer.max_steps=1"),
        "evaluation.max_new_tokens=4",
    )
    adapter = run.folder / "adapter"
    saved = json.loads((adapter / "prompting.json").read_text())
    assert saved["schema_format"] == "m_schema"
    assert saved["schema"]["values"] == 1
    asked = []
    answer = SavedPredictor.answer
    monkeypatch.setattr(
        SavedPredictor,
        "answer",
        lambda self, rows, *rest: (asked.extend(rows), answer(self, rows, *rest))[1],
    )
    predict.main(["--adapter", str(adapter), "--db", str(shop), "--question", "How many?"])
    output = tmp_path / "out.csv"
    rows = write_rows(tmp_path / "q.csv", ("question",), [("How many?",)])
    predict.main(
        [
            "--adapter",
            str(adapter),
            "--db",
            str(shop),
            "--input",
            str(rows),
            "--output",
            str(output),
        ]
    )
    trained = rows_of(
        *(f"data.train={questions}", f"data.databases={shop}"),
        *("data.schema_format=m_schema", "data.schema.values=1"),
    )
    assert {row.context for row in asked} == {trained[0].context}
    assert {row.schema for row in asked} == {f"{SHOP};"}


def test_predictions_are_judged_on_one_file(shop, tmp_path):
    from qc_experiments.cli import evaluate

    predictions = write_rows(
        tmp_path / "p.csv",
        ("question", "query", "prediction"),
        [(*row, row[1]) for row in ROWS[:3]] + [(*ROWS[3], "SELECT 1")],
    )
    evaluate.main(
        [str(predictions), "--databases", str(shop), "--output", str(tmp_path / "judged")]
    )
    report = json.loads((tmp_path / "judged" / "report.json").read_text())
    assert report["figures"]["execution_accuracy"]["hits"] == 3
    assert list(report["by_database"]) == ["shop"]
