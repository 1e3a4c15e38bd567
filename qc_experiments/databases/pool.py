"""A small pool of warm child processes in which untrusted SQL runs; what outlives its time is killed."""

from __future__ import annotations

import io
import os
import pickle
import queue
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from qc_experiments.databases.child import CALL, DONE, HEADER, NO_SCHEMA, READY, STARTED
from qc_experiments.databases.engine import Execution, Limits
from qc_experiments.databases.snapshot import Snapshots, Unreadable
from qc_experiments.errors import UserError
from qc_experiments.system.processes import usable_cores

PACKAGE_PARENT = Path(__file__).parents[2]
GRACE_SECONDS = 0.5
"""What a statement may take beyond its time before its process is killed; engines stop by themselves."""
ON_SQLITE_FILES = ("sqlite", "perturbation")
PROCESS = "the process that ran it"
"""Begins what is said of a statement whose process ended, by its own doing or by somebody's."""
PACKING_SECONDS = 30.0
START_SECONDS = 30.0
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "HOME")
PASSED_ON_PREFIXES = ("PG",)
"""Environment that a child keeps: no tokens and keys of the user but PostgreSQL's own."""


class Gone(Exception):
    """A child process ended, or was ended, before it had answered."""


class _PlainUnpickler(pickle.Unpickler):
    """Makes numbers, strings, bytes, lists and tuples, and refuses anything that names a class."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"an answer may not hold {module}.{name}")


def load_plain(packed: bytes) -> Any:
    """Unpickle plain values only.

    Raises:
        pickle.UnpicklingError: if they are anything else.
    """
    return _PlainUnpickler(io.BytesIO(packed)).load()


class SqlPool:
    """Child processes that run SQL; used as a context manager, by several threads at once.

    Args:
        size: number of processes; by default one for each core that may be used, at most 8.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = size or min(8, usable_cores())
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(self.size):
            self._idle.put(None)  # a place without a process yet
        self._busy: set[_Child] = set()
        self._aborted = False
        self._snapshots = Snapshots(self._recover)

    def __enter__(self) -> SqlPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, and remove what was copied for them."""
        for _ in range(self.size):
            child = self._idle.get()
            if child is not None:
                child.kill()
            self._idle.put(None)
        self._snapshots.close()

    def abort(self) -> None:
        """End what is running or about to, so that whoever waits for it goes on at once."""
        # First, as a process that is being started is not among the busy ones yet.
        self._aborted = True
        for child in list(self._busy):
            child.end()

    @property
    def aborted(self) -> bool:
        """Whether statements are being ended, so that what comes of them says nothing."""
        return self._aborted

    def resume(self) -> None:
        """Take statements again, once nobody waits for those that were ended."""
        self._aborted = False

    def run(self, engine: str, target: str, sql: str, limits: Limits) -> Execution:
        """Run one statement in a child process, waiting for a free one.

        Args:
            engine: ``sqlite``, ``duckdb``, ``postgresql``; ``perturbation`` to make a copy with other
                rows.
            target: the database: a file's path, or a URL.
            sql: one statement.
            limits: what it may use.

        Raises:
            UserError: if the engine is not to be had, or the database not to be reached.
        """
        if engine not in ON_SQLITE_FILES:
            return self._execute(engine, target, sql, limits)
        try:
            with self._snapshots.reading(target) as readable:
                return self._execute(engine, readable, sql, limits)
        except Unreadable as problem:
            return Execution(None, (), str(problem), "other")

    def run_on_schema(self, schema: str, sql: str, limits: Limits) -> Execution | None:
        """Run one statement on an empty SQLite database; None if its schema is none that SQLite runs.

        Args:
            schema: CREATE statements.
            sql: one statement.
            limits: what it may use.
        """
        done = self._execute("schema", schema, sql, limits)
        return None if done.error_class == NO_SCHEMA else done

    def _recover(self, copy: Path, limits: Limits) -> Execution:
        return self._execute("snapshot", str(copy), "", limits)

    def _execute(self, engine: str, target: str, sql: str, limits: Limits) -> Execution:
        started = time.perf_counter()
        try:
            answer = self._ask((engine, target, sql, limits.seconds, limits.rows, limits.bytes))
        except Gone as gone:
            message, error_class = gone.args
            return Execution(None, (), message, error_class, time.perf_counter() - started)
        return Execution(*answer[1:])

    def call(self, module: str, arguments: tuple[object, ...], seconds: float) -> tuple[Any, ...]:
        """Call a module's ``answer`` in a child process, waiting for a free one.

        Args:
            module: its full name.
            arguments: plain values.
            seconds: time after which the process is killed.

        Returns:
            What it gives: a tuple of plain values.

        Raises:
            Gone: with a message and an error class, if there is no answer in time.
        """
        return self._ask((CALL, module, arguments, seconds, 0, 0))[1]

    def _ask(self, request: tuple[object, ...]) -> tuple[Any, ...]:
        child = self._idle.get()
        try:
            if child is None or not child.alive():
                child = _Child()
            self._busy.add(child)
            if self._aborted:
                raise Gone("it was interrupted", "other")
            answer = child.ask(request)
            self._busy.discard(child)
        except BaseException:  # it is gone, or interrupted in the middle of an answer
            self._dismiss(child)
            child = None
            raise
        finally:
            self._idle.put(child)
        if answer[0] == "user_error":
            raise UserError(answer[1])
        return answer

    def _dismiss(self, child: _Child | None) -> None:
        if child is not None:
            child.kill()
            self._busy.discard(child)


class _Child:
    """One child process and its pipes."""

    def __init__(self) -> None:
        environment = {
            key: value
            for key, value in os.environ.items()
            if key in PASSED_ON or key.startswith(PASSED_ON_PREFIXES)
        }
        environment["PYTHONPATH"] = str(PACKAGE_PARENT)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "qc_experiments.databases.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            start_new_session=True,  # Ctrl-C is the parent's affair
        )
        try:
            self._wait_for(READY)
        except BaseException:
            self.kill()
            raise

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """End the process; whoever reads from it sees that it is gone."""
        self._process.kill()

    def kill(self) -> None:
        """End the process and close its pipes."""
        self.end()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue  # what could not be sent any more

    def ask(self, request: tuple[object, ...]) -> tuple[Any, ...]:
        """Send a request and wait for its answer.

        Raises:
            Gone: with a message and an error class, if there is none in time.
            UserError: if the process does not get ready to run it.
        """
        packed = pickle.dumps(request)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(HEADER.pack(len(packed)) + packed)
            self._process.stdin.flush()
        except OSError:
            raise Gone(f"{PROCESS} was ended", "other") from None
        self._wait_for(STARTED)
        patience = float(request[3]) + GRACE_SECONDS  # type: ignore[arg-type]
        if self._read(1, time.monotonic() + patience) != DONE:
            raise Gone(f"{PROCESS} was ended", "other")
        until = time.monotonic() + PACKING_SECONDS
        (length,) = HEADER.unpack(self._read(HEADER.size, until))
        answer: tuple[Any, ...] = load_plain(self._read(length, until))
        return answer

    def _wait_for(self, mark: bytes) -> None:
        """Wait until the process is ready to run something; its being late says nothing of that.

        Raises:
            Gone: if it has ended.
            UserError: if it is late.
        """
        try:
            found = self._read(1, time.monotonic() + START_SECONDS)
        except Gone as gone:
            if gone.args[1] != "timeout":
                raise
            raise UserError(
                f"no process for SQL started within {START_SECONDS:g} s: the machine is too busy, or "
                "short of memory"
            ) from None
        if found != mark:
            raise Gone(f"{PROCESS} was ended", "other")

    def _read(self, count: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        parts: list[bytes] = []
        while count:
            left = deadline - time.monotonic()
            if left <= 0 or not waiting.poll(1000 * left):
                raise Gone("it ran too long and its process was killed", "timeout")
            part = os.read(handle, min(count, 1 << 20))
            if not part:
                code = self._process.wait()
                reason = "memory" if code == -9 else "other"
                raise Gone(f"{PROCESS} ended with {code}", reason)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
