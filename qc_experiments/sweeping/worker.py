"""The process in which the jobs of a sweep run, seen from the sweep: it may die, the sweep does not.

The worker is started once and takes one job after the other, so that libraries are imported once. It
ends with a job that ran out of memory or was killed; the next job gets a fresh one.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, BinaryIO

from qc_experiments.config import RunConfig
from qc_experiments.interruption import SIGNALS, Interrupted


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        status: ``finished``, ``paused`` (to go on later), ``failed`` (with an error) or ``died``
            (without a word).
        result: the content of ``result.json``, or None.
        error: one line for the user, or None.
    """

    status: str
    result: dict[str, Any] | None = None
    error: str | None = None


class Worker:
    """A process that trains, started when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: BinaryIO | None = None

    def run(self, config: RunConfig, share: float = 1.0) -> Outcome:
        """Train as a config says; a signal to this process reaches the job.

        Args:
            config: the whole, checked config.
            share: of its steps that it takes before it rests.

        Raises:
            Interrupted: if this process was asked to stop, once the job has come to rest.
        """
        process, answers = self._ready()
        assert process.stdin is not None
        with _passing_on_signals(process) as stop:
            try:
                pickle.dump((config, share), process.stdin)
                process.stdin.flush()
                outcome: Outcome = pickle.load(answers)  # from our own child
            except (EOFError, OSError, pickle.UnpicklingError):
                outcome = Outcome("died", error=self._cause(process))
        if process.poll() is not None or outcome.result is None:
            self.close()  # whatever a failed job left in memory must not reach the next
        if stop:
            raise Interrupted(stop[0])
        return outcome

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._answers is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._answers.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = self._answers = None

    def _ready(self) -> tuple[subprocess.Popen[bytes], BinaryIO]:
        if self._process is None or self._answers is None or self._process.poll() is not None:
            self.close()
            read, write = os.pipe()
            # A session of its own: Ctrl-C reaches this process alone, which passes it on.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "qc_experiments.sweeping.worker_child", str(write)],
                stdin=subprocess.PIPE,
                pass_fds=(write,),
                start_new_session=True,
            )
            os.close(write)
            self._answers = os.fdopen(read, "rb")
        return self._process, self._answers

    def _cause(self, process: subprocess.Popen[bytes]) -> str:
        code = process.wait()
        if code >= 0:
            return f"its process ended with exit code {code}"
        name = signal.Signals(-code).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"


@contextmanager
def _passing_on_signals(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass signals on to a process; gives the list of those that came."""
    came: list[int] = []

    def pass_on(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        with suppress(ProcessLookupError):
            process.send_signal(signum)

    before = {}
    for name in SIGNALS:
        number = getattr(signal, name, None)
        with suppress(ValueError):  # not the main thread: whoever owns it deals with signals
            if number is not None:
                before[number] = signal.signal(number, pass_on)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
