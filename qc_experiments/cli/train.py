"""`python train.py` and `qc train`: Hydra composes the config, `qc_experiments.runs.train.run` does the work.

Everything that a user can mend ends in one line on the terminal and exit code 2; nothing heavy is
imported here, so that a wrong key is answered at once.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import hydra
from omegaconf import DictConfig

from qc_experiments.config.compose import (
    check_overrides,
    composed,
    explain,
    nearest,
    register_schema,
    setting_of_flag,
    to_run_config,
)
from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError
from qc_experiments.sweeps.jobs import closing_lines, refuse, sweeping, swept_part, take
from qc_experiments.sweeps.outlook import first_job, outlook
from qc_experiments.system.console import (
    safe_output,
    set_up_logging,
    told_to_users,
    unbreakable_output,
)
from qc_experiments.system.paths import folder_problem
from qc_experiments.system.secrets import in_environment

log = logging.getLogger("qc_experiments")


@hydra.main(version_base="1.3", config_path="pkg://qc_experiments.conf", config_name="config")
def _job(given: DictConfig) -> float | None:
    """One Hydra job: returns the objective, by which an optimising sweeper chooses."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra_config = HydraConfig.get()
    if hydra_config.mode is not RunMode.MULTIRUN:
        try:
            config = _single(given)
            _say_what_is_trained_on(hydra_config.overrides.task)
            return _objective(config)
        except Exception as error:
            # SystemExit passes Hydra by, which would announce any other exception in its own words.
            raise _refusal(error) from None
    number, overrides = hydra_config.job.num, swept_part(hydra_config.overrides.task)
    try:
        config = to_run_config(given)
    except Exception as error:  # one failing job must not end the others
        refuse(number, overrides, explain(error) or f"{type(error).__name__}: {error}")
        return None
    return take(number, overrides, config)


def _single(given: DictConfig) -> RunConfig:
    """The config of one run, which is no sweep.

    Raises:
        UserError: if it is no good, or asks for what only a sweep can do.
    """
    config = to_run_config(given)
    if config.sweep.halving is not None:
        raise UserError("sweep.halving: goes through a grid of runs; add -m and values to sweep")
    return config


def _say_what_is_trained_on(overrides: Sequence[str]) -> None:
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


def _objective(config: RunConfig) -> float | None:
    from qc_experiments.runs.train import run

    value = run(config)[config.objective]
    return None if value is None else float(value)


def main(arguments: Sequence[str] | None = None, program: str = "train.py") -> None:
    """Train as the command line asks; exits with 2 where the user has to mend something.

    Args:
        arguments: Hydra overrides and flags; None takes those of the process.
        program: how the command is called, for the help page.

    Raises:
        SystemExit: with code 2 for a user's mistake, 1 if a job of a multirun failed.
    """
    with unbreakable_output(), safe_output(data=False):
        _main(arguments, program)


def _main(arguments: Sequence[str] | None, program: str) -> None:
    started = time.perf_counter()
    given = list(sys.argv[1:] if arguments is None else arguments)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us instead of Hydra's own printing
    set_up_logging()
    register_schema()
    kept_arguments = sys.argv
    parsed: Arguments | None = None
    try:
        with _parsed(given) as parsed:
            # Flags first: Hydra's parser cannot read one that stands between overrides.
            sys.argv = [program, *parsed.flags, *parsed.overrides]
            if parsed.multirun and not parsed.informs:
                _run_sweep(parsed, started)
            else:
                _job()
    except Exception as error:
        if parsed is not None and parsed.multirun and isinstance(error, OSError):
            # Jobs' own exceptions do not get here: this is Hydra's, about the sweep's folder.
            error = UserError(f"paths.output: the sweep's folder cannot be written ({error})")
        raise _refusal(error) from None
    except KeyboardInterrupt as error:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        raise SystemExit(getattr(error, "exit_code", 130)) from None
    finally:
        sys.argv = kept_arguments


