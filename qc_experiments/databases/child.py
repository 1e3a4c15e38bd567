"""The process in which untrusted SQL runs: ``python -m qc_experiments.databases.child``.

Messages are pickles after their length. The parent reads answers with an unpickler that makes
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

from qc_experiments.databases.engine import Call, Execution
from qc_experiments.errors import RAISED, UserError, in_one_line
from qc_experiments.system.words import items

HEADER = struct.Struct(">Q")
READY = b"r"  # sent once the process can take calls
STARTED = b"s"  # sent once the libraries that a call needs are there
DONE = b"."  # sent as soon as a call has ended, before its rows are packed
MEMORY_BYTES = 2_000_000_000
"""Address space of the process; SQLite has a tighter limit of its own, DuckDB's own is leaky."""
CPU_GRACE_SECONDS = 5


def main() -> None:
    """Answer until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not stand among the answers

    def send(*parts: bytes) -> None:
        answers.writelines(parts)
        answers.flush()

    # What no query needs: files to write, endless memory, core dumps.
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write fails with an error instead
    send(READY)
    while len(head := sys.stdin.buffer.read(HEADER.size)) == HEADER.size:
        call: Call = pickle.loads(
            sys.stdin.buffer.read(*HEADER.unpack(head))
        )  # from our own parent
        sys.path += [folder for folder in call.path if folder not in sys.path]
        os.environ.update(call.environment)
        with suppress(OSError):
            os.chdir(call.folder)
        with suppress(*RAISED):  # the call itself says what cannot be imported
            for library in items(getattr(import_module(call.module), "LIBRARIES", ())):
                import_module(library)
        send(STARTED)
        # Ends this process, should its parent be gone and nobody left to kill it.
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_seconds = int(used.ru_utime + used.ru_stime + call.seconds) + CPU_GRACE_SECONDS
        _limit(resource.RLIMIT_CPU, cpu_seconds)
        _limit(resource.RLIMIT_FSIZE, call.written)
        answer = _answer(call)
        send(DONE)
        packed = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
        send(HEADER.pack(len(packed)), packed)


def _answer(call: Call) -> tuple[object, ...]:
    """A word that says what it is, and plain values."""
    try:
        found = getattr(import_module(call.module), call.function)(*call.arguments)
    except UserError as error:
        return ("user_error", str(error))
    except MemoryError:
        return ("failed", "out of memory", "memory")
    except RAISED as problem:
        if call.module.startswith("qc_experiments."):
            return ("failed", str(problem) or type(problem).__name__, "other")
        return ("failed", f"engine {call.module}: {in_one_line(problem)}", "other")
    if isinstance(found, Execution):
        return ("done", tuple(vars(found).values()))
    if call.function == "run":
        kind = type(found).__name__
        return ("failed", f"engine {call.module}: run() gave {kind}, not an Execution", "other")
    return ("done", found)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with suppress(ValueError, OSError):  # macOS knows no limit on address space
        resource.setrlimit(what, (soft, hard))


if __name__ == "__main__":
    main()
