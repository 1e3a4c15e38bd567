"""Find and load a base model: a hub id, a local folder, a GGUF file, or the embedded one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.config import DType, ModelConfig, QuantConfig, QuantMode
from qc_experiments.errors import UserError
from qc_experiments.models import embedded
from qc_experiments.models.file_hashes import file_hash, files_hash, model_files
from qc_experiments.models.hub import hub_problem
from qc_experiments.models.hub_revision import hub_commit
from qc_experiments.models.stored_quantization import stored_quantization

log = logging.getLogger(__name__)

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "tokenizer_config.json",
)


@dataclass(frozen=True)
class ModelSource:
    """Where a model is loaded from.

    Attributes:
        name_or_path: hub id or folder, as transformers takes it.
        revision: hub revision, or None.
        gguf_file: name of a GGUF file in there, or None.
        label: short name for folders and tables.
        fingerprint: text that changes when the model does.
        trust_remote_code: whether its own code may run.
    """

    name_or_path: str
    revision: str | None
    gguf_file: str | None
    label: str
    fingerprint: str
    trust_remote_code: bool

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for ``from_pretrained``."""
        found: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self.revision is not None:
            found["revision"] = self.revision
        if self.gguf_file is not None:
            found["gguf_file"] = self.gguf_file
        if self.on_hub and hub_problem():
            found["local_files_only"] = True
        return found

    @property
    def on_hub(self) -> bool:
        """Whether the model is named by its hub id."""
        return self.fingerprint.startswith("hub:")


def model_source(config: ModelConfig, cache: Path, *, unpack: bool = True) -> ModelSource:
    """Resolve ``model.name_or_path``.

    Args:
        config: the model section.
        cache: folder of what is made once per user (the embedded model's weights).
        unpack: whether the embedded model is unpacked if it is not there yet; False where only
            label and fingerprint are wanted.

    Raises:
        UserError: if a local folder or file lacks what a model needs.
    """
    name, trust = config.name_or_path, config.trust_remote_code
    if name == "embedded":
        folder = str(embedded.embedded_model(cache)) if unpack else "embedded"
        return ModelSource(folder, None, None, "smollm2-135m", embedded.FINGERPRINT, trust)
    path = Path(name).expanduser()
    if path.suffix == ".gguf" or path.is_file():
        if not path.is_file():
            raise UserError(f"model.name_or_path={name}: no such GGUF file")
        print_of = f"{path.name}:{path.stat().st_size}:{file_hash(path, cache)[:16]}"
        return ModelSource(str(path.parent), None, path.name, path.stem, print_of, trust)
    if path.is_dir():
        _check_folder(path, config)
        files = model_files(path, config.gguf_file)
        print_of = f"folder:{files_hash(path, files, cache)[:16]}"
        return ModelSource(str(path), None, config.gguf_file, path.name, print_of, trust)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        if name.count("/") == 0 and not name.startswith((".", "~")):
            return _hub_source(config)  # such as gpt2
        raise UserError(f"model.name_or_path={name}: no such folder, and not a hub id (owner/name)")
    return _hub_source(config)


def _hub_source(config: ModelConfig) -> ModelSource:
    name = config.name_or_path
    revision = hub_commit(name, config.revision) or config.revision
    return ModelSource(
        name,
        revision,
        config.gguf_file,
        name.rpartition("/")[2],
        f"hub:{name}@{revision or 'default'}:{config.gguf_file or ''}",
        config.trust_remote_code,
    )


def _check_folder(path: Path, config: ModelConfig) -> None:
    if config.gguf_file is not None:
        if not (path / config.gguf_file).is_file():
            raise UserError(f"model.gguf_file={config.gguf_file}: not in {path}")
        return
    if not (path / "config.json").is_file():
        raise UserError(f"model.name_or_path={path}: the folder has no config.json, so no model")
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(
            f"model.name_or_path={path}: the folder has no tokenizer ({TOKENIZER_FILES[0]} or the "
            "like): save the tokenizer beside the model"
        )
    weights = [*path.glob("*.safetensors"), *path.glob("*.bin")]
    if not weights:
        raise UserError(f"model.name_or_path={path}: the folder has no weights (*.safetensors)")


def weights_hash(model: Any) -> str:
    """Hash of all weights of a loaded model, those of an adapter included.

    Args:
        model: the model, on any device.
    """
    import hashlib

    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy())
    return digest.hexdigest()


