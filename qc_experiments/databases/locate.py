"""Where the databases of a data set stand: one file, a folder of them, or a server."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from qc_experiments.databases.content import content_hash as file_content
from qc_experiments.databases.content import file_hash
from qc_experiments.databases.engine import ENGINES
from qc_experiments.databases.engine import engine as engine_of
from qc_experiments.errors import UserError
from qc_experiments.system.paths import (
    NO_SUCH_FILE,
    PACKAGE_PREFIX,
    file_problem,
    folder_problem,
    open_file,
    resolve_path,
    user_path,
)
from qc_experiments.system.words import counted

PLACEHOLDER = "{db_id}"
URL_FORM = f"postgresql://user@host:5432/{PLACEHOLDER}, the password in PGPASSWORD"
WHAT_THERE_IS = "name a database's file, a folder of databases, or a postgresql:// URL"
OTHER_SUFFIXES = (".db", ".sqlite3", ".db3")  # of SQLite files elsewhere
HASHING = threading.Lock()
"""Held while a server reads all its rows, which it is to do once."""
NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f/\\]")
NOT_IN_URL_NAMES = re.compile(r"[?#&@:]")
"""What makes a server, a port or an option of a part of a URL. It would be escaped; in a name from
somebody else's CSV it is taken for what it looks like."""


@dataclass(frozen=True)
class Database:
    """One database: the name of its engine, and a file's path or a URL."""

    engine: str
    target: str
    server_hashes: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Content hashes of a server's databases by URL, each taken once in a run."""

    @property
    def dialect(self) -> str:
        """What sqlglot calls its SQL."""
        return engine_of(self.engine).dialect

    def content_hash(self) -> str:
        """SHA-256 of what it holds; it changes when any row does. `UserError` if it cannot be read."""
        module = engine_of(self.engine).module
        if "://" not in self.target:
            found = file_content(self.engine, self.target)
        else:
            with HASHING:
                if self.target not in self.server_hashes:
                    self.server_hashes[self.target] = str(module.content_hash(self.target))
                found = self.server_hashes[self.target]
        # What another engine, or another version of it, makes of the same file is something else.
        ours = self.engine in ENGINES
        return found if ours else f"{self.engine} {file_hash(Path(str(module.__file__)))} {found}"


def named_database(text: str, key: str, engine: str | None = None) -> Database:
    """The database at a file's path or a URL.

    ``key`` is what the user calls it, for messages; without an engine the suffix, the content or the scheme
    says it.

    Raises:
        UserError: if there is no such file, or no engine reads such a URL.
    """
    if "://" in text:
        return Database(engine or engine_of_url(text, key), text)
    path = user_path(text, key)
    if problem := file_problem(path):
        raise UserError(f"{key} {path}: {problem}")
    by_suffix = (name for name in ENGINES if engine_of(name).suffix == path.suffix != "")
    return Database(engine or next(by_suffix, None) or _by_content(path), str(path.absolute()))


def _by_content(path: Path) -> str:
    """The engine of a file whose suffix names none, such as ``.db``."""
    with open_file(path) as file:
        return "duckdb" if file.read(12)[8:] == b"DUCK" else "sqlite"


def engine_of_url(url: str, key: str) -> str:
    """The name of the engine that a URL's scheme means; ``key`` is the setting or flag, for messages."""
    scheme = url.split("://")[0]
    servers = {name: engine_of(name).schemes for name in ENGINES if engine_of(name).schemes}
    for name, schemes in servers.items():
        if scheme.partition("+")[0] in schemes:
            return name
    known = " or ".join(f"{schemes[0]}://" for schemes in servers.values())
    raise UserError(
        f"{key}: {scheme} is no kind of database that is known; give files or a {known} URL"
    )


