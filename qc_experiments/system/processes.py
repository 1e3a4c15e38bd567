"""Which of several training processes this is, as torchrun and accelerate announce it.

With several processes each computes its share of every batch and all of every measurement; only the
main process writes files, tracks figures and talks to the terminal.
"""

from __future__ import annotations

import logging
import os
import warnings


def world_size() -> int:
    """Number of training processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def usable_cores() -> int:
    """Cores that this process may use, which containers and schedulers restrict."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def quiet_libraries() -> None:
    """Silence what libraries remark on each other, on which no user can act, and their bars.

    A bar redraws its line by a carriage return, which is not let through to the terminal.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # those of transformers, too
    warnings.filterwarnings("ignore", category=FutureWarning)
    # PEFT's, of what is done (converted at saving, the base left out) or said by the plan.
    for said in (
        ".* changes the base weights",
        "Model (has|with) `tie_word_embeddings",
        ".*save_emb",
    ):
        warnings.filterwarnings("ignore", message=said)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def process_lives(pid: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def is_main_process() -> bool:
    """Whether this process writes and talks; true where there is only one."""
    return int(os.environ.get("RANK", "0")) == 0
