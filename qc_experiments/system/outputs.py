"""What a command may write: nothing that it reads, nothing twice, and no file of another kind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from qc_experiments.errors import UserError
from qc_experiments.system.paths import open_file, output_file_problem, output_problem, user_path

CSV, PAGE, JSON, PRESET = "CSV", "web page", "JSON", "experiment"
BEGINNINGS = {
    CSV: r"[^\0<{\[#\n][^\0\n]*[,;\t]",
    PAGE: r"(?i)<!doctype html|<html",
    JSON: r"[{\[]",
    PRESET: r"# @package",
}
"""How a file of each kind begins."""
LOOKED_AT = 4096
"""Bytes of a file in which its beginning is looked for."""


def output_paths(
    outputs: Iterable[tuple[str, str | None, str]],
    inputs: Iterable[str | Path | None],
    *,
    makes_folders: bool = False,
) -> dict[str, Path]:
    """Where files are to be written, by the flag that says so.

    Args:
        outputs: flag, what was given for it (None: nothing is written), and the kind of file.
        inputs: what the command reads; URLs and what is not there are passed over.
        makes_folders: whether a file's folder is made where it is missing.

    Raises:
        UserError: if one cannot be written, is an input, repeats another, or would replace a file of
            another kind.
    """
    read = [Path(os.path.expanduser(one)) for one in inputs if one is not None]
    found: dict[str, Path] = {}
    for flag, given, kind in outputs:
        if given is None:
            continue
        path = user_path(given, flag)
        said = f"{flag} {path}"
        if problem := _problem(path, makes_folders):
            raise UserError(f"{said}: {problem}")
        if any(_same(path, one) for one in read):
            raise UserError(f"{said}: is an input; choose another name")
        if other := next((name for name, one in found.items() if _same(path, one)), None):
            raise UserError(f"{said}: is what {other} names; choose another name")
        if path.exists() and not _is_kind(path, kind):
            raise UserError(
                f"{said}: is a file that is no {kind}; choose another name, or remove it"
            )
        found[flag] = path
    return found


def _problem(path: Path, makes_folders: bool) -> str | None:
    if makes_folders and not path.parent.exists():
        return output_problem(path.parent)
    return output_file_problem(path)


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # one of them is not there
        return os.path.realpath(path) == os.path.realpath(other)


def _is_kind(path: Path, kind: str) -> bool:
    """Whether a file begins as its kind does; an empty one may become anything."""
    try:
        with open_file(path) as file:
            beginning = file.read(LOOKED_AT)
    except OSError:
        return False
    text = beginning.decode("utf-8", "ignore").removeprefix("\ufeff").lstrip()
    return not text or re.match(BEGINNINGS[kind], text) is not None
