"""Hashes of files by their whole content, each computed once: large ones are remembered in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from qc_experiments.system.paths import hash_bytes

SMALL_FILE = 1 << 20
"""Files of up to this many bytes are not worth remembering."""
LOADED_FROM_SUBFOLDERS = (".py", ".jinja", ".json", ".txt")
"""Endings of what a model may load from a folder below its own, besides weights that its index names."""
SETTLED_NS = 2_000_000_000
"""A file changed again within a clock tick looks unchanged: younger ones are not remembered."""


def files_hash(folder: Path, files: Iterable[Path], cache: Path) -> str:
    """Hash over the names and contents of some files of a folder.

    Args:
        folder: which the names are relative to.
        files: below it.
        cache: folder of what is made once per user.

    Raises:
        OSError: if one cannot be read.
    """
    names = {file.relative_to(folder).as_posix(): file for file in files}
    parts = [f"{name}:{file_hash(names[name], cache)}".encode() for name in sorted(names)]
    return hash_bytes(*parts)


def model_files(folder: Path, gguf_file: str | None) -> list[Path]:
    """All files of a model's folder that may determine what it computes.

    Args:
        folder: of the model: all that lies in it, and what it loads from folders below.
        gguf_file: the one that holds the model, or None; others are not looked at.
    """
    found = [] if gguf_file is None else [folder / gguf_file]
    indexed = _indexed(folder)
    for place, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        for path in (Path(place, name) for name in names):
            loaded = (
                path.parent == folder or path.suffix in LOADED_FROM_SUBFOLDERS or path in indexed
            )
            if loaded and path.suffix != ".gguf" and path.is_file():
                found.append(path)
    return found


def _indexed(folder: Path) -> set[Path]:
    """Weights that an index of shards names."""
    found: set[Path] = set()
    for index in folder.glob("*.index.json"):
        with suppress(OSError, ValueError, LookupError, AttributeError, TypeError):
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            found |= {folder / shard for shard in shards}
    return found


def file_hash(path: Path, cache: Path) -> str:
    """SHA-256 of a file's content; that of a large file that has not changed since is remembered.

    Args:
        path: the file.
        cache: folder of what is made once per user.

    Raises:
        OSError: if it cannot be read.
    """
    known = os.stat(path)
    if known.st_size <= SMALL_FILE:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    # The time of the last change of the inode cannot be set back by whoever changes the content.
    marks = (known.st_size, known.st_mtime_ns, known.st_ctime_ns, known.st_ino, known.st_dev)
    key = hash_bytes(str(path.resolve()).encode(), *(str(mark).encode() for mark in marks))
    kept = cache / "file_hashes" / key
    with suppress(OSError):
        return kept.read_text(encoding="ascii")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - known.st_ctime_ns > SETTLED_NS:
        from qc_experiments.system.files import write_whole

        with suppress(OSError):  # nothing is lost but time
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, found)
    return found
