"""What a database engine is: a module that runs SQL, in child processes only (see `pool`).

A user's own is any module that can be imported, by its full name (data.engine). It holds what `Engine`
describes and a function ``run(target, sql, limits) -> Execution``, which opens a fresh read-only view
of the database, runs one statement and closes it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from qc_experiments.config.plugins import imported
from qc_experiments.errors import UserError
from qc_experiments.system.words import items, nearest

ENGINES = {
    "sqlite": "qc_experiments.databases.sqlite",
    "duckdb": "qc_experiments.databases.duckdb",
    "postgresql": "qc_experiments.databases.postgresql",
}
"""Each engine's module by its name."""
HELP = f"{', '.join(ENGINES)}, or a Python module of your own (by default the suffix or URL tells)"
"""For a command's --engine."""

Value = None | int | float | str | bytes
"""A cell as it is compared; an engine turns dates, decimals and whatever else into one of these."""
Row = tuple[Value, ...]

ERROR_CLASSES = (
    *("syntax", "no_such_table", "no_such_column", "ambiguous_column", "no_such_function", "type"),
    *("forbidden", "not_a_query", "timeout", "memory", "result_too_large", "other"),
)
"""Why a statement gave no rows."""


@dataclass(frozen=True)
class Engine:
    """An engine, as the constants of its module describe it.

    Attributes:
        dialect: ``DIALECT``, what sqlglot calls its SQL.
        schema_query: ``SCHEMA_QUERY``, SQL with a row for each table or view: its CREATE statement.
        suffix: ``SUFFIX``, the end of its files ``<db_id>/<db_id>SUFFIX``; empty for a server.
        schemes: ``SCHEMES``, the beginnings of its URLs, without ``://``; such a module also has a
            function ``content_hash(url)``.
        logs: ``LOGS``, what it appends to a file's name for logs that belong to the content.
        environment: ``ENVIRONMENT``, prefixes of the environment variables that it needs.

    A single text in place of the last three is one item.
    """

    module: ModuleType
    dialect: str
    schema_query: str
    suffix: str
    schemes: tuple[str, ...]
    logs: tuple[str, ...]
    environment: tuple[str, ...]


@cache
def engine(name: str) -> Engine:
    """An engine by its name in `ENGINES`, or its module's; `UserError` if it cannot be loaded."""
    if name not in ENGINES and "." not in name and not _is_module(name):
        raise UserError(
            f"there is no engine {name}{nearest(name, ENGINES)}: give {', '.join(ENGINES)}, or the full "
            "name of a module of your own, such as my_package.my_engine, whose folder is on PYTHONPATH"
        )
    said = f"engine {name} cannot be loaded"
    module = imported(ENGINES.get(name, name), said)
    found = Engine(
        module,
        getattr(module, "DIALECT", ""),
        getattr(module, "SCHEMA_QUERY", ""),
        getattr(module, "SUFFIX", ""),
        _texts(module, "SCHEMES", said),
        _texts(module, "LOGS", said),
        _texts(module, "ENVIRONMENT", said),
    )
    if name not in ENGINES and (problem := _problem(found)):
        raise UserError(f"{said}: {problem}")
    return found


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # no name of a module, or one without a specification
        return name in sys.modules


def _texts(module: ModuleType, constant: str, said: str) -> tuple[str, ...]:
    """A constant that holds several texts; an empty one would be the beginning of every name."""
    try:
        found = items(getattr(module, constant, ()))
    except TypeError:
        found = ("",)
    if not all(isinstance(one, str) and one for one in found):
        raise UserError(f"{said}: its {constant} must be a tuple of texts, none of them empty")
    return found


