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
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from qc_experiments.databases import snapshot, sqlite
from qc_experiments.databases.child import DONE, HEADER, READY, STARTED
from qc_experiments.databases.engine import Call, Execution, Failed, Limits, call_of
from qc_experiments.errors import UserError
from qc_experiments.system.processes import usable_cores

PACKAGE_PARENT = Path(__file__).parents[2]
GRACE_SECONDS = 0.5
"""What a statement may take beyond its time before its process is killed; engines stop by themselves."""
PROCESS = "the process that ran it"
"""Begins what is said of a statement whose process ended, by its own doing or by somebody's."""
PACKING_SECONDS = 30.0
START_SECONDS = 30.0
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "HOME")
"""Environment that a child starts with: no tokens and keys of the user."""


class _PlainUnpickler(pickle.Unpickler):
    """Makes numbers, strings, bytes, lists and tuples, and refuses anything that names a class."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"an answer may not hold {module}.{name}")


def load_plain(packed: bytes) -> Any:
    """Unpickle plain values; raises `pickle.UnpicklingError` for any others."""
    return _PlainUnpickler(io.BytesIO(packed)).load()


class SqlPool:
    """Child processes that run SQL, by default one for each core that may be used, at most 8.

    Used as a context manager, by several threads at once. ``aborted`` says that statements are being
    ended, so that what comes of them says nothing.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = size or min(8, usable_cores())
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(self.size):
            self._idle.put(None)  # a place without a process yet
        self._busy: set[_Child] = set()
        self.aborted = False
        self._snapshots = snapshot.Snapshots(self._recover)

    def __enter__(self) -> SqlPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, and remove what was copied for them."""
        for _ in range(self.size):
            child = self._idle.get()
            if child is not None:
                child.close()
            self._idle.put(None)
        self._snapshots.close()

    def abort(self) -> None:
        """End what is running or about to, so that whoever waits for it goes on at once."""
        # First: a process that is being started is not among the busy ones yet.
        self.aborted = True
        for child in list(self._busy):
            child.process.kill()  # whoever reads from it sees that it is gone

    def resume(self) -> None:
        """Take statements again, once nobody waits for those that were ended."""
        self.aborted = False

    def run(self, engine: str, target: str, sql: str, limits: Limits) -> Execution:
        """Run one statement on a database (a file's path or a URL) in a child process, once one is free."""
        call = call_of(engine, target, sql, limits)
        return self.on_sqlite_file(call) if engine == "sqlite" else self._execute(call)

    def run_on_schema(self, schema: str, sql: str, limits: Limits) -> Execution:
        """Run one statement on an empty database made of CREATE statements (see `sqlite`)."""
        arguments = (schema, sql, limits)
        return self._execute(Call(sqlite.__name__, "run_on_schema", arguments, limits.seconds))

    def _recover(self, copy: Path, limits: Limits) -> Execution:
        where = (snapshot.__name__, "run", (str(copy),))
        return self._execute(Call(*where, limits.seconds, written=limits.bytes))

    def on_sqlite_file(self, call: Call) -> Execution:
        """Make a call whose first argument is a SQLite file, or a copy that includes its logs."""
        target, *others = call.arguments
        try:
            with self._snapshots.reading(str(target)) as readable:
                return self._execute(replace(call, arguments=(readable, *others)))
        except Failed as failed:
            return Execution(None, (), *failed.args)

    def _execute(self, call: Call) -> Execution:
        started = time.perf_counter()
        try:
            return Execution(*self.call(call))
        except Failed as failed:
            message, error_class = failed.args
            return Execution(None, (), message, error_class, time.perf_counter() - started)

    def call(self, call: Call) -> Any:
        """Call a function in a child process, waiting for a free one; give what it returns.

        Raises:
            Failed: if there is no answer in time.
            UserError: if the function raises it, or the process does not get ready to run it.
        """
        child = self._idle.get()
        try:
            if child is None or child.process.poll() is not None:
                child = _Child()
            self._busy.add(child)
            if self.aborted:
                raise Failed("it was interrupted", "other")
            kind, *answer = child.ask(call)
            self._busy.discard(child)
        except BaseException:  # it is gone, or interrupted in the middle of an answer
            if child is not None:
                child.close()
                self._busy.discard(child)
            child = None
            raise
        finally:
            self._idle.put(child)
        if kind == "user_error":
            raise UserError(answer[0])
        if kind == "failed":
            raise Failed(*answer)
        return answer[0]


class _Child:
    """One child process and its pipes."""

    def __init__(self) -> None:
        environment = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        environment["PYTHONPATH"] = str(PACKAGE_PARENT)
        environment["TZ"] = "UTC"  # else local times would be each machine's own
        self.process = subprocess.Popen(
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
            self.close()
            raise

    def close(self) -> None:
        """End the process and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what could not be sent any more
                    pipe.close()

    def ask(self, call: Call) -> tuple[Any, ...]:
        """Send a call and wait for its answer; raises as `SqlPool.call`."""
        packed = pickle.dumps(call)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(HEADER.pack(len(packed)) + packed)
            self.process.stdin.flush()
        except OSError:
            raise Failed(f"{PROCESS} was ended", "other") from None
        self._wait_for(STARTED)
        if self._read(1, time.monotonic() + call.seconds + GRACE_SECONDS) != DONE:
            raise Failed(f"{PROCESS} was ended", "other")
        until = time.monotonic() + PACKING_SECONDS
        (length,) = HEADER.unpack(self._read(HEADER.size, until))
        try:
            answer: tuple[Any, ...] = load_plain(self._read(length, until))
        except pickle.UnpicklingError as problem:
            raise Failed(str(problem), "other") from None
        return answer

    def _wait_for(self, mark: bytes) -> None:
        """Wait until the process is ready to run something; its being late says nothing of that."""
        try:
            found = self._read(1, time.monotonic() + START_SECONDS)
        except Failed as failed:
            if failed.args[1] != "timeout":
                raise
            raise UserError(
                f"no process for SQL started within {START_SECONDS:g} s: the machine is too busy, or "
                "short of memory"
            ) from None
        if found != mark:
            raise Failed(f"{PROCESS} was ended", "other")

    def _read(self, count: int, deadline: float) -> bytes:
        assert self.process.stdout is not None
        handle = self.process.stdout.fileno()
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        parts: list[bytes] = []
        while count:
            left = deadline - time.monotonic()
            if left <= 0 or not waiting.poll(1000 * left):
                raise Failed("it ran too long and its process was killed", "timeout")
            part = os.read(handle, min(count, 1 << 20))
            if not part:
                code = self.process.wait()
                reason = "memory" if code == -9 else "other"
                raise Failed(f"{PROCESS} ended with {code}", reason)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
