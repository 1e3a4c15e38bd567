"""Write docs/settings.md: every key with type, default, range and meaning, from the schema's docstrings.

python scripts/make_settings_reference.py
"""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path

from qc_experiments.config.explanation import explained, sections

TARGET = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
HEAD = """# Settings

<!-- Made by scripts/make_settings_reference.py from the docstrings in qc_experiments/config; do not edit. -->

Every key of a run, with the default that holds where no option of its group and no experiment sets it
(`qc train --cfg job` prints what a command comes to: without any override 16 rows of a micro-batch, a
warm-up of 0.1 and `data.max_length` of 512, for instance, by `trainer=text_to_sql` and `data=demo`).
A key is set by its path: `lora.dropout=0.1`. `null` means "not set". `qc explain lora.dropout` says
the same in a terminal.
"""


def _markdown(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split())).replace("|", "\\|")


def table(section: type, prefix: str) -> list[str]:
    """The keys of a section, one a row; sections inside it after their own heading."""
    lines = ["| key | type | default | range | meaning |", "| --- | --- | --- | --- | --- |"]
    for one in explained(section, prefix):
        default = "must be given" if one.default is None else f"`{one.default}`"
        allowed = _markdown(one.allowed)
        if one.kind.startswith("choice"):
            allowed = ", ".join(f"`{value}`" for value in one.allowed.split(", "))
        lines.append(
            f"| `{one.key}` | {one.kind} | {default} | {allowed} | {_markdown(one.meaning)} |"
        )
    return lines


def reference() -> str:
    """The whole page."""
    lines = [HEAD]
    for name, section in sections().items():
        about = [_markdown(inspect.getdoc(section) or ""), ""] if name else []
        heading = f"## `{name}`" if name else "## The run"
        lines += [heading, "", *about, *table(section, f"{name}." if name else ""), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    os.environ.pop("QC_CACHE", None)  # a default that this machine may have set
    TARGET.write_text(reference(), encoding="utf-8")
