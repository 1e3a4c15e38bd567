"""Work that is written down as it goes on, so that the same command goes on where it was ended."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from qc_experiments.errors import UserError
from qc_experiments.system.locking import is_at, taken
from qc_experiments.system.paths import file_problem, hash_bytes
from qc_experiments.system.processes import is_main_process
from qc_experiments.system.reading import Unreadable, read_file

MOST_BYTES = 1 << 32
PATIENCE = 1.0
"""Seconds to wait for the system to free what a killed process held."""


class Lines:
    """JSON lines on one piece of work, written as it goes on.

    Args:
        path: the file; it is made with the first line.
        work: tells which work it is; what a file holds of another one is dropped.
        take: is given each line that is there, in turn; raises `ValueError`, `KeyError` or `TypeError` for
            one that is not whole: it and what follows is dropped and done again.
    """

    def __init__(self, path: Path, work: str, take: Callable[[dict[str, Any]], None]) -> None:
        self._path = path
        self._work = work
        self.dropped = False
        """Whether there were lines on another work."""
        self._read(take)

    def append(self, line: Mapping[str, Any], *, forced: bool = True) -> None:
        """Write a line; ``forced`` if it is to outlast a power cut, and not this process alone."""
        if not is_main_process():
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"model": self._work, **line}) + "\n")
            file.flush()
            if forced:
                os.fsync(file.fileno())

    def remove(self) -> None:
        """Forget all."""
        if is_main_process():
            self._path.unlink(missing_ok=True)

    def _read(self, take: Callable[[dict[str, Any]], None]) -> None:
        try:
            lines = (read_file(self._path, MOST_BYTES) or b"").splitlines(keepends=True)
        except Unreadable:
            return
        whole = 0
        for line in lines:
            try:
                found = json.loads(line)
                if found["model"] != self._work:
                    self.dropped = True
                    break
                if not line.endswith(b"\n"):
                    break
                take(found)
            except (ValueError, KeyError, TypeError):
                break  # torn: it and what follows is done again
            whole += len(line)
        if whole < sum(map(len, lines)) and is_main_process():
            os.truncate(self._path, whole)


@contextmanager
def kept_at(path: Path, option: str) -> Iterator[None]:
    """Hold the file in which unfinished work is kept, so that no other process works at the same.

    Its folder is made if it is missing; if nothing was kept, both are as before. The option is what the
    user calls the output that it stands beside, with its value.
    """
    made = not path.parent.exists()
    with _held(path, option) as file:
        try:
            yield
        finally:
            with suppress(OSError):
                if not os.fstat(file.fileno()).st_size and is_at(file, path):
                    path.unlink()
                    if made:
                        path.parent.rmdir()


@contextmanager
def told_what_is_kept(kept: Callable[[], int], total: int, what: str) -> Iterator[None]:
    """Note on an interruption how much of the work (``total`` verdicts, say) is kept for the next start.

    ``kept`` counts it.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        count = kept()
        then = "goes on from there" if count else "starts again"
        error.add_note(f"{count} of {total} {what} are kept; the same command {then}")
        raise


def code_hash() -> str:
    """Hash of this package's code, which tells more than a commit: files may have been edited since."""
    root = Path(__file__).parents[1]
    return hash_bytes(*(path.read_bytes() for path in sorted(root.rglob("*.py"))))


@cache
def code_mark() -> str:
    """The beginning of `code_hash`, for names of files of which other code has no use."""
    return code_hash()[:8]


@contextmanager
def written(option: str) -> Iterator[None]:
    """Say in one line why output, by the option that named it, cannot be written."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{option}: its folder is gone, with what had been done") from None
    except OSError as error:
        raise UserError(
            f"{option}: cannot be written ({error.strerror}); then the same command goes on from here"
        ) from None


def _held(path: Path, option: str) -> BinaryIO:
    started = time.monotonic()
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if problem := path.exists() and file_problem(path):
                raise UserError(f"{option}: {path} {problem}: move it away")
            file = path.open("ab")
        except OSError as error:
            raise UserError(f"{option}: cannot be written ({error.strerror})") from None
        if taken(file.fileno()):
            if is_at(file, path):
                return file
        elif time.monotonic() - started > PATIENCE:
            file.close()
            raise UserError(f"{option}: another process is writing it: wait for it or stop it")
        file.close()
        time.sleep(0.05)
