"""What can be known of an adapter before any weights are loaded: its settings, and the layers it is on."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import fields, replace
from os.path import lexists
from pathlib import Path
from typing import Any

import peft
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from qc_experiments.config.schema import LORA_VARIANTS, LoraConfig, shifts_base
from qc_experiments.data.encode import Encoder
from qc_experiments.errors import UserError
from qc_experiments.models.files import load_errors
from qc_experiments.models.fingerprint import base_model_fingerprint
from qc_experiments.models.lora import inject, lora_settings, read_adapter_config
from qc_experiments.models.saved import PROMPTING_FILE, TEMPLATE_FILE, SavedPrompting
from qc_experiments.models.source import ModelSource

SETTINGS = {"r": "r", "lora_alpha": "alpha", **{key: key for key in reversed(LORA_VARIANTS)}}
"""What a run can ask for: PEFT's names, and ours below ``lora``."""
NO_PART = {
    *("peft_type", "peft_version", "base_model_name_or_path", "revision", "inference_mode"),
    *("auto_mapping", "runtime_config", "lora_dropout", "fan_in_fan_out", "megatron_core"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config"),  # of the initialisation
    # Which layers it has is compared as a whole.
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
}
"""What changes nothing in how a loaded adapter is trained, or is compared otherwise."""
ALLOWED = {
    "task_type": (None, "CAUSAL_LM"),
    # These leave the base as it is.
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
    "bias": (None, "none"),
}


def check_adapter(folder: Path, config: LoraConfig) -> None:
    """Read a saved adapter's settings and refuse those that the run does not ask for."""
    saved = read_adapter_config(folder, f"model.adapter={folder}")
    defaults = {f.name: f.default for f in fields(peft.LoraConfig)}
    for key, value in saved.items():
        if key in SETTINGS or key in NO_PART:
            continue
        # A newer PEFT may write keys that this one does not know.
        if value and value not in ALLOWED.get(key, (defaults.get(key),)):
            raise UserError(
                f"model.adapter={folder}: its adapter_config.json has {key}={value}, which cannot be "
                "continued here: name a plain LoRA adapter"
            )
    asked = {key: getattr(config, key) for key in SETTINGS.values()}
    has = {key: saved[name] for name, key in SETTINGS.items() if saved.get(name) is not None}
    has = dict.fromkeys(asked, False) | has  # old adapters know neither rsLoRA nor DoRA
    other = [key for key in asked if has[key] != asked[key]]
    if other:
        raise UserError(
            f"model.adapter={folder}: has {_listed(has, other)}, the run asks for "
            f"{_listed(asked, other)}: set "
            + " ".join(f"lora.{key}={_shown(has[key])}" for key in other)
        )


def trained_otherwise(folder: Path, encoder: Encoder, source: ModelSource) -> list[str]:
    """Lines on how a run asks an adapter otherwise than it was trained before, or on another base model."""
    if not lexists(folder / PROMPTING_FILE):  # no run has saved it
        return []
    named = f"model.adapter={folder}"
    try:
        saved = SavedPrompting.load(folder)
        here = None if saved.base is None else base_model_fingerprint(source)
    except UserError as error:
        return [f"{named}: it is not known how it was trained ({error})"]
    template, file = encoder.template, folder / TEMPLATE_FILE
    lines = []
    if saved.template.text != template.text:
        lines.append(
            f"{named}: was trained with the template {file}, this run has {template.source}: "
            f"data.template={file} keeps the first"
        )
    if saved.wrap is not encoder.wrap:
        lines.append(
            f"{named}: was trained with data.wrap={saved.wrap.value}, this run has "
            f"data.wrap={encoder.wrap.value}"
        )
    if saved.base is not None and here is not None and (other := saved.base.difference(here)):
        lines.append(f"{named}: was trained on another base model than {source.named}: {other}")
    return lines


def check_same_layers(
    folder: Path, source: ModelSource, config: LoraConfig, asked: Collection[str]
) -> None:
    """Refuse a saved adapter that is on other layers than the run asks for."""
    try:
        with load_errors("the adapter", folder):
            has = set(adapted_layers(source, peft.PeftConfig.from_pretrained(str(folder))))
    except UserError as error:
        raise UserError(f"model.adapter={folder}: does not fit this model ({error})") from None
    if has == set(asked):
        return
    lacks, more = sorted(set(asked) - has), sorted(has - set(asked))
    differences = [f"lacks {_some(lacks)}"] if lacks else []
    differences += [f"also has {_some(more)}"] if more else []
    given = f"[{','.join(sorted(has))}]"
    for name in ("attention", "all-linear"):
        with suppress(UserError):  # a model whose attention layers are not recognised, say
            if set(adapted_layers(source, replace(config, target_modules=name))) == has:
                given = name
    raise UserError(
        f"model.adapter={folder}: is on other layers than lora.target_modules asks for: it "
        f"{' and '.join(differences)}: set lora.target_modules={given}"
    )


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} such as {names[0]}"


def _listed(values: dict[str, Any], names: list[str]) -> str:
    named = [f"{name}={_shown(values[name])}" for name in names]
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def model_outline(source: ModelSource) -> Any:
    """The base model on torch's meta device; None where a model's own code cannot make it there."""
    try:
        config, trust = source.config(), source.trust_remote_code
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
    except Exception:
        return None  # loading says what is wrong, if anything is


def adapted_layers(source: ModelSource, asked: Any) -> dict[str, Any]:
    """The base model's layers, by name, under an adapter as a config's ``lora`` or PEFT's settings ask."""
    outline = model_outline(source)
    if outline is None:
        return {}
    settings = lora_settings(outline, asked) if isinstance(asked, LoraConfig) else asked
    settings.init_lora_weights = True  # the others compute with the numbers
    names = inject(outline, settings, empty=True).targeted_module_names
    return {name: outline.get_submodule(name).get_base_layer() for name in names}


def check_layers(config: LoraConfig, layers: dict[str, Any], outline: Any) -> list[str]:
    """Refuse layers from which the adapter's start cannot be taken back; gives lines for the user."""
    tied = outline.config.get_text_config().tie_word_embeddings
    both = (outline.get_input_embeddings(), outline.get_output_embeddings())
    ends = [n for n, m in outline.named_modules() if m in both and n in layers]
    embeddings = [name for name, layer in layers.items() if isinstance(layer, nn.Embedding)]
    for name, layer in layers.items() if shifts_base(config) else ():
        width = min(layer.weight.shape)
        if name in embeddings or (tied and name in ends):
            raise UserError(
                f"lora.init={config.init} cannot be used with {name}, an embedding or tied to one: use "
                "lora.init=default, or leave it out of lora.target_modules"
            )
        if config.init == "olora" and not isinstance(layer, nn.Linear):
            raise UserError(
                f"lora.init=olora cannot be used with {name}, a {type(layer).__name__}: use lora.init="
                "pissa or default"
            )
        if config.r > width:
            smallest = min(min(other.weight.shape) for other in layers.values())
            raise UserError(
                f"lora.r={config.r} is more than {name} is wide ({width}), which lora.init={config.init} "
                f"cannot do: set lora.r={smallest} or less, or lora.init=default"
            )
    if tied and ends:
        return [
            "lora.target_modules: embedding and output layer share their weights, and the adapter has an "
            f"update of its own for {' and '.join(ends)}: do not merge it into the base model"
        ]
    return []
