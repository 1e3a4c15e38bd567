"""Requests to stop: SIGTERM and SIGUSR1 from a scheduler, Ctrl-C from a person."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
SAME_REQUEST = 1.0
"""Seconds within which a signal that comes again is the same request: a scheduler sends it to all processes,
and a sweep passes it on to its job as well. A person who presses Ctrl-C twice means it."""


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop by a signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum  # what shells and schedulers take for an end by that signal


class StopRequests:
    """Whether somebody has asked this process to stop.

    Outside `patiently` a request ends the work at once, by `Interrupted`. Within it the first one is
    only noted, for the work to end itself where it can go on later; the second ends it at once.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._noted = 0.0
        self._patient = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals for a while, where this thread may."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._take) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Note the first request instead of ending at once."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def _take(self, signum: int, frame: FrameType | None) -> None:
        since = time.monotonic() - self._noted
        if self.requested == signum != signal.SIGINT and since < SAME_REQUEST and self._patient:
            return
        if not self._patient or self.requested is not None:
            raise Interrupted(signum)
        self.requested, self._noted = signum, time.monotonic()
        log.warning(
            "%s: this step will be finished and a checkpoint written, then the run ends; the same "
            "command goes on from there (a second %s ends it at once)",
            signal.Signals(signum).name,
            "Ctrl-C" if signum == signal.SIGINT else "signal",
        )