@dataclass(frozen=True)
class Databases:
    """The databases of a data set.

    They stand in a folder, as ``<db_id>/<db_id>.sqlite`` or ``<db_id>.sqlite`` (or with another engine's
    suffix), or on a server, in whose URL ``{db_id}`` stands for the name. Or ``place`` is a single one: a
    file, or a URL without such a name. Without an engine the suffix or the URL's scheme says it.
    """

    place: str
    engine: str | None = None
    server_hashes: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def on_server(self) -> bool:
        """Whether they are a server's."""
        return "://" in self.place

    @property
    def single(self) -> str | None:
        """The name of the one database that ``place`` is; None if it is a place of many."""
        if self.on_server:
            name = None if PLACEHOLDER in self.place else _path_of_url(self.place)
            return name if name is None else name.rpartition("/")[2] or "database"
        return None if os.path.isdir(self.place) else Path(self.place).stem

    @property
    def one_inside(self) -> str:
        """For messages: the database that is the only one in a folder; nothing if there are more."""
        if self.on_server:
            return ""
        patterns = [form + suffix for suffix in self._suffixes() for form in ("*", "*/*")]
        found = [file for pattern in patterns for file in Path(self.place).glob(pattern)]
        return f" (if {found[0]} is meant: name this file)" if len(found) == 1 else ""

    @property
    def dialect(self) -> str:
        """What sqlglot calls their SQL, as engine, URL or suffixes tell; else SQLite's."""
        name = self.engine
        if name is None and self.on_server:
            name = engine_of_url(self.place, "databases")
        place = Path(self.place)
        for suffix, one in self._suffixes().items():
            if name is None and (
                place.suffix == suffix
                or any(place.glob(f"*{suffix}"))
                or any(place.glob(f"*/*{suffix}"))
            ):
                name = one
        return engine_of(name or "sqlite").dialect

    def check(self, key: str) -> None:
        """Make sure that there is such a file or folder, or that it is a URL that is understood."""
        engine = engine_of(self.engine) if self.engine else None
        if engine and not (engine.schemes if self.on_server else engine.suffix):
            reads = "files in a folder" if engine.suffix else "a server's databases, by a URL"
            raise UserError(f"{key}: engine {self.engine} reads {reads}")
        if self.on_server:
            try:
                urlsplit(self.place)
            except ValueError as error:  # which names no part of it
                raise UserError(f"{key}: the URL cannot be read ({error})") from None
            engine = engine or engine_of(engine_of_url(self.place, key))
            read_name = getattr(engine.module, "database_name", _path_of_url)
            if self.place.count(PLACEHOLDER) != str(read_name(self.place)).count(PLACEHOLDER):
                raise UserError(
                    f"{key}: {PLACEHOLDER} stands for the database's name and for nothing else in a URL: "
                    f"write {URL_FORM.replace('postgresql', engine.schemes[0])}"
                )
        elif file_problem(Path(self.place)) and (problem := folder_problem(self.place)):
            hint = f"; a server is written {URL_FORM}" if "@" in self.place else ""
            raise UserError(
                f"{key}={self.place}: must be a database or a folder of them; {problem}{hint}"
            )

    def find(self, db_id: str) -> Database | None:
        """The database of a ``db_id``; None if there is nothing, `UserError` if it cannot be read.

        A single one is that of any name.
        """
        if self.single is not None:
            return replace(
                named_database(self.place, "databases", self.engine),
                server_hashes=self.server_hashes,
            )
        # One path component, or one database's name, and no more.
        is_name = db_id.strip() and db_id not in (".", "..") and not NOT_IN_NAMES.search(db_id)
        if not is_name or (self.on_server and NOT_IN_URL_NAMES.search(db_id)):
            raise UserError(f"db_id {db_id} is no name of a database")
        if self.on_server:
            name = self.engine or engine_of_url(self.place, "databases")
            url = self.place.replace(PLACEHOLDER, quote(db_id, safe=""))
            return Database(name, url, self.server_hashes)
        for suffix, name in self._suffixes().items():
            for folder in (Path(self.place) / db_id, Path(self.place)):
                path = folder / f"{db_id}{suffix}"
                problem = file_problem(path)
                if problem is None:
                    return Database(name, str(path.absolute()))
                if problem != NO_SUCH_FILE:
                    raise UserError(f"{path}: {problem}")
        return None

    def _suffixes(self) -> dict[str, str]:
        """The engines that read files, by the suffixes of these."""
        names = [self.engine] if self.engine else ENGINES
        return {engine_of(name).suffix: name for name in names if engine_of(name).suffix}

    def only(self, key: str, advice: str) -> Database:
        """The one database that ``place`` is.

        Raises:
            UserError: if it is a place of many, with the advice; ``key`` is what the user calls it.
        """
        found = None if self.single is None else self.find(self.single)
        if found is None:
            raise UserError(
                f"{key} {self.place}: is a place of many databases: {advice}{self.one_inside}"
            )
        return found

    def check_rows(self, named: Iterable[tuple[int, str | None]], source: Path | str) -> None:
        """Make sure that every row of a CSV (by its number and ``db_id``) names a database that is there."""
        rows = list(named)
        if self.single is not None:
            names = sorted({db_id for _, db_id in rows if db_id})
            if len(names) > 1:
                raise UserError(
                    f"{source}: its rows are about {counted(len(names), 'database')} "
                    f"({', '.join(names[:3])}{', ...' if names[3:] else ''}), but {self.place} is one: "
                    "give the folder in which they stand"
                )
            return
        for number, db_id in rows:
            if not db_id:
                raise UserError(
                    f"{source}: row {number} has no db_id, which judging by databases needs: add "
                    "the column (or map it, data.columns.db_id), or judge without databases"
                    f"{self.one_inside}"
                )
            try:
                found = self.find(db_id)
            except UserError as error:
                raise UserError(f"{source}: row {number}: {error}") from None
            if found is None:
                raise UserError(
                    f"{source}: row {number} names db_id {db_id}, {self._missing(db_id)}{self.one_inside}"
                )

    def _missing(self, db_id: str) -> str:
        """Which file there is not, and which lies or ends otherwise."""
        own = list(self._suffixes())
        folder = Path(self.place) / db_id
        missing = f"but there is no {folder / (db_id + own[0])}"
        for place in (folder, folder.parent):
            for suffix in (*own, *OTHER_SUFFIXES):
                file = place / f"{db_id}{suffix}"
                if file_problem(file) is None:
                    to = folder / f"{db_id}{suffix if suffix in own else own[0]}"
                    return f"{missing}; found {file}: move it to {to}"
        return missing


def _path_of_url(url: str) -> str:
    return unquote(urlsplit(url).path.lstrip("/"))


def find_databases(text: str, key: str, engine: str | None = None) -> Databases:
    """The databases that a setting ``key`` names: a file or folder, also inside a package, or a URL."""
    is_url = "://" in text and not text.startswith(PACKAGE_PREFIX)
    place = text if is_url else str(resolve_path(text, key, WHAT_THERE_IS))
    databases = Databases(place, engine)
    databases.check(key)
    return databases
