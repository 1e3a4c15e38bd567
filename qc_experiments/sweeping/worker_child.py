"""The process in which the jobs of a sweep run, from the inside: it takes configs until it gets no more.

    python -m qc_experiments.sweeping.worker_child DESCRIPTOR

Configs come as pickles on the standard input, outcomes go to the descriptor; the terminal is the sweep's.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback

from qc_experiments.command_line import set_up_logging
from qc_experiments.composition import explain
from qc_experiments.config import RunConfig
from qc_experiments.sweeping.worker import Outcome

PARENT_SECONDS = 0.5
"""How often it is looked whether the sweep is still there."""


def main() -> None:
    """Train what comes."""
    set_up_logging()
    parent = os.getppid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with os.fdopen(int(sys.argv[1]), "wb") as answers:
        while True:
            try:
                config, share = pickle.load(sys.stdin.buffer)  # from our own parent
            except EOFError:
                return
            outcome = _outcome(config, share)
            pickle.dump(outcome, answers)
            answers.flush()
            _clean()


def _outcome(config: RunConfig, share: float) -> Outcome:
    from qc_experiments.train import run

    try:
        result = run(config, share)
        return Outcome(result["status"], result)
    except KeyboardInterrupt as error:
        return Outcome("interrupted", error=str(error) or "interrupted")
    except Exception as error:  # one failing job must not end the others
        line = explain(error)
        if line is None:
            traceback.print_exc()
            line = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome("failed", error=line)


def _clean() -> None:
    """Give back what a job held, so that the next starts as if it were the first."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _end_with(parent: int) -> None:
    """End at once when the sweep is gone: its next start must find the run's folder free."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    logging.shutdown()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
