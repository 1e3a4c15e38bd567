"""The process in which the jobs of a sweep run, from the inside: it takes configs until it gets no more.

    python -m qc_experiments.sweeps.worker_child DESCRIPTOR SWEEP COMMAND...

Configs come as pickles on the standard input, outcomes go to the descriptor; the terminal is that of the
process SWEEP, with which this one ends. COMMAND is what started that.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from qc_experiments.config.compose import explain
from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError, in_one_line
from qc_experiments.sweeps.worker import Outcome
from qc_experiments.system.console import safe_output, set_up_logging, unbreakable_output
from qc_experiments.system.memory import give_memory_back
from qc_experiments.system.processes import process_lives
from qc_experiments.system.secrets import redacted

if TYPE_CHECKING:
    from qc_experiments.runs.kept import Kept

PARENT_SECONDS = 0.5
"""How often it is looked whether the sweep is still there."""


def main(descriptor: int, sweep: int) -> None:
    """Train what comes."""
    with unbreakable_output(), safe_output(data=False), os.fdopen(descriptor, "wb") as answers:
        set_up_logging()
        threading.Thread(target=_end_with, args=(os.getppid(), sweep), daemon=True).start()
        from qc_experiments.runs.kept import Kept

        kept = Kept()
        with suppress(EOFError):  # there are no more
            while True:
                config, share = pickle.load(sys.stdin.buffer)  # from our own parent
                pickle.dump(_outcome(config, share, kept), answers)
                answers.flush()
                give_memory_back()  # the next job starts as if it were the first


def _outcome(config: RunConfig, share: float, kept: Kept) -> Outcome:
    from qc_experiments.runs.train import run

    kept.computes = False
    try:
        result = run(config, share, kept)
        return Outcome(result["status"], result)
    except KeyboardInterrupt as error:
        return Outcome("interrupted", error=str(error) or "interrupted")
    except Exception as error:  # one failing job must not end the others
        line = explain(error)
        if line is None:
            traceback.print_exc()
            line = redacted(in_one_line(error))
        refused = isinstance(error, UserError) and not kept.computes
        return Outcome("failed", error=line, refused=refused)


def _end_with(parent: int, sweep: int) -> None:
    """End at once when the sweep is gone: its next start must find the run's folder free."""
    elsewhere = "SUBMITIT_EXECUTOR" in os.environ  # a cluster's jobs outlive who has submitted them
    while os.getppid() == parent and (elsewhere or process_lives(sweep)):
        time.sleep(PARENT_SECONDS)
    logging.shutdown()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _, ours, sweeps, *sys.argv = sys.argv
    main(int(ours), int(sweeps))
