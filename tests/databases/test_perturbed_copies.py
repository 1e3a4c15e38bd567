"""Perturbed copies are made in child processes, within limits; what has none is said and left out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from qc_experiments.cli.evaluate import main as evaluate
from qc_experiments.data.table import Row
from qc_experiments.databases import perturbation as perturbed
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.layout import read_layout
from qc_experiments.databases.locate import Database, Databases
from qc_experiments.databases.perturbation import (
    PerturbedCopies,
    is_whole,
    perturbed_databases,
)
from qc_experiments.databases.pool import SqlPool
from qc_experiments.evaluation.metrics import assess, report
from qc_experiments.judging.judge import Judge

PLAIN = "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t VALUES (1, 'a'), (2, 'b');"
HEAVY = "instr(hex(zeroblob(3000000)), hex(zeroblob(1500000)) || '1')"


@pytest.fixture(scope="module")
def pool() -> Iterator[SqlPool]:
    with SqlPool(1) as made:
        yield made


def database(folder: Path, script: str, name: str = "shop") -> Database:
    path = folder / name / f"{name}.sqlite"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return Database("sqlite", str(path))


def going_in_circles(folder: Path) -> Database:
    """A table whose inner pages point to one another: to read it takes billions of rows."""
    found = database(
        folder,
        f"{PLAIN} CREATE TABLE big (id INTEGER PRIMARY KEY, x TEXT);"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)"
        "INSERT INTO big SELECT i, hex(zeroblob(1000)) FROM n;",
    )
    path = Path(found.target)
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[16:18], "big")
    inner = [start for start in range(size, len(content), size) if content[start] == 5]
    assert len(inner) > 2
    for start, following in pairwise(inner):
        cells = int.from_bytes(content[start + 3 : start + 5], "big")
        for place in range(start + 12, start + 12 + 2 * cells, 2):
            cell = start + int.from_bytes(content[place : place + 2], "big")
            content[cell : cell + 4] = (following // size + 1).to_bytes(4, "big")
    path.write_bytes(content)
    return found


def forged(folder: Path, schema: str) -> Database:
    """A table or index as SQLite would not make it in any reasonable time; the file just holds it."""
    found = database(
        folder,
        f"{PLAIN} CREATE TABLE u (x, y); CREATE INDEX i ON u (y + 1);"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)"
        "INSERT INTO u SELECT i, i * 7 FROM n;",
    )
    with closing(sqlite3.connect(found.target)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        name = "i" if "INDEX" in schema else "u"
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (schema, name))
        connection.commit()
    return found


HOSTILE = {
    "a generated column that computes for ever": f"CREATE TABLE u (x, y, z AS ({HEAVY} + x))",
    "an index that does": f"CREATE INDEX i ON u (y + {HEAVY})",
    "a constraint that does": f"CREATE TABLE u (x, y, CHECK ({HEAVY} + y >= 0))",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_has_no_end_is_given_up_in_its_time(pool, tmp_path, monkeypatch, case):
    monkeypatch.setattr(perturbed, "SECONDS", 0.3)
    made = PerturbedCopies(pool, tmp_path / "cache", 3, 0).of(forged(tmp_path, HOSTILE[case]))
    assert made == "a copy takes more than 0.3 s"


def test_what_has_no_copies_is_said_and_left_out(tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.setattr(perturbed, "SECONDS", 0.5)
    path = going_in_circles(tmp_path / "dbs").target
    database(tmp_path / "dbs", PLAIN, "other")
    table = tmp_path / "p.csv"
    table.write_text(
        "db_id,question,query,prediction\n"
        "shop,q,SELECT id FROM t,SELECT id FROM t\n"
        "shop,q,SELECT x FROM t,SELECT 7\n"
        "other,q,SELECT id FROM t,SELECT id FROM t\n"
    )
    place = tmp_path / "cache"
    arguments = ["--databases", tmp_path / "dbs", "--output", tmp_path / "out", "--cache", place]
    evaluate([str(table), *map(str, arguments), "--fuzz", "3", "--processes", "1"])
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["figures"]["execution_accuracy"]["hits"] == 2
    assert found["not_fuzzed"] == {"shop: a copy takes more than 0.5 s": 2}
    fuzz = found["figures"]["fuzz_accuracy"]
    assert (fuzz["hits"], fuzz["count"]) == (1, 1)
    [warned] = [record.getMessage() for record in caplog.records]
    assert warned == f"{path}: no perturbed copies: a copy takes more than 0.5 s"
    assert "2 questions were not asked on perturbed copies" in capsys.readouterr().out
    assert [path for path in place.rglob("*") if path.name.startswith("tmp")] == []


def test_what_takes_more_bytes_than_stated_is_left_out(pool, tmp_path, monkeypatch):
    found = database(
        tmp_path,
        f"{PLAIN} CREATE TABLE u (x); INSERT INTO u VALUES (zeroblob(300000)), (zeroblob(9));",
    )
    monkeypatch.setattr(perturbed, "BYTES", 200_000)
    made = PerturbedCopies(pool, tmp_path / "cache", 2, 0).of(found)
    assert made == "it is larger than 0 MB"
    size = Path(found.target).stat().st_size
    monkeypatch.setattr(perturbed, "BYTES", size + 1)  # cells that move may need more pages
    assert isinstance(PerturbedCopies(pool, tmp_path / "cache", 2, 0).of(found), str | list)
    monkeypatch.setattr(perturbed, "BYTES", 10 * size)
    assert len(PerturbedCopies(pool, tmp_path / "cache", 2, 0).of(found)) == 2


@pytest.mark.parametrize("count", [120, 500])
def test_a_schema_of_many_tables_alike_is_perturbed(pool, tmp_path, count):
    """The work used to grow with the cube of the tables: 100 took 4 s and 400 had no end."""
    script = "".join(
        f"CREATE TABLE t{i} (id INTEGER PRIMARY KEY, name TEXT, kind TEXT, size INTEGER, city TEXT,"
        f"day TEXT, cost REAL, t{i + 1}_id INTEGER);"
        f"INSERT INTO t{i} VALUES (1, 'a', 'k', 3, 'x', 'd', 1.5, 1), (2, 'b', 'k', 4, 'y', 'e', 2.5, 1);"
        for i in range(count)
    )
    found = database(tmp_path, f"BEGIN; {script} COMMIT;")
    made = PerturbedCopies(pool, tmp_path / "cache", 1, 0).of(found)
    assert isinstance(made, list), made
    with closing(sqlite3.connect(made[0])) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = copy.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
        assert tables == (count,)
        assert not copy.execute(
            "SELECT 1 FROM t0 WHERE t1_id NOT IN (SELECT id FROM t1)"
        ).fetchall()


def test_the_comparisons_of_a_layout_are_linear_in_its_tables():
    asked = []
    for count in (60, 120, 240):
        with closing(sqlite3.connect(":memory:")) as connection:
            for i in range(count):
                connection.execute(f"CREATE TABLE t{i} (a, b, c, d, e, f, g)")
                connection.execute(f"INSERT INTO t{i} VALUES (1, 2, 3, 4, 5, 6, {i})")
            statements: list[str] = []
            connection.set_trace_callback(statements.append)
            _, references = read_layout(connection)
            asked.append(len(statements))
        assert len(references) <= 7 * count
    assert asked[1] < 2.2 * asked[0]
    assert asked[2] < 2.2 * asked[1]


@pytest.mark.parametrize("damage", [b"", b"SQLite format 3\0" + bytes(4000), None])
def test_a_damaged_copy_is_made_again(pool, tmp_path, damage):
    found = database(tmp_path, PLAIN)
    copies = PerturbedCopies(pool, tmp_path / "cache", 2, 0)
    made = copies.of(found)
    content = [path.read_bytes() for path in made]
    changed = content[0].replace(b"a", b"z") if damage is None else damage
    made[0].write_bytes(changed)
    assert not is_whole(made[0])
    assert copies.of(found) == made  # in the same run
    assert [path.read_bytes() for path in made] == content
    made[1].write_bytes(changed)
    assert PerturbedCopies(pool, tmp_path / "cache", 2, 0).of(found) == made  # and in a later one
    assert [path.read_bytes() for path in made] == content


def test_a_damaged_copy_that_cannot_be_made_again_is_said(tmp_path, caplog):
    found = database(tmp_path / "dbs", PLAIN)
    rows = [Row(2, "q", "SELECT id FROM t", "", "shop")]
    where = {"cache": tmp_path / "cache", "perturbed": 1, "processes": 1}
    with Judge(Databases(str(tmp_path / "dbs")), Limits(), **where) as judge:
        judged = assess(rows, ["SELECT id FROM t"], judge)
        assert report(judged, {})["not_fuzzed"] == {}
        assert judged[0].verdict.fuzz is True
        [copy] = (tmp_path / "cache" / "perturbed").rglob("*.sqlite")
        copy.unlink()
        copy.mkdir()  # nothing can be put there
        judged = assess(rows, ["SELECT id FROM t"], judge)
    [(reason, count)] = report(judged, {})["not_fuzzed"].items()
    assert (reason.split(":")[0], count) == ("shop", 1)
    assert judged[0].verdict.fuzz is None
    assert f"{found.target}: no perturbed copies" in caplog.text


def test_copies_made_in_a_child_are_those_made_here(pool, tmp_path):
    found = database(tmp_path, PLAIN)
    there = PerturbedCopies(pool, tmp_path / "there", 3, 5).of(found)
    here = perturbed_databases(Path(found.target), 3, 5, tmp_path / "here")
    assert [path.read_bytes() for path in there] == [path.read_bytes() for path in here]


def test_a_database_with_a_log_is_perturbed_as_it_is_read(pool, tmp_path):
    found = database(tmp_path, f"PRAGMA journal_mode = WAL; {PLAIN}")
    with closing(sqlite3.connect(found.target)) as writer:
        writer.execute("INSERT INTO t SELECT id + 10, x || id FROM t")
        writer.commit()
        before = sorted((p.name, p.read_bytes()) for p in Path(found.target).parent.iterdir())
        made = PerturbedCopies(pool, tmp_path / "cache", 1, 0).of(found)
        after = sorted((p.name, p.read_bytes()) for p in Path(found.target).parent.iterdir())
    assert before == after
    with closing(sqlite3.connect(made[0])) as copy:
        assert copy.execute("SELECT count(*) FROM t WHERE id > 10").fetchone()[0] > 0


def test_other_engines_have_no_copies(pool, tmp_path):
    made = PerturbedCopies(pool, tmp_path, 2, 0).of(Database("duckdb", "x.duckdb"))
    assert made == "copies are made of SQLite databases only"


SEARCHED = f"""{PLAIN}
CREATE VIRTUAL TABLE notes USING fts5 (body); INSERT INTO notes VALUES ('red'), ('green');
CREATE VIEW lines AS SELECT body FROM notes; CREATE VIEW more AS SELECT * FROM lines;
CREATE TABLE notes_archive (body TEXT, place INTEGER);
WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
INSERT INTO notes_archive SELECT 'text ' || i, i * 7 FROM n;
CREATE VIRTUAL TABLE Boxes USING rtree (id, low, high); INSERT INTO Boxes VALUES (1, 2, 3);
"""


@pytest.mark.parametrize(
    ("gold", "lucky"),
    [
        ("SELECT count(*) FROM notes WHERE notes MATCH 'red'", "SELECT 1"),
        ("SELECT count(*) FROM more", "SELECT 2"),
        ('SELECT count(*) FROM "notes_content"', "SELECT 2"),
        ("SELECT max(high) FROM boxes", "SELECT 3.0"),
        ("SELECT count(*) FROM t WHERE id < 3", "SELECT count(*) FROM 'notes'"),
    ],
)
def test_what_no_copy_perturbs_does_not_count_as_holding(tmp_path, caplog, gold, lucky):
    found = database(tmp_path / "dbs", SEARCHED)
    rows = [Row(2, "q", gold, "", "shop"), Row(3, "q", "SELECT id FROM t", "", "shop")]
    where = {"cache": tmp_path / "cache", "perturbed": 2, "processes": 1}
    with Judge(Databases(str(tmp_path / "dbs")), Limits(), **where) as judge:
        judged = assess(rows, [lucky, "SELECT id FROM t"], judge)
    assert [one.verdict.correct for one in judged] == [True, True]
    assert [one.verdict.fuzz for one in judged] == [None, True]
    [(reason, count)] = report(judged, {})["not_fuzzed"].items()
    assert count == 1
    assert "is the same in all copies" in reason
    [warned] = [record.getMessage() for record in caplog.records]
    assert warned.startswith(f"{found.target}: virtual tables are the same")
    assert warned.endswith(": boxes, notes")


def test_a_table_called_like_a_virtual_one_is_perturbed(pool, tmp_path):
    found = database(tmp_path, SEARCHED)
    made = PerturbedCopies(pool, tmp_path / "cache", 1, 0).of(found, "SELECT * FROM notes_archive")
    rows = []
    for path in (found.target, *made):
        with closing(sqlite3.connect(path)) as connection:
            rows.append(connection.execute("SELECT * FROM notes_archive").fetchall())
            assert connection.execute("SELECT body FROM notes WHERE notes MATCH 'red'").fetchall()
    assert len(rows) == 2
    assert rows[0] != rows[1]
