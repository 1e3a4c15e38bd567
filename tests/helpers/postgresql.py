"""A real PostgreSQL server for tests, in a temporary folder and on a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "s3cret"

SCHEMA = """
CREATE TABLE author (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE book (
    id integer, author_id integer REFERENCES author (id), price numeric(8, 2),
    sold timestamptz, "Odd name%" text[], margin text);
CREATE SCHEMA store;
CREATE TABLE store.shelf (row integer, place integer, PRIMARY KEY (row, place));
CREATE TABLE private (word text);
CREATE VIEW cheap AS SELECT id, price FROM book WHERE price < 5;
CREATE SEQUENCE counter;
INSERT INTO author VALUES (1, 'Ada'), (2, 'Bob'), (3, 'Cleo');
INSERT INTO book VALUES (1, 1, 2.50, '2024-02-29 12:00+00', '{a,b}', 'hidden');
INSERT INTO book VALUES (2, 1, 7);
INSERT INTO private VALUES ('hidden');
CREATE ROLE reader LOGIN PASSWORD 's3cret';
GRANT USAGE ON SCHEMA store TO reader;
GRANT SELECT ON author, store.shelf, cheap TO reader;
GRANT SELECT (id, author_id, price, sold, "Odd name%") ON book TO reader;
GRANT USAGE ON SEQUENCE counter TO reader;
-- A role that may write, for what only the read-only transaction stops.
CREATE ROLE writer LOGIN PASSWORD 's3cret';
GRANT ALL ON ALL TABLES IN SCHEMA public, store TO writer;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO writer;
GRANT ALL ON SCHEMA public, store TO writer;
CREATE ROLE files LOGIN PASSWORD 's3cret' IN ROLE pg_read_server_files;
CREATE ROLE middle IN ROLE pg_execute_server_program;
CREATE ROLE distant LOGIN NOINHERIT PASSWORD 's3cret' IN ROLE middle;
CREATE ROLE deputy LOGIN PASSWORD 's3cret' IN ROLE postgres;
"""


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        folder: where its socket stands, and where it may write.
    """

    folder: Path

    def url(self, role: str, password: str = PASSWORD, database: str = "shop") -> str:
        return f"postgresql://{role}:{password}@/{database}?host={self.folder}"

    def execute(self, sql: str, database: str = "shop") -> list[Any]:
        """Run SQL as the superuser."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder),
            user="postgres",
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        ) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def state(self) -> tuple[Any, ...]:
        """What stands in the database and in the server's folder."""
        tables = ("author", "book", "store.shelf", "private", "pg_roles")
        rows = [f"(SELECT array_agg(t::text ORDER BY t::text) FROM {name} t)" for name in tables]
        counted = ("pg_class", "pg_proc", "pg_largeobject_metadata", "pg_extension", "pg_settings")
        counts = [f"(SELECT count(*) FROM {name})" for name in counted]
        counter = "(SELECT last_value FROM counter)"
        found = self.execute(f"SELECT {', '.join([*rows, *counts, counter])}")
        return found, sorted(path.name for path in self.folder.iterdir())


def program(name: str) -> str | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))


def server_user() -> dict[str, Any]:
    """How to start a program as somebody who is not root, as whom PostgreSQL does not run."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server, once for all tests of a process; skips where none is installed."""
    pytest.importorskip("psycopg")
    initdb, control = program("initdb"), program("pg_ctl")
    if initdb is None or control is None or program("postgres") is None:
        pytest.skip("no PostgreSQL server is installed (initdb, pg_ctl, postgres)")
    user = server_user()
    # Not in pytest's folder, which is closed to other users; and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="qc-pg-", dir="/tmp"))
    data, log = folder / "data", folder / "log"
    (folder / "password").write_text(PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            os.chown(path, user["user"], user["group"])
    started = False

    def call(*command: str) -> None:
        subprocess.run(
            command, check=True, cwd=folder, timeout=120, stdout=subprocess.DEVNULL, **user
        )

    try:
        call(
            *(initdb, "-D", str(data), "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"),
            *("-A", "scram-sha-256", f"--pwfile={folder / 'password'}"),
        )
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        call(control, "-D", str(data), "-l", str(log), "-o", options, "-w", "start")
        started = True
        running = Server(folder)
        running.execute("CREATE DATABASE shop", "postgres")
        running.execute(SCHEMA)
        yield running
    finally:
        if started:
            call(control, "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)
