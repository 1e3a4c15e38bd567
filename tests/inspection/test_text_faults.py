"""`qc data check` knows rows again that are written otherwise, and reports each once."""

from __future__ import annotations

import csv
import json
import sqlite3
import tracemalloc
from contextlib import closing

import pytest

from qc_experiments.data.table import Row
from qc_experiments.inspection.faults import Faults
from qc_experiments.inspection.text_checks import near_repeats

PET = "CREATE TABLE pet (id INTEGER, name TEXT);"
COUNT, NAMES = ("How many pets?", "SELECT count(*) FROM pet"), ("Names?", "SELECT name FROM pet")


@pytest.fixture
def found(check, tmp_path):
    """The faults of rows (question, query, context, db_id), and of validation rows, and what is printed."""

    def write(name, rows):
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("question", "query", "context", "db_id"), *rows])
        return path

    def start(rows, validation=None, *options):
        told = tmp_path / "found.json"
        if validation is not None:
            options = (*options, "--validation", write("validation.csv", validation))
        _, out = check(write("rows.csv", rows), *options, "--json", told)
        plain = json.loads(told.read_text())
        held_out = (plain["validation"] or {}).get("faults", [])
        own, theirs = (
            {(one["kind"], row) for one in faults for row in one["rows"]}
            for faults in (plain["faults"], held_out)
        )
        return own, theirs, out

    return start


@pytest.mark.parametrize(
    ("train", "held_out"),
    [
        ((PET, "pets"), (PET, "")),
        ((PET, ""), (PET, "pets")),
        ((PET, ""), (PET.rstrip(";"), "")),
        ((PET, "pets"), (f"{PET}\n", "")),
    ],
)
def test_a_leak_is_found_however_the_schema_is_named(found, train, held_out):
    _, theirs, _ = found([(*COUNT, *train), (*NAMES, *train)], [(*COUNT, *held_out)])
    assert ("leak", 2) in theirs


def test_another_schema_is_no_leak(found):
    other = "CREATE TABLE pet (id INTEGER, owner TEXT);"
    _, theirs, _ = found([(*COUNT, PET, "")], [(*COUNT, other, "")])
    assert "leak" not in {kind for kind, _ in theirs}


def test_the_same_row_under_a_context_that_is_written_otherwise_is_a_repeat(found):
    own, _, _ = found([(*COUNT, PET, "pets"), (*NAMES, PET, "pets"), (*NAMES, PET[:-1], "pets")])
    assert own == {("near_repeat", 4), ("other_context", 4)}


def test_queries_that_differ_in_case_or_semicolon_are_no_conflict_and_each_row_is_told_once(found):
    asked = COUNT[0]
    rows = [
        COUNT,
        (asked, "SELECT COUNT(*)\nFROM pet;"),
        (asked.lower(), "select count(*) from pet"),
        (asked, "SELECT count(id) FROM pet"),
    ]
    own, _, _ = found([(*row, PET, "") for row in rows])
    assert own == {("near_repeat", 3), ("near_repeat", 4), ("conflict", 5)}


def test_texts_that_differ_in_case_are_a_conflict(found):
    rows = [("Who?", f"SELECT id FROM pet WHERE name = '{name}'") for name in ("Ann", "ann")]
    assert found([(*row, PET, "") for row in rows])[0] == {("conflict", 3)}


@pytest.fixture
def databases(tmp_path):
    folder = tmp_path / "databases"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "pets.sqlite")) as connection:
        connection.executescript(f"{PET} INSERT INTO pet VALUES (1, 'Rex')")
    return ("--databases", folder)


def test_a_held_out_query_that_fails_is_an_error(found, databases):
    broken = ("Broken?", "SELECT zzz FROM pet", PET, "pets")
    _, theirs, _ = found([(*COUNT, PET, "pets")], [broken], *databases)
    assert ("query_fails", 2) in theirs


@pytest.mark.parametrize("db_id", ["", "hotel"])
def test_a_row_without_a_database_is_a_fault_and_no_end(found, databases, db_id):
    own, _, out = found([(*COUNT, PET, "pets"), (*NAMES, PET, db_id)], None, *databases)
    assert own == {("no_database", 3)}
    assert "every query runs" not in out


