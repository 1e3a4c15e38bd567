"""Databases whose writer left a log: read as SQLite reads them, and left byte for byte as they were."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from helpers.schemas import read_schema

from qc_experiments.databases import snapshot
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.pool import SqlPool
from qc_experiments.errors import UserError

QUERY = "SELECT count(*), sum(x) FROM t"
MAKE = "CREATE TABLE t (x); INSERT INTO t VALUES (1), (2);"
LOGGED = f"PRAGMA journal_mode = WAL; {MAKE}"


@pytest.fixture(scope="module")
def pool() -> Iterator[SqlPool]:
    with SqlPool(1) as made:
        yield made


@pytest.fixture(autouse=True)
def own_place(tmp_path_factory, monkeypatch) -> Path:
    place = tmp_path_factory.mktemp("private")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@contextmanager
def written(folder: Path, script: str, *more: str) -> Iterator[Path]:
    """A database whose writer is still there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "x.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(script)
        for one in more:
            connection.execute(one)
        yield path


def left(folder: Path, script: str, *more: str) -> Path:
    """What is on disk if the writer dies, as files that were copied meanwhile: no -shm among them."""
    with written(folder / "living", script, *more) as living:
        for path in sorted(living.parent.iterdir()):
            if not path.name.endswith("-shm"):
                shutil.copyfile(path, folder / path.name)
    shutil.rmtree(folder / "living")
    return folder / "x.sqlite"


