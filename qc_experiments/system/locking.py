"""One process at a time in a run's folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from qc_experiments.errors import UserError
from qc_experiments.system.paths import read_file
from qc_experiments.system.processes import is_main_process, process_lives

LOCK = ".lock"
PATIENCE = 5.0
"""Seconds to wait for the children of a process that died to let go."""


@contextmanager
def locked(folder: Path) -> Iterator[Callable[[], bool]]:
    """Hold a folder, which is made if it is missing, so that no other process computes in it.

    The operating system frees the lock when its process ends, however it ends. What is given says whether
    it is still held: false once the folder was deleted, moved or taken over.
    """
    if not is_main_process():
        yield lambda: True
        return
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}): choose another paths.output"
        ) from None
    with file:
        waited = time.monotonic()
        while not taken(file.fileno()):
            file.seek(0)
            holder, alive = _holder(file.read())
            if alive or time.monotonic() - waited > PATIENCE:
                raise UserError(
                    f"{folder}: {holder} computes this run: wait for it, or stop it, or choose another "
                    "paths.output"
                )
            time.sleep(0.1)
        file.truncate(0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
        try:
            file.write(json.dumps(me))
            file.flush()
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error.strerror}): make room and run the same command again"
            ) from None
        try:
            yield lambda: is_at(file, path)
        finally:
            file.truncate(0)
            fcntl.flock(file, fcntl.LOCK_UN)


def at_work(folder: Path) -> bool:
    """Whether a run's lock names a process that may be alive; it is read, not taken."""
    try:
        text = read_file(folder / LOCK).decode("utf-8", "replace")
    except OSError:
        return False
    return bool(text) and _holder(text)[1]


@contextmanager
def idle(folder: Path) -> Iterator[bool]:
    """Hold a run's folder so that no process begins to compute in it, if none does; gives whether it is held.

    Nothing is made but a lock that is missing, and no link is followed.
    """
    path = folder / LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except FileNotFoundError:  # the folder was deleted meanwhile
        yield False
        return
    with os.fdopen(handle, "rb") as file:
        free = taken(handle) and is_at(file, path)
        text = file.read(4096).decode("utf-8", "replace")
        # Who holds it from another machine, or on a file system without locks, tells in words alone.
        yield free and not (text and _holder(text)[1])


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold a file or folder that other processes hold while they write it, if none does; gives whether."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield False
        return
    try:
        yield taken(handle)
    finally:
        os.close(handle)


@contextmanager
def waiting_for(folder: Path) -> Iterator[None]:
    """Hold a folder that exists, once no other process holds it so; nothing is written into it.

    On a file system without locks it is not waited for.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _holder(text: str) -> tuple[str, bool]:
    """Who wrote into a lock, and whether that process may be alive."""
    try:
        found = json.loads(text)
        pid, host, since = int(found["pid"]), found["host"], found["since"]
    except (ValueError, KeyError, TypeError):
        return "another process", True
    alive = host != socket.gethostname() or process_lives(pid, since)
    return f"process {pid} on {host} (since {since})", alive


def is_at(file: IO[Any], path: Path) -> bool:
    """Whether an open file is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        return False


def taken(descriptor: int) -> bool:
    """Take the lock of an open file until it is closed or the process ends, if no other process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            return True  # a file system without locks: better unguarded than refused
        raise
    return True
