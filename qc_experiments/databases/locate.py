"""Where the databases of a data set stand: files in folders of their own, or a server."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from qc_experiments.databases.content import content_hash as file_content
from qc_experiments.errors import UserError
from qc_experiments.system.paths import (
    NO_SUCH_FILE,
    PACKAGE_PREFIX,
    file_problem,
    folder_problem,
    resolve_path,
)

PLACEHOLDER = "{db_id}"
URL_FORM = f"postgresql://user@host:5432/{PLACEHOLDER}, the password in PGPASSWORD"
SUFFIXES = {".sqlite": "sqlite", ".duckdb": "duckdb"}
OTHER_SUFFIXES = {".db": "sqlite", ".sqlite3": "sqlite", ".db3": "sqlite"}
"""Other names that such files have elsewhere."""
NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f/\\]")
"""What is in no name of a folder or a database."""
NOT_IN_URL_NAMES = re.compile(r"[?#&@:]")
"""What makes a server, a port or an option of a part of a URL. It would be escaped; in a name from
somebody else's CSV it is taken for what it looks like."""


@dataclass(frozen=True)
class Database:
    """One database.

    Attributes:
        engine: ``sqlite``, ``duckdb`` or ``postgresql``: the module that runs SQL on it.
        target: a file's path, or a URL.
    """

    engine: str
    target: str

    @property
    def dialect(self) -> str:
        """What sqlglot calls its SQL."""
        return "postgres" if self.engine == "postgresql" else self.engine

    def content_hash(self) -> str:
        """SHA-256 of what it holds; it changes when any row does.

        Raises:
            UserError: if it cannot be read.
        """
        if self.engine == "postgresql":
            return _server_hash(self.target)
        return file_content(self.engine, self.target)


@lru_cache(maxsize=4096)
def _server_hash(target: str) -> str:
    from qc_experiments.databases import postgresql

    return postgresql.content_hash(target)


def check_url(url: str, key: str) -> None:
    """Make sure that a URL is of a kind of database that is known.

    Args:
        url: with ``://``.
        key: the setting or flag that named it, for messages.

    Raises:
        UserError: if not.
    """
    if not url.startswith(("postgresql://", "postgresql+", "postgres://")):
        kind = url.split("://")[0]
        raise UserError(
            f"{key}: {kind} is no kind of database that is known; give files or a postgresql:// URL"
        )


@dataclass(frozen=True)
class Databases:
    """The databases of a data set.

    Attributes:
        place: a folder with ``<db_id>/<db_id>.sqlite`` (or ``.duckdb``), or a PostgreSQL URL, in
            which ``{db_id}`` stands for the database's name.
    """

    place: str

    @property
    def on_server(self) -> bool:
        """Whether they are a server's."""
        return "://" in self.place

    def check(self, key: str) -> None:
        """Make sure that there is such a folder, or that it is a URL that is understood.

        Args:
            key: the setting or flag that named it, for messages.

        Raises:
            UserError: if not.
        """
        if self.on_server:
            check_url(self.place, key)
            from qc_experiments.databases.postgresql import database_name

            if self.place.count(PLACEHOLDER) != database_name(self.place).count(PLACEHOLDER):
                raise UserError(
                    f"{key}: {PLACEHOLDER} stands for the database's name and for nothing else in a URL: "
                    f"write {URL_FORM}"
                )
        elif problem := folder_problem(self.place):
            hint = f"; a server is written {URL_FORM}" if "@" in self.place else ""
            raise UserError(f"{key}={self.place}: must be a folder of databases; {problem}{hint}")

    def find(self, db_id: str) -> Database | None:
        """The database of a ``db_id``; None if there is nothing.

        Raises:
            UserError: if it is no name, or what is there cannot be read.
        """
        self._check_name(db_id)
        if self.on_server:
            return Database("postgresql", self.place.replace(PLACEHOLDER, quote(db_id, safe="")))
        folder = Path(self.place) / db_id
        for suffix, engine in SUFFIXES.items():
            path = folder / f"{db_id}{suffix}"
            problem = file_problem(path)
            if problem is None:
                return Database(engine, str(path.absolute()))
            if problem != NO_SUCH_FILE:
                raise UserError(f"{path}: {problem}")
        return None

    def _check_name(self, db_id: str) -> None:
        """Make sure that a ``db_id`` is one path component, or one database's name, and no more."""
        is_name = db_id.strip() and db_id not in (".", "..") and not NOT_IN_NAMES.search(db_id)
        if not is_name or (self.on_server and NOT_IN_URL_NAMES.search(db_id)):
            raise UserError(f"db_id {db_id} is no name of a database")

    def check_rows(self, named: Iterable[tuple[int, str | None]], source: Path | str) -> None:
        """Make sure that every row names a database that is there.

        Args:
            named: row number and ``db_id`` of each row.
            source: the CSV, for messages.

        Raises:
            UserError: naming the first row without one.
        """
        for number, db_id in named:
            if not db_id:
                raise UserError(
                    f"{source}: row {number} has no db_id, which judging by databases needs: add "
                    "the column (or map it, data.columns.db_id), or judge without databases"
                )
            try:
                found = self.find(db_id)
            except UserError as error:
                raise UserError(f"{source}: row {number}: {error}") from None
            if found is None:
                raise UserError(
                    f"{source}: row {number} names db_id {db_id}, but there is no "
                    f"{self._expected(db_id)}{self._elsewhere(db_id)}"
                )

    def _expected(self, db_id: str, suffix: str = ".sqlite") -> Path:
        return Path(self.place) / db_id / f"{db_id}{suffix}"

    def _elsewhere(self, db_id: str) -> str:
        """What is said of a file of that name that lies or ends otherwise; empty if there is none."""
        for folder in (Path(self.place) / db_id, Path(self.place)):
            for suffix, engine in {**SUFFIXES, **OTHER_SUFFIXES}.items():
                file = folder / f"{db_id}{suffix}"
                if file_problem(file) is None:
                    return f"; found {file}: move it to {self._expected(db_id, f'.{engine}')}"
        return ""


def find_databases(text: str, key: str) -> Databases:
    """The databases that a setting names: a folder, also one inside a package, or a server's URL.

    Args:
        text: the setting's value.
        key: the setting or flag, for messages.

    Raises:
        UserError: if there are none.
    """
    if "://" in text and not text.startswith(PACKAGE_PREFIX):
        databases = Databases(text)
    else:
        databases = Databases(str(resolve_path(text, key)))
    databases.check(key)
    return databases
