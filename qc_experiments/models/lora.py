"""LoRA adapters: put on a base model, fresh or saved, and saved so that plain PEFT loads them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import fields
from os.path import lexists
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import LORA_VARIANTS, LoraConfig
from qc_experiments.errors import UserError
from qc_experiments.models.device import GPU
from qc_experiments.models.files import (
    TOKENIZER_FILES,
    TRAINING,
    Spelling,
    load_errors,
    part_of_run,
    read_json,
    refuse_misfits,
    weight_files,
)
from qc_experiments.system.paths import folder_problem
from qc_experiments.system.words import nearest

CONFIG_FILE = "adapter_config.json"
RUNS_CODE = ("megatron_config", "runtime_config")  # modules that PEFT would import
ATTENTION = re.compile(r"attn|attention")


def attention_modules(model: Any) -> list[str]:
    """Names of the linear layers inside attention blocks, as LoRA's target modules.

    The last part of each name where that names attention layers only (q_proj, k_proj ...), else
    whole names (GPT-2 calls layers of both kinds c_proj).
    """
    layers = {
        name
        for name, module in model.named_modules()
        if re.search("Linear|Conv1D", type(module).__name__)
        and getattr(module, "weight", None) is not None
        and not any(True for _ in module.children())
    }
    inside = {name for name in layers if ATTENTION.search(name.rpartition(".")[0])}
    if not inside:
        raise UserError(
            "lora.target_modules=attention: no attention layers recognised in this model; use "
            "all-linear or a list of module names"
        )
    last = {name.rpartition(".")[2] for name in inside}
    shared = last & {name.rpartition(".")[2] for name in layers - inside}
    return sorted(inside if shared else last)


def add_adapter(model: Any, config: LoraConfig, *, gradient_checkpointing: bool) -> Any:
    """Wrap a base model so that only a fresh LoRA adapter is trained.

    With an initialisation such as PiSSA, the frozen weights are shifted by the adapter's start.
    """
    model = _prepare(model, gradient_checkpointing)
    adapted = inject(model, lora_settings(model, config))
    for name, module in adapted.get_base_model().named_modules():
        for magnitudes in getattr(module, "lora_magnitude_vector", {}).values():
            if not magnitudes.weight.all():
                raise UserError(
                    f"lora.use_dora: {name} has rows of zeros (such as that of a token for padding), by "
                    "whose norms DoRA divides: leave it out of lora.target_modules, or use lora=r16"
                )
    return adapted


def lora_settings(model: Any, config: LoraConfig) -> Any:
    """A fresh adapter's settings as PEFT takes them."""
    import peft

    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=config.r,
        lora_alpha=config.alpha if config.alpha != int(config.alpha) else int(config.alpha),
        lora_dropout=config.dropout,
        target_modules=_target_modules(model, config.target_modules),
        **{key: getattr(config, key) for key in LORA_VARIANTS},
        init_lora_weights=True if config.init == "default" else config.init,
    )


def _target_modules(model: Any, targets: Any) -> str | list[str]:
    if targets == "attention":
        return attention_modules(model)
    if targets == "all-linear":
        return "all-linear"
    weights = {name: getattr(module, "weight", None) for name, module in model.named_modules()}
    matrices = [name for name, weight in weights.items() if weight is not None and weight.ndim > 1]
    known = list(dict.fromkeys(name.rpartition(".")[2] for name in matrices))
    for target in targets:
        # PEFT passes over a name that is in no layer, as long as another one is.
        if not any(f".{name}".endswith(f".{target}") for name in matrices):
            hint = nearest(target, [*known, *matrices])
            raise UserError(
                f"lora.target_modules: the model has no layer {target}{hint}; it has {', '.join(known)}"
            )
    return list(targets)


def inject(model: Any, settings: Any, *, empty: bool = False) -> Any:
    """Put an adapter with PEFT's settings on a model; an ``empty`` one has shapes, but no numbers."""
    import peft

    try:
        return peft.get_peft_model(model, settings, low_cpu_mem_usage=empty)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"lora: PEFT refuses these settings ({reason})") from error


def continue_adapter(
    model: Any, folder: Path, config: LoraConfig, *, gradient_checkpointing: bool
) -> Any:
    """Wrap a base model with a saved adapter that is trained further, with this run's dropout."""
    model = _prepare(model, gradient_checkpointing)
    named = f"model.adapter={folder}"
    return load_adapter(model, folder, named, trainable=True, dropout=config.dropout)


def _prepare(model: Any, gradient_checkpointing: bool) -> Any:
    import peft

    if getattr(model, "is_quantized", False):  # by the run, or as its checkpoint stores it
        ends = [model.get_input_embeddings(), model.get_output_embeddings()]
        loaded = [(end, end.weight.dtype) for end in ends if end is not None]
        model = peft.prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=gradient_checkpointing
        )
        if model.device.type == GPU:
            as_loaded(loaded)
        return model
    if gradient_checkpointing:  # frozen embeddings give no gradient for checkpointing to follow
        model.enable_input_require_grads()
    return model


