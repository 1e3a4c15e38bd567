"""Lines that a user can edit and find again: readline with a private file of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MOST_LINES = 1000


@contextmanager
def line_editing(history: Path) -> Iterator[Callable[[], None]]:
    """Let ``input`` edit lines; gives a function that keeps the last one in a file that nobody else reads.

    Without readline, or where the file cannot be used, lines are read all the same.
    """
    try:
        import readline
    except ImportError:
        yield lambda: None
        return
    readline.set_auto_history(True)
    readline.set_history_length(MOST_LINES)
    readline.clear_history()
    kept = _private(history)

    def remember() -> None:
        if kept and hasattr(readline, "append_history_file"):  # other line editors lack it
            with suppress(OSError):
                readline.append_history_file(1, history)

    if kept:
        with suppress(OSError):
            readline.read_history_file(history)
    try:
        yield remember
    finally:
        readline.clear_history()


def _private(path: Path) -> bool:
    """Make a file that its owner alone can read, or make it so; whether that was possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
    except OSError:
        return False
    return True
