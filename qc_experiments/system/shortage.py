"""Whether an exception says that memory or disk has run out; torch and safetensors have several ways to."""

from __future__ import annotations

import errno

NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""What torch says of the CPU's memory, and bitsandbytes of the GPU's."""


WRITE_FAILED = ("No space left", "PytorchStreamWriter", "I/O error", "os error", "unexpected pos")
"""What torch and safetensors say, not as OSError, when a file cannot be written."""


FULL = (errno.ENOSPC, errno.EDQUOT)


def write_failure(error: Exception) -> str | None:
    """Why a file could not be written; None for an exception that says something else.

    Args:
        error: of Python, torch or safetensors.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if any(sign in str(error) for sign in WRITE_FAILED):
        return "the disk may be full"
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory has run out; torch has several ways to."""
    said = isinstance(error, RuntimeError) and any(sign in str(error) for sign in NO_MEMORY)
    return said or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
