"""A model without its weights, made of its config alone: what can be known of an adapter before loading."""

from __future__ import annotations

from typing import Any

from qc_experiments.config.schema import LoraConfig, shifts_base
from qc_experiments.errors import UserError
from qc_experiments.models.base import ModelSource
from qc_experiments.models.lora import inject, lora_settings


def model_outline(source: ModelSource) -> Any:
    """The base model's modules, with the shapes of its weights but without their numbers.

    Args:
        source: where it is.

    Returns:
        The model on torch's meta device, or None where a model's own code cannot make it there.
    """
    import torch
    from transformers import AutoModelForCausalLM

    trust = source.trust_remote_code
    try:
        config = source.config()
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
    except Exception:
        return None  # loading says what is wrong, if anything is


def adapted_layers(source: ModelSource, settings: Any = None, config: Any = None) -> dict[str, Any]:
    """The layers that an adapter has in a model: their names, and the base model's layers.

    Args:
        source: where the base model is.
        settings: PEFT's, of a saved adapter, or None.
        config: the run's, where there are no settings.

    Raises:
        UserError: if the model has none of these layers, or PEFT refuses them.
    """
    outline = model_outline(source)
    if outline is None:
        return {}
    settings = settings or lora_settings(outline, config)
    settings.init_lora_weights = True  # the others compute with the numbers
    names = inject(outline, settings, empty=True).targeted_module_names
    return {name: outline.get_submodule(name).get_base_layer() for name in names}


def check_layers(config: LoraConfig, layers: dict[str, Any], outline: Any) -> list[str]:
    """Check that the adapter's start suits the layers that it is put on.

    Args:
        config: what the run asks for.
        layers: names and layers, as `adapted_layers` gives them.
        outline: the model that they are of.

    Returns:
        Lines about what the user should know.

    Raises:
        UserError: if the initialisation cannot be taken back from one of the layers when it is saved.
    """
    from torch import nn

    tied = outline.config.get_text_config().tie_word_embeddings
    ends = [n for n, m in outline.named_modules() if m in _ends(outline) and n in layers]
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


def _ends(outline: Any) -> tuple[Any, Any]:
    return outline.get_input_embeddings(), outline.get_output_embeddings()
