"""Files that are no CSV: each is called what it is, and the command that is shown makes a CSV of it."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import re
import shlex
import sqlite3
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from qc_experiments.data.table import read_cells
from qc_experiments.errors import UserError

HEADER = ["question", "query", "context"]
ROWS = [
    ["How many, please?", "SELECT a, b FROM t WHERE x = 'None'", 'CREATE TABLE t("a b");'],
    ["Wie groß?", "SELECT '007'", "CREATE TABLE u(x);\nCREATE TABLE v(y);"],
]
PLAIN = [["How many, please?", "SELECT a, b FROM t", "CREATE TABLE t(x)"], ["q", "SELECT 1", "c"]]


def written(separator: str = ",", quote: str = '"', rows: list[list[str]] = ROWS) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quotechar=quote, lineterminator="\n")
    writer.writerows([HEADER, *rows])
    return text.getvalue()


def objects() -> list[dict[str, str]]:
    return [dict(zip(HEADER, row, strict=True)) for row in ROWS]


def table_file(kind: str) -> bytes:
    import pandas

    content = io.BytesIO()
    getattr(pandas.DataFrame(objects()), f"to_{kind}")(content)
    return content.getvalue()


def arrow_stream() -> bytes:
    import pyarrow

    table = pyarrow.Table.from_pylist(objects())
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, written())
    return content.getvalue()


CONVERTED: dict[str, tuple[str, Callable[[], str | bytes], list[str], list[list[str]]]] = {
    "semicolons": ("it.csv", lambda: written(";"), ["separated by semicolons"], ROWS),
    "tabs": ("it.tsv", lambda: written("\t"), ["separated by tabs"], ROWS),
    "bars": ("it.csv", lambda: written("|"), ["separated by vertical bars"], ROWS),
    "sep line": ("it.csv", lambda: "sep=;\r\n" + written(";"), ["semicolons", "Excel"], ROWS),
    "sep line, commas": ("it.csv", lambda: "sep=,\n" + written(), ["first line"], ROWS),
    "semicolons, single quotes": (
        "it.csv",
        lambda: "question;query;context\n'a; b';'SELECT 1';'c'\n",
        ["semicolons", "single quotes"],
        [["a; b", "SELECT 1", "c"]],
    ),
    "semicolons, single quotes without need": (
        "it.csv",
        lambda: "question;query;context\n'a';'SELECT 1';'c'\n",
        ["semicolons", "single quotes"],
        [["a", "SELECT 1", "c"]],
    ),
    "blanks before quotes": (
        "it.csv",
        lambda: (
            "question, query, context\n"
            '"How many, please?", "SELECT a, b FROM t", "CREATE TABLE t(x)"\nq, SELECT 1, c\n'
        ),
        ["blanks before the quotes"],
        PLAIN,
    ),
    "single quotes": (
        "it.csv",
        lambda: "question,query,context\n'a, b','SELECT ''x''','c'\n",
        ["single quotes"],
        [["a, b", "SELECT 'x'", "c"]],
    ),
    "backslashes": (
        "it.csv",
        lambda: 'question,query,context\n"say \\"a\\", b",SELECT 1,c\n',
        ['quotes written as \\"'],
        [['say "a", b', "SELECT 1", "c"]],
    ),
    "curly quotes": (
        "it.csv",
        lambda: "question,query,context\n“a, b”,“SELECT 1”,“c”\n",
        ["curly quotes"],
        [["a, b", "SELECT 1", "c"]],
    ),
    "trailing commas": (
        "it.csv",
        lambda: "question,query,context\na,SELECT 1,c,\nb,SELECT 2,c,\n",
        ["each row ends with a comma"],
        [["a", "SELECT 1", "c"], ["b", "SELECT 2", "c"]],
    ),
    "trailing comma of the header": (
        "it.csv",
        lambda: "question,query,context,\na,SELECT 1,c\n",
        ["the header 4: the header ends with a comma"],
        [["a", "SELECT 1", "c"]],
    ),
    "raw quotes in tabs": (
        "it.tsv",
        lambda: 'question\tquery\tcontext\n"a" is b\tSELECT 1\tc\n',
        ["separated by tabs"],
        [['"a" is b', "SELECT 1", "c"]],
    ),
    "utf-16": ("it.txt", lambda: written("\t").encode("utf-16"), ["UTF-16", "tabs"], ROWS),
    "utf-16 without a mark": ("it.csv", lambda: written().encode("utf-16-le"), ["UTF-16"], ROWS),
    "windows-1252": (
        "it.csv",
        lambda: written(";").encode("cp1252"),
        ["line 3 is not UTF-8 (byte 0xdf)", "Wie groß?", "semicolons"],
        ROWS,
    ),
    "json lines": (
        "it.jsonl",
        lambda: "\n".join(map(json.dumps, objects())),
        ["JSON, one object a line"],
        ROWS,
    ),
    "json lines by content": (
        "it.csv",
        lambda: "\ufeff" + "\n".join(map(json.dumps, objects())),
        ["JSON, one object a line"],
        ROWS,
    ),
    "json": ("it.json", lambda: json.dumps(objects()), ["is JSON"], ROWS),
    "json over lines": ("it.json", lambda: json.dumps(objects(), indent=2), ["is JSON"], ROWS),
    "json below a key": (
        "it.json",
        lambda: json.dumps({"version": 1, "it's {data}": objects()}),
        ["is JSON"],
        ROWS,
    ),
    "json of columns": (
        "it.json",
        lambda: json.dumps({name: [row[name] for row in objects()] for name in HEADER}),
        ["is JSON"],
        ROWS,
    ),
    "json of columns by numbers": (
        "it.json",
        lambda: json.dumps(
            {name: {str(n): row[name] for n, row in enumerate(objects())} for name in HEADER}
        ),
        ["is JSON"],
        ROWS,
    ),
    "json of rows by names": (
        "it.json",
        lambda: json.dumps({f"{n} a": row for n, row in enumerate(objects())}),
        ["is JSON"],
        ROWS,
    ),
    "gzip": ("it.csv.gz", lambda: gzip.compress(written().encode(), mtime=0), ["gzip"], ROWS),
    "gzip by content": (
        "it.csv",
        lambda: gzip.compress(written().encode(), mtime=0),
        ["gzip"],
        ROWS,
    ),
    "bzip2": ("it.csv.bz2", lambda: bz2.compress(written().encode()), ["bzip2"], ROWS),
    "xz": ("it.csv.xz", lambda: lzma.compress(written().encode()), ["xz"], ROWS),
    "parquet": ("it.parquet", lambda: table_file("parquet"), ["Parquet"], ROWS),
    "parquet by content": ("it.csv", lambda: table_file("parquet"), ["Parquet"], ROWS),
    "feather": ("it.feather", lambda: table_file("feather"), ["Arrow"], ROWS),
    "arrow": ("it.arrow", arrow_stream, ["Arrow"], ROWS),
    "a name that a shell takes apart": (
        "it's  my (1) größe & $x.csv",
        lambda: written(";"),
        ["semicolons"],
        ROWS,
    ),
}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_cells(path)
    line = str(caught.value)
    assert line.startswith(f"{' '.join(str(path).split())}: ")
    assert "must stand in double quotes" not in line
    return line


@pytest.mark.parametrize("case", CONVERTED)
def test_the_command_that_is_shown_makes_a_csv_with_the_same_cells(case, tmp_path, monkeypatch):
    name, content, parts, rows = CONVERTED[case]
    monkeypatch.chdir(tmp_path)
    kept = Path("it.csv" if name != "it.csv" else "it_fixed.csv")
    kept.write_text("not to be overwritten")
    given = content()
    Path(name).write_bytes(given if isinstance(given, bytes) else given.encode())
    line = refusal(Path(name))
    for part in parts:
        assert part in line
    before = set(tmp_path.iterdir())
    words = shlex.split(line[line.index("python -c ") :])  # as a shell takes it apart
    assert words[:2] == ["python", "-c"]
    assert len(words) == 3
    # In this process, since starting pandas again takes a second for each.
    exec(words[2], {})
    [made] = set(tmp_path.iterdir()) - before
    assert kept.read_text() == "not to be overwritten"
    header, found = read_cells(made)
    assert (header, [cells for _, cells in found]) == (HEADER, rows)


NAMED: dict[str, tuple[str, Callable[[], str | bytes], list[str]]] = {
    "xlsx": ("it.xlsx", lambda: zipped("xl/workbook.xml"), ["Excel workbook", "CSV UTF-8"]),
    "xlsx called csv": ("it.csv", lambda: zipped("xl/workbook.xml"), ["Excel workbook"]),
    "cut xlsx": ("it.xlsx", lambda: zipped("xl/workbook.xml")[:60], ["workbook", "not whole"]),
    "xls": ("it.xls", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), ["old Excel"]),
    "ods": ("it.ods", lambda: zipped("mimetype", "content.xml"), ["OpenDocument"]),
    "zip": ("it.zip", lambda: zipped("in/train.csv"), ["zip archive", "unpack", "in/train.csv"]),
    "sqlite": ("it.sqlite", lambda: b"SQLite format 3\0" + bytes(99), ["SQLite database"]),
    "pickle": ("it.csv", lambda: pickle.dumps(ROWS), ["pickle"]),
    "lfs pointer": (
        "it.csv",
        lambda: "version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 9\n",
        ["Git LFS pointer", "git lfs pull"],
    ),
    "lfs pointer called parquet": (
        "it.parquet",
        lambda: "version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 9\n",
        ["Git LFS pointer"],
    ),
    "login page": ("it.csv", lambda: "\n<!DOCTYPE html>\n<html><p>Log in,", ["web page"]),
    "faulty json": ("it.json", lambda: '[{"question": "a"', ["JSON that cannot be read"]),
    "nested json": ("it.json", lambda: "[" * 100_000, ["JSON that cannot be read"]),
    "no parquet": ("it.parquet", lambda: b"\0\1\xff" * 9, ["not a Parquet file either"]),
    "no text": ("it.csv", lambda: bytes(range(256)), ["no text"]),
    "rows apart": (
        "it.csv",
        lambda: "question,query,context\nq;SELECT 1;c\n",
        ["row 2 is separated by semicolons, its header by commas"],
    ),
    "ragged semicolons": (
        "it.csv",
        lambda: "question;query;context\nq;SELECT 1;c\nq;SELECT 1; 2;c\n",
        ["separated by semicolons", "row 3 has 4 cells"],
    ),
}


@pytest.mark.parametrize("case", NAMED)
def test_what_no_command_mends_is_called_what_it_is(case, tmp_path):
    name, content, parts = NAMED[case]
    given = content()
    (tmp_path / name).write_bytes(given if isinstance(given, bytes) else given.encode())
    line = refusal(tmp_path / name)
    for part in parts:
        assert part in line


@pytest.mark.parametrize("quotes", ["''", "“”"])
def test_quotes_around_cells_do_not_become_part_of_them_in_silence(tmp_path, quotes):
    left, right = quotes
    cells = ",".join(f"{left}{cell}{right}" for cell in ("q", "SELECT 1", "c"))
    (tmp_path / "it.csv").write_text(f"question,query,context\n{cells}\n")
    assert "quotes" in refusal(tmp_path / "it.csv")
    (tmp_path / "it.csv").write_text('question, query, context\n"q", "SELECT 1", "c"\n')
    assert "blanks before the quotes" in refusal(tmp_path / "it.csv")


@pytest.mark.parametrize(
    "cells",
    [
        ["a;b;c;d", "SELECT ';'", "c|d|e"],
        ["'q'", "SELECT 1", "c"],
        [' "quoted" in full', "SELECT 1", "c"],
        ["“Curly” and 'single'", "SELECT '“'", '"c"'],
        ['{"question": 1}', "[1]", "c"],
    ],
)
def test_a_proper_csv_is_read_whatever_its_cells_hold(tmp_path, cells):
    (tmp_path / "it.csv").write_text(written(rows=[cells]))
    assert read_cells(tmp_path / "it.csv") == (HEADER, [(2, cells)])
    (tmp_path / "it.json").write_text(written(rows=[cells]))  # what it holds counts
    assert read_cells(tmp_path / "it.json") == (HEADER, [(2, cells)])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "databases" / "shop" / "shop.sqlite"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t(x)")
    return path


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Question,query,prediction,db_id\nq,s,p,shop\n", "did you mean Question?"),
        ("How many?,SELECT 1,c\nq,s,c\n", "is a question, no header"),
        ('{"question": "q"}\n{"question": "r"}\n', "is JSON"),
        ("question;query\na, b;c\n", "separated by semicolons"),
    ],
)
def test_every_command_that_takes_a_csv_says_so(refused, tmp_path, database, text, part):
    from qc_experiments.cli import data as data_command
    from qc_experiments.cli import evaluate as evaluation_command
    from qc_experiments.cli import predict
    from qc_experiments.cli import train as command_line

    source, output = tmp_path / "it.csv", str(tmp_path / "out")
    source.write_text(text)
    folder = str(database.parents[1])
    (tmp_path / "adapter").mkdir()
    asked = ["--adapter", str(tmp_path / "adapter"), "--input", str(source), "--output", output]
    for start, arguments in (
        (command_line.main, ["data=csv", f"data.train={source}", f"paths.output={output}"]),
        (data_command.main, ["check", str(source)]),
        (
            evaluation_command.main,
            [str(source), "--databases", folder, "--output", output],
        ),
        (predict.main, [*asked, "--db", str(database)]),
    ):
        assert part in refused(start, arguments)
    assert not Path(output).exists()


def test_predict_names_the_row_as_a_spreadsheet_does(refused, tmp_path, database):
    from qc_experiments.cli import predict

    (tmp_path / "adapter").mkdir()
    (tmp_path / "it.csv").write_text("question,n\nq,1\n\n\n,2\n")
    arguments = ["--adapter", str(tmp_path / "adapter"), "--input", str(tmp_path / "it.csv")]
    line = refused(
        predict.main, [*arguments, "--db", str(database), "--output", str(tmp_path / "out.csv")]
    )
    assert re.search(r"row 5 has an empty question", line)


def test_a_shown_command_runs_in_a_shell(tmp_path, monkeypatch):
    import os
    import subprocess

    monkeypatch.chdir(tmp_path)
    Path("it's größer.csv").write_text(written(";"))
    line = refusal(Path("it's größer.csv"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    subprocess.run(["sh", "-c", line[line.index("python -c ") :]], check=True, timeout=60)
    assert [cells for _, cells in read_cells(Path("it's größer_fixed.csv"))[1]] == ROWS


def test_a_blank_of_another_encoding_at_the_end_of_a_line_is_said_as_any_other_letter(tmp_path):
    path = tmp_path / "it.csv"
    path.write_bytes(b"question,query,context\nWho?,SELECT 1,CREATE TABLE a (x INT)\xa0\n")
    with pytest.raises(UserError, match=r"line 2 is not UTF-8 \(byte 0xa0.*Windows-1252"):
        read_cells(path)
