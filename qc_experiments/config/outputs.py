"""The sections ``tracking``, ``paths``, ``sweep`` and ``plan``: where results go, how runs are started."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum

from qc_experiments.config.plugins import TRACKERS, check_name
from qc_experiments.config.ranges import Range, at_least, check_ranges, setting
from qc_experiments.errors import UserError
from qc_experiments.system.paths import user_path

NOT_IN_WANDB_NAMES = "/\\#?%:"
MOST_IN_WANDB_NAME, MOST_IN_WANDB_TAG = 128, 64
SHORT = Range(
    f"of 1 to {MOST_IN_WANDB_NAME} characters", lambda value: 0 < len(value) <= MOST_IN_WANDB_NAME
)
NAME = Range(
    f"a name without any of {' '.join(NOT_IN_WANDB_NAMES)}, {SHORT.text}",
    lambda value: (
        bool(value.strip() and not set(value) & set(NOT_IN_WANDB_NAMES)) and SHORT.holds(value)
    ),
)


class WandbMode(Enum):
    """Whether W&B talks to its server."""

    auto = "auto"  # online when there is a login, offline when there is none
    online = "online"
    offline = "offline"


@dataclass(frozen=True)
class TrackingConfig:
    """Weights & Biases, or nothing."""

    name: str = "wandb"
    """wandb, none, or a tracker of your own by its dotted name."""
    mode: WandbMode = WandbMode.auto
    """auto (online with a login, else offline), online or offline."""
    project: str = setting("qc_experiments", NAME)
    """W&B project."""
    entity: str | None = setting(None, NAME)
    """W&B team or user; null takes the login's default."""
    group: str | None = setting(None, SHORT)
    """W&B group, such as the name of a sweep."""
    job_type: str = setting("train", SHORT)
    """W&B job type."""
    tags: list[str] = field(default_factory=list)
    """W&B tags, each of 1 to 64 characters."""
    notes: str | None = None
    """W&B notes."""

    def __post_init__(self) -> None:
        check_name("tracking.name", self.name, TRACKERS)
        if self.name != "wandb":
            return
        team, slash, project = self.project.partition("/")
        if slash and team and project and "/" not in project:
            raise UserError(
                f"tracking.project={self.project}: a team is named apart: tracking.entity={team} "
                f"tracking.project={project}"
            )
        check_ranges(self, "tracking")
        for tag in self.tags:
            if not 0 < len(tag) <= MOST_IN_WANDB_TAG:
                raise UserError(
                    f"tracking.tags={tag}: must be of 1 to {MOST_IN_WANDB_TAG} characters"
                )


@dataclass(frozen=True)
class PathsConfig:
    """Where things are written."""

    output: str = "outputs"
    """Folder in which each run makes its own."""
    cache: str = field(
        default_factory=lambda: os.environ.get("QC_CACHE", "~/.cache/qc_experiments")
    )
    """Folder for what is made once per user, such as the embedded model's weights; the environment
    variable QC_CACHE names another one."""

    def __post_init__(self) -> None:
        user_path(self.output, "paths.output")
        user_path(self.cache, "paths.cache")


@dataclass(frozen=True)
class PlanConfig:
    """What is planned besides the run itself."""

    device: str | None = None
    """The device that memory is planned for, and for a named card the time: a size such as 24GB, a card
    such as h100, or cpu; null: this machine's."""
    auto: bool = False
    """Choose what is left at its default from rows, model and device, and say why (experiment=auto)."""
    given: list[str] = field(default_factory=list)
    """Filled in by the commands: the keys that were set where the run was started, which auto leaves."""
    save: str | None = None
    """File to which ``qc plan experiment=auto`` writes what was chosen, as an experiment of your own:
    my_conf/experiment/mine.yaml."""


class Rerun(Enum):
    """Which runs are run again from their beginning."""

    never = "never"
    changed = "changed"


@dataclass(frozen=True)
class SweepConfig:
    """How the runs of a sweep are gone through (``-m``)."""

    halving: int | None = setting(None, at_least(2))
    """Successive halving of a grid (Jamieson and Talwalkar 2016, arXiv:1502.07943): all runs train for an
    eighth of their steps (a ninth with 3), the better half (the best third) by ``objective`` goes on to twice
    (three times) as many from where it was, and so on to the end. null: every run trains to its end."""
    rerun: Rerun = Rerun.never
    """Runs that begin again: ``changed`` are those that other code has made or begun."""

    def __post_init__(self) -> None:
        check_ranges(self, "sweep")
