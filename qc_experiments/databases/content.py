"""What a database file holds: its own bytes, and the logs that its last writer left beside it."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from qc_experiments.databases.engine import engine as engine_of
from qc_experiments.errors import UserError
from qc_experiments.system.paths import hash_texts, open_file, readable

FRESH_SECONDS = 2.0
"""A file that changed so lately may change once more without a trace in its times, which are coarse."""


def logs(engine: str, target: str) -> dict[str, Path]:
    """The logs beside a file without which it is not read rightly, by what their names end with.

    Empty ones count for nothing, nor does a rollback journal whose header is blank: SQLite passes over
    them as well. What stands in a log's place and is no file is among them.
    """
    # SQLite follows links before it looks beside a file.
    base = os.path.realpath(target) if engine == "sqlite" else target
    found = {}
    for suffix in engine_of(engine).logs:
        path = Path(f"{base}{suffix}")
        try:
            mark = path.stat()
        except OSError:
            continue  # none is there
        if not stat.S_ISREG(mark.st_mode) or (mark.st_size and not _blank(path, suffix)):
            found[suffix] = path
    return found


def _blank(path: Path, suffix: str) -> bool:
    if suffix != "-journal":
        return False
    with readable(path), suppress(FileNotFoundError), open_file(path) as file:
        return file.read(1) in (b"", b"\0")
    return True  # its writer has just finished


def content_hash(engine: str, target: str) -> str:
    """SHA-256 of what a database file holds; without logs, that of its bytes."""
    found = logs(engine, target)
    own = file_hash(Path(target))
    if not found:
        return own
    parts = [own]
    for suffix, path in found.items():
        try:
            parts += [suffix, file_hash(path) if path.is_file() else "no file"]
        except UserError:
            if os.path.lexists(path):
                raise
            return content_hash(engine, target)  # its writer has just finished
    return hash_texts(*parts)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, read again only after a change; `UserError` if it cannot be read."""
    with readable(path):
        found = path.stat()
        # The time of the last change of state cannot be set by hand, as that of the content can.
        changed = max(found.st_mtime_ns, found.st_ctime_ns)
        mark = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        fresh = 0 <= time.time_ns() - changed < FRESH_SECONDS * 1e9
        return (_known_hash.__wrapped__ if fresh else _known_hash)(path, mark)


@lru_cache(maxsize=4096)
def _known_hash(path: Path, _mark: tuple[int, ...]) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
