"""A run's ``train.log``, and what is written down of a run that fails."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError
from qc_experiments.records.folder import RunFolder
from qc_experiments.system.console import SafeFormatter
from qc_experiments.system.processes import is_main_process
from qc_experiments.system.secrets import redacted
from qc_experiments.training.out_of_memory import explain_shortage

log = logging.getLogger(__name__)
file_only = logging.getLogger("qc_experiments_file")
"""Reaches the run's ``train.log`` but not the terminal, which Python tells of tracebacks itself."""
file_only.propagate = False


@contextmanager
def logged(folder: RunFolder) -> Iterator[None]:
    """Write everything that is logged to the run's ``train.log`` as well."""
    if not is_main_process():
        yield
        return
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    handler.setFormatter(SafeFormatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = (logging.getLogger("qc_experiments"), file_only)
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


@contextmanager
def failures_recorded(config: RunConfig, folder: RunFolder) -> Iterator[None]:
    """Say in ``result.json`` that the run failed, and in ``train.log`` where.

    Raises:
        UserError: for a lack of memory or disk, with what to change; any other exception as it is.
    """
    try:
        yield
    except BaseException as error:
        told = explain_shortage(error, config, folder.path) or error
        # What comes after the result (closing W&B, say) cannot take it back.
        if folder.finished() is None and folder.held():
            _record(folder, error, told)
        if told is error:
            raise
        raise told from error


def _record(folder: RunFolder, error: BaseException, told: BaseException) -> None:
    if not isinstance(error, UserError):
        file_only.error("%s", "".join(traceback.format_exception(error)))
    reason = redacted(f"{type(told).__name__}: {told}".splitlines()[0].rstrip(": "))
    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    config_hash = folder.identity.config_hash
    try:
        folder.result({"status": status, "config_hash": config_hash, "error": reason})
    except OSError:  # a full disk, say; the error that is on its way tells what happened
        log.error("%s could not be written", folder / "result.json")
