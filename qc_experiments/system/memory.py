"""Memory of this process: kept between steps, given back between jobs, and its peak."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Names of glibc's malloc.h."""

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What Linux takes in ``clear_refs`` to set the peak of resident memory to what it is now (proc(5))."""
NO_MEMORY = (
    *("can't allocate memory", "not enough memory", "out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUSOLVER_STATUS_ALLOC_FAILED"),
)
"""What torch says of the CPU's memory, bitsandbytes of the GPU's, and NVIDIA's libraries of theirs."""


def keep_memory() -> bool:
    """Let this process keep the memory that it frees; whether the C library (glibc) took it.

    By default glibc gives large blocks back to the system, which clears and maps them again at each
    step. Nothing is computed otherwise.
    """
    libc = _glibc()
    if libc is None:
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20))
    taken = [bool(libc.mallopt(what, value)) for what, value in settings]
    return all(taken)


def set_up_allocators() -> None:
    """Let torch ask Linux for huge pages for large tensors, which makes steps on a CPU faster.

    And let its memory on a GPU grow in place: packs have other lengths at each step, which leave gaps
    between blocks of fixed sizes. Torch looks once, at its first tensor; what the user has set stays.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


class Trimmer:
    """Gives memory back that a training keeps in vain.

    Passes are of other lengths at each step, and what they free (`keep_memory`) does not always fit the next:
    with each such gap the process grows. It is given back once it has grown by `GROWN` over what one step
    takes, which costs the time to map it again, once in some steps.
    """

    GROWN = 1.15

    def __init__(self) -> None:
        import psutil

        self._process, self._libc = psutil.Process(), _glibc()
        self._least = math.inf

    def step_ended(self) -> bool:
        """Look at what is held, and give back what is too much; whether anything was."""
        held = self._process.memory_info().rss
        self._least = min(self._least, held)
        grown = self._libc is not None and held > self.GROWN * self._least
        return grown and bool(self._libc.malloc_trim(0))


def usable_memory_bytes() -> float:
    """Memory that this process may have: what the system has free, within the limit of a container."""
    import psutil

    found = [float(psutil.virtual_memory().available)]
    with suppress(OSError, ValueError):  # no container, or one without a limit
        found.append(float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(found)


def free_memory() -> None:
    """Give back to the system what is free, on CPU and GPU; what comes next may need it in other pieces."""
    gc.collect()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def give_memory_back() -> None:
    """Free what a job has left, and count the peak from here."""
    free_memory()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    # Elsewhere, or in a container that forbids it, the peak stays that of all jobs so far.
    with suppress(OSError):
        CLEAR_REFS.write_text(RESET_PEAK)


def peak_reserved_bytes() -> int | None:
    """Most memory that torch took of the GPU, its gaps included, which the card has to have; else None."""
    import torch

    return int(torch.cuda.max_memory_reserved()) if torch.cuda.is_available() else None


def peak_memory_bytes() -> int:
    """Most memory in use: the GPU's where there is one, by tensors, else this process's resident memory."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(kilobytes) * 1024
    except (OSError, ValueError):  # no Linux
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def _glibc() -> Any:
    with suppress(OSError):
        libc = ctypes.CDLL("libc.so.6")
        if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):  # not so in musl
            return libc
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory has run out; torch has several ways to."""
    said = isinstance(error, RuntimeError) and any(sign in str(error) for sign in NO_MEMORY)
    return said or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
