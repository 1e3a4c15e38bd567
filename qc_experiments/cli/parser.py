"""How the commands other than `qc train` and `qc plan` read their flags: mistakes are told in one line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NoReturn

from qc_experiments.errors import UserError
from qc_experiments.system.words import nearest

UNKNOWN = "unrecognized arguments: "
"""How argparse begins what it says of flags that there are not."""


class Parser(argparse.ArgumentParser):
    """Raises a `UserError` for what argparse refuses, instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Tell a mistake; of a flag that there is not, which one may be meant."""
        if message.startswith(UNKNOWN):
            word = message.removeprefix(UNKNOWN).split()[0]
            flag = word.partition("=")[0]
            message = f"{flag}: no such flag{nearest(flag, _flags(self))}"
            if not word.startswith("-"):
                message = f"{word}: one argument too many"
        raise UserError(f"{message}; {self.prog} --help lists what it takes")


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from _flags(one)
