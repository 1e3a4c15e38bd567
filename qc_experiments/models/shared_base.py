"""A base model that stays in memory between the jobs of a sweep, of which each gets a clean copy."""

from __future__ import annotations

import copy
from typing import Any

from qc_experiments.config.schema import (
    ModelConfig,
    QuantConfig,
    QuantMode,
    RunConfig,
    changes_base,
)
from qc_experiments.models.base import load_base_model
from qc_experiments.models.source import ModelSource
from qc_experiments.models.stored_quantization import stored_quantization


class KeptBaseModel:
    """Loads a base model once for all jobs that leave its weights as they are.

    A job gets modules of its own, which it may wrap, hook and change, around the same weights, which an
    adapter freezes; so nothing is copied but a few megabytes of Python objects. Jobs that change base
    weights (full fine-tuning, PiSSA) load their own.
    """

    def __init__(self) -> None:
        self._key: tuple[str, ModelConfig, QuantConfig] | None = None
        self._model: Any = None
        self._trainable: list[bool] = []

    def load(self, source: ModelSource, config: RunConfig) -> Any:
        """The base model of a run, as `load_base_model` returns it.

        Raises:
            UserError: if it cannot be loaded.
        """
        # bitsandbytes moves its 8-bit weights at their first use.
        stored = stored_quantization(source) or config.quant
        keeps = not changes_base(config.lora) and stored.mode is not QuantMode.int8
        key = (source.fingerprint, config.model, config.quant) if keeps else None
        if key != self._key:
            self._key = self._model = None  # two models may be more than the memory holds
        if not keeps:
            return load_base_model(source, config.model, config.quant)
        if self._model is None:
            self._model = load_base_model(source, config.model, config.quant)
            self._trainable = [p.requires_grad for p in self._model.parameters()]
            self._key = key
        for parameter, trainable in zip(self._model.parameters(), self._trainable, strict=True):
            parameter.requires_grad_(trainable)
        return _with_same_weights(self._model)


def _with_same_weights(model: Any) -> Any:
    """A copy of the modules around the same weights; quantized models get copies of what PEFT casts."""
    quantized = any(not p.is_floating_point() for p in model.parameters())
    shared = [p for p in model.parameters() if not (quantized and p.is_floating_point())]
    return copy.deepcopy(model, {id(parameter): parameter for parameter in shared})
