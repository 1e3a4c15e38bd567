"""Which values a key takes: said once beside its default, read by the check and by docs/settings.md."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from qc_experiments.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Values that a key takes besides null; the text completes "must be ..."."""

    text: str
    holds: Callable[[Any], bool]


SEED = Range("from 0 to 4294967295", lambda value: 0 <= value < 2**32)
"""What every generator of random numbers takes."""


def at_least(low: int, unit: str = "") -> Range:
    """This number or more."""
    return Range(f"at least {low} {unit}".rstrip(), lambda value: value >= low)


def one_of(*names: str) -> Range:
    """One of some words."""
    return Range(f"one of {', '.join(names)}", lambda value: value in names)


def setting(default: T, allowed: Range) -> T:
    """A dataclass field with a default and the range that `check_ranges` holds it to."""
    return field(default=default, metadata={"range": allowed})


def check_ranges(section: Any, name: str) -> None:
    """Refuse the first value of a section that is out of its range; `name` is "" for the whole config."""
    for one in fields(section):
        allowed, value = one.metadata.get("range"), getattr(section, one.name)
        if allowed is None:
            continue
        key = f"{name}.{one.name}".lstrip(".")
        if value is None:
            if "None" in str(one.type):
                continue
            raise UserError(f"{key}=null: must be {allowed.text}")  # a key of any type
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}={value}: must be a finite number")
        if not allowed.holds(value):
            raise UserError(f"{key}={value}: must be {allowed.text}")
