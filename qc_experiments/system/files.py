"""Write files that are whole or not there, and CSVs that every reader reads back as they were."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

UNWRITABLE = re.compile("[\0\ud800-\udfff]")
NEEDS_QUOTES = re.compile(r'[",\r\n]|^\s|\s\Z|^\ufeff')
"""Cells that a reader would cut, strip, pass over as a blank line or take for the file's byte order mark."""
WRITE_FAILED = ("No space left", "PytorchStreamWriter", "I/O error", "os error", "unexpected pos")
"""What torch and safetensors say, not as OSError, when a file cannot be written."""
FULL = (errno.ENOSPC, errno.EDQUOT)


def write_failure(error: Exception) -> str | None:
    """Why a file could not be written; None for an exception that says something else."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if any(sign in str(error) for sign in WRITE_FAILED):
        return "the disk may be full"
    return None


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all: beside its place, forced to the disk, then renamed.

    Text is written as UTF-8; what that cannot hold, as in a path of other bytes, is escaped.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    draft = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, so that a rename outlasts a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def weigh(path: Path) -> tuple[int, float]:
    """Bytes of a file or of all in a folder, and when the newest of it changed; links are not followed.

    What is deleted meanwhile, or closed to us, counts as nothing.
    """
    total, newest, waiting = 0, 0.0, [path]
    while waiting:
        place = waiting.pop()
        with suppress(OSError):
            if place == path and not stat.S_ISDIR(os.lstat(place).st_mode):
                return os.lstat(place).st_size, os.lstat(place).st_mtime
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                        continue
                    with suppress(OSError):
                        known = entry.stat(follow_symlinks=False)
                        total, newest = total + known.st_size, max(newest, known.st_mtime)
    return total, newest


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV as text, which our reader, Python's and pandas read back as it was, whatever the cells hold.

    None becomes an empty cell; NUL and lone surrogates, which no UTF-8 CSV can hold, become U+FFFD.
    """
    return "".join(f"{_csv_line(cells)}\n" for cells in (columns, *rows))


def _csv_line(cells: Sequence[object]) -> str:
    texts = ["" if cell is None else UNWRITABLE.sub("\ufffd", str(cell)) for cell in cells]
    if texts == [""]:
        return '""'  # an empty line is no row
    return ",".join(
        '"' + text.replace('"', '""') + '"' if NEEDS_QUOTES.search(text) else text for text in texts
    )
