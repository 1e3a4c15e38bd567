"""Put a LoRA adapter on a base model, fresh or saved, and save it so that plain PEFT loads it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import LORA_VARIANTS, LoraConfig
from qc_experiments.errors import UserError
from qc_experiments.models.adapters import load_adapter
from qc_experiments.system.words import nearest

ATTENTION = re.compile(r"attn|attention")


def attention_modules(model: Any) -> list[str]:
    """Names of the linear layers inside attention blocks, as LoRA's target modules.

    The last part of each name where that names attention layers only (q_proj, k_proj ...), else
    whole names (GPT-2 calls layers of both kinds c_proj).

    Raises:
        UserError: if the model has none that can be recognised.
    """
    inside: set[str] = set()
    outside: set[str] = set()
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or any(True for _ in module.children()):
            continue
        if "Linear" not in type(module).__name__ and "Conv1D" not in type(module).__name__:
            continue
        (inside if ATTENTION.search(name.rpartition(".")[0]) else outside).add(name)
    if not inside:
        raise UserError(
            "lora.target_modules=attention: no attention layers recognised in this model; use "
            "all-linear or a list of module names"
        )
    last = {name.rpartition(".")[2] for name in inside}
    if last & {name.rpartition(".")[2] for name in outside}:
        return sorted(inside)
    return sorted(last)


def add_adapter(model: Any, config: LoraConfig, *, gradient_checkpointing: bool) -> Any:
    """Wrap a base model so that only a fresh LoRA adapter is trained.

    Args:
        model: the base model; its weights are frozen (and, with an initialisation such as PiSSA,
            shifted by the adapter's start).
        config: rank, scaling, dropout, targets, initialisation.
        gradient_checkpointing: whether activations will be recomputed.

    Raises:
        UserError: if a target module does not exist in the model, or cannot be adapted.
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
    """A fresh adapter's settings as PEFT takes them.

    Raises:
        UserError: if a target module does not exist in the model.
    """
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
    layers = {
        name: len(module.weight.shape) > 1
        for name, module in model.named_modules()
        if getattr(module, "weight", None) is not None
    }
    matrices = [name for name, is_matrix in layers.items() if is_matrix]
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
    """Put an adapter on a model.

    Args:
        model: the base model; it is changed.
        settings: PEFT's.
        empty: whether the adapter has shapes, but no numbers.

    Raises:
        UserError: if PEFT refuses the settings.
    """
    import peft

    try:
        return peft.get_peft_model(model, settings, low_cpu_mem_usage=empty)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"lora: PEFT refuses these settings ({reason})") from error


def continue_adapter(
    model: Any, folder: Path, config: LoraConfig, *, gradient_checkpointing: bool
) -> Any:
    """Wrap a base model with a saved adapter that is trained further.

    Args:
        model: the base model.
        folder: the saved adapter; rank, scaling and targets are its own.
        config: what this run asks for; `check_adapter` has compared it with the adapter.
        gradient_checkpointing: whether activations will be recomputed.

    Raises:
        UserError: if the adapter is for another model.
    """
    model = _prepare(model, gradient_checkpointing)
    named = f"model.adapter={folder}"
    return load_adapter(model, folder, named, trainable=True, dropout=config.dropout)


def _prepare(model: Any, gradient_checkpointing: bool) -> Any:
    import peft

    if getattr(model, "is_quantized", False):  # by the run, or as its checkpoint stores it
        return peft.prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=gradient_checkpointing
        )
    if gradient_checkpointing:  # frozen embeddings give no gradient for checkpointing to follow
        model.enable_input_require_grads()
    return model


def save_adapter(model: Any, folder: Path, initial: Path | None = None) -> None:
    """Save an adapter so that plain PEFT loads it onto the unchanged base model.

    Args:
        model: the trained PEFT model.
        folder: where to.
        initial: the adapter as saved before training, for initialisations that shift the base
            weights: the difference is saved as a plain LoRA adapter of twice the rank.
    """
    for settings in model.peft_config.values():
        if isinstance(settings.target_modules, set):  # which is in another order in each process
            settings.target_modules = sorted(settings.target_modules)
    # Embeddings that are adapted are the base model's all the same.
    options: dict[str, Any] = {"save_embedding_layers": False}
    if initial is not None:
        options["path_initial_model_for_weight_conversion"] = str(initial)
    model.save_pretrained(str(folder), **options)
