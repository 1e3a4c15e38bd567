"""Reading a CSV: what is refused, with which words, and what is left out, counted and named."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from qc_experiments.config.schema import ColumnsConfig, OnInvalid
from qc_experiments.data.table import Table, hash_rows, name_rows, read_table
from qc_experiments.errors import UserError
from qc_experiments.system.paths import resolve_path

HEADER = "question,query,context\n"


@pytest.fixture
def read(tmp_path: Path):
    """Read some text or bytes as the CSV ``rows.csv``."""

    def start(content: str | bytes, on_invalid: OnInvalid = OnInvalid.error, **columns: str):
        path = tmp_path / "rows.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, ColumnsConfig(**columns), on_invalid)

    return start


@pytest.fixture
def refusal(read, tmp_path: Path):
    """The line with which a CSV is refused; it names the file."""

    def start(content: str | bytes, on_invalid: OnInvalid = OnInvalid.error, **columns: str) -> str:
        with pytest.raises(UserError) as caught:
            read(content, on_invalid, **columns)
        line = str(caught.value)
        assert line.splitlines() == [line]
        assert line.startswith(f"{tmp_path / 'rows.csv'}: ")
        return line

    return start


def cells(table: Table) -> list[tuple[int, str, str, str, str | None]]:
    return [(row.number, row.question, row.query, row.context, row.db_id) for row in table.rows]


def decided(table: Table) -> list[tuple[str, tuple[int, ...]]]:
    return [(decision.what, decision.rows) for decision in table.decisions]


def test_rows_carry_their_cells_and_the_number_a_spreadsheet_shows(read):
    table = read(
        "question,query,context,db_id\nHow many?,SELECT 1,CREATE TABLE t(a),shop\nq,s,c,d\n"
    )
    assert cells(table) == [
        (2, "How many?", "SELECT 1", "CREATE TABLE t(a)", "shop"),
        (3, "q", "s", "c", "d"),
    ]
    assert table.decisions == ()


@pytest.mark.parametrize(
    "content",
    [
        HEADER + "q,s,c\n",
        HEADER + "q,s,c",
        ("\ufeff" + HEADER + "q,s,c\n"),
        (HEADER + "q,s,c\n").replace("\n", "\r\n"),
        " question , query,context \n q , s ,\tc\n",
        '"question","query","context"\n"q","s","c"\n',
        "note,context,question,query\n,c,q,s\n",
    ],
    ids=[
        "plain",
        "no newline at the end",
        "byte order mark",
        "Windows line ends",
        "blanks around cells",
        "quoted",
        "other columns, another order",
    ],
)
def test_the_same_row_however_the_csv_was_saved(read, content):
    assert cells(read(content)) == [(2, "q", "s", "c", None)]


def test_cells_may_hold_line_breaks_quotes_commas_and_any_script(read):
    table = read(
        HEADER + '"Wie heißt, ""er""?\nJetzt 🙂",SELECT \'a;b\',"CREATE TABLE t(a);\n\nx"\n'
    )
    assert cells(table) == [
        (2, 'Wie heißt, "er"?\nJetzt 🙂', "SELECT 'a;b'", "CREATE TABLE t(a);\n\nx", None)
    ]


def test_a_multi_line_cell_and_a_blank_line_each_count_as_one_row(read):
    table = read(HEADER + '"q\nq\nq",s,"c\n\nc"\n\nq4,s,c\n')
    assert [row.number for row in table.rows] == [2, 4]


def test_a_schema_longer_than_the_csv_modules_limit_is_read(read):
    schema = "CREATE TABLE t(a);" * 10_000
    assert read(f'{HEADER}q,s,"{schema}"\n').rows[0].context == schema


def test_columns_are_mapped(read):
    table = read(
        "Frage,SQL,Schema,DB\nq,s,c,d\n",
        question="Frage",
        query="SQL",
        context="Schema",
        db_id="DB",
    )
    assert cells(table) == [(2, "q", "s", "c", "d")]


@pytest.mark.parametrize("content", ["q,s,c\n", "question,query,context,db_id\nq,s,c, \n"])
def test_db_id_is_optional(read, content):
    text = content if content.startswith("question") else HEADER + content
    assert read(text).rows[0].db_id is None


@pytest.mark.parametrize("name", ["question", "query", "context"])
def test_a_missing_column_is_named_with_the_header_and_the_mapping(refusal, name):
    header = HEADER.strip().replace(name, "other")
    line = refusal(f"{header}\na,b,c\n")
    assert f"no column {name}" in line
    assert header.replace(",", ", ") in line
    assert f"data.columns.{name}=" in line


@pytest.mark.parametrize("name", ["db_id", "evidence"])
def test_an_optional_column_that_was_mapped_has_to_be_there(refusal, name):
    line = refusal(HEADER + "q,s,c\n", **{name: "databse"})
    assert "no column databse" in line
    assert (
        f"data.columns.{name}=... (in qc data and qc init: --{name} ...), or none: it is optional"
        in line
    )


def test_a_mapped_column_that_is_missing_is_called_as_the_user_called_it(refusal):
    line = refusal(HEADER + "a,b,c\n", query="sql")
    assert "no column sql" in line
    assert "data.columns.query=" in line


@pytest.mark.parametrize("name", ["question", "query", "context", "db_id"])
def test_a_doubled_column_is_refused(refusal, name):
    line = refusal(f"question,query,context,db_id,{name}\na,b,c,d,e\n")
    assert f"column {name} twice" in line


def test_a_doubled_column_that_is_not_used_does_not_matter(read):
    assert len(read("question,query,context,note,note\na,b,c,d,e\n").rows) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (HEADER, "header but no rows"),
        (HEADER + "\n\n", "header but no rows"),
    ],
    ids=["nothing", "only a byte order mark", "only a header", "a header and blank lines"],
)
def test_a_csv_without_rows_is_refused(refusal, content, reason):
    assert reason in refusal(content)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (HEADER.encode() + b"q,s,c\nq,'gr\xfc\xdf',c\n", "line 3 is not UTF-8 (byte 0xfc)"),
        (HEADER.encode() + b'"q\nq",s,c\nq,\xff,c\n', "line 4 is not UTF-8 (byte 0xff)"),
        ((HEADER + "q,s,c\n").encode("utf-16"), "line 1 is not UTF-8"),
        (HEADER + "q,s,c\nq,a\0b,c\n", "line 3 holds a NUL"),
    ],
    ids=["latin-1", "after a multi-line cell", "utf-16", "NUL"],
)
def test_a_csv_that_is_not_utf_8_text_is_refused_by_line(refusal, content, place):
    line = refusal(content)
    assert place in line
    assert "save the file as UTF-8" in line


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (HEADER + 'q,s,c\nq,"s,c\nq,s,c\n', 3),
        (HEADER + '"q\n\nq",s,c\n\n"q,s,c\n', 4),
        (HEADER + '"q\nq",s,c\nq,"SELECT "a"",c\n', 3),
        ('question,"query,context\nq,s,c\n', 1),
    ],
    ids=[
        "never closed",
        "after a multi-line cell and a blank line",
        "a quote not written twice",
        "in the header",
    ],
)
def test_unbalanced_quotes_are_refused_by_row(refusal, content, number):
    line = refusal(content)
    assert f"row {number} cannot be read" in line
    assert "quote" in line


@pytest.mark.parametrize(
    ("row", "count"), [("q,SELECT a, b FROM t,c", 4), ("q,s", 2), ("q,s,c,", 4)]
)
def test_a_ragged_row_is_refused_by_row_with_both_counts(refusal, row, count):
    line = refusal(f'{HEADER}"q\nq",s,c\n{row}\n')
    assert f"row 3 has {count} cells, the header 3" in line


def test_a_blank_line_above_the_header_is_passed_over_as_any_other(read):
    assert cells(read("\n" + HEADER + "q,s,c\n")) == [(3, "q", "s", "c", None)]


@pytest.mark.parametrize(("name", "place"), [("question", 0), ("query", 1), ("context", 2)])
def test_an_empty_cell_is_an_error_that_names_rows_and_column(refusal, name, place):
    gap = ["q", "s", "c"]
    gap[place] = " "
    line = refusal(f"{HEADER}q,s,c\n{','.join(gap)}\nq2,s,c\n{','.join(gap)}\n")
    assert f"empty {name} in rows 3, 5" in line
    assert "data.on_invalid=drop" in line


def test_an_empty_cell_is_called_by_the_users_column_name(refusal):
    assert "empty Frage in row 2" in refusal("Frage,query,context\n,s,c\n", question="Frage")


def test_dropped_rows_are_counted_and_named(read, tmp_path):
    table = read(HEADER + "q,s,c\n,s,c\nq2,,c\nq3,s,c\n,s,c\n", OnInvalid.drop)
    assert [row.number for row in table.rows] == [2, 5]
    assert decided(table) == [
        ("with an empty question left out", (3, 6)),
        ("with an empty query left out", (4,)),
    ]
    assert [decision.line(table.path) for decision in table.decisions] == [
        f"{tmp_path / 'rows.csv'}: 2 rows with an empty question left out (rows 3, 6)",
        f"{tmp_path / 'rows.csv'}: 1 row with an empty query left out (row 4)",
    ]


def test_a_csv_of_which_every_row_is_dropped_is_refused(refusal):
    assert "no usable row" in refusal(HEADER + ",s,c\nq,,c\n", OnInvalid.drop)


def test_exact_duplicates_are_left_out_and_named(read):
    table = read(HEADER + "q,s,c\nq2,s,c\nq,s,c\n q , s ,c\n")
    assert [row.number for row in table.rows] == [2, 3]
    [(what, rows)] = decided(table)
    assert "repeating an earlier row, left out" in what
    assert rows == (4, 5)


def test_one_question_with_two_queries_is_kept_and_named(read):
    table = read(HEADER + "q,s,c\nq,s2,c\nq,s2,c\n")
    assert [row.number for row in table.rows] == [2, 3]
    found = {rows: what for what, rows in decided(table)}
    assert "another query; both are kept" in found[(3,)]
    assert "left out" in found[(4,)]


def test_many_queries_for_one_question_take_no_longer_than_for_many(read):
    start = time.perf_counter()
    table = read(HEADER + "".join(f"q,SELECT {n} FROM t,c\n" for n in range(3000)))
    assert decided(table)[0][1] == tuple(range(3, 3002))
    assert time.perf_counter() - start < 20  # each compared with each, it were minutes


@pytest.mark.parametrize(
    "other", ["q,s,other schema,d", "q,s,c,other database", "Q,s,c,d"], ids=["schema", "db", "case"]
)
def test_the_same_question_about_something_else_is_no_duplicate(read, other):
    table = read(f"question,query,context,db_id\nq,s,c,d\n{other}\n")
    assert len(table.rows) == 2
    assert table.decisions == ()


def test_a_folder_instead_of_a_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"is a folder, not a CSV file") as caught:
        read_table(tmp_path, ColumnsConfig(), OnInvalid.error)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_file_is_refused_with_its_key_and_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        resolve_path("data/mine.csv", "data.train")
    line = str(caught.value)
    assert line.startswith("data.train=data/mine.csv: no such file")
    assert str(tmp_path / "data" / "mine.csv") in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("pkg://qc_experiments.demo/nope.csv", "no such file"),
        ("pkg://no_such_package/train.csv", "no Python package no_such_package"),
        ("", "data.train"),
    ],
    ids=["file of a package", "package", "empty"],
)
def test_a_path_that_leads_nowhere_is_refused_with_its_key(path, reason):
    with pytest.raises(UserError, match=r"^data\.train=") as caught:
        resolve_path(path, "data.train")
    assert reason in str(caught.value)


def test_paths_may_start_at_home_or_in_a_package(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.csv").touch()
    assert resolve_path("~/mine.csv", "data.train") == tmp_path / "mine.csv"
    demo = resolve_path("pkg://qc_experiments.demo/train.csv", "data.train")
    assert len(read_table(demo, ColumnsConfig(), OnInvalid.error).rows) > 100


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "row 2"),
        (3, "rows 2, 3, 4"),
        (10, "rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"),
        (14, "rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 4 more"),
    ],
)
def test_a_message_names_the_first_ten_rows(count, text):
    assert name_rows(range(2, 2 + count)) == text


def test_the_hash_is_of_the_cells_not_of_the_file(read, tmp_path):
    first = hash_rows(read(HEADER + "q,s,c\n").rows)
    shutil.copy(tmp_path / "rows.csv", tmp_path / "copy.csv")
    copy = read_table(tmp_path / "copy.csv", ColumnsConfig(), OnInvalid.error)
    assert hash_rows(copy.rows) == first
    assert hash_rows(read("context,question,query\nc,q,s\n").rows) == first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (HEADER + "q,s,c\n", HEADER + "q2,s,c\n"),
        (HEADER + "q,s,c\n", HEADER + "q,s2,c\n"),
        (HEADER + "q,s,c\n", HEADER + "q,s,c2\n"),
        (HEADER + "q,s,c\n", HEADER + "s,q,c\n"),
        (HEADER + "q,s,c\n", "question,query,context,db_id\nq,s,c,d\n"),
        (HEADER + "q,s,c\n", HEADER + "q,s,c\nq2,s,c\n"),
        (HEADER + "q,sx,c\n", HEADER + "qs,x,c\n"),
    ],
    ids=["question", "query", "context", "swapped", "db_id", "one more", "another border"],
)
def test_the_hash_changes_with_any_cell(read, one, other):
    assert hash_rows(read(one).rows) != hash_rows(read(other).rows)
