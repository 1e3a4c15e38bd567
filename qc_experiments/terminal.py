"""What reaches the terminal, and a terminal that may go away while a training goes on."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from qc_experiments.processes import is_main_process, quiet_libraries

log = logging.getLogger("qc_experiments")


class _Unbreakable:
    """A stream that falls silent where another would raise: its terminal was closed, its reader is gone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            self._fall_silent()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._fall_silent()

    def _fall_silent(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            # What is still in the stream's buffer goes there, too, so that Python does not complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unbreakable_output() -> Iterator[None]:
    """Let neither our own lines nor those of libraries end what this process does."""
    kept = sys.stdout, sys.stderr
    outer: tuple[Any, Any] = _Unbreakable(sys.stdout), _Unbreakable(sys.stderr)
    sys.stdout, sys.stderr = outer
    try:
        yield
    finally:
        for stream in outer:
            stream.flush()
        sys.stdout, sys.stderr = kept


class _Console(logging.Handler):
    """Prints messages to the terminal as it is now; warnings and errors say what they are."""

    def emit(self, record: logging.LogRecord) -> None:
        if not is_main_process():
            return
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            print(f"{record.levelname.lower()}: {text}", file=sys.stderr, flush=True)
        else:
            print(text, flush=True)


def set_up_logging() -> None:
    """Let what is logged reach the terminal, and silence the libraries."""
    log.setLevel(logging.INFO)
    log.propagate = False
    quiet_libraries()
    if not any(isinstance(handler, _Console) for handler in log.handlers):
        log.addHandler(_Console())
