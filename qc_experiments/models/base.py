"""Find and load a base model: a hub id, a local folder, a GGUF file, or a packaged one."""

from __future__ import annotations

import copy
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import (
    ModelConfig,
    QuantConfig,
    QuantMode,
    RunConfig,
    changes_base,
)
from qc_experiments.errors import UserError
from qc_experiments.models import gguf, packaged
from qc_experiments.models.device import GPU, to_train, torch_dtype, training_device
from qc_experiments.models.files import (
    TRAINING,
    Spelling,
    check_loaded,
    check_model_folder,
    check_names,
    weight_files,
)
from qc_experiments.models.fingerprint import file_hash, files_hash, model_files
from qc_experiments.models.source import ModelSource, hub_commit
from qc_experiments.models.stored_quantization import stored_quantization
from qc_experiments.system.memory import out_of_memory
from qc_experiments.system.paths import NO_SUCH_FILE, file_problem, folder_problem, user_path

HUB_ID = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")


def model_source(
    config: ModelConfig, cache: Path, *, unpack: bool = True, spelling: Spelling = TRAINING
) -> ModelSource:
    """Resolve ``model.name_or_path``.

    A GGUF file is converted into ``cache``, once per user, unless only label and fingerprint are wanted.
    """
    named = f"{spelling.model}{config.name_or_path}"
    try:
        source = replace(
            _found(config, cache, named, spelling),
            trust_remote_code=config.trust_remote_code,
            allow_pickle=config.allow_pickle,
            named=named,
            spelling=spelling,
        )
        return _converted(source, config, cache) if unpack and source.gguf_file else source
    except OSError as error:
        raise UserError(f"{named}: cannot be read ({error.strerror})") from None


def _found(config: ModelConfig, cache: Path, named: str, spelling: Spelling) -> ModelSource:
    name = config.name_or_path
    if (model := packaged.packaged_model(name)) is not None:
        return ModelSource(
            name,
            gguf_file=model.file_name,
            label=model.name,
            fingerprint=model.fingerprint,
            gguf_hash=model.sha256,
        )
    if not name.strip():
        raise UserError(f"{named}: is empty; give a folder, a GGUF file or a hub id")
    path = user_path(name, "model.name_or_path")
    if path.suffix == ".gguf" or os.path.isfile(path):
        if problem := file_problem(path):
            what = "no such GGUF file" if problem == NO_SUCH_FILE else problem
            raise UserError(f"{named}: {what} (looked at {path.absolute()}){spelling.moved}")
        content = file_hash(path, cache)
        return ModelSource(
            str(path.parent),
            gguf_file=path.name,
            label=path.stem,
            fingerprint=f"{path.name}:{path.stat().st_size}:{content[:16]}",
            gguf_hash=content,
        )
    if os.path.isdir(path):
        check_model_folder(path, config, named, spelling)
        content = files_hash(path, model_files(path, config.gguf_file), cache)
        fingerprint = f"folder:{content[:16]}"
        return ModelSource(
            str(path), gguf_file=config.gguf_file, label=path.name, fingerprint=fingerprint
        )
    if not HUB_ID.fullmatch(name):
        raise UserError(
            f"{named}: {folder_problem(path)} (looked at {path.absolute()}), and not a hub id "
            f"(owner/name){spelling.moved}"
        )
    revision = hub_commit(name, config.revision) or config.revision
    return ModelSource(
        name,
        revision=revision,
        gguf_file=config.gguf_file,
        label=name.rpartition("/")[2],
        fingerprint=f"hub:{name}@{revision or 'default'}:{config.gguf_file or ''}",
    )


def _converted(source: ModelSource, config: ModelConfig, cache: Path) -> ModelSource:
    """A source that is a GGUF file, as the folder into which it is converted once per user."""
    assert source.gguf_file is not None
    path = Path(source.name_or_path) / source.gguf_file
    if (model := packaged.packaged_model(source.name_or_path)) is not None:
        path = packaged.gguf_file(model, cache)
    elif not Path(source.name_or_path).is_dir():
        from transformers.utils.hub import cached_file

        arguments = source.arguments()
        del arguments["trust_remote_code"]
        with source.loading("GGUF file"):
            path = Path(cached_file(source.name_or_path, source.gguf_file, **arguments))
    content = source.gguf_hash or file_hash(path, cache)
    folder = gguf.converted(path, content, torch_dtype(config.dtype), cache, source.named)
    return replace(source, name_or_path=str(folder), revision=None, gguf_hash=content)


def weights_hash(model: Any) -> str:
    """Hash of all weights of a loaded model, those of an adapter included."""
    import hashlib

    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy())
    return digest.hexdigest()


def silence_transformers() -> None:
    """Leave the terminal to our own messages."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def load_tokenizer(source: ModelSource, pad_token: str | None) -> Any:
    """The model's tokenizer, padding on the right, with a pad token.

    Where ``pad_token`` is None, that is the tokenizer's own, else its end token.
    """
    from transformers import AutoTokenizer

    with source.loading("tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(source.name_or_path, **source.arguments())
    tokenizer.padding_side = "right"
    if pad_token is not None:
        if pad_token not in tokenizer.get_vocab():
            raise UserError(f"model.pad_token={pad_token}: not a token of this model's tokenizer")
        tokenizer.pad_token = pad_token
    elif tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def model_window(source: ModelSource) -> int | None:
    """Longest input of the model in tokens, or None where its config does not say."""
    window = getattr(source.config().get_text_config(), "max_position_embeddings", None)
    return int(window) if window else None


def attention_widths(config: Any) -> tuple[int, int]:
    """Numbers of a token's queries in a layer, and of its keys (or values), by a model's config.

    Raises:
        AttributeError: if it is no model with attention, as a recurrent one is not.
    """
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads * size, (getattr(config, "num_key_value_heads", None) or heads) * size


def _quantization_arguments(quant: QuantConfig, compute_dtype: Any) -> dict[str, Any]:
    """Keyword arguments for ``from_pretrained`` that store the base weights in 4 or 8 bits."""
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
    return {"quantization_config": settings}


def _check_kernels(source: ModelSource) -> None:
    """Refuse a config that has attention computed by code which transformers would fetch from the hub."""
    from qc_experiments.models.transformers_hooks import attention_kernel

    config = source.config()
    for part in (config, config.get_text_config()):
        kernel = attention_kernel(part)
        if "/" in kernel and not source.trust_remote_code:
            raise UserError(
                f"{source.named}: its config.json names code of the hub for attention ({kernel}): remove "
                f"that line, or allow it with {source.spelling.trust_remote_code}"
            )


class NoRoomForWeightsError(UserError):
    """A model's weights do not fit into memory, whatever is computed with them."""


