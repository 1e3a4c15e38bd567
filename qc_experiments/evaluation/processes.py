"""Work that several training processes share, and figures that they all take from the main one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from qc_experiments.system.processes import world_size

One = TypeVar("One")


def own_share(work: Sequence[One]) -> list[One]:
    """What this process does of some work: every n-th piece of n processes."""
    return list(work[int(os.environ.get("RANK", "0")) :: world_size()])


def gathered(own: list[One]) -> list[One]:
    """What all processes have, in their order, in each of them; all have to call it."""
    if world_size() == 1:
        return own
    from accelerate.utils import gather_object

    found: list[One] = gather_object(own)
    return found


def of_main_process(value: One) -> One:
    """What the main process has, in each of them; all have to call it."""
    if world_size() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    [found] = broadcast_object_list([value])
    return found
