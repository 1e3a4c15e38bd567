"""How a command ends: in one line and with an exit code, where the user has to mend something or ended it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from qc_experiments.errors import UserError
from qc_experiments.system.console import safe_output


def of_the_system(error: BaseException) -> str | None:
    """What a file system refuses, in one line that names the file; None for any other exception."""
    if not isinstance(error, OSError) or error.filename is None or not error.strerror:
        return None
    return f"{error.filename}: {error.strerror}"


@contextmanager
def told_to_users(interrupted: str = "interrupted") -> Iterator[None]:
    """End a command in one line and with an exit code where the user has to mend or has ended something.

    What it prints is the user's data and passes `safe_output`.

    Args:
        interrupted: what is said after Ctrl-C.

    Raises:
        SystemExit: with 2 for a `UserError`, 130 after Ctrl-C (143 behind SIGTERM, where that is
            listened to), 141 if nobody reads the output any more
            (``qc ... | head``), as shells have it.
    """
    with safe_output(data=True):
        try:
            yield
            sys.stdout.flush()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt as error:
            print(interrupted, file=sys.stderr)
            raise SystemExit(getattr(error, "exit_code", 130)) from None
        except BrokenPipeError:
            # Python would try once more to write what is left when it ends, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None
        except OSError as error:
            line = of_the_system(error)
            if line is None:
                raise
            print(f"error: {line}", file=sys.stderr)
            raise SystemExit(2) from None
