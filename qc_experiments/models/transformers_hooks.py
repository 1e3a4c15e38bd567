"""Everything private of transformers that this package relies on, in one place, with plain names.

A new version of the library may lose any of it: `tests/models/test_transformers_hooks.py` names each.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import AttentionInterface, TrainingArguments
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

with redirect_stdout(io.StringIO()):  # on which it prints that WANDB_MODE is offline
    from transformers import Trainer


@dataclass(frozen=True)
class AttentionLayer:
    """How a layer attends."""

    scaling: float | None  # of the scores; None takes one over the root of the head size
    dropout: float  # share of attention that is dropped
    window: int | None  # number of latest tokens that a query sees, or None for all
    number: int  # tells the layers apart


Attend = Callable[[Tensor, Tensor, Tensor, AttentionLayer], Tensor]
"""Of query, key and value, each [1, heads, length, head size]; gives the same shape."""

PACKED = "qc_packed"  # what transformers calls attention that is computed by a function of ours
HOLDER = "qc_attend"  # attribute of a model's config that holds that function while it is in use


def attention_kernel(config: Any) -> str:
    """Name of the kernel by which a model computes attention."""
    return str(config._attn_implementation)


def is_recurrent(model: Any) -> bool:
    """Whether a model keeps a state instead of keys and values."""
    return bool(getattr(model, "_is_stateful", False))


def takes_other_attention(model: Any) -> bool:
    """Whether a model calls its attention through transformers' interface."""
    return bool(getattr(model, "_supports_attention_backend", False))


def loaded_with_adapter(model: Any) -> bool:
    """Whether ``from_pretrained`` has put an adapter on the model that it found beside it."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


@contextmanager
def attending(model: Any, attend: Attend) -> Iterator[None]:
    """Let a model compute its attention by a function, forward and backward."""
    AttentionInterface.register(PACKED, _attend)
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}
    before = [
        (c, c._attn_implementation) for c in configs.values() if hasattr(c, "_attn_implementation")
    ]
    try:
        for config, _ in before:
            setattr(config, HOLDER, attend)
            config._attn_implementation = PACKED
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name
            delattr(config, HOLDER)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it; returns [1, length, heads, head size]."""
    window = options.get("sliding_window", getattr(module, "sliding_window", None))
    attend: Attend = getattr(module.config, HOLDER)
    found = attend(query, key, value, AttentionLayer(scaling, dropout, window, id(module)))
    return found.transpose(1, 2).contiguous(), None


@dataclass(frozen=True)
class PlainLora:
    """One LoRA adapter on a linear layer: ``x W' + bias + scaling dropout(x) A' B'``."""

    weight: Tensor  # W, [out, in]
    bias: Tensor | None  # [out]
    a: Tensor  # A, [r, in]
    b: Tensor  # B, [out, r]
    scaling: float
    dropout: float  # share that is dropped now; 0 outside training


def plain_lora(layer: Any) -> PlainLora | None:
    """What a LoRA layer of PEFT computes, or None where that is more than plain LoRA with one adapter."""
    if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
        return None
    name: str = layer.active_adapters[0]
    if name not in layer.lora_A or name in layer.lora_variant or layer.lora_bias[name]:
        return None
    base, dropout = layer.get_base_layer(), layer.lora_dropout[name]
    if type(base) is not torch.nn.Linear:
        return None
    drops = isinstance(dropout, torch.nn.Dropout) and layer.training
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    rate = float(dropout.p) if drops else 0.0
    return PlainLora(base.weight, base.bias, a, b, layer.scaling[name], rate)


def has_llamas_mlp(module: torch.nn.Module) -> bool:
    """Whether a module computes what Llama's gated MLP computes, by the same code."""
    silu = isinstance(getattr(module, "act_fn", None), torch.nn.SiLU | SiLUActivation)
    return silu and _same_code(type(module), LlamaMLP)


def has_llamas_norm(module: torch.nn.Module) -> bool:
    """Whether a module computes what Llama's RMS norm computes, by the same code."""
    return _same_code(type(module), LlamaRMSNorm)


def _same_code(one: type, other: type) -> bool:
    return _forward_code(one) == _forward_code(other)


@cache
def _forward_code(kind: Any) -> str | None:
    if not kind.__module__.startswith("transformers."):
        return None
    try:
        return inspect.getsource(kind.forward)
    except (OSError, TypeError):
        return None


def with_one_device(arguments: TrainingArguments) -> TrainingArguments:
    """Have a process train on one device: the Trainer would share a batch among all the GPUs that it sees."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


class OpenTrainer(Trainer):
    """transformers' Trainer, with public methods where a subclass would have to override private ones."""

    loss_is_scaled_for_ga = True  # compute_loss divides by the labels of all accumulated batches

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        # The Trainer counts the labels of an effective batch only for models that take the count.
        self.model_accepts_loss_kwargs = True
        self.row_order: Sampler[int] | None = None  # in each epoch; None: the Trainer's own shuffle
        self.checkpoint_folder: Path | None = None  # in which one is being written

    def before_update(self, gradient_norm: float | None) -> None:
        """Called right before the weights are changed."""

    def write_checkpoint(self, write: Callable[[], None]) -> None:
        """Called for each checkpoint, with what writes it."""
        write()

    def load_weights(self, checkpoint: Path) -> None:
        """Take the weights of a checkpoint."""
        self._load_from_checkpoint(str(checkpoint))

    def load_best_weights(self) -> None:
        """Take the weights of the best checkpoint that the state names."""
        self._load_best_model()

    @property
    def since_logged(self) -> tuple[float, int]:
        """The loss summed since the last logging step, and that step."""
        return float(self._tr_loss), int(self._globalstep_last_logged)

    @since_logged.setter
    def since_logged(self, found: tuple[float, int]) -> None:
        loss, self._globalstep_last_logged = found
        self._tr_loss.fill_(loss)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.row_order or super()._get_train_sampler(train_dataset)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        found = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.before_update(None if found is None else float(found))
        return found

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.checkpoint_folder or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.write_checkpoint(lambda: super(OpenTrainer, self)._save_checkpoint(model, trial))
