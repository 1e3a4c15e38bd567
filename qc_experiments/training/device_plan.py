"""The device that a run is planned for: this machine's, or a named one, such as ``h100`` or ``24GB``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qc_experiments.errors import UserError
from qc_experiments.models.device import GPU, training_device
from qc_experiments.system.memory import usable_memory_bytes
from qc_experiments.system.words import nearest

CARDS = {
    "t4": (16, 65),
    "v100": (16, 125),
    "rtx3090": (24, 71),
    "a10": (24, 125),
    "l4": (24, 121),
    "rtx4090": (24, 165),
    "rtx5090": (32, 210),
    "a100-40gb": (40, 312),
    "a6000": (48, 155),
    "l40s": (48, 362),
    "a100": (80, 312),
    "h100": (80, 989),
    "h200": (141, 989),
    "b200": (180, 2250),
}
"""GB of memory and dense 16-bit TFLOP/s, as their makers give them."""
FREE = " free"
OF_PEAK = 1 / 3
"""Share of that which a training reaches; an estimate."""
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([mgt])(i?)b")
POWERS = {"m": 2, "g": 3, "t": 4}


@dataclass(frozen=True)
class Device:
    """What a run is computed on."""

    name: str
    kind: str  # cpu or cuda
    memory: float  # bytes
    of_it: str = ""  # " free" where that is what is left of it now
    operations: float | None = None  # a second at its peak, of a card that is named; else not known


def device_of(asked: str | None) -> Device:
    """The device that ``plan.device`` names; None is this machine's."""
    if asked is None:
        return _found()
    name = asked.strip().lower()
    if name == "cpu":
        return _this_cpu()
    if name in CARDS:
        memory, speed = CARDS[name]
        return Device(name.upper(), GPU, memory * 1e9, operations=speed * 1e12)
    if size := SIZE.fullmatch(name):
        memory = float(size[1]) * (1024 if size[3] else 1000) ** POWERS[size[2]]
        if memory:
            return Device(f"a card of {asked.strip()}", GPU, memory)
    number = name.replace(".", "", 1).isdecimal()
    hint = f" (did you mean {name}GB?)" if number else nearest(name, list(CARDS))
    raise UserError(
        f"plan.device={asked}: must be a size such as 24GB, cpu, or one of {', '.join(CARDS)}{hint}"
    )


def _found() -> Device:
    device = training_device()
    if device.type != GPU:
        return _this_cpu()
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    # What an earlier job of a sweep has left (the kept base model) is this run's: it is planned for again.
    free += torch.cuda.memory_reserved(device)
    return Device(torch.cuda.get_device_name(device), GPU, float(free), FREE)


def _this_cpu() -> Device:
    return Device("this machine", "cpu", usable_memory_bytes(), FREE)
