"""What is chosen by name: a table of ours, or a user's own function by its dotted name.

Adding a collator or tracker to the package is the function and its line here. A user's own needs no
change of the package: ``name: my_package.my_collator`` in a YAML file of their ``--config-dir``, where
``my_package`` can be imported (``pip install``, or its folder on ``PYTHONPATH``).
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from qc_experiments.errors import RAISED, UserError, in_one_line
from qc_experiments.system.paths import hash_bytes
from qc_experiments.system.words import nearest

COLLATORS = {
    "default": "qc_experiments.collators.standard.default",
    "seq2seq": "qc_experiments.collators.standard.seq2seq",
    "language_modeling": "qc_experiments.collators.standard.language_modeling",
    "shared_schema": "qc_experiments.collators.shared_schema.shared_schema",
}
TRACKERS = {
    "none": "qc_experiments.tracking.tracker.no_tracker",
    "wandb": "qc_experiments.tracking.wandb.wandb_tracker",
}

DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def check_name(key: str, name: str, table: Mapping[str, str]) -> None:
    """Refuse a name that is not in a table and cannot be the dotted name of a user's own function."""
    if name not in table and not DOTTED.fullmatch(name):
        raise UserError(
            f"{key}={name}: must be one of {', '.join(table)}, or a function of your own by its dotted "
            "name, such as my_package.my_function"
        )


def load(key: str, name: str, table: Mapping[str, str]) -> Any:
    """What a name stands for.

    Args:
        key: the setting, for messages.
        name: of the table, or dotted.
        table: dotted names by name.

    Raises:
        UserError: if a user's own cannot be imported.
    """
    module, _, attribute = table.get(name, name).rpartition(".")
    if name in table:
        return getattr(importlib.import_module(module), attribute)
    if not DOTTED.fullmatch(name):
        raise UserError(f"{key}={name}: must be a dotted name such as my_module.my_metric")
    found = imported(module, f"{key}={name}: cannot be imported")
    if not hasattr(found, attribute):
        hint = nearest(attribute, [one for one in vars(found) if one[0] != "_"])
        raise UserError(
            f"{key}={name}: cannot be imported: module {module} has no attribute {attribute!r}{hint}"
        )
    return getattr(found, attribute)


def imported(module: str, problem: str) -> ModuleType:
    """A module of a user's own, which may raise anything; `problem` begins the message if it does."""
    try:
        return importlib.import_module(module)
    except RAISED as error:
        missing = f"{error.name}." if isinstance(error, ModuleNotFoundError) else "?"
        hint = ": is its folder on PYTHONPATH?" if f"{module}.".startswith(missing) else ""
        raise UserError(f"{problem} ({in_one_line(error)}){hint}") from error


def content_hash(name: str, table: Mapping[str, str]) -> str | None:
    """Hash of the file that a user's own function stands in; None for ours, or where there is no file."""
    if name in table:
        return None
    try:
        spec = importlib.util.find_spec(name.rpartition(".")[0])
        return hash_bytes(Path(str(spec and spec.origin)).read_bytes())
    except (ImportError, OSError, ValueError):
        return None
