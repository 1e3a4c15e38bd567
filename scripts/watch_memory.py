"""Watch a command's memory: ``python scripts/watch_memory.py -- python train.py ...``.

Resident memory of the command and its children, once a minute, and at the end the mean of each quarter of
the time: a leak shows as a rise from the second quarter to the last. (Linux.)
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean

SECONDS = 5


def main() -> None:
    """Run and watch."""
    command = sys.argv[sys.argv.index("--") + 1 :]
    process = subprocess.Popen(command)
    started = time.monotonic()
    held: list[float] = []
    while process.poll() is None:
        held.append(_resident(process.pid) / 1e9)
        minutes = (time.monotonic() - started) / 60
        if len(held) % (60 // SECONDS) == 1:
            print(f"[{minutes:5.1f} min] {held[-1]:.2f} GB", flush=True)
        time.sleep(SECONDS)
    quarter = max(1, len(held) // 4)
    parts = [held[start : start + quarter] for start in range(0, 4 * quarter, quarter)]
    means = ", ".join(f"{fmean(part):.2f}" for part in parts if part)
    print(
        f"mean of each quarter of {len(held) * SECONDS / 60:.0f} min: {means} GB; most {max(held):.2f}"
    )
    sys.exit(process.returncode)


def _resident(pid: int) -> int:
    """Bytes that a process and its children hold; shared pages are counted for each."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return 0
    own = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)
    return own + sum(_resident(int(child)) for child in children)


if __name__ == "__main__":
    main()
