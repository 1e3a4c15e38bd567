"""Which GPU a job of a sweep computes on: one that no other job of this machine has, while there are any."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import IO, Any

from qc_experiments.system.locking import taken

DEVICES = Path("/dev")
VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"


class ClaimedGpu:
    """One of this machine's GPUs, until it is let go; torch need not be imported to know them.

    Attributes:
        environment: what a process is given that computes on it; nothing where there is no choice.
    """

    def __init__(self) -> None:
        names = visible_gpus()
        self.environment: dict[str, str] = {}
        self._lock: IO[Any] | None = None
        if len(names) < 2:
            return
        for name in names:
            if self._claim(name):
                break
        else:  # more jobs than GPUs: some share
            name = names[os.getpid() % len(names)]
        self.environment = {VISIBLE: name, ORDER: os.environ.get(ORDER, "PCI_BUS_ID")}

    def let_go(self) -> None:
        """Leave it to others; the system does so too when this process ends."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _claim(self, name: str) -> bool:
        file = re.sub(r"\W", "_", name)
        path = Path(tempfile.gettempdir()) / f"qc_experiments_gpu_{os.getuid()}_{file}.lock"
        # In a folder that all users write in, a link may have been laid: it is not followed.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            lock = os.fdopen(os.open(path, flags, 0o600), "r+")
        except OSError:  # nothing can be known of other jobs
            return False
        if not taken(lock.fileno()):
            lock.close()
            return False
        self._lock = lock
        return True


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` has them."""
    given = os.environ.get(VISIBLE)
    if given is not None:
        return [name for one in given.split(",") if (name := one.strip())]
    found = (re.fullmatch(r"nvidia(\d+)", path.name) for path in DEVICES.glob("nvidia*"))
    return sorted((one[1] for one in found if one), key=int)
