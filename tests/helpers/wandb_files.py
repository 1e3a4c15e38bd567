"""What W&B's offline files hold, read in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from helpers.runs import Run


def offline_run(run: Run) -> Path:
    found = list((run.folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(found) == 1
    return found[0]


def inspect(path: Path, *flags: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", *flags, "--json", str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout
