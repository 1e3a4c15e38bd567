"""What each key means, in words: read from the schema's docstrings, for `qc explain` and docs/settings.md."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Any, get_type_hints

from qc_experiments.config.schema import RunConfig, keys_of

NOT_GIVEN = "???"


@dataclass(frozen=True)
class Explanation:
    """What a key is.

    Attributes:
        kind: its type in words.
        default: as it is typed; None if it must be given.
        allowed: its range or its values; empty for any.
        meaning: in one line.
    """

    key: str
    kind: str
    default: str | None
    allowed: str
    meaning: str


def explained(section: type = RunConfig, prefix: str = "") -> Iterator[Explanation]:
    """The keys of a section, but not those of sections within it."""
    texts, hints = docstrings(section), get_type_hints(section)
    for key, field, inner in keys_of(section, prefix):
        if key.removeprefix(prefix) != field.name or inner:
            continue
        kind, values = _type(hints[field.name])
        allowed = field.metadata.get("range")
        meaning = texts.get(field.name, "")
        yield Explanation(key, kind, _default(field), allowed.text if allowed else values, meaning)


def sections() -> dict[str, type]:
    """The dataclass of each section by its dotted name, the whole run's by an empty one."""
    found: dict[str, type] = {"": RunConfig}
    for key, field, section in keys_of():
        if section and isinstance(field.default_factory, type):
            found[key] = field.default_factory
    return found


@cache
def docstrings(section: type) -> dict[str, str]:
    """What stands under each field of a dataclass, in one line."""
    tree = ast.parse(inspect.getsource(section)).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return found


def option_head(group: str, option: str) -> str:
    """The comment at the head of an option's file, in one line; empty if it has none."""
    file = files("qc_experiments.conf").joinpath(group, f"{option}.yaml")
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.strip("# "))
    return " ".join(lines)


def _default(field: Field[Any]) -> str | None:
    value = field.default
    if value is MISSING:
        assert field.default_factory is not MISSING
        value = field.default_factory()
    value = value.value if isinstance(value, Enum) else value
    if value == NOT_GIVEN:
        return None
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(hint: Any) -> tuple[str, str]:
    """How a type is called, and its values where these are few."""
    names = {int: "whole number", float: "number", bool: "true or false", str: "text", Any: "text"}
    parts = [one for one in getattr(hint, "__args__", ()) if one is not type(None)]
    if hint not in names and len(parts) == 1 and getattr(hint, "__origin__", None) is not list:
        name, values = _type(parts[0])
        return f"{name} or null", values
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "choice", ", ".join(str(one.value) for one in hint)
    return names.get(hint, "list of text"), ""
