"""How far work has come: a bar on a terminal, since log lines say it elsewhere; and times in words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qc_experiments.system.console import safe_output, steering_stream


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far a loop has come; gives a function to call with the number of things just done."""
    if not sys.stdout.isatty():
        yield lambda done: None
        return
    from rich import progress as of_rich
    from rich.console import Console

    columns = (of_rich.BarColumn(), of_rich.MofNCompleteColumn(), of_rich.TimeRemainingColumn())
    console = Console(file=steering_stream())
    bar = of_rich.Progress("{task.description}", *columns, console=console, transient=True)
    # The bar prints, above itself, what is printed meanwhile; that passes the same guard first.
    with bar, safe_output(data=False):
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def duration(seconds: float) -> str:
    """A time for people: ``40 s``, ``7 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
