"""A run's adapter folded into the weights of its base model: W + alpha / r * B A, as PEFT merges it.

An adapter that was trained on weights rounded to 4 or 8 bits goes into the full weights that these were
made from, where the base model still has them; it was not trained on them, and judging it again shows what
that costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os.path import lexists
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import DType, QuantMode
from qc_experiments.errors import UserError
from qc_experiments.models.base import NoRoomForWeightsError
from qc_experiments.models.lora import CONFIG_FILE
from qc_experiments.models.saved import SavedPrompting, load_saved
from qc_experiments.system.memory import out_of_memory


@dataclass(frozen=True)
class Merged:
    """A whole model in float32, and all that is needed to ask it."""

    model: Any
    tokenizer: Any
    saved: SavedPrompting
    note: str  # on weights that are not those of the training; often empty


def merged(folder: Path, cache: Path, base_model: str | None, allowed: Mapping[str, Any]) -> Merged:
    """Load what a run has saved and fold its adapter in, on the CPU: the memory of a GPU is often smaller.

    Args:
        folder: ``adapter/`` or ``model/`` of a run.
        cache: where GGUF files are unpacked.
        base_model: where the base model is now, if it was moved.
        allowed: ``trust_remote_code`` and ``allow_pickle``, as `load_saved` takes them.

    Raises:
        UserError: if the base model is missing or another one, or there is no room for it.
    """
    saved = SavedPrompting.load(folder)
    whole = DType.float32
    try:
        tokenizer, model, _ = load_saved(folder, cache, base_model, stored_as=whole, **allowed)
        if lexists(folder / CONFIG_FILE):
            model = _folded(model)
    except (MemoryError, RuntimeError, NoRoomForWeightsError) as error:
        if not (isinstance(error, NoRoomForWeightsError) or out_of_memory(error)):
            raise
        raise UserError(
            f"{folder}: memory ran out while its adapter was merged in float32: take a machine with more, or "
            "--format adapter"
        ) from error
    return Merged(model.eval(), tokenizer, saved, _note(saved, model))


def _folded(model: Any) -> Any:
    base = model.get_base_model()
    ends = (base.get_input_embeddings(), base.get_output_embeddings())
    if any(hasattr(end, "base_layer") for end in ends):
        _untie(model)
    return model.merge_and_unload(safe_merge=True)


def _untie(model: Any) -> None:
    """Give embedding and output layer weights of their own: an adapter of one must not change the other."""
    import torch

    base = model.get_base_model()
    embedding, head = (
        getattr(end, "base_layer", end)
        for end in (base.get_input_embeddings(), base.get_output_embeddings())
    )
    if head is not None and head.weight is embedding.weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        base.config.tie_word_embeddings = False
        base.config.get_text_config().tie_word_embeddings = False


def _note(saved: SavedPrompting, model: Any) -> str:
    if getattr(model, "was_dequantized", False):
        return "the base model is stored in few bits; its weights were taken as these stand for"
    if saved.quant.mode is not QuantMode.none:
        return (
            f"trained on weights in {saved.quant.mode.value}, merged into the full weights that these were "
            "made from"
        )
    return ""