def state(folder: Path) -> dict[str, object]:
    """Names, contents and times of all that is in a folder, and its own time."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in [folder, *folder.rglob("*")]
    }


def as_sqlite_reads_it(path: Path, place: Path) -> object:
    """What SQLite makes of it where it may write."""
    shutil.copytree(path.parent, place)
    with closing(sqlite3.connect(place / path.name)) as connection:
        try:
            return connection.execute(QUERY).fetchall()
        except sqlite3.Error as problem:
            return str(problem)


def killed(folder: Path) -> Path:
    """By a signal, so that its -shm stays, too."""
    script = (
        f"import os, sqlite3; c = sqlite3.connect('x.sqlite'); c.executescript({LOGGED!r}); "
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=False)
    assert (folder / "x.sqlite-shm").stat().st_size
    return folder / "x.sqlite"


def wrong_sums(folder: Path) -> Path:
    path = left(folder, LOGGED, "INSERT INTO t VALUES (7)")
    log = bytearray(Path(f"{path}-wal").read_bytes())
    log[-9] ^= 255
    Path(f"{path}-wal").write_bytes(log)
    return path


def of_another(folder: Path) -> Path:
    path = left(folder, MAKE)
    (folder / "other").mkdir()
    shutil.move(f"{left(folder / 'other', LOGGED, 'INSERT INTO t VALUES (7)')}-wal", f"{path}-wal")
    shutil.rmtree(folder / "other")
    return path


def journal(folder: Path, *before: str) -> Path:
    """In the middle of a change that did not fit into memory, of which the file holds a part."""
    many = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
    return left(
        folder,
        f"{MAKE} INSERT INTO t {many} SELECT i FROM n; PRAGMA cache_size = 1;",
        *before,
        "BEGIN",
        "UPDATE t SET x = x + 1000000",
        "INSERT INTO t SELECT x FROM t",
    )


def garbage(folder: Path) -> Path:
    path = left(folder, MAKE)
    Path(f"{path}-journal").write_bytes(b"\xff" * 3000)
    return path


def linked(folder: Path) -> Path:
    (folder / "app").mkdir()
    left(folder / "app", LOGGED)
    (folder / "y.sqlite").symlink_to("app/x.sqlite")
    return folder / "y.sqlite"


def emptied(folder: Path) -> Path:
    return left(folder, LOGGED, "PRAGMA wal_checkpoint(TRUNCATE)")


LEFT: dict[str, tuple[Callable[[Path], Path], list[tuple[object, ...]]]] = {
    "a killed writer": (killed, [(2, 3)]),
    "copied files": (lambda folder: left(folder, LOGGED), [(2, 3)]),
    "an empty log": (emptied, [(2, 3)]),
    "a log with wrong sums": (wrong_sums, [(2, 3)]),
    "a log of another database": (of_another, [(3, 10)]),
    "a hot journal": (journal, [(5002, 12502503)]),
    "a journal that is kept": (
        lambda f: left(f, f"PRAGMA journal_mode = PERSIST; {MAKE}"),
        [(2, 3)],
    ),
    "a journal that is none": (garbage, [(2, 3)]),
}


@pytest.mark.parametrize("case", LEFT)
def test_it_is_read_as_sqlite_reads_it_and_stays_as_it_was(pool, tmp_path, case):
    make, expected = LEFT[case]
    folder = tmp_path / "user"
    folder.mkdir()
    path = make(folder)
    before = state(folder)
    for _ in range(2):
        found = pool.run("sqlite", str(path), QUERY, Limits())
        assert found is not None
        assert found.rows == expected, found
    assert read_schema(str(path)) == "CREATE TABLE t (x);"
    assert state(folder) == before
    assert as_sqlite_reads_it(path, tmp_path / "elsewhere") == expected


def test_a_link_is_followed_to_the_log_of_its_file(pool, tmp_path):
    path = linked(tmp_path)
    before = state(tmp_path)
    assert pool.run("sqlite", str(path), QUERY, Limits()).rows == [(2, 3)]
    assert state(tmp_path) == before


def test_a_folder_that_may_not_be_written_is_enough(pool, tmp_path):
    folder = tmp_path / "user"
    folder.mkdir()
    path = left(folder, LOGGED)
    for one in (*folder.iterdir(), folder):
        one.chmod(0o500 if one.is_dir() else 0o400)
    before = state(folder)
    assert pool.run("sqlite", str(path), QUERY, Limits()).rows == [(2, 3)]
    assert state(folder) == before
    folder.chmod(0o700)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_stands_in_a_logs_place_and_is_no_file_is_named(pool, tmp_path, make):
    path = left(tmp_path, MAKE)
    make(f"{path}-wal")
    found = pool.run("sqlite", str(path), QUERY, Limits())
    assert (found.rows, found.error_class) == (None, "other")
    assert found.error == f"{path}-wal is no file"


def test_a_database_in_use_is_read_at_its_latest_commit(pool, tmp_path):
    with written(tmp_path, LOGGED) as path, closing(sqlite3.connect(path)) as writer:
        before = state(tmp_path)
        assert pool.run("sqlite", str(path), QUERY, Limits()).rows == [(2, 3)]
        assert state(tmp_path) == before
        writer.execute("INSERT INTO t VALUES (7)")  # begins, and is not committed yet
        assert pool.run("sqlite", str(path), QUERY, Limits()).rows == [(2, 3)]
        writer.commit()
        assert pool.run("sqlite", str(path), QUERY, Limits()).rows == [(3, 10)]


def test_a_database_that_never_holds_still_is_read_at_one_moment(tmp_path):
    """Money goes from one account to another all the time; no reading may see it on the way."""
    many = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
    over = threading.Event()

    def move(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            while not over.is_set():
                writer.execute("BEGIN")
                writer.execute("UPDATE t SET x = x - 1 WHERE rowid = 2")
                writer.execute("UPDATE t SET x = x + 1 WHERE rowid = 5000")
                writer.execute("COMMIT")

    script = f"PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t {many} SELECT 1 FROM n;"
    with written(tmp_path, script) as path, SqlPool(1) as own:
        writing = threading.Thread(target=move, args=(path,))
        writing.start()
        try:
            found = [own.run("sqlite", str(path), QUERY, Limits()) for _ in range(10)]
        finally:
            over.set()
            writing.join()
    assert [one.rows for one in found] == [[(5000, 5000)]] * 10


def test_a_journal_of_several_databases_does_not_remove_a_file_of_somebody(pool, tmp_path):
    """SQLite deletes the file that such a journal names; a hostile one may name any."""
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"thesis")
    folder = tmp_path / "user"
    folder.mkdir()
    path = journal(folder)
    name = str(treasure).encode()
    tail = len(name).to_bytes(4, "big") + sum(name).to_bytes(4, "big") + snapshot.JOURNAL_MAGIC
    with Path(f"{path}-journal").open("ab") as file:
        file.write(b"\0\0\0\1" + name + tail)
    before = state(tmp_path)
    assert pool.run("sqlite", str(path), QUERY, Limits()).rows == [(5002, 12502503)]
    assert state(tmp_path) == before
    treasure.unlink()  # then nothing is rolled back, as the other databases were not either
    with SqlPool(1) as later:
        assert later.run("sqlite", str(path), QUERY, Limits()).rows != [(5002, 12502503)]


def test_copies_go_with_their_pool_and_those_of_a_killed_process_with_the_next(tmp_path, own_place):
    path = left(tmp_path, LOGGED)
    code = (
        "import os, sys; from qc_experiments.databases.pool import SqlPool; "
        "from qc_experiments.databases.engine import Limits; "
        "pool = SqlPool(1); pool.run('sqlite', sys.argv[1], 'SELECT 1', Limits()); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"TMPDIR": str(own_place)}
    subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=False)
    (abandoned,) = own_place.iterdir()
    with SqlPool(1) as one, SqlPool(1) as two:
        assert one.run("sqlite", str(path), QUERY, Limits()).rows == [(2, 3)]
        (first,) = own_place.iterdir()
        assert first != abandoned
        assert two.run("sqlite", str(path), QUERY, Limits()).rows == [(2, 3)]
        assert len(list(own_place.iterdir())) == 2  # those of the living stay
    assert list(own_place.iterdir()) == []


def test_a_writer_may_finish_while_its_database_is_copied(tmp_path, own_place, monkeypatch):
    path, copy = left(tmp_path, LOGGED), shutil.copyfile

    def copied(source: Path, target: Path) -> None:
        if source.name.endswith("-wal"):
            with closing(sqlite3.connect(path)) as writer:
                writer.execute(QUERY).fetchall()
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", copied)
    with SqlPool(1) as own:
        assert own.run("sqlite", str(path), QUERY, Limits()).rows == [(2, 3)]


def test_no_room_for_a_copy_is_said_in_a_line(tmp_path, own_place, monkeypatch):
    path = left(tmp_path, LOGGED)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with SqlPool(1) as own:
        monkeypatch.setattr(shutil, "copyfile", full)
        with pytest.raises(UserError, match=r"x\.sqlite-wal beside it, .* has no room: .* TMPDIR$"):
            own.run("sqlite", str(path), QUERY, Limits())
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(own_place / "gone"))
    with (
        SqlPool(1) as own,
        pytest.raises(UserError, match=r"gone.*No such file or directory.*TMPDIR$"),
    ):
        own.run("sqlite", str(path), QUERY, Limits())
