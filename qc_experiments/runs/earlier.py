"""What an earlier start of the same run has left: its result, or a run that other code has made."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from qc_experiments.config.metrics import EXECUTION, LOSS
from qc_experiments.config.schema import Rerun, RunConfig
from qc_experiments.records.folder import RunFolder
from qc_experiments.records.results import Environment, read_environment
from qc_experiments.runs.provenance import code_commit
from qc_experiments.system.locking import locked
from qc_experiments.system.reading import Unreadable
from qc_experiments.system.unfinished import code_mark

log = logging.getLogger(__name__)


def earlier_result(
    config: RunConfig, folder: RunFolder, share: float, *, alone: bool
) -> dict[str, Any] | None:
    """The result of an earlier start, told of; None where the run is to be made.

    Args:
        config: the whole config.
        folder: of the run; emptied where ``sweep.rerun`` asks for that.
        share: of its steps that the run is to take.
        alone: whether it is the only run; one of many is told of in a line.
    """
    known = _known(config, folder, share)
    if known is None:
        _begin_again(config, folder)
        return None
    if _rerun(config, folder, known, share):
        return None
    if known["status"] != "finished":
        log.info("Has been trained to this point before")
    elif alone:
        log.info("This run has finished before (delete its folder to run it again); its result:\n")
        log.info("%s", folder.summary())
    else:
        measured = [one for one in (LOSS, EXECUTION) if known.get(one.key) is not None]
        shown = ", ".join(f"{one.title} {known[one.key]:.4f}" for one in measured)
        log.info("Finished before: %s; %s", shown, folder.path)
    return known


def _known(config: RunConfig, folder: RunFolder, share: float) -> dict[str, Any] | None:
    """What was found after a share of the steps, or at the end."""
    paused = folder.paused(share) if share < 1 else None
    if paused is not None and paused[config.objective] is None:
        paused = None  # another objective ranked the runs then
    return paused or folder.finished()


def _begin_again(config: RunConfig, folder: RunFolder) -> None:
    """Warn of a run that other code has begun and this one would continue; start it over if asked to."""
    try:
        owner = read_environment(folder.path)
    except Unreadable:
        return
    checkpoints = list((folder / "checkpoints").glob("checkpoint-*"))
    if owner.config_hash != folder.identity.config_hash or not checkpoints:
        return
    if _is_of_other_code(config, folder, owner, "begun"):
        with locked(folder.path):
            folder.empty()


def _rerun(config: RunConfig, folder: RunFolder, known: Mapping[str, Any], share: float) -> bool:
    """Whether a run is to be made again, since other code has made it; says so if it has."""
    try:
        mark = read_environment(folder.path).code_mark
    except Unreadable:
        mark = None
    maker = Environment(code_commit=known.get("code_commit"), code_mark=mark)
    if not _is_of_other_code(config, folder, maker, "made"):
        return False
    with locked(folder.path):
        if _known(config, folder, share) == known:  # no other process has made it again meanwhile
            folder.empty()
    return True


def _is_of_other_code(config: RunConfig, folder: RunFolder, maker: Environment, what: str) -> bool:
    """Whether other code has made a run, and it is to be made again; says so if it has.

    Runs that were made before there were marks of code are known by their commits.
    """
    if maker.code_mark == code_mark():
        return False
    before, now = maker.code_commit, code_commit()
    if before == now:
        if maker.code_mark is None:
            return False
        before, now = maker.code_mark, code_mark()  # edited since the commit, or not from git
    kept = config.sweep.rerun is not Rerun.changed
    hint = "; sweep.rerun=changed runs such runs again" if kept else ""
    code = (_short(before), _short(now))
    log.warning("%s was %s by other code (%s, now %s)%s", folder.path, what, *code, hint)
    return not kept


def _short(commit: str | None) -> str:
    """A commit as people write it, with the mark of uncommitted changes."""
    head, plus, changes = (commit or "unknown").partition("+")
    return head[:12] + plus + changes