def as_loaded(ends: Sequence[tuple[Any, Any]]) -> None:
    """Give embeddings and head the number format again that they were loaded in.

    PEFT turns them into float32, as all that is not quantized, which for a vocabulary of 150 thousand costs
    gigabytes, and on a GPU the head's products most of their speed; they are frozen.
    """
    for end, dtype in ends:
        if end.weight.is_floating_point():
            end.to(dtype)


def save_adapter(model: Any, folder: Path, initial: Path | None = None) -> None:
    """Save an adapter so that plain PEFT loads it onto the unchanged base model.

    For initialisations that shift the base weights, the difference from the ``initial`` adapter, as saved
    before training, is saved as a plain LoRA adapter of twice the rank.
    """
    for settings in model.peft_config.values():
        if isinstance(settings.target_modules, set):  # which is in another order in each process
            settings.target_modules = sorted(settings.target_modules)
    model.save_pretrained(
        str(folder),
        save_embedding_layers=False,  # where they are adapted, they are the base model's all the same
        path_initial_model_for_weight_conversion=None if initial is None else str(initial),
    )


def read_adapter_config(folder: Path, named: str) -> dict[str, Any]:
    """A saved LoRA adapter's settings, checked."""
    file = folder / CONFIG_FILE
    if not lexists(file):
        advice = part_of_run(folder, ("adapter",), "name a run's adapter/")
        raise UserError(f"{named}: holds no {CONFIG_FILE}; {advice}")
    saved = read_json(file)
    if saved.get("peft_type") != "LORA":
        raise UserError(f"{named}: is a {saved.get('peft_type')} adapter, not LoRA")
    rank, alpha = saved.setdefault("r", 8), saved.setdefault("lora_alpha", 8)  # as PEFT has them
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise UserError(f"{file}: r={json.dumps(rank)} must be a whole number of at least 1")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise UserError(f"{file}: lora_alpha={json.dumps(alpha)} must be a number")
    for key in RUNS_CODE:
        if saved.get(key) is not None:
            raise UserError(f"{file}: {key} must be null: it would load code that the file names")
    return saved


def check_adapter_files(
    folder: Path, named: str, allow_pickle: bool, spelling: Spelling = TRAINING
) -> None:
    """Check that a saved adapter's files are there and whole; it is ``named`` as the user named it."""
    import peft

    problem = folder_problem(folder)
    if problem is not None:
        raise UserError(f"{named}: {problem}; name a run's adapter/")
    saved = read_adapter_config(folder, named)
    known = {field.name for field in fields(peft.LoraConfig)}
    # PEFT would leave them out with no more than a warning.
    foreign = sorted(key for key, value in saved.items() if key not in known and value)
    if foreign:
        raise UserError(
            f"{folder / CONFIG_FILE}: PEFT {peft.__version__} does not know {', '.join(foreign)}: take the "
            f"PEFT that saved the adapter ({saved.get('peft_version') or 'a newer one'})"
        )
    weight_files(folder, "adapter_model", allow_pickle, spelling)


def load_adapter(
    model: Any, folder: Path, named: str, *, trainable: bool, dropout: float = 0.0
) -> Any:
    """Put a saved adapter on a base model.

    `check_adapter_files` has checked its files. The dropout of its training is no part of its weights.
    """
    import peft

    with load_errors(f"{named}: the adapter", folder):
        settings = peft.LoraConfig.from_pretrained(str(folder))
        settings.inference_mode, settings.lora_dropout = not trainable, dropout
        wrapped = peft.PeftModelForCausalLM(model, settings)
        # PeftModel.from_pretrained does the same, but keeps to itself what did not fit.
        report = wrapped.load_adapter(str(folder), "default", is_trainable=trainable)
    missing, unexpected = (
        {name.replace(".default", "").replace("base_model.model.", "", 1) for name in names}
        for names in (report.missing_keys, report.unexpected_keys)
    )
    what = f"{named}: its weights are not those that it needs on this model"
    advice = "it was made for another base model, or with other settings than its adapter_config.json has"
    refuse_misfits(what, missing, unexpected, (), advice)
    return wrapped


def saved_tokenizer(folder: Path, trust_remote_code: bool, spelling: Spelling) -> Any:
    """The tokenizer that was saved beside an adapter."""
    from transformers import AutoTokenizer

    if not any(lexists(folder / name) for name in TOKENIZER_FILES):
        raise UserError(
            f"{folder}: has no tokenizer ({TOKENIZER_FILES[0]} or the like): copy it again"
        )
    with load_errors(f"{folder}: the tokenizer", folder, spelling):
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
