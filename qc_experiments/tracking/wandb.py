"""A Weights & Biases run: online where there is a login, else offline in the run's own folder."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from qc_experiments.config.schema import MOST_IN_WANDB_NAME, TrackingConfig, WandbMode
from qc_experiments.errors import UserError
from qc_experiments.system.secrets import redacted_tree
from qc_experiments.tracking.tracker import Figure, NullTracker, TrackedRun, Tracker

log = logging.getLogger(__name__)

INIT_SECONDS = 60
"""How long W&B may take to answer at the start."""

Mode = Literal["online", "offline", "disabled"]


def switched_off() -> bool:
    """Whether Hugging Face's variable for that says so: WANDB_DISABLED, with its values."""
    return os.environ.get("WANDB_DISABLED", "").upper() in ("1", "ON", "YES", "TRUE")


def check_wandb(tracking: TrackingConfig) -> None:
    """Make sure, before anything is computed, that W&B will take its settings.

    Raises:
        UserError: naming the variable of the environment that W&B refuses, or the missing login.
    """
    if tracking.name != "wandb" or switched_off():
        return
    import wandb
    from pydantic import ValidationError

    for name, value in sorted(os.environ.items()):
        if not name.startswith("WANDB_"):
            continue
        try:
            wandb.Settings().update_from_env_vars({name: value})
        except ValidationError as error:  # without the value, which may be a secret
            reason = error.errors()[0]["msg"]
        except (wandb.Error, ValueError) as error:
            reason = str(error)
        else:
            continue
        shown = f"{name}={value}" if name == "WANDB_MODE" else name
        raise UserError(f"{shown}: W&B refuses it ({reason}): set it right or unset it")
    try:
        online = wandb_mode(tracking.mode) == "online"
        known = not online or bool(wandb.login(prompt=False, verify=False))
    except (wandb.Error, ValueError) as error:
        raise UserError(f"W&B refuses the login ({error}): wandb login, or tracking=none") from None
    if not known and "WANDB_IDENTITY_TOKEN_FILE" not in os.environ:
        raise UserError(
            "tracking.mode=online needs a login: wandb login, or tracking.mode=offline, or tracking=none"
        )


def wandb_mode(asked: WandbMode) -> Mode:
    """As asked; for ``auto`` by ``WANDB_MODE``, else online where there is a login."""
    given = os.environ.get("WANDB_MODE", "") if asked is WandbMode.auto else asked.value
    given = {"dryrun": "offline", "run": "online"}.get(given, given)  # as W&B called them once
    for mode in get_args(Mode):
        if given == mode:
            return mode
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"


class WandbTracker:
    """One W&B run, with explicit steps.

    Online W&B has the figures of earlier starts already, but for those that were tracked offline, and goes
    on with them where this run goes on; one that starts over takes their place. Offline it does not go on
    with a run: they are sent to a fresh one of the same id, and what earlier starts wrote is removed, so
    that no step is missing or there twice. W&B writes below the run's folder and nowhere else.
    """

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        # Artifact bytes would otherwise be staged below the home folder.
        os.environ["WANDB_DATA_DIR"] = str(run.folder / "wandb")
        self._wandb = wandb
        tracking, name = run.config, run.name
        mode = wandb_mode(tracking.mode)
        earlier = run.folder / "wandb" / ".earlier"
        unsent = list((run.folder / "wandb").glob("offline-run-*"))
        if mode == "offline":  # moved away: the name of a new one may be that of an old one
            shutil.rmtree(earlier, ignore_errors=True)
            for folder in unsent:
                earlier.mkdir(exist_ok=True)
                os.replace(folder, earlier / folder.name)
        self._run = wandb.init(
            project=tracking.project,
            entity=tracking.entity,
            group=redacted_tree(tracking.group),
            job_type=tracking.job_type,
            tags=redacted_tree(tracking.tags),
            notes=redacted_tree(tracking.notes),
            id=run.run_id,
            name=name if len(name) <= MOST_IN_WANDB_NAME else f"{name[:119]}{name[-9:]}",
            config=run.settings,
            dir=str(run.folder),
            mode=mode,
            resume="allow" if mode == "online" and run.logged else None,
            settings=wandb.Settings(
                silent=True,
                console="off",
                save_code=False,
                disable_git=True,  # a remote's address may hold a token; we record the commit
                init_timeout=INIT_SECONDS,
            ),
        )
        if mode == "offline" or (mode == "online" and unsent):
            for step, figures in run.logged:
                self.log(step, figures)
            for folder in [earlier] if mode == "offline" else unsent:
                shutil.rmtree(folder, ignore_errors=True)

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


def wandb_tracker(run: TrackedRun) -> Tracker:
    """``tracking.name=wandb``, unless the environment switches it off."""
    if switched_off():
        log.info("WANDB_DISABLED is set: nothing is sent to Weights & Biases")
        return NullTracker()
    return WandbTracker(run)


wandb_tracker.check = check_wandb  # type: ignore[attr-defined]
