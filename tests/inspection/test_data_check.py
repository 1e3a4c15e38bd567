"""`qc data check`: finds what is wrong with a data set, and nothing else."""

from __future__ import annotations

import csv
import json
import os
import re
from importlib.resources import files

import pytest
from helpers.planted import GOOD, TABLES, make_planted

from qc_experiments.cli import data as command
from qc_experiments.inspection.faults import KINDS

DEMO = files("qc_experiments.demo")


def write(path, rows, header=("question", "query", "context", "db_id")):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def found_in(path):
    return {
        (fault["kind"], row)
        for fault in json.loads(path.read_text())["faults"]
        for row in fault["rows"]
    }


def test_each_planted_fault_is_found_in_its_row_and_nothing_else(check, tmp_path):
    path, databases, planted = make_planted(tmp_path)
    code, out = check(path, "--databases", databases, "--json", tmp_path / "found.json")
    assert code == 1
    assert found_in(tmp_path / "found.json") == set(planted.items())
    for kind, row in planted.items():
        assert KINDS[kind].advice in out
        title = re.escape(KINDS[kind].title).replace(r"\{\}", ".*")
        assert re.search(rf"^  \w+: {title}: row {row}$", out, re.MULTILINE), kind


def test_good_rows_have_no_faults_with_databases_and_without(check, tmp_path):
    _, databases, _ = make_planted(tmp_path)
    path = write(tmp_path / "good.csv", [(*row, TABLES, "shop") for row in GOOD])
    for options in ((), ("--databases", databases)):
        code, out = check(path, *options)
        assert code == 0, out
        assert "error" not in out
        assert "warning" not in out
        assert "every query runs on" in out


def test_the_worst_stands_first(check, tmp_path):
    path, databases, _ = make_planted(tmp_path)
    levels = re.findall(
        r"^  (error|warning|note): ", check(path, "--databases", databases)[1], re.M
    )
    assert levels == sorted(levels, key=["error", "warning", "note"].index)


def test_what_validation_knows_from_training_is_said_with_its_share(check, tmp_path):
    _, databases, _ = make_planted(tmp_path)
    rows = [(*row, TABLES, "shop") for row in GOOD]
    train = write(tmp_path / "train.csv", rows)
    held_out = [
        rows[0],
        ("List the names of all the customers from London", GOOD[1][1], TABLES, "shop"),
        ("Who lives in Paris?", "SELECT name FROM customer WHERE city = 'Paris'", TABLES, "shop"),
        ("How much tea was sold?", "SELECT sum(price) FROM purchase", TABLES, "shop"),
    ]
    validation = write(tmp_path / "validation.csv", held_out)
    code, out = check(train, "--databases", databases, "--validation", validation)
    assert code == 1
    own = out[out.index("held out: 4 rows") :]
    assert "asked in training as well: the figures are too good by them: 25 % of them, row 2" in own
    assert (
        "nearly a question of training, about the same schema (row 3): 25 % of them, row 3" in own
    )
    assert "query stands in training as well, but for its values: 75 % of them, rows 2, 3, 4" in own
    assert "schema stands in training as well: 100 % of them, rows 2, 3, 4, 5" in own


def test_a_target_says_what_is_seldom(check, tmp_path):
    easy = write(tmp_path / "easy.csv", [(*GOOD[0], TABLES, "shop")])
    target = write(tmp_path / "target.csv", [(*row, TABLES, "shop") for row in GOOD])
    out = check(easy, "--like", target)[1]
    assert "hardness: easy 1\n" in out
    assert "hardness of the target: easy" in out
    assert "where (0 % instead of 44 %)" in out


def test_tables_and_columns_that_no_question_is_about_are_named(check, tmp_path):
    path = write(tmp_path / "one.csv", [(*GOOD[1], TABLES, "shop")])
    out = check(path)[1]
    assert "no question is about 3 tables and columns:" in out
    assert "shop: purchase, customer.age, customer.id" in out


