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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from qc_experiments.cli.hydra_arguments import (
    Arguments,
    command_line,
    run_hydra,
    say_what_is_trained_on,
    single_run,
)
from qc_experiments.errors import UserError
from qc_experiments.sweeps.halving import closing_lines
from qc_experiments.sweeps.jobs import sweeping
from qc_experiments.sweeps.preview import SweepPlan, plan_sweep
from qc_experiments.system.console import set_up_logging, told_to_users, unbreakable_output
from qc_experiments.system.memory import set_up_allocators
from qc_experiments.system.words import counted

log = logging.getLogger("qc_experiments")


def main(arguments: Sequence[str] | None = None, program: str = "qc train") -> None:
    """Train as the command line asks; exits with 2 where the user has to mend something.

    Args:
        arguments: Hydra overrides and flags; None takes those of the process.
        program: how the command is called, for the help page.
    """
    with (
        unbreakable_output(),
        told_to_users("interrupted: the same command goes on from here", data=False),
    ):
        set_up_logging()
        train(sys.argv[1:] if arguments is None else arguments, program)


def train(arguments: Sequence[str], program: str = "qc train") -> dict[str, Any] | None:
    """Train as a command line asks.

    Args:
        arguments: Hydra overrides and flags.
        program: how the command is called, for the help page.

    Returns:
        The content of ``result.json`` of one run; None for a sweep, or where something was only shown.

    Raises:
        UserError: for a user's mistake.
        SystemExit: with code 1 if a job of a sweep failed.
    """
    set_up_allocators()
    with command_line(arguments) as parsed:
        if not parsed.multirun or parsed.informs:
            return _run_one(parsed, program)
        try:
            _run_sweep(parsed, program)
        except OSError as error:
            # Jobs' own exceptions do not get here: this is Hydra's, about the sweep's folder.
            raise UserError(
                f"paths.output: the sweep's folder cannot be written ({error})"
            ) from None
        return None


def _run_one(parsed: Arguments, program: str) -> dict[str, Any] | None:
    results: list[dict[str, Any]] = []
    failed: list[Exception] = []

    def job(given: DictConfig) -> None:
        from qc_experiments.runs.train import run

        try:
            config = single_run(given)
            say_what_is_trained_on(parsed.overrides)
            results.append(run(config))
        except Exception as error:  # one that came out here would be announced in Hydra's own words
            failed.append(error)

    run_hydra(job, parsed, program)
    if failed:
        raise failed[0]
    return results[0] if results else None


def _run_sweep(parsed: Arguments, program: str) -> None:
    """Run all jobs, compare those that finished and name those that did not; exits with 1 for these."""
    started = time.perf_counter()
    plan = plan_sweep(parsed.overrides, parsed.config_dir)
    if plan is not None:
        log.info("%s", plan.text())
    say_what_is_trained_on(parsed.overrides)
    with sweeping(plan) as (sweep, jobs):
        try:
            going_on = True
            while going_on:
                try:
                    run_hydra(jobs, parsed, program)
                except Exception as error:
                    sweep.gather()
                    if not sweep.failed():
                        raise
                    # A sweeper that has nothing left to go on with, say, as all of its trials failed.
                    log.error("the sweep ended: %s", " ".join(str(error).split()))
                    break
                sweep.gather()
                going_on = sweep.next_round()
        except KeyboardInterrupt:
            sweep.gather()
            for line in closing_lines(sweep.failed()):
                print(f"error: {line}", file=sys.stderr)
            done = sum(report.status == "finished" for report in sweep.reports.values())
            print(
                f"{counted(done, 'job')} had finished, the others go on with the same command",
                file=sys.stderr,
            )
            raise
    folders = [Path(folder) for report in sweep.reports.values() for folder in report.folders]
    if folders:
        _compare(list(dict.fromkeys(folders)), plan)
    if failed := sweep.failed():
        seconds = time.perf_counter() - started
        print(f"error: {counted(len(failed), 'job')} failed in {seconds:.0f} s:", file=sys.stderr)
        for line in closing_lines(failed):
            print(f"  {line}", file=sys.stderr)
        raise SystemExit(1)


def _compare(folders: list[Path], plan: SweepPlan | None) -> None:
    from qc_experiments.comparison.views.table import comparison_table

    log.info("\n%s", comparison_table(folders))
    if plan is not None:
        place = os.path.relpath(plan.output)
        place = str(plan.output) if place.startswith("..") else place
        log.info("\nAt any time, with charts: qc compare %s", shlex.quote(place))