def load_base_model(
    source: ModelSource, config: ModelConfig, quant: QuantConfig, *, on_cpu: bool = False
) -> Any:
    """The pretrained causal language model, on this process's device or the CPU, not in training mode.

    Its weights have to be those that its config asks for, one by one.
    """
    try:
        return _loaded(source, config, quant, on_cpu=on_cpu)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        smaller = ["a smaller model"]
        if quant.mode is QuantMode.none:
            smaller.append("quant=4bit")
            if torch_dtype(config.dtype).itemsize > 2:
                smaller.append("model.dtype=bfloat16")
        if source.spelling != TRAINING:  # what was trained is loaded as it is
            smaller = ["a machine with more"]
        raise NoRoomForWeightsError(
            f"{source.named}: memory ran out while its weights were loaded, before anything was computed: "
            f"take {', or '.join(smaller)}"
        ) from error


def _loaded(source: ModelSource, config: ModelConfig, quant: QuantConfig, *, on_cpu: bool) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    from qc_experiments.models.transformers_hooks import loaded_with_adapter

    dtype = torch_dtype(config.dtype)
    arguments = source.arguments()
    if config.attn_implementation is None:
        _check_kernels(source)
    else:
        arguments["attn_implementation"] = config.attn_implementation
    stored = stored_quantization(source)
    device = torch.device("cpu") if on_cpu else training_device()
    if stored is None:  # else `check_quantization` has seen to it that nothing else is asked for
        arguments |= _quantization_arguments(quant, dtype)
    if stored is not None or quant.mode is not QuantMode.none or device.type == GPU:
        arguments["device_map"] = {"": device}  # read straight to where they are computed
    if not source.allow_pickle:
        arguments["use_safetensors"] = True
    with source.loading("weights"):
        try:
            model, report = AutoModelForCausalLM.from_pretrained(
                source.name_or_path,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **arguments,
            )
        except NotImplementedError:  # random numbers for quantized weights that are missing
            folder, stored_config = source.folder(), source.config()
            if folder is not None and hasattr(stored_config, "quantization_config"):
                del stored_config.quantization_config
                files = weight_files(folder, "model", source.allow_pickle, source.spelling)
                check_names(files, stored_config, source.named)
            raise
    if loaded_with_adapter(model):
        raise UserError(
            f"{source.named}: holds an adapter beside the model, which would be loaded with it: name the "
            "base model alone"
        )
    check_loaded(report, source.named)
    if quant.mode is QuantMode.none and stored is None:
        model = model.to(device)
    for module in model.modules():
        # On CPUs with AVX512-BF16, bitsandbytes repacks a layer at its first evaluation for a kernel
        # that has no gradient; adapters trained afterwards would silently get none through it.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if stored is not None and hasattr(module, "compute_dtype"):
            module.compute_dtype = dtype  # the checkpoint's is that of the machine that made it
    # Beams and penalties of its publisher are not what a run asks for, and transformers refuses to save
    # some of them.
    tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
    kept = {name: getattr(model.generation_config, name) for name in tokens}
    model.generation_config = GenerationConfig(**kept)
    return model.eval()


class KeptBaseModel:
    """Loads a base model once for all jobs of a sweep that leave its weights as they are.

    A job gets modules of its own, which it may wrap, hook and change, around the same weights, which an
    adapter freezes; so nothing is copied but a few megabytes of Python objects. Jobs that change base
    weights (full fine-tuning, PiSSA) load their own.
    """

    def __init__(self) -> None:
        self._key: tuple[str, ModelConfig, QuantConfig] | None = None
        self._model: Any = None
        self._trainable: list[bool] = []

    def load(self, source: ModelSource, config: RunConfig) -> Any:
        """The base model of a run, as `load_base_model` returns it."""
        # bitsandbytes moves its 8-bit weights at their first use.
        stored = stored_quantization(source) or config.quant
        keeps = not changes_base(config.lora) and stored.mode is not QuantMode.int8
        key = (source.fingerprint, config.model, config.quant) if keeps else None
        if key != self._key:
            self._key = self._model = None  # two models may be more than the memory holds
        if self._model is None:
            model = load_base_model(source, to_train(config), config.quant)
            if not keeps:
                return model
            self._key, self._model = key, model
            self._trainable = [p.requires_grad for p in model.parameters()]
        for parameter, trainable in zip(self._model.parameters(), self._trainable, strict=True):
            parameter.requires_grad_(trainable)
        # Quantized models get copies of what PEFT casts.
        quantized = any(not p.is_floating_point() for p in self._model.parameters())
        shared = [p for p in self._model.parameters() if not (quantized and p.is_floating_point())]
        return copy.deepcopy(self._model, {id(parameter): parameter for parameter in shared})
