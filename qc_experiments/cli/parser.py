"""How the commands other than `qc train` and `qc plan` read their flags: mistakes are told in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
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
        """Refuse what is not known here, where it is known whose flag it would have to be."""
        words: Sequence[str] = sys.argv[1:] if args is None else args
        known = set(_flags(self))
        for word in words:
            flag = word.partition("=")[0]
            if flag not in known and OTHER_NAMES.get(flag) in known:
                self.error(f"{UNKNOWN}{flag}")
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"{UNKNOWN}{' '.join(rest)}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Tell a mistake; of a flag that there is not, which one may be meant."""
        if message.startswith(UNKNOWN):
            word = message.removeprefix(UNKNOWN).split()[0]
            flag, known = word.partition("=")[0], set(_flags(self))
            other = OTHER_NAMES.get(flag)
            hint = (
                f" (did you mean {other}?)" if other in known else nearest(flag, known, cutoff=0.7)
            )
            message = f"{flag}: no such flag{hint}"
            if not word.startswith("-"):
                message = f"{word}: one argument too many"
        raise UserError(f"{message}; {self.prog} --help lists what it takes")


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from _flags(one)
