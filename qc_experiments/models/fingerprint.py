"""What a base model is, wherever it lies: its files, its weights, and what its config makes of them."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qc_experiments.models.files import read_json, weight_files
from qc_experiments.system.files import write_whole
from qc_experiments.system.paths import hash_bytes

if TYPE_CHECKING:
    from qc_experiments.models.source import ModelSource


SMALL_FILE = 1 << 20  # files of up to this many bytes are not worth remembering
LOADED_FROM_SUBFOLDERS = (".py", ".jinja", ".json", ".txt")
"""Endings of what a model may load from a folder below its own, besides weights that its index names."""
SETTLED_NS = 2_000_000_000  # younger files may change again within a clock tick and look unchanged
WITHOUT_EFFECT = {
    *("_name_or_path", "architectures", "auto_map", "dtype", "initializer_range"),
    *("torch_dtype", "transformers_version", "use_cache"),
}
"""Keys of a config.json that change nothing of what the weights compute."""


def files_hash(folder: Path, files: Iterable[Path], cache: Path) -> str:
    """Hash over the names and contents of some files of a folder."""
    names = {file.relative_to(folder).as_posix(): file for file in files}
    return hash_bytes(*(f"{n}:{file_hash(names[n], cache)}".encode() for n in sorted(names)))


def model_files(folder: Path, gguf_file: str | None) -> list[Path]:
    """All files of a model's folder that may determine what it computes.

    They are all that lies in it but GGUF files (one that is named is taken), and what it loads from folders
    below.
    """
    found = [] if gguf_file is None else [folder / gguf_file]
    indexed: set[Path] = set()  # weights that an index of shards names
    for index in folder.glob("*.index.json"):
        with suppress(OSError, ValueError, LookupError, AttributeError, TypeError):
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            indexed |= {folder / shard for shard in shards}
    for place, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        for path in (Path(place, name) for name in names):
            loaded = path.suffix in LOADED_FROM_SUBFOLDERS or path in indexed
            if (loaded or path.parent == folder) and path.suffix != ".gguf" and path.is_file():
                found.append(path)
    return found


def file_hash(path: Path, cache: Path) -> str:
    """SHA-256 of a file's content; that of a large file that has not changed since is remembered."""
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
        with suppress(OSError):  # nothing is lost but time
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, found)
    return found


@dataclass(frozen=True)
class BaseModelFingerprint:
    """A base model, wherever it lies: hash of its weights, and what its config.json says they compute."""

    weights: str
    config: dict[str, Any]

    def difference(self, other: BaseModelFingerprint) -> str | None:
        """How another model differs, or None if it is the same."""
        if self.weights != other.weights:
            return "its weights are others"
        # A config that was saved again spells out defaults, so what stands on one side only tells nothing.
        for key in self.config.keys() & other.config.keys():
            if self.config[key] != other.config[key]:
                return (
                    f"its config.json has {key}={json.dumps(other.config[key])}, then it was "
                    f"{json.dumps(self.config[key])}"
                )
        return None


def base_model_fingerprint(source: ModelSource) -> BaseModelFingerprint | None:
    """Fingerprint of a base model's content; None for one of the hub that is not on this machine yet."""
    if source.gguf_hash is not None:
        return BaseModelFingerprint(f"gguf-sha256:{source.gguf_hash}", {})
    folder = source.folder()
    if folder is None:
        return None
    config = {
        key: value
        for key, value in read_json(folder / "config.json").items()
        if key not in WITHOUT_EFFECT and not key.endswith("_token_id")
    }
    with source.loading("weights"):
        files = weight_files(folder, "model", source.allow_pickle, source.spelling)
        return BaseModelFingerprint(_weights_hash(files), config)


def _weights_hash(files: list[Path]) -> str:
    """Hash of all tensors by name, in whatever files they lie; of the files where they are pickles."""
    digest = hashlib.sha256()
    if any(file.suffix != ".safetensors" for file in files):
        for path in files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return f"files-sha256:{digest.hexdigest()}"
    hashes = dict(found for path in files for found in _tensors(path))
    for name in sorted(hashes):
        digest.update(name.encode() + b"\0" + hashes[name])
    return f"tensors-sha256:{digest.hexdigest()}"


def _tensors(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and hashes of the tensors of a safetensors file: a length, a JSON header, their bytes."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        header.pop("__metadata__", None)
        for name, tensor in header.items():
            first, last = tensor["data_offsets"]
            digest = hashlib.sha256(f"{tensor['dtype']} {tensor['shape']}\n".encode())
            with memoryview(content)[start + first : start + last] as some:
                digest.update(some)
            yield name, digest.digest()
