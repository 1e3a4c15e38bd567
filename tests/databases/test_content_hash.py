"""What a database is: two that could answer differently are never taken for one."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from qc_experiments.databases import content
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import Database
from qc_experiments.databases.pool import SqlPool
from qc_experiments.errors import UserError
from qc_experiments.judging.gold import GoldCache
from qc_experiments.system.paths import open_file


def content_hash(path: Path, engine: str = "sqlite") -> str:
    return Database(engine, str(path)).content_hash()


def test_a_file_alone_is_its_bytes(tmp_path):
    path = tmp_path / "x.sqlite"
    path.write_bytes(b"some bytes")
    assert content_hash(path) == hashlib.sha256(b"some bytes").hexdigest()


@pytest.mark.parametrize(
    ("engine", "suffix"), [("sqlite", "-wal"), ("sqlite", "-journal"), ("duckdb", ".wal")]
)
def test_a_file_with_a_log_is_not_the_file_that_has_both(tmp_path, engine, suffix):
    one, other = tmp_path / f"one.{engine}", tmp_path / f"other.{engine}"
    one.write_bytes(b"first")
    Path(f"{one}{suffix}").write_bytes(b"second")
    other.write_bytes(b"firstsecond")
    assert content_hash(one, engine) != content_hash(other, engine)
    alone = content_hash(one, engine)
    Path(f"{one}{suffix}").write_bytes(b"Second")
    assert content_hash(one, engine) != alone
    Path(f"{one}{suffix}").write_bytes(b"")
    other.write_bytes(b"first")
    assert content_hash(one, engine) == content_hash(other, engine)  # an empty log says nothing


def test_log_and_journal_are_told_apart(tmp_path):
    path = tmp_path / "x.sqlite"
    path.write_bytes(b"first")
    found = set()
    for suffix in ("-wal", "-journal"):
        beside = Path(f"{path}{suffix}")
        beside.write_bytes(b"second")
        found.add(content_hash(path))
        beside.unlink()
    assert len(found) == 2


def test_names_play_no_part(tmp_path):
    for name in ("a.sqlite", "b-wal.sqlite"):
        (tmp_path / name).write_bytes(b"first")
        (tmp_path / f"{name}-wal").write_bytes(b"second")
    assert content_hash(tmp_path / "a.sqlite") == content_hash(tmp_path / "b-wal.sqlite")


@pytest.mark.parametrize("how", ["in place", "another file"])
def test_a_change_that_keeps_size_and_time_is_seen(tmp_path, how):
    path = tmp_path / "x.sqlite"
    path.write_bytes(b"2 boats")
    before, times = content_hash(path), os.stat(path)
    changed = path if how == "in place" else tmp_path / "draft"
    changed.write_bytes(b"3 boats")
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(changed, path)
    assert os.stat(path).st_mtime_ns == times.st_mtime_ns
    assert content_hash(path) != before


def test_gold_rows_follow_such_a_change(tmp_path):
    path = tmp_path / "x.sqlite"

    def write(value: int) -> None:
        path.unlink(missing_ok=True)
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (x)")
            connection.execute("INSERT INTO t VALUES (?)", (value,))
        os.utime(path, ns=(0, 0))

    cache = GoldCache(tmp_path / "gold.sqlite")
    pool = SqlPool(1)
    try:
        for value in (2, 3):
            write(value)
            gold = cache.get(pool, Database("sqlite", str(path)), "SELECT x FROM t", Limits())
            assert gold.execution.rows == [(value,)]
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("suffix", "opened_before"), [("-wal", 0), ("-journal", 0), ("-journal", 1)]
)
def test_a_log_whose_writer_finishes_meanwhile_is_none(
    tmp_path, monkeypatch, suffix, opened_before
):
    path, beside = tmp_path / "x.sqlite", tmp_path / f"x.sqlite{suffix}"
    path.write_bytes(b"first")
    alone = content_hash(path)
    beside.write_bytes(b"second")
    opened: list[Path] = []

    def open_finished(place: Path):
        if place == beside:
            opened.append(place)
            if len(opened) > opened_before:
                beside.unlink(missing_ok=True)
        return open_file(place)

    monkeypatch.setattr(content, "open_file", open_finished)
    assert content_hash(path) == alone


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(UserError, match=r"gone\.sqlite: cannot be read \(No such file"):
        content_hash(tmp_path / "gone.sqlite")
    os.mkfifo(tmp_path / "pipe.sqlite")
    with pytest.raises(UserError, match="is a pipe"):
        content_hash(tmp_path / "pipe.sqlite")
