"""A terminal that may go away: training goes on when nobody reads any more what it says."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


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
