"""`qc plan`: say what `qc train` with the same overrides would do, and do none of it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from qc_experiments.cli.hydra_arguments import (
    Arguments,
    command_line,
    say_what_is_trained_on,
    single_run,
)
from qc_experiments.config.compose import composed
from qc_experiments.errors import UserError
from qc_experiments.system.console import set_up_logging, told_to_users
from qc_experiments.system.words import counted

log = logging.getLogger("qc_experiments")

HELP = """usage: qc plan [-m] [--config-dir DIR] [KEY=VALUE ...]

Say what `qc train` with the same settings would do, and do none of it: rows, tokens, steps, weights that
train, what is wrong. With -m: the jobs of a sweep."""


def main(arguments: Sequence[str]) -> None:
    """Plan; exits with 2 where the user has to mend something, 1 if jobs of a sweep will be refused."""
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return
    set_up_logging()
    with told_to_users(), command_line(arguments) as parsed:
        if parsed.multirun:
            _plan_sweep(parsed)
            return
        config = single_run(composed(parsed.overrides, parsed.config_dir), parsed.overrides)
        say_what_is_trained_on(parsed.overrides)
        from qc_experiments.runs.train import announce

        announce(config)


def _plan_sweep(parsed: Arguments) -> None:
    if asked := [one for one in parsed.overrides if one.startswith("plan.")]:
        raise UserError(f"{asked[0]}: is for one run; leave out -m and give one value for each key")
    from qc_experiments.sweeps.preview import first_job, plan_sweep, tell_jobs

    plan = plan_sweep(parsed.overrides, parsed.config_dir)
    if plan is None:
        composed(first_job(parsed.overrides), parsed.config_dir)
        raise UserError(
            "this sweep cannot be composed: qc plan with one value for each key says why"
        )
    say_what_is_trained_on(parsed.overrides)
    if plan.jobs is None:
        log.info("%s", plan.text())
    elif refused := tell_jobs(plan, parsed.overrides, parsed.config_dir):
        jobs = counted(refused, "job")
        print(f"error: {jobs} of {len(plan.jobs)} will be refused", file=sys.stderr)
        raise SystemExit(1)
