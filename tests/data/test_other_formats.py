"""`qc data import`: files of other projects become a CSV that training takes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile

import pandas
import pytest
from datasets import Dataset, DatasetDict

from qc_experiments.cli import data as command

ROWS = [
    {"question": "How many?", "query": "SELECT count(*) FROM t", "db_id": "shop"},
    {"question": 'Which "ones",\nplease?', "query": "SELECT a FROM t", "db_id": "shop"},
]
BIRD = [
    {"question_id": 0, "db_id": "shop", "question": "q", "evidence": "a means b", "SQL": "SELECT 1"}
]
BIRD_CELLS = {"db_id": "shop", "evidence": "a means b"}
SPIDER = [
    {"db_id": "shop", "query": "SELECT 1", "query_toks": ["SELECT"], "question": "q", "sql": {}}
]
GRETEL = [{"id": 1, "sql_prompt": "q", "sql_context": "CREATE TABLE t (a)", "sql": "SELECT 1"}]
ALPACA = [{"instruction": "q", "input": "CREATE TABLE t (a)", "output": "SELECT 1"}]
CONTEXT = [{"answer": "SELECT 1", "question": "q", "context": "CREATE TABLE t (a)"}]
CHAT = [
    {
        "messages": [
            {"role": "system", "content": "CREATE TABLE t (a)"},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "```sql\nSELECT 1;\n```"},
        ]
    }
]
SHAREGPT = [
    {
        "conversations": [
            {"from": "system", "value": "CREATE TABLE t (a)"},
            {"from": "human", "value": "q"},
            {"from": "gpt", "value": "SELECT 1"},
        ]
    }
]


def zipped():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("it.json"), "[]")  # of 1980, so that it is the same always
    return archive.getvalue()


ZIPPED = zipped()


def imported(source, tmp_path, *options):
    target = tmp_path / "out.csv"
    command.main(["import", str(source), "--output", str(target), *options])
    with target.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (BIRD, BIRD_CELLS),
        (SPIDER, {"db_id": "shop"}),
        (GRETEL, {"context": "CREATE TABLE t (a)"}),
        (ALPACA, {"context": "CREATE TABLE t (a)"}),
        (CONTEXT, {"context": "CREATE TABLE t (a)"}),
        (CHAT, {"context": "CREATE TABLE t (a)"}),
        (SHAREGPT, {"context": "CREATE TABLE t (a)"}),
        ({"data": CONTEXT}, {"context": "CREATE TABLE t (a)"}),
        ({"version": "1", "items": CONTEXT}, {"context": "CREATE TABLE t (a)"}),
        ({"0017": CONTEXT[0]}, {"context": "CREATE TABLE t (a)"}),
        ({name: [cell] for name, cell in CONTEXT[0].items()}, {"context": "CREATE TABLE t (a)"}),
        ({name: {"0": cell} for name, cell in BIRD[0].items()}, BIRD_CELLS),
        (BIRD[0] | {"tables": [{"question": "x", "query": "y"}]}, BIRD_CELLS),
    ],
)
def test_columns_of_known_formats_are_found(tmp_path, content, expected):
    (row,) = imported(write_json(tmp_path / "it.json", content), tmp_path)
    assert row == {"question": "q", "query": "SELECT 1", **expected}


def test_the_same_rows_come_out_of_every_kind_of_file(tmp_path):
    frame = pandas.DataFrame(ROWS)
    frame.to_parquet(tmp_path / "it.parquet")
    frame.to_csv(tmp_path / "it.tsv", sep="\t", index=False)
    frame.to_csv(tmp_path / "it.csv", index=False)
    frame.to_csv(tmp_path / "semicolons.txt", sep=";", index=False)
    write_json(tmp_path / "it.json", ROWS)
    lines = "\n".join(map(json.dumps, ROWS)) + "\n"
    (tmp_path / "it.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "it.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    DatasetDict({"train": Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "parts"))
    names = (
        "it.parquet",
        "it.tsv",
        "it.csv",
        "semicolons.txt",
        "it.json",
        "it.jsonl",
        "it.jsonl.gz",
    )
    for name in (*names, "saved", "parts"):
        assert imported(tmp_path / name, tmp_path) == ROWS, name


def test_an_excel_workbook_is_read(tmp_path):
    pytest.importorskip("openpyxl")
    pandas.DataFrame(ROWS).to_excel(tmp_path / "it.xlsx", index=False)
    assert imported(tmp_path / "it.xlsx", tmp_path) == ROWS


def test_a_sheet_of_a_workbook_is_named_where_several_have_rows(tmp_path, refused):
    pytest.importorskip("openpyxl")
    with pandas.ExcelWriter(tmp_path / "it.xlsx") as book:
        pandas.DataFrame([{"note": "read me"}]).to_excel(book, sheet_name="About", index=False)
        pandas.DataFrame(ROWS).to_excel(book, sheet_name="Data", index=False)
    line = refused(command.main, ["import", str(tmp_path / "it.xlsx"), "-o", str(tmp_path / "x")])
    assert "About, Data: give one as --split" in line
    assert imported(tmp_path / "it.xlsx", tmp_path, "--split", "Data") == ROWS


def test_a_part_of_a_json_object_is_named(tmp_path):
    path = write_json(tmp_path / "it.json", {"train": ROWS[:1], "dev": ROWS})
    assert imported(path, tmp_path) == ROWS[:1]
    assert imported(path, tmp_path, "--split", "dev") == ROWS


def chat(question, answer, name="messages", **more):
    turns = [{"role": "User", "content": question}, {"role": "ASSISTANT", "content": answer}]
    return {name: turns, **more}


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_chats_keep_what_stands_beside_them_and_the_texts_of_their_parts(tmp_path, kind):
    parts = [{"type": "text", "text": "How"}, {"type": "text", "text": "many?"}]
    rows = [chat(parts, [{"type": "text", "text": "SELECT 1"}], db_id="pets")]
    path = tmp_path / f"it.{kind}"
    if kind == "json":
        write_json(path, rows)
    else:
        pandas.DataFrame(rows).to_parquet(path)
    assert imported(path, tmp_path) == [
        {"question": "How\nmany?", "query": "SELECT 1", "db_id": "pets"}
    ]


def test_what_has_no_question_or_answer_is_left_out_and_counted(tmp_path, capsys):
    rows = [
        chat("q", "SELECT 1"),
        {"question": "x", "query": "SELECT 2"},
        {"messages": []},
        {"messages": [{"role": "user", "content": "only asked"}]},
        {"messages": {"role": "user"}},
    ]
    found = imported(write_json(tmp_path / "it.json", rows), tmp_path)
    assert found == [{"question": "q", "query": "SELECT 1"}, {"question": "x", "query": "SELECT 2"}]
    out = capsys.readouterr().out
    assert "2 rows; question from messages" in out
    assert "3 rows without a question or a query left out (rows 3, 4, 5" in out


def test_columns_can_be_named(tmp_path):
    path = write_json(tmp_path / "it.json", [{"Frage": "q", "Antwort": "SELECT 1"}])
    (row,) = imported(path, tmp_path, "--question", "Frage", "--query", "Antwort")
    assert row == {"question": "q", "query": "SELECT 1"}


def test_lists_beside_the_text_of_a_parquet_file_are_passed_over(tmp_path):
    pandas.DataFrame([{**ROWS[0], "tokens": ["a", "b"]}]).to_parquet(tmp_path / "it.parquet")
    assert imported(tmp_path / "it.parquet", tmp_path) == ROWS[:1]


def test_what_is_imported_is_what_training_reads(tmp_path, capsys):
    path = write_json(tmp_path / "it.json", CONTEXT)
    imported(path, tmp_path)
    command.main(["check", str(tmp_path / "out.csv")])
    assert "1 usable row, 1 context" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("it.json", b"[1, 2]", (), ["it.json", "no objects"]),
        ("it.json", b"[]", (), ["it.json", "no rows"]),
        ("it.json", b'[{"a": 1', (), ["it.json", "cannot be read"]),
        ("it.json", b'[{"a": "x", "query": "y"}]', (), ["which of a, query is the question"]),
        ("it.json", b'[{"question": "x", "query": "y"}]', ("--query", "z"), ["has no z (--query)"]),
        ("it.jsonl", b'{"question": "\xff"}', (), ["it.jsonl", "not UTF-8"]),
        ("it.parquet", b"PAR1 and nothing", (), ["it.parquet", "cannot be read"]),
        ("it.json.gz", b"\x1f\x8b nothing", (), ["gzip", "damaged"]),
        ("it.csv", b"", (), ["it.csv"]),
        (
            "it.csv",
            b"question,query\nq,SELECT a, b FROM t\nq,SELECT 1\n",
            (),
            ["row 2 has 3 cells"],
        ),
        ("it.csv", b"question,query\nq,SELECT 1,x\nq,SELECT 2,y\n", (), ["row 2 has 3 cells"]),
        ("it.csv", b"question,query,question\nq,SELECT 1,x\n", (), ["the column question twice"]),
        ("it.json", b'[{"query": "q"}, {"a": "b" "c"}]', (), ["line 1 column 28"]),
        ("it.json", b'[\n{"a": "b"},\n{"a": "b" "c"}\n]', (), ["line 3 column 11"]),
        ("it.jsonl", b'{"a": "b"}\n\n{"a": "b" "c"}', (), ["line 3 column 11"]),
        ("it.json", b"[" * 100_000, (), ["nested too deeply"]),
        ("it.jsonl", b'{"messages": ["a", "b"]}', (), ["which of messages is the question"]),
        (
            "it.json",
            b'[{"question": "x", "query": "y"}, {"question": ["x"], "query": "y"}]',
            (),
            ["row 2: its question is no text"],
        ),
        ("it.json", b'[{"question": "x", "query": true}]', (), ["row 1: its query is no text"]),
        ("it.json", b'[{"question": "x", "query": ""}]', (), ["no row has both"]),
        ("it.json", b'[{"question": "x"}, {"query": "SELECT 1"}]', (), ["no row has both"]),
        ("it.csv", b"question,query\n,\n", (), ["no row has both"]),
        ("it.json", b"[{}]", (), ["no row has both"]),
        *(
            ("it.json", json.dumps([{"messages": [message]}]).encode(), (), ["no row has both"])
            for message in (
                {"role": "user", "content": "How many?"},
                {"role": "assistant", "content": "SELECT 1"},
                {"role": "system", "content": "CREATE TABLE t (a)"},
            )
        ),
        ("it.json", b'[{"question": "x", "query": "y"}]', ("--split", "dev"), ["has no parts"]),
        (
            "it.json.gz",
            gzip.compress(b"[]" * 50, mtime=0)[:-20] + bytes(20),
            (),
            ["gzip", "damaged"],
        ),
        ("it.zip", ZIPPED, (), ["a zip archive", "it.json"]),
        ("it.xlsx", b"PK\x03\x04 xl/workbook.xml", (), ["it.xlsx", "cannot be read"]),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, refused, name, content, options, said):
    (tmp_path / name).write_bytes(content)
    target = tmp_path / "out.csv"
    line = refused(command.main, ["import", str(tmp_path / name), "-o", str(target), *options])
    assert all(text in line for text in said), line
    assert not target.exists()


def test_a_file_that_is_not_there_and_one_that_would_be_overwritten(tmp_path, refused):
    assert "no.json" in refused(command.main, ["import", str(tmp_path / "no.json"), "-o", "x.csv"])
    path = write_json(tmp_path / "it.json", CONTEXT)
    assert "is an input" in refused(command.main, ["import", str(path), "-o", str(path)])


def test_a_data_set_of_several_parts_needs_a_name(tmp_path, refused, capsys):
    parts = {"first": Dataset.from_list(ROWS), "second": Dataset.from_list(ROWS[:1])}
    DatasetDict(parts).save_to_disk(str(tmp_path / "parts"))
    target = ["-o", str(tmp_path / "out.csv")]
    capsys.readouterr()  # what datasets says of saving
    line = refused(command.main, ["import", str(tmp_path / "parts"), *target])
    assert "first, second: give one as --split" in line
    assert len(imported(tmp_path / "parts", tmp_path, "--split", "second")) == 1
