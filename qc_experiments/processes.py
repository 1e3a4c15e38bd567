"""Which of several training processes this is, as torchrun and accelerate announce it.

With several processes each computes its share of every batch and all of every measurement; only the
main process writes files, tracks figures and talks to the terminal.
"""

from __future__ import annotations

import os


def world_size() -> int:
    """Number of training processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process writes and talks; true where there is only one."""
    return int(os.environ.get("RANK", "0")) == 0
