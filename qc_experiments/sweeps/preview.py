"""What a sweep is going to do, told before it starts: all of it, and each of its jobs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from qc_experiments.config.compose import composed, explain, to_run_config
from qc_experiments.config.metrics import EXECUTION, LOSS, metric_called, own_metrics
from qc_experiments.config.overrides import check_overrides
from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError
from qc_experiments.system.paths import output_problem, user_path
from qc_experiments.system.processes import usable_cores
from qc_experiments.system.secrets import place_of_secret
from qc_experiments.system.words import counted

log = logging.getLogger(__name__)

MOST_JOBS = 300
"""Jobs that are looked at; each takes some hundredths of a second."""


@dataclass(frozen=True)
class SweepPlan:
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
            different: runs that differ from each other and are not refused, where that is known.
        """
        if self.jobs is None:
            return f"A search over {' '.join(self.swept)} in {self.output}"
        count = len(self.jobs) if different is None else different
        jobs = f" ({len(self.jobs):,} jobs)" if count != len(self.jobs) else ""
        text = f"A sweep of {counted(count, 'run')}{jobs} in {self.output}"
        if self.swept:
            text += f": {' '.join(self.swept)}"
        if self.halving is not None:
            text += f"; sweep.halving={self.halving}: only the better ones go to their end"
        if self.at_once > 1:
            threads = self.threads_per_job()
            share = "" if threads is None else f", {counted(threads, 'thread')} each"
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


def plan_sweep(overrides: Sequence[str], config_dir: str | None) -> SweepPlan | None:
    """Plan a sweep; None where Hydra is about to say what is wrong.

    Args:
        overrides: of the command line, checked.
        config_dir: the user's folder of option files, or None.

    Raises:
        UserError: for what would make the sweep useless as a whole.
    """
    given = _parsed(overrides)
    _check_one_preset(given)
    fixed = [one.input_line or "" for one in given if not one.is_sweep_override()]
    try:
        # Not checked as a whole: what is swept may be what makes it right.
        config = composed(fixed, config_dir, with_hydra=True)
    except Exception as error:
        if explain(error) is None:
            raise
        return None
    _refuse_auto(config)
    # Hydra's record of a sweep and a launcher's job files hold all of it.
    if secret := place_of_secret(OmegaConf.to_container(config, resolve=False)):
        raise UserError(
            f"{secret}: an option file holds a password or token, which a sweep's records would repeat: "
            "name an environment variable in its place, as in ${oc.env:PASSWORD}"
        )
    halving, sweeper = config.sweep.halving, config.hydra.sweeper
    params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    every = [*_parsed(check_overrides(params, config_dir, multirun=True)), *given]
    last = {one.get_key_element(): one for one in every}
    swept = [one for one in last.values() if one.is_sweep_override()]
    searches = not str(sweeper["_target_"]).endswith("BasicSweeper")
    if config.objective == LOSS.key and (searches or halving is not None):
        _warn_of_losses(swept)
    output = user_path(config.paths.output, "paths.output").absolute()
    if problem := output_problem(output):
        raise UserError(
            f"paths.output={config.paths.output}: the sweep's folder cannot be written ({problem})"
        )
    if searches:
        _check_search(config)
        jobs = None
    else:
        _check_grid(swept, halving)
        jobs = _grid(swept)
    lines = tuple(str(one.input_line) for one in swept)
    at_once = _at_once(config.hydra.launcher, None if jobs is None else len(jobs))
    return SweepPlan(output, lines, jobs, halving, at_once)


def job_config(given: DictConfig) -> RunConfig:
    """The checked config of a job of a sweep.

    Raises:
        UserError: for what cannot be run, or not beside others.
    """
    config = to_run_config(given)
    _refuse_auto(config)
    return config


def _refuse_auto(config: Any) -> None:
    if config.plan.auto:
        raise UserError(
            "experiment=auto: chooses for one run, so that jobs of a sweep could not be compared; let "
            "qc plan experiment=auto plan.save=my_conf/experiment/mine.yaml write a preset, and sweep that"
        )


def first_job(overrides: Sequence[str]) -> tuple[str, ...]:
    """The overrides of a sweep's first job, to see what is wrong with all of them."""
    return _grid(_parsed(overrides))[0]