def load_tokenizer(source: ModelSource, pad_token: str | None) -> Any:
    """The model's tokenizer, padding on the right, with a pad token.

    Args:
        source: where the model is.
        pad_token: the token that fills up short rows; None takes the tokenizer's, else its end
            token.

    Raises:
        UserError: if there is none, or the pad token is not one of its tokens.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source.name_or_path, **source.arguments())
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise _load_error("tokenizer", source, error) from error
    tokenizer.padding_side = "right"
    if pad_token is not None:
        if pad_token not in tokenizer.get_vocab():
            raise UserError(f"model.pad_token={pad_token}: not a token of this model's tokenizer")
        tokenizer.pad_token = pad_token
    elif tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def model_window(source: ModelSource) -> int | None:
    """Longest input of the model in tokens, or None where its config does not say.

    Raises:
        UserError: if the model's config cannot be found.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.name_or_path, **source.arguments())
    except (OSError, ValueError, KeyError) as error:
        raise _load_error("config", source, error) from error
    window = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(window) if window else None


def _load_error(what: str, source: ModelSource, error: Exception) -> UserError:
    if source.on_hub and (problem := hub_problem()):
        return UserError(
            f"model.name_or_path={source.name_or_path}: its {what} is not in this machine's cache, and "
            f"the hub cannot be asked ({problem}): fetch it where there is a network, hf download "
            f"{source.name_or_path}, or name a folder that holds it"
        )
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"model.name_or_path={source.name_or_path}: its {what} cannot be loaded ({reason[:300]})"
    )


def training_device() -> Any:
    """The device of this process: its GPU where there is one, else the CPU."""
    from accelerate import PartialState

    # Unless told that it is on a CPU, accelerate lets each of several processes train alone there.
    return PartialState(cpu=only_cpu()).device


def only_cpu() -> bool:
    """Whether this machine has no accelerator that torch can use."""
    import torch

    return not (torch.cuda.is_available() or torch.backends.mps.is_available())


def torch_dtype(dtype: DType) -> Any:
    """The torch number format behind ``model.dtype``."""
    import torch

    if dtype is not DType.auto:
        return getattr(torch, dtype.value)
    if training_device().type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float32


def quantization_arguments(quant: QuantConfig, compute_dtype: Any) -> dict[str, Any]:
    """Keyword arguments for ``from_pretrained`` that store the base weights in 4 or 8 bits.

    Args:
        quant: mode and data type.
        compute_dtype: torch number format in which 4-bit weights are multiplied.
    """
    if quant.mode is QuantMode.none:
        return {}
    from transformers import BitsAndBytesConfig

    if quant.mode is QuantMode.int8:
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quant.quant_type,
            bnb_4bit_use_double_quant=quant.double_quant,
            bnb_4bit_compute_dtype=compute_dtype,
        )
    return {"quantization_config": settings, "device_map": {"": training_device()}}


def load_base_model(source: ModelSource, config: ModelConfig, quant: QuantConfig) -> Any:
    """The pretrained causal language model, on this process's device, not in training mode.

    Args:
        source: where it is.
        config: number format and attention kernel.
        quant: storage of its weights.

    Raises:
        UserError: if it cannot be found or is no causal language model.
    """
    from transformers import AutoModelForCausalLM

    dtype = torch_dtype(config.dtype)
    stored = stored_quantization(source)
    if stored is None:
        arguments = source.arguments() | quantization_arguments(quant, dtype)
    else:  # `check_quantization` has seen to it that nothing else is asked for
        arguments = source.arguments() | {"device_map": {"": training_device()}}
    if config.attn_implementation is not None:
        arguments["attn_implementation"] = config.attn_implementation
    try:
        model = AutoModelForCausalLM.from_pretrained(source.name_or_path, dtype=dtype, **arguments)
    except (OSError, ValueError, ImportError) as error:
        raise _load_error("weights", source, error) from error
    if source.gguf_file is not None and quant.mode is QuantMode.none:
        # The weights are unpacked, but transformers still calls the model quantized and refuses both
        # to train and to save it.
        model.is_quantized = False
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    if quant.mode is QuantMode.none and stored is None:
        model = model.to(training_device())
    for module in model.modules():
        # On CPUs with AVX512-BF16, bitsandbytes repacks a layer at its first evaluation for a kernel
        # that has no gradient; adapters trained afterwards would silently get none through it.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if stored is not None and hasattr(module, "compute_dtype"):
            module.compute_dtype = dtype  # the checkpoint's is that of the machine that made it
    return model.eval()
