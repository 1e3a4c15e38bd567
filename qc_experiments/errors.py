"""The one exception that stands for a user's mistake, not for a bug of ours."""

from __future__ import annotations

from qc_experiments.system.secrets import redacted


class UserError(Exception):
    """Something the user can mend: a wrong key, file, row or folder.

    The message is one line that says what is wrong, where (file, row, column, key) and what to do; it
    holds no secret. Entry points print it without a traceback and exit with code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redacted(" ".join(message.split())))
