"""Folders that are made once per user, each whole or not at all, by one process at a time."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from qc_experiments.errors import UserError
from qc_experiments.system.files import write_failure
from qc_experiments.system.locking import waiting_for

DRAFT = ".unpacking-"
"""How the names of folders begin that are being made."""

log = logging.getLogger(__name__)


def made_once(folder: Path, make: Callable[[Path], None], announcement: str) -> Path:
    """A folder with a model, made on first use beside its final place and then renamed.

    Args:
        folder: where it is or will be.
        make: fills an empty folder.
        announcement: is logged before it is made.

    Raises:
        UserError: if it cannot be written.
    """
    if _is_made(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with waiting_for(folder.parent):
            if not _is_made(folder):  # by the process that was waited for
                for left in folder.parent.glob(f"{DRAFT}*"):  # by a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                log.info("%s into %s (once) ...", announcement, folder)
                _make(folder, make)
    except UserError:
        raise
    except Exception as error:
        reason = write_failure(error)
        if reason is None:
            raise
        raise UserError(
            f"{folder.parent}: cannot be written ({reason}): make room there, or name another cache folder "
            "(paths.cache=..., --cache of qc predict)"
        ) from error
    return folder


def _is_made(folder: Path) -> bool:
    names = ("model.safetensors", "model.safetensors.index.json")
    return any(os.path.isfile(folder / name) for name in names)


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=folder.parent))
    try:
        make(draft)
        for file in draft.iterdir():  # a rename may outlast a power cut that its files do not
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
