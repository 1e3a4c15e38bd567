"""Untrusted SQL in child processes: whatever it is, nothing changes, it ends, and work goes on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from helpers.attacks import ATTACKS, ENDLESS, EXHAUSTING, WRITING

from qc_experiments.data.table import Row
from qc_experiments.databases import pool as pool_module
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import Databases
from qc_experiments.databases.pool import SqlPool, load_plain
from qc_experiments.databases.sqlite_rights import authorize, authorize_schema
from qc_experiments.errors import UserError
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.verdict import ALL_ERROR_CLASSES, WRONG_RESULTS

TIMEOUT = 0.5
QUESTION = Row(2, "Which authors are there?", "SELECT name FROM author", "", "shop")


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("databases")
    path = folder / "shop" / "shop.sqlite"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE author (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);"
            "CREATE TABLE book (id INTEGER, author_id INTEGER, price REAL);"
            "CREATE TABLE wide (x INTEGER);"
            "CREATE VIEW adults AS SELECT name FROM author;"
            "CREATE INDEX by_name ON author (name);"
            "CREATE TRIGGER guard AFTER DELETE ON book BEGIN SELECT 1; END;"
            "INSERT INTO author (name) VALUES ('Ada'), ('Bob');"
            f"INSERT INTO wide {ENDLESS} SELECT x FROM n LIMIT 2000;"
            "CREATE VIRTUAL TABLE note USING fts5 (body); INSERT INTO note VALUES ('dear all');"
            "CREATE VIRTUAL TABLE letter USING fts4 (body); INSERT INTO letter VALUES ('dear all');"
            "CREATE VIRTUAL TABLE area USING rtree (id, low, high); INSERT INTO area VALUES (1, 0, 1);"
            "CREATE VIEW loading AS SELECT load_extension('other');"
            "CREATE VIEW tokenizing AS SELECT fts3_tokenizer('x', x'00');"
        )
    return folder


@pytest.fixture(scope="module")
def judge(databases: Path) -> Iterator[Judge]:
    with Judge(Databases(str(databases)), Limits(seconds=TIMEOUT), cache=None, processes=1) as made:
        yield made


@pytest.fixture
def pool() -> Iterator[SqlPool]:
    with SqlPool(1) as made:
        yield made


def listing(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


def test_the_list_of_attacks_is_long_enough():
    assert len(set(ATTACKS)) >= 100


@pytest.mark.parametrize("sql", ATTACKS, ids=lambda sql: repr(sql[:50]))
def test_an_attack_is_wrong_by_name_changes_nothing_and_work_goes_on(databases, judge, sql):
    before = listing(databases)
    stray = {Path("/tmp/qc_stolen.sqlite"), Path("/stolen.sqlite"), Path("/other.sqlite")}
    started = time.monotonic()
    [attacked] = judge.judge([QUESTION], [sql])
    seconds = time.monotonic() - started
    assert attacked.correct is False
    assert attacked.verdict == "wrong"
    assert attacked.error_class in ALL_ERROR_CLASSES
    assert attacked.error or attacked.error_class in WRONG_RESULTS
    assert seconds < 15  # far beyond the limit of half a second; a hang would be for ever
    assert listing(databases) == before
    assert not [path for path in stray if path.exists()]
    [after] = judge.judge([QUESTION], ["SELECT name FROM author ORDER BY 1"])
    assert after.verdict == "correct"


@pytest.mark.parametrize("sql", WRITING, ids=lambda sql: repr(sql[:50]))
def test_writing_is_forbidden_or_unknown_to_the_database(judge, sql):
    [attacked] = judge.judge([QUESTION], [sql])
    assert attacked.error_class in {"forbidden", "syntax", "no_such_function", "other"}, attacked


@pytest.mark.parametrize("sql", EXHAUSTING, ids=lambda sql: repr(sql[:50]))
def test_what_exhausts_is_named_so_or_refused_as_no_sql(judge, sql):
    [attacked] = judge.judge([QUESTION], [sql])
    assert attacked.error_class in {
        "timeout",
        "memory",
        "result_too_large",
        "syntax",
        "other",
        "no_such_table",
        "no_such_column",
        "wrong_rows",  # printf gives up on what is too long and returns an empty text
    }, attacked


def test_a_prediction_cannot_influence_the_gold_that_runs_after_it(judge):
    shadow = "CREATE TEMP TABLE author AS SELECT 7 AS id, 'shadow' AS name"
    first, second = judge.judge([QUESTION, QUESTION], [shadow, "SELECT 'shadow'"])
    assert (first.verdict, second.verdict) == ("wrong", "wrong")
    [after] = judge.judge([Row(3, "q", "SELECT count(*) FROM author", "", "shop")], ["SELECT 2"])
    assert after.correct is True


def test_what_cannot_be_stopped_is_killed_and_the_next_statement_runs(pool, databases):
    """The progress handler is not called within one opcode; only killing the process helps."""
    target = str(databases / "shop" / "shop.sqlite")
    pool.run("sqlite", target, "SELECT 1", Limits())
    stuck = "SELECT instr(hex(zeroblob(30000000)), hex(zeroblob(15000000)) || '1')"
    started = time.monotonic()
    found = pool.run("sqlite", target, stuck, Limits(seconds=0.2))
    assert found is not None
    assert found.error_class == "timeout"
    assert "killed" in (found.error or "")
    assert time.monotonic() - started < 10
    after = pool.run("sqlite", target, "SELECT 2", Limits())
    assert after is not None
    assert after.rows == [(2,)]


def children() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_text()
            except OSError:
                continue
            if int(fields[1]) == os.getpid() and "databases.child" in command and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc to find processes in")
def test_a_child_that_dies_is_replaced_and_none_is_left_behind(pool, databases):
    target = str(databases / "shop" / "shop.sqlite")
    before = set(children())
    pool.run("sqlite", target, "SELECT 1", Limits())
    [mine] = set(children()) - before
    os.kill(mine, signal.SIGKILL)
    time.sleep(0.1)
    found = pool.run("sqlite", target, "SELECT 2", Limits())
    assert found is not None
    assert found.rows == [(2,)]
    pool.close()
    assert set(children()) <= before


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc to find processes in")
def test_children_end_when_their_parent_is_killed(databases, tmp_path):
    """A training run that is killed must not leave processes behind, idle or busy."""
    target = str(databases / "shop" / "shop.sqlite")
    code = (
        "import sys, threading, time\n"
        "from qc_experiments.databases.engine import Limits\n"
        "from qc_experiments.databases.pool import SqlPool\n"
        "pool = SqlPool(2)\n"
        f"stuck = {ENDLESS!r} + ' SELECT count(*) FROM n'\n"
        "run = lambda sql: pool.run('sqlite', sys.argv[1], sql, Limits(seconds=1))\n"
        "run('SELECT 1')\n"
        "threading.Thread(target=run, args=(stuck,), daemon=True).start()\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, target], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        time.sleep(0.2)
        mine = _children_of(parent.pid)
        assert mine
        parent.kill()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in mine) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [pid for pid in mine if Path(f"/proc/{pid}").exists()]


def _children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in listed for child in path.read_text().split()]


def test_an_answer_cannot_make_objects_in_the_parent():
    import pickle

    assert load_plain(pickle.dumps((1, 2.5, "a", b"b", None, [(True,)]))) == (
        1,
        2.5,
        "a",
        b"b",
        None,
        [(True,)],
    )
    with pytest.raises(pickle.UnpicklingError, match="may not hold"):
        load_plain(pickle.dumps(Path("x")))


def test_the_child_sees_no_secrets_of_the_user(pool, databases, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    pool.run("sqlite", str(databases / "shop" / "shop.sqlite"), "SELECT 1", Limits())
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in children()]
    assert environments
    assert not any(b"secret" in environment for environment in environments)


def test_a_database_in_wal_mode_is_read_without_files_beside_it(tmp_path, pool):
    path = tmp_path / "x.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
        connection.commit()
    assert [p.name for p in tmp_path.iterdir()] == ["x.sqlite"]
    found = pool.run("sqlite", str(path), "SELECT a FROM t", Limits())
    assert found is not None
    assert found.rows == [(1,)]
    assert [p.name for p in tmp_path.iterdir()] == ["x.sqlite"]


def test_a_view_of_a_hostile_file_may_do_no_more_than_a_query(tmp_path, pool):
    path = tmp_path / "x.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW v AS SELECT load_extension('other')")
    found = pool.run("sqlite", str(path), "SELECT * FROM v", Limits())
    assert found is not None
    assert found.error_class in ("forbidden", "no_such_function", "other")


def test_a_file_that_is_no_database_is_an_error_of_its_own(tmp_path, pool):
    path = tmp_path / "x.sqlite"
    path.write_text("no database, but longer than a header " * 100)
    found = pool.run("sqlite", str(path), "SELECT 1 FROM t", Limits())
    assert found is not None
    assert (found.rows, found.error_class) == (None, "other")
    assert "not a database" in (found.error or "")


def test_an_abort_reaches_a_process_that_is_being_started(monkeypatch, tmp_path):
    """Ctrl-C used to wait for such a statement's whole time."""
    path = tmp_path / "one.sqlite"
    sqlite3.connect(path).close()
    starting, go_on = threading.Event(), threading.Event()

    class Slow(pool_module._Child):
        def __init__(self) -> None:
            starting.set()
            go_on.wait(30)
            super().__init__()

    monkeypatch.setattr(pool_module, "_Child", Slow)
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    )
    found = []
    with SqlPool(1) as slow:
        asked = ("sqlite", str(path), endless, Limits(seconds=600))
        waiting = threading.Thread(target=lambda: found.append(slow.run(*asked)), daemon=True)
        waiting.start()
        assert starting.wait(30)
        slow.abort()
        go_on.set()
        waiting.join(60)
        assert not waiting.is_alive()
        assert found[0].error == "it was interrupted"
        slow.resume()
        assert slow.run("sqlite", str(path), "SELECT 7", Limits()).rows == [(7,)]


def test_a_process_that_does_not_start_in_time_is_no_verdict(databases, monkeypatch):
    monkeypatch.setattr(pool_module, "START_SECONDS", 0.0)
    before = _children_of(os.getpid())
    with SqlPool(1) as own, pytest.raises(UserError, match="no process for SQL started within 0 s"):
        own.run("sqlite", str(databases / "shop" / "shop.sqlite"), "SELECT 1", Limits())
    assert set(_children_of(os.getpid())) <= set(before)


@pytest.mark.parametrize("rights", [authorize, authorize_schema])
@pytest.mark.parametrize("name", ["writefile", "Load_Extension"])
def test_a_function_that_reaches_outside_is_denied_to_schemas_and_queries(rights, name):
    call = (sqlite3.SQLITE_FUNCTION, None)
    assert rights(*call, name, None, None) == sqlite3.SQLITE_DENY
    assert rights(*call, "lower", None, None) == sqlite3.SQLITE_OK