def test_tokens_are_counted_and_rows_that_are_too_long_named(check, tmp_path, tiny_model):
    rows = [(*row, TABLES, "shop") for row in GOOD]
    rows.append(("long " * 400, "SELECT 1", TABLES, "shop"))
    path = write(tmp_path / "rows.csv", rows)
    code, out = check(path, "--model", tiny_model, "--max-length", "400")
    assert code == 1
    assert (
        f"longer than data.max_length=400 tokens: training leaves it out: row {len(rows) + 1}"
        in out
    )
    assert re.search(
        r"shared_schema computes [\d,]+ of [\d,]+ tokens an epoch: \d+\.\d times fewer", out
    )


def test_fix_does_what_is_safe_and_nothing_else(check, tmp_path):
    path, databases, planted = make_planted(tmp_path)
    mended = tmp_path / "mended.csv"
    out = check(path, "--databases", databases, "--fix", mended)[1]
    assert "rows with empty cells left out: 1, repeats left out: 1" in out
    before, after = (list(csv.reader(one.open(encoding="utf-8"))) for one in (path, mended))
    gone = {planted["repeat"], planted["empty_cell"]}
    expected = [cells for number, cells in enumerate(before, 1) if number not in gone]
    changed = [(a, b) for a, b in zip(expected, after, strict=True) if a != b]
    assert [(a[1], b[1]) for a, b in changed] == [
        ("```sql\nSELECT age FROM customer\n```", "SELECT age FROM customer")
    ]
    check(mended, "--databases", databases, "--json", tmp_path / "again.json")
    kinds = {kind for kind, _ in found_in(tmp_path / "again.json")}
    assert kinds.isdisjoint({"repeat", "empty_cell", "fenced"})


def test_the_page_holds_the_findings_and_lets_no_text_act(check, tmp_path):
    rows = [("<script>alert(1)</script>", "SELECT nope FROM customer", TABLES, "<b>shop</b>")]
    page = tmp_path / "page.html"
    check(write(tmp_path / "rows.csv", rows), "--page", page)
    text = page.read_text()
    assert "query uses what the context does not show (nope)" in text
    assert "<script" not in text
    assert "<b>shop" not in text
    assert text.count("<svg") == 2
    assert "http" not in re.sub(r'(xmlns|xmlns:\w+|rdf:\w+)="[^"]*"', "", text).replace(
        "http-equiv", ""
    ).replace("//www.w3.org", "")


def test_a_row_that_hangs_or_kills_the_parser_ends_nothing(check, tmp_path):
    rows = [("deep?", "SELECT " + "(" * 4000 + "1" + ")" * 4000, TABLES, "shop")]
    rows.append((*GOOD[0], TABLES, "shop"))
    code, out = check(write(tmp_path / "deep.csv", rows))
    assert code in (0, 1)
    assert "2 usable rows" in out


def test_a_name_that_is_not_utf_8_stands_on_the_page_and_does_not_end_it(check, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    path.write_text("question,query,context\nHow many?,SELECT count(*) FROM t,CREATE TABLE t (a)\n")
    code, _ = check(path, "--page", tmp_path / "page.html", "--json", tmp_path / "found.json")
    assert code == 0
    assert "<h1>caf\\udce9.csv: 1 usable row" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("flag", ["--page", "--json", "--fix"])
def test_the_input_is_never_overwritten(check, tmp_path, flag, capsys):
    path = write(tmp_path / "rows.csv", [(*GOOD[0], TABLES, "shop")])
    before = path.read_bytes()
    with pytest.raises(SystemExit) as stopped:
        command.main(["check", str(path), flag, str(path)])
    assert stopped.value.code == 2
    assert "is an input" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_the_demo_is_in_order(check):
    for name in ("train.csv", "validation.csv"):
        code, out = check(DEMO / name, "--databases", DEMO / "databases")
        assert code == 0
        assert "error" not in out
        assert "warning" not in out
