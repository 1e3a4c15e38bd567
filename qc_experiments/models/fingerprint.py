"""What a base model is, wherever it lies: its weights, and what its config makes of them."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.models.base import ModelSource
from qc_experiments.models.files import read_json, weight_files

WITHOUT_EFFECT = (
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "initializer_range",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)
"""Keys of a config.json that change nothing of what the weights compute."""


@dataclass(frozen=True)
class BaseModelFingerprint:
    """A base model, wherever it lies.

    Attributes:
        weights: hash of the weights, or of the GGUF file that holds them.
        config: what ``config.json`` says of what they compute; empty for a GGUF file.
    """

    weights: str
    config: dict[str, Any]

    def difference(self, other: BaseModelFingerprint) -> str | None:
        """How another model differs, or None if it is the same."""
        if self.weights != other.weights:
            return "its weights are others"
        # A config that was saved anew spells out defaults, so what stands on one side only tells nothing.
        for key in self.config.keys() & other.config.keys():
            if self.config[key] != other.config[key]:
                return (
                    f"its config.json has {key}={json.dumps(other.config[key])}, then it was "
                    f"{json.dumps(self.config[key])}"
                )
        return None


def base_model_fingerprint(source: ModelSource) -> BaseModelFingerprint | None:
    """Fingerprint of a base model's content; None for one of the hub that is not on this machine yet.

    Args:
        source: where the model is.

    Raises:
        UserError: if its files cannot be read.
    """
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
        files = weight_files(folder, "model", "pytorch_model", source.allow_pickle, source.spelling)
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
