"""What a finished run has left behind that an export needs: its settings, figures, and trained weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import lexists
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError
from qc_experiments.models.saved import typed
from qc_experiments.records.find import MODELS, saved_model
from qc_experiments.records.results import CONFIG_BYTES, read_result
from qc_experiments.system.paths import folder_problem
from qc_experiments.system.reading import Unreadable, parse_yaml, read_json, read_text


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder, read.

    Attributes:
        folder: the run's.
        trained: the folder of its weights.
        config: its settings.
        result: the content of ``result.json``.
        environment: the content of ``environment.json``.
    """

    folder: Path
    trained: Path
    config: RunConfig
    result: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def holds_adapter(self) -> bool:
        """Whether an adapter was trained, not all weights."""
        return self.trained.name == MODELS[0]


def read_run(folder: Path) -> FinishedRun:
    """Read a run; its ``adapter/`` or ``model/`` folder stands for it.

    Raises:
        UserError: if it is none, has not finished, or cannot be read.
    """
    if problem := folder_problem(folder):
        raise UserError(f"{folder}: {problem}; name the folder of a run")
    folder = Path(os.path.abspath(folder))  # "." has no name and no parent
    if folder.name in MODELS and not lexists(folder / "config.yaml"):
        folder = folder.parent
    if not lexists(folder / "config.yaml"):
        raise UserError(f"{folder}: is no run (it has no config.yaml): name a folder in outputs/")
    try:
        result = read_result(folder)
        environment = read_json(folder / "environment.json") or {}
        settings = parse_yaml(read_text(folder / "config.yaml", CONFIG_BYTES) or "", "config.yaml")
    except (Unreadable, ValueError) as problem:
        raise UserError(f"{folder}: {problem}; train it again") from None
    if result is None or result.get("status") != "finished":
        raise UserError(f"{folder}: has not finished: run its command again, and it goes on")
    trained = saved_model(folder)
    if trained is None:
        raise UserError(
            f"{folder}: has neither adapter/ nor model/: nothing was trained (trainer.max_steps=0), or they "
            "were moved"
        )
    config = typed(RunConfig, settings, folder / "config.yaml", "the run")
    return FinishedRun(folder, trained, config, result, environment)
