"""Find and open the files that users name: paths, home folders, and files inside Python packages.

What keeps a path from being read (no permission, a broken link, a pipe) is said in words: `file_problem`
and its like return it, `open_file` raises it as an `OSError`. Nothing waits for a pipe's other end.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path

from qc_experiments.errors import UserError

PACKAGE_PREFIX = "pkg://"
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
WORDS = {
    errno.EACCES: "no permission to read it",
    errno.EPERM: "no permission to read it",
    errno.ELOOP: "is a link that leads back to itself",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENXIO: "is a socket, not a file",
}
"""What an error of the system means for who named a path."""
NO_SUCH_FILE, NO_SUCH_FOLDER = "no such file", "no such folder"
NO_FOLDER = "is a file, not a folder"


def user_path(text: str, key: str) -> Path:
    """The path that a user wrote for a setting or flag, with ``~`` for a home folder."""
    if "\0" in text:
        raise UserError(f"{key}: a path holds no NUL character")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{key}={text}: there is no such home folder") from None


def open_file(path: Path | str) -> BufferedReader:
    """Open a regular file for reading; of a pipe or a device it says so, and never waits for it.

    Raises:
        OSError: whose ``strerror`` says in words why it cannot be read.
    """
    try:
        # Opening a pipe would wait for a writer. On a regular file the flag changes nothing.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", errno.EINVAL)
        raise OSError(number, _in_words(path, error, "file"), str(path)) from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = next((name for is_kind, name in KINDS if is_kind(mode)), "something else")
        raise OSError(errno.EINVAL, f"is {kind}, not a file", str(path))
    return os.fdopen(handle, "rb")


def read_file(path: Path | str) -> bytes:
    """The content of a regular file, see `open_file`."""
    with open_file(path) as file:
        return file.read()


@contextmanager
def readable(path: Path | str) -> Iterator[None]:
    """Turn what keeps a file from being read, an `OSError`, into one line for its user."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def file_problem(path: Path | str) -> str | None:
    """Why a path cannot be read as a file, in words such as ``is a folder, not a file``; None if it can."""
    try:
        open_file(path).close()
    except OSError as error:
        return error.strerror
    return None


def folder_problem(path: Path | str) -> str | None:
    """Why a path cannot be read as a folder, in words such as ``no such folder``; None if it can."""
    try:
        os.scandir(path).close()
    except (OSError, ValueError) as error:
        return _in_words(path, error, "folder")
    return None


def output_problem(path: Path) -> str | None:
    """Why no folder can be made or used at a path, in words; None where nothing stands against it."""
    for place in (path, *path.parents):
        try:
            is_folder = stat.S_ISDIR(os.stat(place).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(place):
                return "is a broken link" if place == path else f"{place} is a broken link"
            continue
        except (OSError, ValueError) as error:
            return _in_words(place, error, "folder")
        if not is_folder:
            return NO_FOLDER if place == path else f"{place} is no folder"
        try:
            # Permissions alone do not tell (``/proc``, say). It has no name where the system can.
            tempfile.TemporaryFile(dir=place).close()
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return f"no permission to write to {place}"
            return f"nothing can be made in {place}: {error.strerror}"
        return None
    return None


def output_file_problem(path: Path) -> str | None:
    """Why no file can be written at a path, in words; None where nothing stands against it."""
    folder = path.absolute().parent
    missing = folder_problem(folder)
    if missing == NO_SUCH_FOLDER:
        return f"there is no folder {folder}"
    if missing == NO_FOLDER:
        return f"{folder} {missing}"
    problem = file_problem(path)
    if problem not in (None, NO_SUCH_FILE, WORDS[errno.EACCES]):
        return problem  # it would be replaced, were it a pipe or a device
    return output_problem(folder)


def _in_words(path: Path | str, error: OSError | ValueError, wanted: str) -> str:
    """What an error of the system says about a path."""
    if not isinstance(error, OSError):
        return "is no path: it holds a NUL character"
    if error.errno == errno.ENOENT:
        return "is a broken link" if os.path.islink(path) else f"no such {wanted}"
    if error.errno == errno.ENOTDIR:
        return NO_FOLDER if os.path.exists(path) else f"no such {wanted}"
    return WORDS.get(error.errno or 0, error.strerror or str(error))


def resolve_path(text: str, key: str, advice: str = "") -> Path:
    """Turn a config's path, or ``pkg://package/file``, into a real one at which something is.

    ``advice`` says what to name where there is nothing.
    """
    if not text.strip():
        raise UserError(f"{key}=: is empty; give a path")
    if text.startswith(PACKAGE_PREFIX):
        package, _, name = text.removeprefix(PACKAGE_PREFIX).partition("/")
        try:
            spec = find_spec(package)
        except (ImportError, ValueError, TypeError):
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"{key}={text}: there is no Python package {package}")
        path = Path(next(iter(spec.submodule_search_locations))) / name
    else:
        path = user_path(text, key)
    try:
        os.stat(path)
    except (OSError, ValueError) as error:
        what = _in_words(path, error, "file or folder")
        looked = f"looked at {path.absolute()}"
        raise UserError(f"{key}={text}: {what} ({looked}){advice and f': {advice}'}") from None
    return path


def hash_bytes(*parts: bytes) -> str:
    """SHA-256 in hexadecimal of some byte strings, each with its length, so that borders count."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def hash_texts(*texts: str) -> str:
    """The same of texts, which may hold halves of surrogate pairs."""
    return hash_bytes(*(text.encode("utf-8", "surrogatepass") for text in texts))
