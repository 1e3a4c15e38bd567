"""How the commands other than `qc train` and `qc plan` read their flags: mistakes are told in one line."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from qc_experiments.errors import UserError
from qc_experiments.system.words import nearest

UNKNOWN = "unrecognized arguments: "
"""How argparse begins what it says of flags that there are not."""
OTHER_NAMES = {"--db": "--databases", "--databases": "--db"}
"""What other commands call the same."""


class Parser(argparse.ArgumentParser):
    """Raises a `UserError` for what argparse refuses, instead of printing the whole usage.

    Flags are written whole: a beginning that is another command's flag (``--db``) must not be taken for
    one here (``--db_id``).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse a subcommand's unknown flags here, where its own are known and no others."""
        for word in sys.argv[1:] if args is None else args:
            flag, own = word.partition("=")[0], self._option_string_actions
            if flag not in own and OTHER_NAMES.get(flag) in own:  # before what is missing is told
                self.error(f"{UNKNOWN}{flag}")
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"{UNKNOWN}{' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Tell a mistake; of a flag that there is not, which one may be meant."""
        if message.startswith(UNKNOWN):
            word = message.removeprefix(UNKNOWN).split()[0]
            flag, own = word.partition("=")[0], self._option_string_actions
            other = OTHER_NAMES.get(flag)
            hint = f" (did you mean {other}?)" if other in own else nearest(flag, own, cutoff=0.7)
            message = f"{flag}: no such flag{hint}"
            if not word.startswith("-"):
                message = f"{word}: one argument too many"
        raise UserError(f"{message}; {self.prog} --help lists what it takes")
