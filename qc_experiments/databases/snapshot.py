"""Private copies of SQLite files whose last writer left a log beside them.

An application that was killed, or whose files were copied while it ran, leaves a write-ahead log
(``-wal``) or a rollback journal (``-journal``). SQLite cannot read past it without writing beside the
file, or into it; so it does this with a copy, made once for each content.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import uuid4

from qc_experiments.databases.content import content_hash, logs
from qc_experiments.databases.engine import Execution, Failed, Limits
from qc_experiments.errors import UserError

log = logging.getLogger(__name__)

PREFIX = "qc_experiments-copies-"
LOCK = "lock"
TRIES = 3
"""How often a database is copied that is being written to, until the copy is of one moment."""
RECOVERY_SECONDS = 60.0
RECOVERY_BYTES_PER_SECOND = 50_000_000
SPARE_BYTES = 16_000_000
MENTIONED_BYTES = 200_000_000  # copies from this size on are announced
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


@dataclass
class _Copy:
    """A copy in a folder of its own, which goes when nobody refers to the copy any more."""

    content: str
    file: Path
    error: str | None = None

    def __post_init__(self) -> None:
        weakref.finalize(self, shutil.rmtree, self.file.parent, ignore_errors=True)


class Snapshots:
    """The copies of one process; they go when it closes them, or with the next one's if it was killed."""

    def __init__(self, recover: Callable[[Path, Limits], Execution]) -> None:
        self._recover = recover  # lets SQLite roll a copy forward or back, where it can be killed
        self._lock = threading.Lock()
        self._folder: tuple[tempfile.TemporaryDirectory[str], IO[str]] | None = None
        self._copies: dict[str, _Copy] = {}

    @contextmanager
    def reading(self, target: str) -> Iterator[str]:
        """What is to be opened to read a SQLite file: itself, or a copy that stays until the end.

        Raises:
            Failed: if SQLite cannot make a database of it.
        """
        copy = None
        if logs("sqlite", target):
            with self._lock:
                copy = self._current(target)
        if copy is None:
            yield target  # nor has it a copy while somebody keeps writing: SQLite's own locks hold
        elif copy.error is not None:
            raise Failed(copy.error, "other")
        else:
            yield str(copy.file)

    def close(self) -> None:
        """Remove all copies."""
        with self._lock:
            self._copies = {}
            if self._folder is not None:
                folder, lock = self._folder
                folder.cleanup()
                lock.close()
                self._folder = None

    def _current(self, target: str) -> _Copy | None:
        """A copy of what the database holds now; None if it does not hold still."""
        for _ in range(TRIES):
            content = content_hash("sqlite", target)
            known = self._copies.get(target)
            if known is None or known.content != content:
                known = self._copied(target, content)
            if known is not None:
                self._copies[target] = known
                return known
        return None

    def _copied(self, target: str, content: str) -> _Copy | None:
        """A copy with this content; None if it has become another one meanwhile."""
        if self._folder is None:
            self._folder = _private_folder()
        found = logs("sqlite", target)
        copy = _Copy(content, Path(self._folder[0].name, str(uuid4()), "database.sqlite"))
        for path in found.values():
            if os.path.lexists(path) and not path.is_file():
                copy.error = f"{path} is no file"
                return copy
        try:
            size = _copy_files(Path(target), found, copy.file)
            if content_hash("sqlite", str(copy.file)) != content:
                return None
            _cut_from_others(Path(f"{copy.file}-journal"))
            seconds = RECOVERY_SECONDS + size / RECOVERY_BYTES_PER_SECOND
            done = self._recover(copy.file, Limits(seconds, bytes=size + SPARE_BYTES))
        except OSError as problem:
            if not all(map(os.path.lexists, found.values())):
                return None  # its writer has just finished
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_room(target, found) from None
            raise UserError(f"{target}: cannot be copied ({problem.strerror})") from None
        if done.rows is None:  # an interruption, or its time was over
            raise Failed(str(done.error), "other")
        if done.rows:
            copy.error = str(done.rows[0][0])
            if "disk is full" in copy.error:
                raise _no_room(target, found)
        if size >= MENTIONED_BYTES:
            log.warning(
                "%s: a copy is read (%d MB in %s), as its writer left %s beside it",
                *(target, size // 1_000_000, copy.file.parent, _names(found)),
            )
        return copy


def _copy_files(source: Path, found: dict[str, Path], file: Path) -> int:
    """Copy a database and its logs, under the names that they need there; how many bytes they are."""
    file.parent.mkdir()
    size = 0
    for original, copy in ((source, file), *((p, Path(f"{file}{s}")) for s, p in found.items())):
        shutil.copyfile(original, copy)
        size += copy.stat().st_size
    return size


def _names(found: dict[str, Path]) -> str:
    return " and ".join(path.name for path in found.values())


def _no_room(target: str, found: dict[str, Path]) -> UserError:
    return UserError(
        f"{target}: its writer left {_names(found)} beside it, so it is read from a copy, for which "
        f"{tempfile.gettempdir()} has no room: make room there, or name another folder in TMPDIR"
    )


def _cut_from_others(journal: Path) -> None:
    """Take the name of a journal of several databases out of a copied journal.

    SQLite rolls back only if that file is there, and deletes it afterwards. It is not ours.
    """
    if not journal.exists():
        return
    with journal.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 16))
        tail = file.read()
        length = int.from_bytes(tail[:4], "big")
        if len(tail) < 16 or tail[8:] != JOURNAL_MAGIC or not 0 < length <= size - 16:
            return
        file.seek(size - 16 - length)
        name = file.read(length)
        file.seek(size - 8)
        file.write(bytes(8))
    sums = (sum(name), sum(byte - 256 * (byte > 127) for byte in name))  # chars may have a sign
    if int.from_bytes(tail[4:8], "big") not in (total % 2**32 for total in sums):
        return  # SQLite would not believe it either
    if not os.path.exists(name.partition(b"\0")[0]):
        journal.unlink()


def run(target: str) -> Execution:
    """Let SQLite finish what a copy's last writer began; gives its message if it makes no database of it."""
    try:
        with closing(sqlite3.connect(target)) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except sqlite3.Error as problem:
        return Execution([(str(problem),)])
    return Execution([])


def _private_folder() -> tuple[tempfile.TemporaryDirectory[str], IO[str]]:
    """A folder for temporary files, and the lock whose end tells the next process to remove it."""
    try:
        for abandoned in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with suppress(OSError):  # it is not ours, or in use
                if abandoned.lstat().st_uid == os.getuid():
                    with (abandoned / LOCK).open("r+") as lock:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(abandoned, ignore_errors=True)
        folder = tempfile.TemporaryDirectory(prefix=PREFIX)
        # It is named so only once it is locked: an unlocked one has no owner.
        new = Path(folder.name, f"new-{LOCK}")
        lock = new.open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(new.with_name(LOCK))
        return folder, lock
    except OSError as error:
        raise UserError(
            f"{error.filename or 'TMPDIR'}: no folder for temporary files can be made "
            f"({error.strerror}): make room, or name another folder in TMPDIR"
        ) from None
