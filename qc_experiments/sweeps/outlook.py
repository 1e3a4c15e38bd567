"""What a sweep is going to do, told before it starts."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from qc_experiments.config.compose import check_overrides, composed, explain
from qc_experiments.config.metrics import EXECUTION, LOSS, Metric, metric_called, own_metrics
from qc_experiments.errors import UserError
from qc_experiments.system.paths import output_problem, user_path
from qc_experiments.system.processes import usable_cores
from qc_experiments.system.secrets import place_of_secret

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outlook:
    """What is known of a sweep beforehand.

    Attributes:
        output: folder of its runs, which all its jobs can write to, on whatever machine.
        swept: ``key=values`` as given, of each key that takes several values.
        jobs: the swept values of each job; None where a sweeper searches.
        halving: one in how many goes on, or None.
        at_once: jobs that run side by side on this machine.
    """

    output: Path
    swept: tuple[str, ...]
    jobs: tuple[tuple[str, ...], ...] | None
    halving: int | None
    at_once: int = 1

    @property
    def keys(self) -> list[str]:
        """The keys that take several values."""
        return [one.partition("=")[0] for one in self.swept]

    def text(self, different: int | None = None) -> str:
        """The same in one line for the user.

        Args:
            different: runs that differ from each other and are not refused; None where that is not known.
        """
        if self.jobs is None:
            return f"A search over {' '.join(self.swept)} in {self.output}"
        count = len(self.jobs) if different is None else different
        runs = f"{count:,} run{'' if count == 1 else 's'}"
        if count != len(self.jobs):
            runs += f" ({len(self.jobs):,} jobs)"
        text = f"A sweep of {runs} in {self.output}"
        if self.swept:
            text += f": {' '.join(self.swept)}"
        if self.halving is not None:
            text += f"; sweep.halving={self.halving}: only the better ones go to their end"
        if self.at_once > 1:
            threads = self.threads_per_job()
            share = "" if threads is None else f", {threads} thread{'s' * (threads > 1)} each"
            text += f"; {self.at_once} jobs at once{share}"
        return text

    def threads_per_job(self) -> int | None:
        """Threads of each job, so that jobs side by side share the cores; None where the user has set them.

        More threads than cores wait for each other at every product: two jobs with two threads each
        on two cores take several times as long as one after the other.
        """
        if self.at_once == 1 or "OMP_NUM_THREADS" in os.environ:
            return None
        return max(1, usable_cores() // self.at_once)


def outlook(overrides: Sequence[str], config_dir: str | None) -> Outlook | None:
    """Look ahead; None where Hydra is about to say what is wrong.

    Args:
        overrides: of the command line, checked.
        config_dir: the user's folder of option files, or None.

    Raises:
        UserError: for what would make the sweep useless as a whole.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    given = [parser.parse_override(one) for one in overrides]
    presets = [one for one in given if one.key_or_group == "sweep"]
    if len(presets) > 1 or any(one.is_sweep_override() for one in presets):
        named = " ".join(str(one.input_line) for one in presets)
        raise UserError(
            f"{named}: the last alone would hold; name one preset and give the keys of the other with "
            "their values"
        )
    fixed = [one.input_line or "" for one in given if not one.is_sweep_override()]
    try:
        # Not checked as a whole: what is swept may be what makes it right.
        config = composed(fixed, config_dir, with_hydra=True)
    except Exception as error:
        if explain(error) is None:
            raise
        return None
    _check_recorded(config)
    halving, sweeper = config.sweep.halving, config.hydra.sweeper
    params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    from_preset = check_overrides(params, config_dir, multirun=True)
    every = [*parser.parse_overrides(from_preset), *given]
    last = {one.get_key_element(): one for one in every}
    swept = [one for one in last.values() if one.is_sweep_override()]
    lines = tuple(str(one.input_line) for one in swept)
    grid = str(sweeper["_target_"]).endswith("BasicSweeper")
    models = [one for one in swept if one.get_key_element() in ("model", "model.name_or_path")]
    if models and config.objective == LOSS.key and not (grid and halving is None):
        log.warning(
            "%s: the better ones are chosen by loss, which compares between models of one tokenizer "
            "alone; objective=%s compares all",
            models[0].input_line,
            EXECUTION.key,
        )
    output = user_path(config.paths.output, "paths.output").absolute()
    if problem := output_problem(output):
        raise UserError(
            f"paths.output={config.paths.output}: the sweep's folder cannot be written ({problem})"
        )
    if not grid:
        if halving is not None:
            raise UserError(
                "sweep.halving goes through a grid: leave out either it or hydra/sweeper"
            )
        own = own_metrics(config.evaluation.metrics)
        metric = metric_called(config.objective, own, setting="objective=", chosen=True)
        _check_direction(metric, sweeper)
        return Outlook(output, lines, None, None, _at_once(config.hydra.launcher, None))
    _check_grid(swept, halving)
    (jobs,) = BasicSweeper.split_arguments(swept, None)
    at_once = _at_once(config.hydra.launcher, len(jobs))
    return Outlook(output, lines, tuple(map(tuple, jobs)), halving, at_once)


def _check_grid(swept: Sequence[Any], halving: int | None) -> None:
    """Refuse what is swept in a way that no grid, or no halving of one, can go through."""
    for one in swept:
        if not one.is_discrete_sweep():
            raise UserError(f"{one.input_line}: only a search takes this; add hydra/sweeper=optuna")
        if halving is not None and getattr(one.value(), "shuffle", False):
            raise UserError(
                f"{one.input_line}: a halving needs the same order each time: no shuffle"
            )
        if one.get_key_element() == "sweep.halving":
            raise UserError(f"{one.input_line}: goes through a grid as a whole; give it one value")


def first_job(overrides: Sequence[str]) -> list[str]:
    """The overrides of a sweep's first job, to see what is wrong with all of them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    return list(jobs[0])


def _at_once(launcher: Any, jobs: int | None) -> int:
    """Jobs that a launcher runs side by side on this machine.

    Args:
        launcher: its section of Hydra's config.
        jobs: how many there are; None where a sweeper searches.
    """
    kind = str(launcher["_target_"]).rpartition(".")[2]
    if kind == "JoblibLauncher":
        n_jobs = int(launcher.n_jobs)
        most = n_jobs if n_jobs > 0 else usable_cores() + 1 + n_jobs  # as joblib counts
    elif kind == "LocalLauncher":
        most = jobs or 1  # submitit starts all of them
    else:
        most = 1
    return max(1, most if jobs is None else min(most, jobs))


def _check_recorded(config: DictConfig) -> None:
    """Refuse a secret in an option file: Hydra's record of a sweep and a launcher's job files hold it all."""
    key = place_of_secret(OmegaConf.to_container(config, resolve=False))
    if key is not None:
        raise UserError(
            f"{key}: an option file holds a password or token, which a sweep's records would repeat: "
            "name an environment variable in its place, as in ${oc.env:PASSWORD}"
        )


def _check_direction(objective: Metric, sweeper: Any) -> None:
    given = sweeper.get("direction")
    direction = getattr(given, "name", given)
    wanted = "maximize" if objective.higher_is_better else "minimize"
    if isinstance(direction, str) and direction != wanted:
        raise UserError(
            f"hydra.sweeper.direction={direction} looks for the worst {objective.key}: it must "
            f"be {wanted} with objective={objective.key}"
        )
