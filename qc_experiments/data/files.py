"""Find the files that a config names: paths, home folders, and files inside Python packages."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from qc_experiments.errors import UserError

PACKAGE_PREFIX = "pkg://"


def resolve_path(text: str, key: str) -> Path:
    """Turn a config's path into a real one.

    Args:
        text: a path (``~`` allowed, relative to the working directory) or ``pkg://package/file``.
        key: the config key, for the error.

    Raises:
        UserError: if nothing is there.
    """
    if not text.strip():
        raise UserError(f"{key}=: is empty; give a path")
    if text.startswith(PACKAGE_PREFIX):
        package, _, name = text.removeprefix(PACKAGE_PREFIX).partition("/")
        try:
            spec = find_spec(package)
        except ModuleNotFoundError:
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"{key}={text}: there is no Python package {package}")
        path = Path(next(iter(spec.submodule_search_locations))) / name
    else:
        path = Path(text).expanduser()
    if not path.exists():
        raise UserError(f"{key}={text}: no such file or folder (looked at {path.absolute()})")
    return path


def hash_bytes(*parts: bytes) -> str:
    """SHA-256 in hexadecimal of some byte strings, each with its length, so that borders count."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
