"""Read files that may hold anything: without blocking, up to a limit, and with one line on what is wrong.

Run folders are copied, cut and edited by hand, and one that cannot be read must end neither a comparison
of others nor a training.
"""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import reprlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from qc_experiments.system.paths import open_file

MOST_BYTES = 1 << 20
"""Of a file that holds settings or figures; ours take some thousands."""

DEEPEST = 50
"""Levels of a YAML file; a config has three."""

LONGEST_ALIASED = 1000
"""Characters of a YAML value that may be repeated by aliases."""


class Unreadable(Exception):
    """A file is not what it should be; the message is one line that says which and why."""


@contextmanager
def long_cells() -> Iterator[None]:
    """Let `csv` read cells of any length: a schema can be longer than its limit of 131,072 characters."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@contextmanager
def opened(path: Path, most: int = MOST_BYTES) -> Iterator[BinaryIO | None]:
    """Open a regular file of at most so many bytes to read it, or give None where there is none.

    Raises:
        Unreadable: if it is no such file (a pipe, device or folder is never waited for) or cannot be read.
    """
    try:
        file = open_file(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise Unreadable(f"{path.name} cannot be read ({error.strerror})") from None
        yield None
        return
    with file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise Unreadable(f"{path.name} has {size} bytes, more than {most}")
        try:
            yield file
        except OSError as error:
            raise Unreadable(f"{path.name} cannot be read ({error.strerror})") from None


def read_file(path: Path, most: int = MOST_BYTES) -> bytes | None:
    """The content of a regular file, or None where there is none; see `opened`."""
    with opened(path, most) as file:
        return None if file is None else file.read(most)


def read_text(path: Path, most: int = MOST_BYTES) -> str | None:
    """The same as text in UTF-8; a byte order mark is left out."""
    content = read_file(path, most)
    try:
        return None if content is None else content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable(f"{path.name} is not UTF-8") from None


def read_json(path: Path, most: int = MOST_BYTES) -> dict[str, Any] | None:
    """The object in a JSON file, or None where there is no file."""
    text = read_text(path, most)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except RecursionError:
        raise Unreadable(f"{path.name} is nested too deeply") from None
    except ValueError as error:
        raise Unreadable(f"{path.name} is no JSON ({str(error)[:100]})") from None
    if not isinstance(found, dict):
        raise Unreadable(f"{path.name} holds no JSON object")
    return found


def parse_yaml(text: str, name: str) -> dict[Any, Any]:
    """The mapping in the YAML text of a file; empty where there is nothing in it.

    Raises:
        Unreadable: if it holds something else, or aliases of more than a short value: these can multiply
            without end, and hold themselves.
    """
    import yaml

    # PyYAML's loader in C, where it was built with it, takes a tenth of the other's time.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth, short = 0, set()
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                if event.anchor not in short:
                    raise Unreadable(f"{name} repeats a section or a long value by an alias")
            elif isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > DEEPEST:
                    raise Unreadable(f"{name} is nested too deeply")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.ScalarEvent) and event.anchor is not None:
                short.discard(event.anchor)
                if len(event.value) <= LONGEST_ALIASED:
                    short.add(event.anchor)
        found = yaml.load(text, Loader=loader)
    except (ValueError, TypeError, OverflowError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise Unreadable(f"{name} is no YAML ({reason[:100]})") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Unreadable(f"{name} holds no settings")
    return found


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
