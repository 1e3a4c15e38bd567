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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, BinaryIO

from qc_experiments.config.schema import RunConfig
from qc_experiments.sweeps.gpus import ClaimedGpu
from qc_experiments.system.signals import Interrupted
from qc_experiments.training.out_of_memory import memory_advice

Handler = Callable[[int, FrameType | None], Any]
CHILD = "qc_experiments.sweeps.worker_child"
ANNOUNCED = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which schedulers announce the end of a job's time."""


@dataclass(frozen=True)
class Outcome:
    """What came of a job: the content of ``result.json``, or one line on what went wrong."""

    status: str
    """``finished``, ``paused`` (to go on later), ``failed`` (with an error), ``interrupted`` (by a signal
    of its own) or ``died`` (without one)."""
    result: dict[str, Any] | None = None
    error: str | None = None
    refused: bool = False
    """Whether it was refused before it computed, so that its process is as it was before."""


class Worker:
    """A process that trains, started when it is first needed.

    Args:
        sweep: the process that runs the sweep, with which the worker ends, whatever launcher started it.
        command: by which the sweep was started, which its runs note.
    """

    def __init__(self, sweep: int, command: Sequence[str]) -> None:
        self._sweep = sweep
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: BinaryIO | None = None
        self._gpu: ClaimedGpu | None = None

    def run(self, config: RunConfig, share: float = 1.0, threads: int | None = None) -> Outcome:
        """Train as a config says; a signal to this process reaches the job.

        Args:
            config: the whole, checked config.
            share: of its steps that it takes before it is paused.
            threads: that it computes with; None leaves it to torch. The first job's count holds.

        Raises:
            Interrupted: if this process was asked to stop, once the job is paused.
        """
        process, answers = self._ready(threads)
        assert process.stdin is not None
        with _passing_on_signals(process, self._sweep) as came:
            try:
                pickle.dump((config, share), process.stdin)
                process.stdin.flush()
                outcome: Outcome = pickle.load(answers)  # from our own child
            except (EOFError, OSError, pickle.UnpicklingError):
                outcome = Outcome("died", error=_cause(process.wait(), config))
        if process.poll() is not None or not (outcome.result or outcome.refused):
            self.close()  # whatever a failed job left in memory must not reach the next
        if came:
            signum, handler = came[-1]
            if handler is not None:
                handler(signum, None)
            raise Interrupted(signum)
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
        if self._gpu is not None:
            self._gpu.let_go()
            self._gpu = None

    def _ready(self, threads: int | None) -> tuple[subprocess.Popen[bytes], BinaryIO]:
        if self._process is None or self._answers is None or self._process.poll() is not None:
            self.close()
            read, write = os.pipe()
            # Before torch is imported there: later it would have made its threads already.
            shared = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
            self._gpu = ClaimedGpu()
            # Modules are found where this process finds them: the folder that it is started in, which -m
            # would put first, may hold some of the same names (a folder of checkouts, a user's csv.py).
            found_in = os.pathsep.join(os.path.abspath(one) for one in sys.path)
            # A session of its own: Ctrl-C reaches this process alone, which passes it on.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", CHILD, str(write), str(self._sweep), *self._command],
                stdin=subprocess.PIPE,
                pass_fds=(write,),
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": found_in} | shared | self._gpu.environment,
            )
            os.close(write)
            self._answers = os.fdopen(read, "rb")
        return self._process, self._answers


def _cause(code: int, config: RunConfig) -> str:
    """Why a job's process has ended, by its exit code."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    line = f"its process was ended by {signal.Signals(-code).name}"
    if -code == signal.SIGKILL:
        line += f", as the system does when memory runs out: {memory_advice(config)}"
    return line


@contextmanager
def _passing_on_signals(
    process: subprocess.Popen[bytes], sweep: int
) -> Iterator[list[tuple[int, Handler | None]]]:
    """Pass requests to stop on to a process; each that came, and what else is to be done about it.

    A scheduler's launcher (submitit) has handlers of its own for the signals that announce the end of its
    time, which put the job back into the queue: these run when the job has written its checkpoint.
    What it set up for SIGTERM stays as it is, since schedulers send that as well. joblib kills its
    processes and all below them at Ctrl-C, so there a job is not asked for a checkpoint that it could
    not write.
    """
    came: list[tuple[int, Handler | None]] = []
    before: dict[int, Any] = {}

    def pass_on(signum: int, frame: FrameType | None) -> None:
        came.append((signum, before[signum] if _foreign(before[signum]) else None))
        with suppress(ProcessLookupError):
            # The job takes SIGUSR1 alone of the two.
            process.send_signal(signal.SIGUSR1 if signum in ANNOUNCED else signum)

    for number in (signal.SIGINT, signal.SIGTERM, *ANNOUNCED):
        handler = signal.getsignal(number)
        if number == signal.SIGTERM and _foreign(handler):
            continue
        if number == signal.SIGUSR2 and not _foreign(handler):
            continue  # nobody here has given it a meaning
        # joblib's processes are not the sweep's own, and no launcher of a scheduler's either.
        killed = sweep != os.getpid() and "SUBMITIT_EXECUTOR" not in os.environ
        before[number] = handler
        try:
            signal.signal(number, signal.SIG_IGN if killed and number == signal.SIGINT else pass_on)
        except ValueError:  # not the main thread: whoever owns that deals with signals
            del before[number]
    try:
        yield came
    finally:
        for signum, found in before.items():
            signal.signal(signum, found)


def _foreign(handler: object) -> bool:
    """Whether a handler was set by a launcher, not by Python or the system."""
    return callable(handler) and handler is not signal.default_int_handler
