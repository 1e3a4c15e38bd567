"""The command line of `qc train` and `qc plan`: flags told from overrides, checked, handed to Hydra."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig

from qc_experiments.config.compose import (
    check_overrides,
    explain,
    register_schema,
    setting_of_flag,
    to_run_config,
)
from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError
from qc_experiments.system.paths import folder_problem
from qc_experiments.system.secrets import in_environment
from qc_experiments.system.words import nearest

log = logging.getLogger("qc_experiments")

SWITCHES = (
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r"),
    *("--multirun", "-m", "--shell-completion", "-sc"),
)
VALUE_FLAGS = (
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd"),
)
INFO_FLAGS = ("--info", "-i")
EXCLUSIVE = {*INFO_FLAGS, "--cfg", "-c", "--shell-completion", "-sc"}
"""Flags that Hydra does not take beside ``-m``."""
SHOWING = {*EXCLUSIVE, "--help", "-h", "--hydra-help", "--version"}
"""Flags with which nothing is run."""
INFO_TOPICS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


@dataclass(frozen=True)
class Arguments:
    """A command line, taken apart.

    Attributes:
        flags: Hydra's flags with their values.
        overrides: ``key=value`` and its like.
        config_dir: the user's folder of option files, or None.
        multirun: whether every combination of values is run.
        informs: whether something is shown and nothing run.
    """

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    config_dir: str | None
    multirun: bool
    informs: bool

    def checked(self) -> Arguments:
        """The same with overrides as Hydra reads them.

        Raises:
            UserError: for one that names an unknown key, group or option, or cannot be read.
        """
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
        parsed = parse_arguments(arguments)
        with in_environment(parsed.overrides) as overrides:
            if tuple(overrides) != parsed.overrides:
                # W&B records the process's arguments, by which secrets would get into its files.
                sys.argv = [*sys.argv[:1], *parsed.flags, *overrides]
            yield replace(parsed, overrides=tuple(overrides)).checked()
    except Exception as error:
        line = explain(error)
        if line is None or isinstance(error, UserError):
            raise
        raise UserError(line) from None
    finally:
        sys.argv = kept


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Tell Hydra's flags and their values from its overrides.

    Raises:
        UserError: for a flag that Hydra does not have, or a folder that is not there.
    """
    flags: list[str] = []
    overrides: list[str] = []
    config_dir: str | None = None
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, has_value, value = argument.partition("=")
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        if name in VALUE_FLAGS:
            if not has_value:
                if not rest:
                    raise UserError(f"{name}: needs a value")
                value = rest.pop(0)
                flags.append(value)
            if name in ("--config-dir", "-cd"):
                config_dir = os.path.expanduser(value)  # a shell leaves ~ after a = as it is
                flags[-1] = f"{name}={config_dir}" if has_value else config_dir
        elif argument in INFO_FLAGS:
            if rest and rest[0] in INFO_TOPICS:
                flags.append(rest.pop(0))
        elif argument not in SWITCHES:
            raise UserError(_no_such_flag(name, value if has_value else next(iter(rest), "")))
    problem = None if config_dir is None else folder_problem(config_dir)
    if problem is not None:
        raise UserError(f"--config-dir {config_dir}: {problem}")
    multirun = "-m" in flags or "--multirun" in flags
    shown = [name for flag in flags if (name := flag.partition("=")[0]) in SHOWING]
    if multirun and set(shown) & EXCLUSIVE:
        raise UserError(f"-m runs and {shown[0]} shows: leave out one of them")
    if {"--help", "-h"} & set(shown):
        overrides = []  # the page is the same whatever is swept, but Hydra would compose it all first
    return Arguments(tuple(flags), tuple(overrides), config_dir, multirun, bool(shown))


def _no_such_flag(name: str, value: str) -> str:
    """What is said of a flag that Hydra does not have: the setting that is meant, as far as it is known."""
    if value.startswith("-") or "=" in value:
        value = ""
    if name.strip("-").replace("_", "-") in ("dry-run", "plan", "check"):
        return (
            f"{name}: no such flag; what a run would do is told by qc plan with the same settings"
        )
    setting = setting_of_flag(name, value)
    if setting is not None:
        return f"{name}: no such flag; settings are given as key=value: {setting}"
    # Not --run, which would only start the demo.
    switches = [one for one in SWITCHES if one.startswith("--") and one != "--run"]
    hint = nearest(name, [*switches, "--cfg", "--config-dir"], cutoff=0.7)
    return f"{name}: no such flag{hint}; settings are given as key=value, and qc train --help lists all"


def run_hydra(task: Callable[[DictConfig], Any], parsed: Arguments, program: str) -> None:
    """Have Hydra compose, show or launch what a command line asks for.

    `hydra.main` does no more than this, but reads ``sys.argv``.

    Args:
        task: is called with the composed config, once for each job; launchers may pickle it.
        parsed: the command line.
        program: how the command is called, for the help page.
    """
    from hydra import version
    from hydra._internal.utils import _run_hydra, get_args_parser

    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us instead of Hydra's own printing
    version.setbase("1.3")
    parser = get_args_parser()
    parser.prog = program
    # Flags first: Hydra's parser cannot read one that stands between overrides.
    _run_hydra(
        args=parser.parse_args([*parsed.flags, *parsed.overrides]),
        args_parser=parser,
        task_function=task,
        config_path="pkg://qc_experiments.conf",
        config_name="config",
    )


def single_run(given: DictConfig) -> RunConfig:
    """The config of one run, which is no sweep.

    Raises:
        UserError: if it is invalid, or asks for what only a sweep can do.
    """
    config = to_run_config(given)
    if config.sweep.halving is not None:
        raise UserError("sweep.halving: goes through a grid of runs; add -m and values to sweep")
    return config


def say_what_is_trained_on(overrides: Sequence[str]) -> None:
    """Say so where nobody has named any rows, and the demo's are taken."""
    keys = {one.lstrip("+").partition("=")[0] for one in overrides}
    if keys & {"data", "data.train", "experiment"}:
        return
    takes = ", which takes about half an hour on two CPU cores" if not keys else ""
    log.info(
        "No data was named: this trains on the demo, 492 questions about a library, a clinic and a "
        "shop%s (experiment=quickstart: some minutes).\nOn your own rows: qc train data=csv "
        "data.train=my.csv; look first with qc data check my.csv. Ctrl-C ends it, the same command "
        "goes on.\n",
        takes,
    )
