"""Which saved model a user means who names a run."""

from __future__ import annotations

from os.path import lexists
from pathlib import Path

from qc_experiments.errors import UserError
from qc_experiments.models.saved import PROMPTING_FILE
from qc_experiments.records.find import MODELS, is_run, newest_model, runs_below, saved_model
from qc_experiments.system.paths import NO_SUCH_FOLDER, folder_problem, user_path

LATEST = "latest"


def named_model(text: str, key: str, outputs: str) -> Path:
    """The ``adapter/`` or ``model/`` of a run.

    Args:
        text: that folder, the run's, the run's name below ``outputs``, or ``latest``: of the runs below
            ``outputs`` the one that finished last.
        key: what the user calls it, for messages.
        outputs: where runs are looked for.

    Raises:
        UserError: if the name is empty, or no run has saved a model there.
    """
    if not text.strip():
        raise UserError(f"{key} is empty: name a run's folder, or {LATEST} for the newest run")
    below = user_path(outputs, "--outputs")
    if text == LATEST:
        return _latest(key, below)
    folder = user_path(text, key)
    if folder_problem(folder) == NO_SUCH_FOLDER and is_run(below / folder):
        folder = below / folder
    if problem := folder_problem(folder):
        raise UserError(
            f"{key} {folder}: {problem}; name a run's folder, or {LATEST} for the newest run"
        )
    if lexists(folder / PROMPTING_FILE):
        return folder
    found = saved_model(folder)
    if found is not None:
        return found
    if is_run(folder):
        raise UserError(
            f"{key} {folder}: the run has not saved {' or '.join(MODELS)}/ yet: start it again with the "
            "same command, or name another one"
        )
    inside = next(runs_below(folder, lambda *_: None), None)
    if inside is not None:
        raise UserError(
            f"{key} {folder}: is not a run but holds some: name one, such as {inside}, or {LATEST} with "
            f"--outputs {folder}"
        )
    return folder  # what it lacks is said where it is read


def _latest(key: str, outputs: Path) -> Path:
    if problem := folder_problem(outputs):
        raise UserError(
            f"{key} {LATEST}: no run here yet ({outputs}: {problem}): train one with qc train, or name a "
            "folder that holds runs with --outputs"
        )
    found = newest_model(outputs)
    if found is None:
        raise UserError(
            f"{key} {LATEST}: no run below {outputs} has finished with a saved model: train one (qc "
            "train), or name where runs are with --outputs"
        )
    return found
