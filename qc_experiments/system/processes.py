"""Which of several training processes this is, as torchrun and accelerate announce it.

With several processes each computes its share of every batch and all of every measurement; only the
main process writes files, tracks figures and talks to the terminal.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from datetime import datetime
from functools import cache

from qc_experiments.errors import UserError


def world_size() -> int:
    """Number of training processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


CLOCK_SECONDS = 60.0
"""By how much a clock may have been set while a process was there."""
SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
"""What ``accelerate launch`` sets where a model's weights are divided among processes, and its name."""


def refuse_sharded_weights() -> None:
    """Refuse launchers that divide a model's weights, whose head and gradients are used whole here."""
    for key, name in SHARDED.items():
        if os.environ.get(key, "").lower() in ("1", "true", "yes"):
            raise UserError(
                f"accelerate is set to {name} ({key}), which divides the weights among processes: that is "
                "not supported; start with torchrun or accelerate launch --multi_gpu, where each process "
                "has the whole model, and with quant=4bit where it is too large"
            )


def usable_cores() -> int:
    """Cores that this process may use, which containers and schedulers restrict."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


@cache
def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has units for products in bfloat16; without them float32 is far faster."""
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()  # torch's library for products
    if not any(name in allowed for name in ("ALL", "DEFAULT", "BF16", "FP16", "AMX", "AVX10")):
        return False
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line.split() for line in file if line.startswith("flags")), [])
    except OSError:  # another system
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


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


def process_lives(pid: int, since: object = None) -> bool:
    """Whether a process of this machine is there, and not one that has got its number later.

    ``since`` is a time, in ISO format, at which it was there; anything else tells nothing.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    if not isinstance(since, str):
        return True
    import psutil

    try:
        known, began = datetime.fromisoformat(since).timestamp(), psutil.Process(pid).create_time()
        # In some containers the system's own times are those of its host, and in the future.
        return not known + CLOCK_SECONDS < began <= time.time()
    except psutil.NoSuchProcess:
        return False
    except (ValueError, OverflowError, psutil.Error):
        return True


def is_main_process() -> bool:
    """Whether this process writes and talks; true where there is only one."""
    return int(os.environ.get("RANK", "0")) == 0
