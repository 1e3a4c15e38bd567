"""A Weights & Biases run: online where there is a login, else offline in the run's own folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from qc_experiments.config import TrackingConfig, WandbMode
from qc_experiments.tracking.tracker import Figure

INIT_SECONDS = 60
"""How long W&B may take to answer at the start."""

Mode = Literal["online", "offline", "disabled"]


def wandb_mode(asked: WandbMode) -> Mode:
    """As asked; for ``auto`` by ``WANDB_MODE``, else online where there is a login."""
    if asked is WandbMode.online:
        return "online"
    if asked is WandbMode.offline:
        return "offline"
    for mode in get_args(Mode):
        if os.environ.get("WANDB_MODE") == mode:
            return mode
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"


class WandbTracker:
    """One W&B run, with explicit steps.

    Args:
        tracking: project, entity, group, tags and mode.
        folder: the run's folder; W&B writes below it and nowhere else.
        run_id: stays the same when the same run is started again.
        name: shown on the dashboard.
        config: the nested config, so that the dashboard shows ``lora.r`` and its like.
        logged: figures of the steps before this start, by step. Online W&B has them already. Offline
            it does not go on with a run: they are told to a fresh one of the same id, and what earlier
            starts wrote is removed, so that no step is missing or there twice.
    """

    def __init__(
        self,
        tracking: TrackingConfig,
        folder: Path,
        run_id: str,
        name: str,
        config: dict[str, Any],
        logged: Sequence[tuple[int, Mapping[str, Figure]]] = (),
    ) -> None:
        import wandb

        # Artifact bytes would otherwise be staged below the home folder.
        os.environ["WANDB_DATA_DIR"] = str(folder / "wandb")
        self._wandb = wandb
        mode = wandb_mode(tracking.mode)
        earlier = folder / "wandb" / ".earlier"
        if mode == "offline":
            _put_aside((folder / "wandb").glob("offline-run-*"), earlier)
        self._run = wandb.init(
            project=tracking.project,
            entity=tracking.entity,
            group=tracking.group,
            job_type=tracking.job_type,
            tags=list(tracking.tags),
            notes=tracking.notes,
            id=run_id,
            name=name,
            config=config,
            dir=str(folder),
            mode=mode,
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(
                silent=True, console="off", save_code=False, init_timeout=INIT_SECONDS
            ),
        )
        if mode == "offline":
            for step, figures in logged:
                self.log(step, figures)
            shutil.rmtree(earlier, ignore_errors=True)

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Log the figures at their optimizer step."""
        self._run.log({k: v for k, v in figures.items() if v is not None}, step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Figure]]) -> None:
        """Log a W&B Table."""
        # One type a column, or W&B refuses the table: text, with nothing where there is nothing.
        data = [["" if cell is None else str(cell) for cell in row] for row in rows]
        self._run.log({name: self._wandb.Table(columns=list(columns), data=data)})

    def summary(self, figures: Mapping[str, Figure]) -> None:
        """Set the summary, by which the dashboard compares runs."""
        self._run.summary.update(dict(figures))

    def close(self, exit_code: int) -> None:
        """Finish the run, so that the next one in this process starts its own."""
        self._run.finish(exit_code=exit_code)


def _put_aside(folders: Iterable[Path], place: Path) -> None:
    """Move folders away before W&B makes a new one, whose name may be that of an old one."""
    shutil.rmtree(place, ignore_errors=True)
    for folder in list(folders):
        place.mkdir(exist_ok=True)
        os.replace(folder, place / folder.name)
