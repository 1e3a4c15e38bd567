"""Whether a saved adapter is what a run that continues it asks for: it is trained as it is, not as asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import LoraConfig
from qc_experiments.errors import UserError
from qc_experiments.models.adapters import read_adapter_config

SETTINGS = {"r": "r", "lora_alpha": "alpha", "use_rslora": "use_rslora", "use_dora": "use_dora"}
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


def _defaults() -> dict[str, Any]:
    import peft

    return {f.name: f.default for f in fields(peft.LoraConfig) if f.default is not MISSING}


def check_same_layers(
    folder: Path,
    has: Collection[str],
    asked: Collection[str],
    option: Callable[[str], Collection[str]],
) -> None:
    """Compare the layers that a saved adapter has with those that the run asks for.

    Args:
        folder: the adapter.
        has: names of its layers.
        asked: names of those that the run's ``lora.target_modules`` means.
        option: gives the layers that a word for ``lora.target_modules`` means.

    Raises:
        UserError: if they are not the same.
    """
    if set(has) == set(asked):
        return
    lacks, more = sorted(set(asked) - set(has)), sorted(set(has) - set(asked))
    differences = [f"lacks {_some(lacks)}"] if lacks else []
    differences += [f"also has {_some(more)}"] if more else []
    given = f"[{','.join(sorted(has))}]"
    for name in ("attention", "all-linear"):
        with suppress(UserError):  # a model whose attention layers are not recognised, say
            given = name if set(option(name)) == set(has) else given
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
