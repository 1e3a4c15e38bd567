"""GGUF files, converted once to what transformers loads at once: a folder with safetensors.

A conversion is kept in the cache folder under the file's content, so that a file that was moved, renamed or
copied is not converted again, and one that was changed is.
"""

from __future__ import annotations

import io
import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qc_experiments.errors import UserError
from qc_experiments.models.files import check_loaded, load_errors
from qc_experiments.system.files import write_failure
from qc_experiments.system.locking import waiting_for

DRAFT = ".unpacking-"
"""How the names of folders begin that are being made."""

log = logging.getLogger(__name__)

CONVERTER = 1
"""Counts what this module makes of a file; other conversions are not taken for its own."""
NAMED = 24
"""Characters of a file's hash in the name of the folder with its conversion."""
MARGIN = 3.0
"""Two copies of a weight differ by at most this many times what the storage of normal values explains."""
MOST = 0.5
"""They differ by no more than this share of their size in any case."""


def made_once(folder: Path, make: Callable[[Path], None], announcement: str) -> Path:
    """A folder with a model, made on first use beside its final place and then renamed.

    Args:
        folder: where it is or will be.
        make: fills an empty folder.
        announcement: is logged before it is made.

    Raises:
        UserError: if it cannot be written.
    """
    if _is_made(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with waiting_for(folder.parent):
            if not _is_made(folder):  # by the process that was waited for
                for left in folder.parent.glob(f"{DRAFT}*"):  # by a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                log.info("%s into %s (once) ...", announcement, folder)
                _make(folder, make)
    except UserError:
        raise
    except Exception as error:
        reason = write_failure(error)
        if reason is None:
            raise
        raise UserError(
            f"{folder.parent}: cannot be written ({reason}): make room there, or name another cache folder "
            "(paths.cache=..., --cache of qc predict)"
        ) from error
    return folder


def _is_made(folder: Path) -> bool:
    names = ("model.safetensors", "model.safetensors.index.json")
    return any(os.path.isfile(folder / name) for name in names)


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=folder.parent))
    try:
        make(draft)
        for file in draft.iterdir():  # a rename may outlast a power cut that its files do not
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


MANTISSA_BITS = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}
ROWS_AT_ONCE = 4096
EMBEDDING, HEAD = "token_embd.weight", "output.weight"


def converted(path: Path, content: str, dtype: Any, cache: Path, named: str) -> Path:
    """The folder with a GGUF file's model and tokenizer, made on first use.

    Raises:
        UserError: if the file cannot be read or the folder cannot be written.
    """
    name = f"gguf-{content[:NAMED]}-{str(dtype).removeprefix('torch.')}-{_made_by()}"

    def make(draft: Path) -> None:
        convert(path, draft, dtype, named)

    return made_once(cache / "models" / name, make, f"Converting {path.name}")


def _made_by() -> str:
    return f"v{CONVERTER}-transformers-{version('transformers')}"


def conversions(models: Path) -> Iterator[tuple[Path, str, bool]]:
    """What is kept in the cache's folder of models: folder, begin of the file's hash, whether it is in use.

    Those of other versions, of this module or of transformers, are not.
    """
    for folder in sorted(models.glob("gguf-*")):
        if found := re.fullmatch(rf"gguf-([0-9a-f]{{{NAMED}}})-[a-z0-9]+-(.+)", folder.name):
            yield folder, found[1], found[2] == _made_by()


def convert(path: Path, target: Path, dtype: Any, named: str) -> None:
    """Save a GGUF file's model and tokenizer into an empty folder, as transformers saves models.

    Raises:
        UserError: if the file cannot be read, or lacks weights of its architecture.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _check_magic(path, named)
    # In a folder of its own: transformers would load an adapter that lies beside the file as well.
    place: dict[str, Any] = {
        "pretrained_model_name_or_path": str(target),
        "gguf_file": str(path.absolute()),
    }
    with load_errors(f"{named}: the GGUF file (half downloaded or copied?)", None):
        precisions = _precisions(path)
    # Libraries draw bars of their own.
    with load_errors(f"{named}: the GGUF file", None), redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(**place, trust_remote_code=False)
        model, report = AutoModelForCausalLM.from_pretrained(
            **place,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
        )
    check_loaded(
        report, named, "download the file again; one of several parts cannot be read alone"
    )
    _tie(model, precisions)
    # The weights are unpacked, but transformers still calls the model quantized and refuses to save it.
    model.is_quantized = False
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)


def _check_magic(path: Path, named: str) -> None:
    with path.open("rb") as file:
        start = file.read(16)
    if not start.startswith(b"GGUF"):
        what = (
            "a Git LFS pointer (run git lfs pull)" if start.startswith(b"version ") else "not GGUF"
        )
        raise UserError(f"{named}: the file is {what if start else 'empty'}: download it again")


def _precisions(path: Path) -> dict[str, float]:
    """Relative error that the storage of the embedding and of the output layer explains, by name."""
    from gguf import GGMLQuantizationType, GGUFReader

    return {
        tensor.name: _storage_error(GGMLQuantizationType(tensor.tensor_type).name)
        for tensor in GGUFReader(path).tensors
        if tensor.name in (EMBEDDING, HEAD)
    }


def _storage_error(kind: str) -> float:
    """Root mean square of what storing normal values in a GGUF type changes, relative to their own.

    Floats are rounded by a share of themselves, the other types in 2^b steps over the range of a block
    of 32 (b stands in the type's name: Q5_0, Q4_K, IQ3_S).
    """
    if kind in MANTISSA_BITS:
        return 0.25 / 2 ** MANTISSA_BITS[kind]
    bits = re.search(r"\d+", kind)
    return 1.2 / 2 ** int(bits[0]) if bits else 0.0


def _tie(model: Any, precisions: dict[str, float]) -> None:
    """Make one weight of an embedding and an output layer that are copies of one.

    Converters store a tied weight once or twice, and the two in different precision; transformers takes it
    for two weights where it is stored twice. They are one where they differ by no more than their storage
    explains (weights that were trained apart differ by more than their size); the finer copy is kept.
    """
    import torch

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or head.weight is embedding.weight or len(precisions) < 2:
        return
    if embedding.weight.shape != head.weight.shape:
        return
    rounding = torch.finfo(embedding.weight.dtype).eps / 4
    explained = min(MARGIN * math.hypot(*precisions.values(), rounding), MOST)
    if _difference(embedding.weight.data, head.weight.data) > explained:
        return
    finer = head if precisions[HEAD] < precisions[EMBEDDING] else embedding
    embedding.weight = finer.weight
    model.config.get_text_config().tie_word_embeddings = True
    model.config.tie_word_embeddings = True
    model.tie_weights()


def _difference(one: Any, other: Any) -> float:
    """Root mean square of the difference of two matrices, relative to that of the larger."""
    sums = [0.0, 0.0, 0.0]
    for a, b in zip(one.split(ROWS_AT_ONCE), other.split(ROWS_AT_ONCE), strict=True):
        a, b = a.float(), b.float()
        for place, part in enumerate((a - b, a, b)):
            sums[place] += float(part.square().sum())
    return math.sqrt(sums[0] / max(sums[1], sums[2], 1e-30))
