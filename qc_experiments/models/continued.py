"""Whether a saved adapter is what a run that continues it asks for: it is trained as it is, not as asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import LoraConfig
from qc_experiments.errors import UserError
from qc_experiments.models.adapters import read_adapter_config

SETTINGS = {
    "r": ("lora.r", 8),
    "lora_alpha": ("lora.alpha", 8),
    "use_rslora": ("lora.use_rslora", False),
    "use_dora": ("lora.use_dora", False),
}
"""PEFT's names of what a run can ask for: our key, and PEFT's value where an old adapter says nothing."""
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
    "init_lora_weights": (
        True,
        False,
        "gaussian",
        "orthogonal",
        "eva",
    ),  # which leave the base as it is
    "bias": (None, "none"),
}


def check_adapter(folder: Path, config: LoraConfig) -> None:
    """Read a saved adapter's settings and compare them with what the run asks for.

    Raises:
        UserError: if there is none, or it differs, or has what a run cannot ask for.
    """
    saved = read_adapter_config(folder, f"model.adapter={folder}")
    defaults = _defaults()
    for key, value in saved.items():
        if key in SETTINGS or key in NO_PART:
            continue
        # A newer PEFT may write keys that this one does not know.
        if value and value not in ALLOWED.get(key, (defaults.get(key),)):
            raise UserError(
                f"model.adapter={folder}: its adapter_config.json has {key}={value}, which cannot be "
                "continued here: name a plain LoRA adapter"
            )
    asked = {
        "r": config.r,
        "lora_alpha": config.alpha,
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora,
    }
    has = {name: saved.get(name) or default for name, (_, default) in SETTINGS.items()}
    other = [name for name in SETTINGS if has[name] != asked[name]]
    if other:
        raise UserError(
            f"model.adapter={folder}: has {_listed(has, other)}, the run asks for "
            f"{_listed(asked, other)}: set "
            + " ".join(f"{SETTINGS[name][0]}={_shown(has[name])}" for name in other)
        )


def _defaults() -> dict[str, Any]:
    import peft

    return {f.name: f.default for f in fields(peft.LoraConfig) if f.default is not MISSING}


def check_same_layers(
    folder: Path,
    has: Collection[str],
    asked: Collection[str],
    options: Mapping[str, Collection[str]],
) -> None:
    """Compare the layers that a saved adapter has with those that the run asks for.

    Args:
        folder: the adapter.
        has: names of its layers.
        asked: names of those that the run's ``lora.target_modules`` means.
        options: what ``lora.target_modules`` may be called, with the layers that it means.

    Raises:
        UserError: if they are not the same.
    """
    if set(has) == set(asked):
        return
    lacks, more = sorted(set(asked) - set(has)), sorted(set(has) - set(asked))
    differences = [f"lacks {_some(lacks)}"] if lacks else []
    differences += [f"also has {_some(more)}"] if more else []
    fits = [name for name, layers in options.items() if set(layers) == set(has)]
    given = fits[0] if fits else f"[{','.join(sorted(has))}]"
    raise UserError(
        f"model.adapter={folder}: is on other layers than lora.target_modules asks for: it "
        f"{' and '.join(differences)}: set lora.target_modules={given}"
    )


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} such as {names[0]}"


def _listed(values: dict[str, Any], names: list[str]) -> str:
    named = [f"{SETTINGS[name][0].partition('.')[2]}={_shown(values[name])}" for name in names]
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
