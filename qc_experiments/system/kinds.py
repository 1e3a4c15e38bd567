"""What a value that was read from a file may be."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from qc_experiments.system.reading import Unreadable

MOST = 1e15
"""The largest measured figure, and nearly the largest whole number that a float holds."""


class Kind(NamedTuple):
    """What a value may be, in words and as a test; null is always allowed: it was not measured."""

    name: str
    allows: Callable[[object], bool]


def _number(low: float, high: float) -> Callable[[object], bool]:
    # Neither NaN nor what is beyond floats lies between two numbers.
    return lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    )


def _whole(low: float, high: float) -> Callable[[object], bool]:
    within = _number(low, high)
    return lambda value: isinstance(value, int) and within(value)


SHARE = Kind("a share from 0 to 1", _number(0, 1))
COUNT = Kind("a count", _whole(0, MOST))
WHOLE = Kind("a whole number", _whole(-(2.0**64), 2.0**64))
AMOUNT = Kind("a number from 0 up", _number(0, MOST))
NUMBER = Kind("a number", _number(-MOST, MOST))
FINITE = Kind("a number that a float holds", _number(-sys.float_info.max, sys.float_info.max))
TEXT = Kind("a text", lambda value: isinstance(value, str))
NAME = Kind(
    "a short text",
    lambda value: isinstance(value, str) and value.isprintable() and len(value) < 4096,
)
SCALAR = Kind(
    "a text or a number",
    lambda value: (
        isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
    ),
)


def check(value: Any, kind: Kind, where: str) -> Any:
    """A value, if it is null or of a kind.

    Raises:
        Unreadable: if it is not, naming ``where`` it stands: file and key.
    """
    if value is not None and not kind.allows(value):
        raise Unreadable(f"{where} is {reprlib.repr(value)}, not {kind.name}")
    return value
