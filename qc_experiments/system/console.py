r"""What reaches the terminal, a terminal that may go away while a training goes on, and how a command ends.

Names, cells and messages come from other people's files. Every command prints through `safe_output`,
the one place that writes to the terminal: what would steer it is shown as ``\x1b`` and its like, and
what is said about a run holds no secrets. The same holds where the output goes into a file or a pipe.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from types import TracebackType
from typing import Any

from qc_experiments.errors import UserError
from qc_experiments.system.processes import is_main_process, quiet_libraries
from qc_experiments.system.secrets import redacted

log = logging.getLogger("qc_experiments")

STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What moves the cursor, changes the terminal or the order of letters, or cannot be written: control
characters but tab and line feed, Unicode's Bidi_Control and line separators, halves of surrogate pairs."""


def visible(text: str) -> str:
    r"""A text with an escape such as ``\x1b`` in the place of each character that steers a terminal."""
    text = text.replace("\r\n", "\n")
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Without line breaks and without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in visible(text)).split())


class _Stream:
    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Safe(_Stream):
    """A stream that edits each text and shows what would steer a terminal."""

    def __init__(self, stream: Any, edit: Callable[[str], str]) -> None:
        super().__init__(stream)
        self._edit = edit

    def write(self, text: str) -> int:
        self.stream.write(visible(self._edit(text)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)


@contextmanager
def safe_output(*, data: bool) -> Iterator[None]:
    """Let nothing that is printed steer the terminal; messages hold no secrets either.

    Args:
        data: whether the standard output is the user's data (schemas, SQL), of which nothing is masked.
    """
    sys.excepthook = _show_exception  # our bugs are shown after the end of this context
    out: Any = _Safe(sys.stdout, str if data else redacted)
    errors: Any = _Safe(sys.stderr, redacted)
    with redirect_stdout(out), redirect_stderr(errors):
        yield


def _show_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(visible(redacted(text)))


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far a loop has come; gives a function to call with the number of things just done."""
    if not sys.stdout.isatty():
        yield lambda done: None
        return
    from rich import progress as of_rich
    from rich.console import Console

    columns = (of_rich.BarColumn(), of_rich.MofNCompleteColumn(), of_rich.TimeRemainingColumn())
    # The bar may steer the terminal; it holds no text of others.
    stream = sys.stdout.stream if isinstance(sys.stdout, _Safe) else sys.stdout
    console = Console(file=stream)
    bar = of_rich.Progress("{task.description}", *columns, console=console, transient=True)
    # The bar prints, above itself, what is printed meanwhile; that passes the same guard first.
    with bar, safe_output(data=False):
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


class SafeFormatter(logging.Formatter):
    """Writes a log's lines as they are shown: without secrets and what would steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        return visible(redacted(super().format(record)))


class _Unbreakable(_Stream):
    """A stream that falls silent where another would raise: its terminal was closed, its reader is gone."""

    def write(self, text: str) -> int:
        try:
            self.stream.write(text)
        except (OSError, ValueError):
            self._fall_silent()
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except (OSError, ValueError):
            self._fall_silent()

    def _fall_silent(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            # What is still in the stream's buffer goes there, too, so that Python does not complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


@contextmanager
def unbreakable_output() -> Iterator[None]:
    """Let neither our own lines nor those of libraries end what this process does."""
    out: Any = _Unbreakable(sys.stdout)
    errors: Any = _Unbreakable(sys.stderr)
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            yield
        finally:
            out.flush()
            errors.flush()


class _Console(logging.Handler):
    """Prints messages to the terminal as it is now; warnings and errors say what they are."""

    def emit(self, record: logging.LogRecord) -> None:
        if not is_main_process():
            return
        text = redacted(record.getMessage())
        if record.levelno >= logging.WARNING:
            print(f"{record.levelname.lower()}: {text}", file=sys.stderr, flush=True)
        else:
            print(text, flush=True)


def set_up_logging() -> None:
    """Let what is logged reach the terminal, and silence the libraries."""
    log.setLevel(logging.INFO)
    log.propagate = False
    quiet_libraries()
    if not any(isinstance(handler, _Console) for handler in log.handlers):
        log.addHandler(_Console())


def of_the_system(error: BaseException) -> str | None:
    """What a file system refuses, in one line that names the file; None for any other exception."""
    if not isinstance(error, OSError) or error.filename is None or not error.strerror:
        return None
    return f"{error.filename}: {error.strerror}"


@contextmanager
def told_to_users(interrupted: str = "interrupted", *, data: bool = True) -> Iterator[None]:
    """End a command in one line and with an exit code where the user has to mend or has ended something.

    Args:
        interrupted: what is said after Ctrl-C, before the exception's notes on work that is kept (see
            `unfinished.told_what_is_kept`).
        data: whether what it prints is the user's data, see `safe_output`.

    Raises:
        SystemExit: with 2 for a `UserError`, 130 after Ctrl-C (143 after SIGTERM, where that is listened
            to), 141 if nobody reads the output any more (``qc ... | head``).
    """
    with safe_output(data=data):
        try:
            yield
            sys.stdout.flush()
        except KeyboardInterrupt as error:
            print(": ".join([interrupted, *getattr(error, "__notes__", ())]), file=sys.stderr)
            raise SystemExit(getattr(error, "exit_code", 130)) from None
        except BrokenPipeError:
            # Python would try once more to write what is left when it ends, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None
        except (UserError, OSError) as error:
            line = str(error) if isinstance(error, UserError) else of_the_system(error)
            if line is None:
                raise
            print(f"error: {line}", file=sys.stderr)
            raise SystemExit(2) from None