def _problem(found: Engine) -> str | None:
    """What a user's own engine lacks, or None."""
    from sqlglot.dialects.dialect import Dialect

    run, content_hash = (getattr(found.module, name, None) for name in ("run", "content_hash"))
    needed = {
        "DIALECT": found.dialect,
        "SCHEMA_QUERY": found.schema_query,
        "SUFFIX (or SCHEMES)": found.suffix or found.schemes,
        "run()": callable(run),
        "content_hash()": not found.schemes or callable(content_hash),
    }
    if lacks := [what for what, there in needed.items() if not there]:
        return f"it lacks {', '.join(lacks)}"
    if found.suffix and not str(found.suffix).startswith("."):
        return f"its SUFFIX {found.suffix!r} must begin with a dot"
    try:
        Dialect.get_or_raise(found.dialect)
    except ValueError as error:
        return f"its DIALECT: {error}"
    return None


@dataclass(frozen=True)
class Limits:
    """What one statement may use: its time, and its result's rows and bytes.

    Text and blobs count by their length, any other cell as 8 bytes.
    """

    seconds: float = 5.0
    rows: int = 100_000
    bytes: int = 64_000_000


@dataclass(frozen=True)
class Execution:
    """What came of a statement: rows, or an error and its class, one of `ERROR_CLASSES`.

    ``warning`` says what the database forgave silently.
    """

    rows: list[Row] | None
    columns: tuple[str, ...] = ()
    error: str | None = None
    error_class: str | None = None
    seconds: float = 0.0
    warning: str | None = None


@dataclass(frozen=True)
class Call:
    """A function that a child process is to call.

    Attributes:
        module: full name of its module; ``LIBRARIES`` there are imported before the time starts.
        arguments: plain values and `Limits`.
        written: most bytes of a file that it writes.
        path: folders from which a module that is not ours is imported.
        environment: variables that it needs.
        folder: from which relative paths in these, or in a URL, lead to files such as certificates.
    """

    module: str
    function: str
    arguments: tuple[object, ...]
    seconds: float
    written: int = 0
    path: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"


def call_of(name: str, target: str, sql: str, limits: Limits) -> Call:
    """The call that runs a statement on an engine."""
    module, prefixes = engine(name).module.__name__, engine(name).environment
    needed = {k: v for k, v in os.environ.items() if k.startswith(prefixes)}
    path = () if name in ENGINES else tuple(map(os.path.abspath, sys.path))
    folder = "/"
    if "://" in target:
        with suppress(OSError):  # it may be deleted
            folder = os.getcwd()
    return Call(module, "run", (target, sql, limits), limits.seconds, 0, path, needed, folder)


def class_of(message: str, words: Mapping[str, Sequence[str]]) -> str | None:
    """The first class of which some words stand in a message."""
    return next((name for name, some in words.items() if any(w in message for w in some)), None)


class Failed(Exception):
    """A statement gives no rows; raised with a message and one of `ERROR_CLASSES`."""


def execution(
    fetch: Callable[[], tuple[Sequence[str], Iterable[Row]]],
    limits: Limits,
    failures: tuple[type[Exception], ...],
    explain: Callable[[Any], tuple[str, str]],
) -> Execution:
    """What comes of a function that gives a statement's columns and rows, fetched within the limits.

    ``explain`` gives the message and the class of any of the ``failures`` that it may raise.
    """
    started = time.perf_counter()
    rows: list[Row] = []
    size = 0
    try:
        columns, found = fetch()
        for row in found:
            rows.append(row)
            size += sum(len(cell) if isinstance(cell, str | bytes) else 8 for cell in row)
            if len(rows) > limits.rows:
                raise Failed(f"more than {limits.rows} rows", "result_too_large")
            if size > limits.bytes:
                raise Failed(f"more than {limits.bytes} bytes", "result_too_large")
        return Execution(rows, tuple(columns), seconds=time.perf_counter() - started)
    except Failed as problem:
        error, error_class = problem.args
    except MemoryError:
        error, error_class = "out of memory", "memory"
    except failures as problem:
        error, error_class = explain(problem)
    return Execution(None, (), error, error_class, time.perf_counter() - started)
