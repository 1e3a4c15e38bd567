"""The device of this process, and the number formats in which a model is stored and computed there."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qc_experiments.config.model import auto_is_bfloat16, changes_base
from qc_experiments.config.schema import (
    DType,
    LoraConfig,
    ModelConfig,
    PackAttention,
    QuantConfig,
    RunConfig,
)
from qc_experiments.errors import UserError
from qc_experiments.system.processes import cpu_multiplies_bfloat16

GPU = "cuda"
DEVICES = Path("/dev")
GPUS = ("nvidia[0-9]*", "kfd", "dxg")
"""What Linux has there for NVIDIA's cards, for AMD's, and for either within Windows."""


def training_device() -> Any:
    """The device of this process: its GPU where there is one, else the CPU."""
    from accelerate import PartialState

    # Unless told that it is on a CPU, accelerate lets each of several processes train alone there.
    device = PartialState(cpu=only_cpu()).device
    prepare(device)
    return device


def prepare(device: Any) -> None:
    """Have attention on a GPU computed by kernels that take any length.

    cuDNN's, which torch would take first on an H100 or B200, makes a plan for each new shape of its input
    (tens of milliseconds as others report), and here nearly every block and every token has a new one.
    """
    import torch

    if device.type == GPU:
        torch.backends.cuda.enable_cudnn_sdp(False)


def set_determinism(wanted: bool) -> None:
    """Have a GPU compute the same to the last bit each time, which is slower; a CPU does so anyway.

    ``wanted`` may be false, for a job after one in the same process that wanted it.
    """
    import torch

    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cuBLAS asks for it
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.deterministic = wanted


def only_cpu() -> bool:
    """Whether this machine has no accelerator that torch can use."""
    import torch

    return not (torch.cuda.is_available() or torch.backends.mps.is_available())


def to_train(config: RunConfig) -> ModelConfig:
    """The model section, with the number format in which this run's base weights are stored here."""
    return as_trained(config.model, config.lora, config.quant)


def as_trained(model: ModelConfig, lora: LoraConfig, quant: QuantConfig) -> ModelConfig:
    """A model section, with the number format in which weights are stored here that are trained so.

    They are measured and asked in it, too. Weights that change are stored in float32: of what a step adds
    to a weight in 16 bits, much is lost in rounding (measured: of weights about 0.02, 44 % had not moved
    after 20 steps at 5e-5). ``model.dtype`` says then in what they are multiplied (`precision_of`).
    """
    if lora.enabled and model.dtype is not DType.auto:
        return model
    if changes_base(lora):
        return replace(model, dtype=DType.float32)
    if training_device().type != "cpu":
        return model
    fast = auto_is_bfloat16(lora, quant)
    return replace(model, dtype=DType.bfloat16 if fast else DType.float32)


def check_device(config: RunConfig, kind: str) -> None:
    """Refuse what a kind of device (cpu, cuda) cannot compute."""
    if kind == GPU:
        return
    if not config.lora.enabled and config.model.dtype is DType.float16:
        raise UserError(
            "model.dtype=float16 with lora=none: only a GPU has mixed precision in float16; take "
            "model.dtype=bfloat16 or float32"
        )
    if config.collator.attention is PackAttention.flex:
        raise UserError(
            "collator.attention=flex: is for GPUs, elsewhere torch computes it forwards only; take "
            "collator.attention=blocks"
        )


def format_on_gpu() -> str | None:
    """What ``model.dtype=auto`` means on this process's GPU; None where there is none.

    Torch, which takes seconds to import, is asked only where the system shows a GPU.
    """
    if not any(any(DEVICES.glob(name)) for name in GPUS) or training_device().type != GPU:
        return None
    return str(torch_dtype(DType.auto)).removeprefix("torch.")


def torch_dtype(dtype: DType) -> Any:
    """The torch number format that ``model.dtype`` names."""
    import torch

    if dtype is not DType.auto:
        return getattr(torch, dtype.value)
    if training_device().type == GPU:
        # Older cards emulate bfloat16, without the kernels for attention that make it worth its while.
        has_units = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_units else torch.float16
    return torch.bfloat16 if only_cpu() and cpu_multiplies_bfloat16() else torch.float32


@dataclass(frozen=True)
class Precision:
    """How a model's products are computed; a call gives a context in which they are.

    A training computes so, and so must whatever is compared with it: the base model, a training that is
    resumed, an adapter that is asked later.
    """

    device: str
    mixed: Any = None
    """Number format to which products are cast (mixed precision); None leaves them in that of the weights."""

    def __call__(self) -> AbstractContextManager[Any]:
        """Compute so for a while."""
        import torch

        return nullcontext() if self.mixed is None else torch.autocast(self.device, self.mixed)


def precision_of(model: ModelConfig, *, trained_weights: bool = False) -> Precision:
    """How a model is computed here.

    Args:
        model: its section.
        trained_weights: whether all of its weights are trained, which are then stored in float32.
    """
    import torch

    device = training_device().type
    dtype = torch_dtype(model.dtype)
    narrow = dtype in (torch.bfloat16, torch.float16)
    if device == GPU:
        return Precision(device, dtype if narrow else None)
    asked = trained_weights and model.dtype is DType.bfloat16
    return Precision(device, dtype if asked else None)