@pytest.mark.parametrize(
    "query",
    [
        'WITH "all pets" AS (\n  SELECT name FROM pet\n)\nSELECT * FROM "all pets"',
        "-- Step 1: select the names\nSELECT name FROM pet",
        "FROM pet\nSELECT name",
        "(\nSELECT name FROM pet\n)\nUNION\nSELECT name FROM pet",
        "WITH\n-- all\nt AS (\n  SELECT name FROM pet\n)\nSELECT * FROM t",
        "(\n-- first part\nSELECT name FROM pet\n)\nUNION\nSELECT name FROM pet",
        "-- note\nFROM pet\nSELECT name",
    ],
)
def test_a_query_of_several_lines_is_not_cut_by_a_fix(check, tmp_path, query):
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question", "query", "context"), ("Names?", query, PET)])
    check(tmp_path / "rows.csv", "--fix", tmp_path / "fixed.csv")
    with (tmp_path / "fixed.csv").open(newline="") as file:
        assert [row["query"] for row in csv.DictReader(file)] == [query]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("```sql\nFROM pet\nSELECT name\n```", "FROM pet\nSELECT name"),
        ("From the tables above:\nSELECT name FROM pet", "SELECT name FROM pet"),
    ],
)
def test_a_query_is_taken_out_of_what_stands_around_it_by_a_fix(check, tmp_path, text, query):
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question", "query", "context"), ("Names?", text, PET)])
    check(tmp_path / "rows.csv", "--fix", tmp_path / "fixed.csv")
    with (tmp_path / "fixed.csv").open(newline="") as file:
        assert [row["query"] for row in csv.DictReader(file)] == [query]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Which people know C++?", "Which people know C#?"),
        ("Who has a balance of -5?", "Who has a balance of +5?"),
        ("Which pets have age < 3?", "Which pets have age > 3?"),
        ("Who has a balance of -5?", "Who has a balance of 5?"),
        ("Who has a balance of -€5?", "Who has a balance of €5?"),
        ("Which pets weigh at least .5?", "Which pets weigh at least 5?"),
        ("Which pupils have an A-?", "Which pupils have an A?"),
        ("Which pets have a != 3?", "Which pets have a = 3?"),
        ("Which pets have a ≤ 3?", "Which pets have a ≥ 3?"),
        ("What does it cost in $?", "What does it cost in €?"),
        ("What is a * b?", "What is a / b?"),
        ("कितने दिन हैं?", "कितने दान हैं?"),
        ("มีกี่ที่?", "มีกี่ที้?"),
    ],
)
def test_questions_that_differ_in_a_sign_are_two(found, one, other):
    query = "SELECT name FROM pet WHERE id = "
    own, theirs, _ = found(
        [(one, f"{query}1", PET, ""), (other, f"{query}2", PET, "")],
        [(other, f"{query}2", PET, "")],
    )
    assert "near_conflict" not in {kind for kind, _ in own}
    assert ("leak", 2) in theirs
    _, theirs, _ = found([(one, f"{query}1", PET, "")], [(other, f"{query}2", PET, "")])
    assert "leak" not in {kind for kind, _ in theirs}


@pytest.mark.parametrize(
    "other",
    [
        "Which pets\u2019 names aren\u2019t \u201cRex\u201d \u2013 or Tom\u2026",
        "which pets' names aren't 'Rex' - or Tom ?!",
        "Which pets' names aren't `Rex` -- or Tom:",
    ],
)
def test_how_a_question_is_punctuated_makes_no_other_question(found, other):
    query = "SELECT name FROM pet WHERE id = "
    one = ("Which pets' names aren't \"Rex\", or Tom?", f"{query}1", PET, "")
    _, theirs, _ = found([one], [(other, f"{query}2", PET, "")])
    assert ("leak", 2) in theirs


def test_many_questions_of_one_template_take_little_memory():
    rows = [
        Row(
            n, f"What is the total amount of all orders of customer number {n}?", f"SELECT {n}", PET
        )
        for n in range(1500)
    ]
    faults = Faults()
    tracemalloc.start()
    near_repeats(rows, faults)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not faults.rows("near_repeat")
    assert most < 50e6