def _parsed(overrides: Sequence[str]) -> list[Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides(list(overrides))


def _grid(overrides: Sequence[Any]) -> tuple[tuple[str, ...], ...]:
    """The overrides of each job, in the order of Hydra's own sweeper."""
    values: dict[str, list[str]] = {}
    for one in overrides:
        key, discrete = one.get_key_element(), one.is_discrete_sweep()
        swept = one.sweep_string_iterator() if discrete else ()
        values[key] = [f"{key}={value}" for value in swept] or [one.input_line]
    return tuple(product(*values.values()))


def _check_one_preset(given: Sequence[Any]) -> None:
    for one in given:
        if one.key_or_group == "sweep" and one.is_sweep_override():
            raise UserError(
                f"{one.input_line}: only the last would count: name one, and give the keys of the other with "
                "their values"
            )


def _warn_of_losses(swept: Sequence[Any]) -> None:
    for one in swept:
        if one.get_key_element() in ("model", "model.name_or_path"):
            log.warning(
                "%s: the better ones are chosen by loss, which compares between models of one tokenizer "
                "alone; objective=%s compares all",
                one.input_line,
                EXECUTION.key,
            )
            return


def _check_grid(swept: Sequence[Any], halving: int | None) -> None:
    for one in swept:
        problem = None
        if not one.is_discrete_sweep():
            problem = "only a search takes this; add hydra/sweeper=optuna"
        elif halving is not None and getattr(one.value(), "shuffle", False):
            problem = "a halving needs the same order each time: no shuffle"
        elif one.get_key_element() == "sweep.halving":
            problem = "goes through a grid as a whole; give it one value"
        if problem:
            raise UserError(f"{one.input_line}: {problem}")


def _check_search(config: Any) -> None:
    if config.sweep.halving is not None:
        raise UserError("sweep.halving goes through a grid: leave out either it or hydra/sweeper")
    own = own_metrics(config.evaluation.metrics)
    objective = metric_called(config.objective, own, setting="objective=", chosen=True)
    given = config.hydra.sweeper.get("direction")
    direction = getattr(given, "name", given)
    wanted = "maximize" if objective.higher_is_better else "minimize"
    if isinstance(direction, str) and direction != wanted:
        raise UserError(
            f"hydra.sweeper.direction={direction} would look for the worst {objective.key}: it must "
            f"be {wanted} with objective={objective.key}"
        )


def _at_once(launcher: Any, jobs: int | None) -> int:
    """How many of the jobs a launcher runs side by side on this machine."""
    kind = str(launcher["_target_"]).rpartition(".")[2]
    most = 1
    if kind == "JoblibLauncher":
        n_jobs = int(launcher.n_jobs)
        most = n_jobs if n_jobs > 0 else usable_cores() + 1 + n_jobs  # as joblib counts
    elif kind == "LocalLauncher":
        most = jobs or 1  # submitit starts all of them
    return max(1, most if jobs is None else min(most, jobs))


def tell_jobs(plan: SweepPlan, overrides: Sequence[str], config_dir: str | None) -> int:
    """Say what a sweep is going to do, job by job; returns how many jobs will be refused.

    Args:
        plan: what is known of it; its jobs are known.
        overrides: of the command line, checked.
        config_dir: the user's folder of option files, or None.
    """
    fixed = [one for one in overrides if one.partition("=")[0] not in plan.keys]
    known: dict[str, Any] = {}
    first: dict[str, int] = {}
    lines = []
    refused = 0
    jobs = plan.jobs or ()
    for number, job in enumerate(jobs):
        line = f"Job {number}: {' '.join(job) or 'the settings as given'}"
        if number < MOST_JOBS:
            try:
                name = _checked_name(job_config(composed((*fixed, *job), config_dir)), known)
                if first.setdefault(name, number) != number:
                    line += f" (the same run as job {first[name]})"
            except Exception as error:
                reason = explain(error)
                if reason is None:
                    raise
                refused += 1
                line += f"\n  will be refused: {reason}"
        lines.append(line)
    different = len(first) + max(0, len(jobs) - MOST_JOBS)
    log.info("%s", "\n".join([plan.text(different), *lines]))
    return refused


def _checked_name(config: RunConfig, known: dict[str, Any]) -> str:
    """The name of a run of which all has been checked that can be before it computes.

    Args:
        config: the whole, checked config.
        known: what other jobs have found: rows are read once for all jobs that have the same, and
            tokenized once for each model and adapter.
    """
    from qc_experiments.config.plugins import COLLATORS
    from qc_experiments.evaluation.golds import try_own_metrics
    from qc_experiments.runs.train import plan_of, run_folder
    from qc_experiments.tracking.tracker import check_tracking
    from qc_experiments.training.inputs import load_data

    def once(what: object, make: Callable[[], Any]) -> Any:
        key = repr(what)
        if key not in known:
            try:
                known[key] = make()
            except UserError as error:
                known[key] = error
        if isinstance(known[key], UserError):
            raise known[key]
        return known[key]

    rows = (config.data, config.evaluation)
    data = once(("rows", *rows), lambda: load_data(config))
    folder = run_folder(config, data)
    if folder.finished() is None:
        folder.check_owner(config)
    once(("tracking", config.tracking), lambda: check_tracking(config.tracking))
    own = None if config.collator.name in COLLATORS else config.collator
    checked = (config.collator.attention, config.trainer.optim)
    what = (*rows, config.model, config.lora, config.quant, own, *checked)
    once(("plan", *what), lambda: plan_of(config, data))
    once(("metrics", *rows), lambda: try_own_metrics(config, data.validation))
    return folder.path.name