def _run_sweep(parsed: Arguments, started: float) -> None:
    """Run all jobs, compare those that finished and name those that did not; exits with 1 for these."""
    ahead = outlook(parsed.overrides, parsed.config_dir)
    if ahead is not None:
        log.info("%s", ahead.text())
    _say_what_is_trained_on(parsed.overrides)
    with sweeping(ahead) as sweep:
        try:
            while True:
                try:
                    _job()
                except Exception as error:
                    sweep.gather()
                    if not sweep.failed():
                        raise
                    # A sweeper that has nothing left to go on with, say, as all of its trials failed.
                    log.error("the sweep ended: %s", " ".join(str(error).split()))
                    break
                sweep.gather()
                if not sweep.next_rung():
                    break
        except KeyboardInterrupt:
            sweep.gather()
            for line in closing_lines(sweep.failed()):
                print(f"error: {line}", file=sys.stderr)
            done = sum(report.status == "finished" for report in sweep.reports.values())
            jobs = "1 job" if done == 1 else f"{done} jobs"
            print(f"{jobs} had finished, the others go on with the same command", file=sys.stderr)
            raise
    folders = [Path(folder) for report in sweep.reports.values() for folder in report.folders]
    if folders:
        from qc_experiments.comparison.views.table import comparison_table

        log.info("\n%s", comparison_table(list(dict.fromkeys(folders))))
        if ahead is not None:
            place = os.path.relpath(ahead.output)
            place = str(ahead.output) if place.startswith("..") else place
            log.info("\nAt any time, with charts: qc compare %s", shlex.quote(place))
    failed = sweep.failed()
    if failed:
        seconds = time.perf_counter() - started
        jobs = "1 job" if len(failed) == 1 else f"{len(failed)} jobs"
        print(f"error: {jobs} failed in {seconds:.0f} s:", file=sys.stderr)
        for line in closing_lines(failed):
            print(f"  {line}", file=sys.stderr)
        raise SystemExit(1)


def plan(arguments: Sequence[str]) -> None:
    """`qc plan`: say what `qc train` with the same overrides would do, and do none of it.

    Args:
        arguments: Hydra overrides, ``--config-dir DIR``, and ``-m`` for a list of a sweep's jobs.

    Raises:
        SystemExit: with code 2 for a user's mistake, 1 if jobs of a sweep will be refused.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        print(PLAN_HELP)
        return
    set_up_logging()
    register_schema()
    with told_to_users():
        _plan(arguments)


def _plan(arguments: Sequence[str]) -> None:
    try:
        with _parsed(arguments) as parsed:
            if parsed.multirun:
                _plan_sweep(parsed)
                return
            config = _single(composed(parsed.overrides, parsed.config_dir))
            _say_what_is_trained_on(parsed.overrides)
            from qc_experiments.runs.train import announce

            announce(config)
    except Exception as error:
        raise _refusal(error) from None


def _plan_sweep(parsed: Arguments) -> None:
    ahead = outlook(parsed.overrides, parsed.config_dir)
    if ahead is None:
        composed(first_job(parsed.overrides), parsed.config_dir)
        raise UserError(
            "this sweep cannot be composed: qc plan with one value for each key says why"
        )
    _say_what_is_trained_on(parsed.overrides)
    if ahead.jobs is None:
        log.info("%s", ahead.text())
        return
    from qc_experiments.sweeps.preview import preview

    seen = preview(ahead, parsed.overrides, parsed.config_dir)
    log.info("%s", ahead.text(seen.runs))
    for line in seen.lines:
        log.info("%s", line)
    if seen.refused:
        jobs = "1 job" if seen.refused == 1 else f"{seen.refused} jobs"
        print(f"error: {jobs} of {len(seen.lines)} will be refused", file=sys.stderr)
        raise SystemExit(1)


def _refusal(error: Exception) -> SystemExit:
    """Print what the user has to mend, for the caller to exit with code 2; our bugs are raised."""
    line = explain(error)
    if line is None:
        raise error
    print(f"error: {line}", file=sys.stderr)
    return SystemExit(2)


PLAN_HELP = """usage: qc plan [-m] [--config-dir DIR] [KEY=VALUE ...]

Say what `qc train` with the same settings would do, and do none of it: rows, tokens, steps, weights that
train, what is wrong. With -m: the jobs of a sweep."""

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
def _parsed(arguments: Sequence[str]) -> Iterator[Arguments]:
    """A checked command line; its secrets are kept in the environment as long as it is at work.

    Raises:
        UserError: for what it cannot say.
    """
    parsed = parse_arguments(arguments)
    with in_environment(parsed.overrides) as overrides:
        yield replace(parsed, overrides=tuple(overrides)).checked()


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
                config_dir = os.path.expanduser(value)  # a shell leaves ~ behind a = as it is
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
