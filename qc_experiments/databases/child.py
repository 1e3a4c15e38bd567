"""The process in which untrusted SQL runs: it takes statements from its parent, one at a time.

    python -m qc_experiments.databases.child

Messages are pickles behind their length. The parent reads answers with an unpickler that makes
numbers, strings, bytes, lists and tuples only, so that an answer cannot run code there.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import struct
import sys
from contextlib import suppress
from importlib import import_module
from typing import BinaryIO

from qc_experiments.databases.engine import Execution, Limits
from qc_experiments.errors import UserError

HEADER = struct.Struct(">Q")
READY = b"r"
"""Sent once the process can take requests."""
CALL = "call"
"""Kind of a request that names a module, as target, and the arguments of its ``answer``."""
NO_SCHEMA = "no_schema"
"""Class of the error where a schema is no text that SQLite runs."""
DONE = b"."
"""Sent as soon as a statement has ended, before its rows are packed."""
MEMORY_BYTES = 2_000_000_000
"""Address space of the process; SQLite has a tighter limit of its own, DuckDB's own is leaky."""
LIBRARIES = {"duckdb": ("duckdb",), "postgresql": ("sqlalchemy", "psycopg")}
"""Imported before the clock of a first statement starts."""
STARTED = b"s"
"""Sent once the libraries that a statement needs are there."""
CPU_GRACE_SECONDS = 5
WRITING = ("snapshot", "perturbation")
"""No engines but work of our own on files that may be hostile; it writes files of at most the limit's
bytes, where its parent says."""


def main() -> None:
    """Answer until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not stand among the answers
    requests = sys.stdin.buffer
    _confine()
    answers.write(READY)
    answers.flush()
    while True:
        request = _read(requests)
        if request is None:
            return
        kind, target, sql, seconds, rows, size = pickle.loads(request)  # from our own parent
        for library in (target,) if kind == CALL else LIBRARIES.get(kind, ()):
            with suppress(ImportError):  # the engine says what to install
                import_module(library)
        answers.write(STARTED)
        answers.flush()
        _limit_cpu(seconds)
        _limit(resource.RLIMIT_FSIZE, size if kind in WRITING else 0)
        if kind == CALL:
            answer: tuple[object, ...] = (CALL, import_module(target).answer(*sql))
        else:
            answer = _answer(kind, target, sql, Limits(seconds, rows, size))
        answers.write(DONE)
        answers.flush()
        packed = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
        answers.write(HEADER.pack(len(packed)))
        answers.write(packed)
        answers.flush()


def _answer(kind: str, target: str, sql: str, limits: Limits) -> tuple[object, ...]:
    try:
        if kind == "schema":
            module = import_module("qc_experiments.databases.sqlite")
            found = module.run_on_schema(target, sql, limits) or Execution(
                None, error_class=NO_SCHEMA
            )
        else:
            found = import_module(f"qc_experiments.databases.{kind}").run(target, sql, limits)
    except UserError as error:
        return ("user_error", str(error))
    except MemoryError:
        found = Execution(None, (), "out of memory", "memory")
    return ("execution", *vars(found).values())


def _confine() -> None:
    """Take from this process what no query needs: files to write, endless memory, core dumps."""
    for what, most in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, MEMORY_BYTES),
    ):
        _limit(what, most)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write fails with an error instead


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with suppress(ValueError, OSError):  # macOS knows no limit on address space
        resource.setrlimit(what, (soft, hard))


def _limit_cpu(seconds: float) -> None:
    """End this process, should its parent be gone and nobody left to kill it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds) + CPU_GRACE_SECONDS)


def _read(file: BinaryIO) -> bytes | None:
    head = file.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    (length,) = HEADER.unpack(head)
    return file.read(length)


if __name__ == "__main__":
    main()
