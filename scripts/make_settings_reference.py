"""Write docs/settings.md: every key with type, default, range and meaning, from the schema's docstrings.

python scripts/make_settings_reference.py
"""

from __future__ import annotations

import ast
import inspect
import os
import re
from dataclasses import MISSING, Field
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

TARGET = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
HEAD = """# Settings

<!-- Made by scripts/make_settings_reference.py from the docstrings in qc_experiments/config; do not edit. -->

Every key of a run, with the default that holds where no option of its group and no experiment sets it
(`qc train --cfg job` prints what a command comes to). A key is set by its path: `lora.dropout=0.1`.
`null` means "not set".
"""
EMPTY = "???"


def docstrings(section: type) -> dict[str, str]:
    """What stands under each field of a dataclass, in one line of Markdown."""
    tree = ast.parse(inspect.getsource(section)).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = _markdown(ast.literal_eval(text.value))
    return found


def _markdown(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split())).replace("|", "\\|")


def _default(field: Field[Any]) -> str:
    value = field.default
    if value is MISSING:
        assert field.default_factory is not MISSING
        value = field.default_factory()
    value = value.value if isinstance(value, Enum) else value
    if value == EMPTY:
        return "must be given"
    if value is None:
        return "`null`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(hint: Any) -> tuple[str, str]:
    """How a type is called, and its values where these are few."""
    names = {int: "whole number", float: "number", bool: "true or false", str: "text", Any: "text"}
    parts = [one for one in getattr(hint, "__args__", ()) if one is not type(None)]
    if hint not in names and len(parts) == 1 and getattr(hint, "__origin__", None) is not list:
        name, values = _type(parts[0])
        return f"{name} or null", values
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "choice", ", ".join(f"`{one.value}`" for one in hint)
    return names.get(hint, "list of text"), ""


def table(section: type, prefix: str) -> list[str]:
    """The keys of a section, one a row; sections inside it after their own heading."""
    from qc_experiments.config.schema import keys_of

    texts, hints = docstrings(section), get_type_hints(section)
    lines = ["| key | type | default | range | meaning |", "| --- | --- | --- | --- | --- |"]
    for key, field, inner in keys_of(section, prefix):
        if key.removeprefix(prefix) != field.name or inner:
            continue
        kind, values = _type(hints[field.name])
        allowed = field.metadata.get("range")
        span = values if allowed is None else _markdown(allowed.text)
        lines.append(
            f"| `{key}` | {kind} | {_default(field)} | {span} | {texts.get(field.name, '')} |"
        )
    return lines


def reference() -> str:
    """The whole page."""
    from qc_experiments.config.schema import RunConfig, keys_of

    lines = [HEAD, "## The run", "", *table(RunConfig, "")]
    for key, field, section in keys_of():
        if section:
            cls = field.default_factory
            assert isinstance(cls, type)
            about = _markdown(inspect.getdoc(cls) or "")
            lines += ["", f"## `{key}`", "", about, "", *table(cls, f"{key}.")]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    os.environ.pop("QC_CACHE", None)  # a default that this machine may have set
    TARGET.write_text(reference(), encoding="utf-8")
