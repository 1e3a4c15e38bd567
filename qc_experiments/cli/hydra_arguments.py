"""The command line of `qc train` and `qc plan`: flags told from overrides, checked, handed to Hydra."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig

from qc_experiments.config.compose import explain, register_schema, to_run_config
from qc_experiments.config.keys import setting_of_flag
from qc_experiments.config.overrides import check_overrides
from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError
from qc_experiments.system.paths import folder_problem
from qc_experiments.system.secrets import in_environment
from qc_experiments.system.words import nearest

log = logging.getLogger("qc_experiments")

SHOWING = ("cfg", "info", "shell_completion")
"""Flags with which Hydra shows something, and which it does not take beside ``-m``."""


@dataclass(frozen=True)
class Arguments:
    """A command line, taken apart.

    Attributes:
        hydra: what Hydra's own parser makes of it.
        overrides: ``key=value`` and its like.
        config_dir: the user's folder of option files, or None.
        multirun: whether every combination of values is run.
        informs: whether something is shown and nothing run.
    """

    hydra: argparse.Namespace
    overrides: tuple[str, ...]
    config_dir: str | None
    multirun: bool
    informs: bool

    def checked(self) -> Arguments:
        """The same with overrides as Hydra reads them, see `check_overrides`."""
        read = check_overrides(self.overrides, self.config_dir, multirun=self.multirun)
        return replace(self, overrides=read)


@contextmanager
def command_line(arguments: Sequence[str]) -> Iterator[Arguments]:
    """A checked command line; its secrets are kept in the environment as long as it is at work.

    Raises:
        UserError: for what it cannot say, and in place of whatever Hydra or a file system refuses within.
    """
    register_schema()
    kept = sys.argv
    try:
        with in_environment(arguments) as without_secrets:
            if without_secrets != list(arguments):
                # W&B records the process's arguments, by which secrets would get into its files.
                sys.argv = [*sys.argv[:1], *without_secrets]
            yield parse_arguments(without_secrets).checked()
    except Exception as error:
        line = explain(error)
        if line is None or isinstance(error, UserError):
            raise
        raise UserError(line) from None
    finally:
        sys.argv = kept


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Tell Hydra's flags and their values from its overrides."""
    parser = hydra_parser()
    try:
        found, unknown = parser.parse_known_intermixed_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from None
    if found.experimental_rerun is not None:  # a second way to run, which nobody needs
        unknown.append("--experimental-rerun")
    if unknown:
        raise UserError(_no_such_flag(unknown[0], arguments))
    if found.config_dir is not None:
        found.config_dir = os.path.expanduser(
            found.config_dir
        )  # a shell leaves ~ after a = as it is
        if problem := folder_problem(found.config_dir):
            raise UserError(f"--config-dir {found.config_dir}: {problem}")
    shown = [name.replace("_", "-") for name in SHOWING if getattr(found, name)]
    if found.multirun and shown:
        raise UserError(f"-m runs and --{shown[0]} shows: leave out one of them")
    # The page of --help is the same whatever is swept, but Hydra would compose it all first.
    overrides = () if found.help else tuple(found.overrides)
    informs = bool(shown or found.help or found.hydra_help)
    return Arguments(found, overrides, found.config_dir, found.multirun, informs)


def _no_such_flag(flag: str, arguments: Sequence[str]) -> str:
    """What is said of a flag that Hydra does not have: the setting that is meant, if it is known."""
    name, has_value, value = flag.partition("=")
    if not has_value:
        value = next(iter(arguments[arguments.index(flag) + 1 :]), "")
    if value.startswith("-") or "=" in value:
        value = ""
    if name.strip("-").replace("_", "-") in ("dry-run", "plan", "check"):
        return f"{name}: no such flag; qc plan with the same settings says what a run would do"
    setting = setting_of_flag(name, value)
    if setting is not None:
        return f"{name}: no such flag; settings are given as key=value: {setting}"
    # Not --run, which would only start the demo.
    flags = ("help", "hydra-help", "version", "resolve", "multirun", "shell-completion", "cfg")
    hint = nearest(name, [f"--{one}" for one in (*flags, "config-dir")], cutoff=0.7)
    return f"{name}: no such flag{hint}; settings are given as key=value, and qc train --help lists all"


def hydra_parser() -> argparse.ArgumentParser:
    """Hydra's parser, which raises what it cannot read."""
    from hydra._internal.utils import get_args_parser

    parser: argparse.ArgumentParser = get_args_parser()
    parser.allow_abbrev = parser.exit_on_error = False
    return parser


def run_hydra(task: Callable[[DictConfig], Any], parsed: Arguments, program: str) -> None:
    """Have Hydra compose, show or launch what a command line asks for.

    `hydra.main` does no more than this, but reads ``sys.argv``, and so would hand it on to records and W&B.

    Args:
        task: is called with the composed config, once for each job; launchers may pickle it.
        parsed: the command line.
        program: how the command is called, for the help page.
    """
    from hydra import version
    from hydra._internal.utils import _run_hydra
    from hydra.core.utils import env_override

    version.setbase("1.3")
    parser = hydra_parser()
    parser.prog = program
    args = argparse.Namespace(**{**vars(parsed.hydra), "overrides": list(parsed.overrides)})
    with env_override({"HYDRA_FULL_ERROR": "1"}):  # exceptions reach us instead of Hydra's printing
        _run_hydra(args, parser, task, "pkg://qc_experiments.conf", "config")


def single_run(given: DictConfig, overrides: Sequence[str] | None = None) -> RunConfig:
    """The checked config of one run; a `UserError` if it asks for what only a sweep can do.

    Arguments as of `to_run_config`.
    """
    config = to_run_config(given, overrides)
    if config.sweep.halving is not None:
        raise UserError("sweep.halving: goes through a grid of runs; add -m and values to sweep")
    return config


def say_what_is_trained_on(overrides: Sequence[str]) -> None:
    """Say so where nobody has named any rows, and the demo's are taken."""
    keys = {one.lstrip("+").partition("=")[0] for one in overrides}
    if not keys & {"data", "data.train", "experiment"}:
        takes = ", which takes about half an hour on two CPU cores" if not keys else ""
        log.info(
            "No data was named: this trains on the demo, 492 questions about a library, a clinic and a "
            "shop%s (experiment=quickstart: some minutes).\nOn your own rows: qc train data=csv "
            "data.train=my.csv; look first with qc data check my.csv. Ctrl-C ends it, the same command "
            "goes on.\n",
            takes,
        )
