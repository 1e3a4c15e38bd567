"""The one exception that stands for a user's mistake, not for a bug of ours; how others are told."""

from __future__ import annotations

from qc_experiments.system.secrets import redacted

RAISED = (Exception, SystemExit)
"""What code of a user's own may raise without ending the process; Ctrl-C is not among it."""


def in_one_line(error: BaseException) -> str:
    """An exception's type and message."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")


class UserError(Exception):
    """Something the user can mend: a wrong key, file, row or folder.

    The message is one line that says what is wrong, where (file, row, column, key) and what to do; it
    holds no secret. Entry points print it without a traceback and exit with code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redacted(" ".join(message.split())))
