"""A db_id is a name and nothing else: it leads out of no folder and to no other server."""

from __future__ import annotations

import csv
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import make_url

from qc_experiments.cli.data import main as data_main
from qc_experiments.cli.evaluate import main as evaluate_main
from qc_experiments.cli.train import main as train_main
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import Databases
from qc_experiments.databases.sqlite import run
from qc_experiments.errors import UserError

URL = "postgresql://reader:s3cret@db.example:5433/{db_id}?sslmode=prefer"
NAMES = ("große Städte", "商店", "v1.2", "100%", "a%20b", "%2e%2e", "it's", "a=b", "..x", "-f")
NO_NAMES = ("..", ".", "a/b", "../shop", "/etc", "a\\b", "a\x1bb", "a\nb", "a\x85b", " ")
NO_URL_NAMES = (
    "shop?host=127.0.0.1&port={port}",
    "shop&port={port}",
    "shop#",
    "x@127.0.0.1:{port}",
    "127.0.0.1:{port}",
)


@pytest.mark.parametrize("name", [*NAMES, "R&D #1", "what?", "a:b"])
def test_a_name_finds_its_own_file(tmp_path, name):
    (tmp_path / name).mkdir()
    with closing(sqlite3.connect(tmp_path / name / f"{name}.sqlite")) as connection:
        connection.executescript("CREATE TABLE t(x); INSERT INTO t VALUES (7);")
    found = Databases(str(tmp_path)).find(name)
    assert found is not None
    assert found.target == str(tmp_path / name / f"{name}.sqlite")
    assert run(found.target, "SELECT x FROM t", Limits()).rows == [(7,)]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_refused_on_files_and_on_a_server(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "shop.sqlite").touch()
    for place in (str(tmp_path / "in"), URL):
        with pytest.raises(UserError, match="is no name of a database"):
            Databases(place).find(name)


@given(st.text(max_size=30))
@example("shop?host=127.0.0.1&port=1")
@example("x@127.0.0.1:1/y")
@example("a%3Fhost=b")
@example("{db_id}")
def test_whatever_a_name_is_the_server_stays(name):
    try:
        found = Databases(URL).find(name)
    except UserError:
        return
    assert found is not None
    asked, given_url = make_url(found.target), make_url(URL)
    assert asked.database == name
    assert asked._replace(database=None) == given_url._replace(database=None)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://{db_id}:s3cret@host/shop",
        "postgresql://u:{db_id}@host/shop",
        "postgresql://u:s3cret@{db_id}/shop",
        "postgresql://u:s3cret@{db_id}/{db_id}",
        "postgresql://u:s3cret@host:{db_id}/shop",
        "postgresql://u:s3cret@/shop?host={db_id}",
        "postgresql://u:s3cret@host/?dbname={db_id}",
        "postgresql://u:s3cret@host/%7Bdb_id%7D",
    ],
)
def test_a_name_stands_in_no_other_place_of_a_url(url):
    with pytest.raises(UserError, match=r"^--databases: |URL cannot be read") as caught:
        Databases(url).check("--databases")
    assert "s3cret" not in str(caught.value)
    Databases("postgresql://u:s3cret@host/{db_id}?connect_timeout=1").check("--databases")
    Databases("postgresql://u:s3cret@host/shop").check("--databases")


@pytest.mark.parametrize(
    ("engine", "server", "reads"),
    [
        ("postgresql", False, "a server's databases, by a URL"),
        ("duckdb", True, "files in a folder"),
    ],
)
def test_an_engine_of_the_other_kind_is_refused(tmp_path, engine, server, reads):
    place = "postgresql://u@host/{db_id}" if server else str(tmp_path)
    with pytest.raises(UserError, match=f"^--databases: engine {engine} reads {reads}$"):
        Databases(place, engine).check("--databases")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Someone who waits for passwords."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        yield listening


@pytest.mark.parametrize("name", NO_URL_NAMES)
@pytest.mark.parametrize("command", ["evaluate", "data check", "train"])
def test_no_row_sends_the_password_to_another_server(
    listener, tmp_path, refused, monkeypatch, tiny_model, name, command
):
    monkeypatch.chdir(tmp_path)
    port = listener.getsockname()[1]
    source = Path("rows.csv")
    with source.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["db_id", "question", "query", "prediction", "context"])
        for number in range(4):  # each of them, since training holds out one by chance
            row = [f"q{number}", f"SELECT {number}", "SELECT 1", "CREATE TABLE t(x);"]
            writer.writerow([name.format(port=port), *row])
    url = "postgresql://reader:s3cret@127.0.0.1:1/{db_id}"
    if command == "evaluate":
        arguments = [str(source), "--databases", url, "--output", "out"]
        line = refused(evaluate_main, arguments)
    elif command == "data check":
        line = refused(data_main, ["check", str(source), "--databases", url])
    else:
        overrides = ["data=csv", f"data.train={source}", f'data.databases="{url}"', "model=hub"]
        line = refused(train_main, [*overrides, f"model.name_or_path={tiny_model}"])
    assert "rows.csv: row " in line
    assert name.format(port=port) in line
    assert "s3cret" not in line
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize(
    ("place", "engine", "dialect"),
    [
        ("{}/many", None, "duckdb"),
        ("{}/many/a/a.duckdb", None, "duckdb"),
        ("{}/one.db", None, "sqlite"),
        ("{}/one.db", "duckdb", "duckdb"),
        ("postgresql://host/{{db_id}}", None, "postgres"),
    ],
)
def test_the_dialect_of_a_place_is_known_without_reading_it(tmp_path, place, engine, dialect):
    (tmp_path / "many" / "a").mkdir(parents=True)
    (tmp_path / "many" / "a" / "a.duckdb").touch()
    (tmp_path / "one.db").touch()
    assert Databases(place.format(tmp_path), engine).dialect == dialect
