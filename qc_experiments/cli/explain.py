"""`qc explain`: what a key, a group or an option means.

qc explain lora.alpha
qc explain trainer
qc explain experiment=nl2sql_smollm2
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

from qc_experiments.cli.parser import Parser
from qc_experiments.config.explanation import Explanation, explained, option_head, sections
from qc_experiments.config.keys import GROUPS, option_names, unknown_key
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.words import nearest


def main(arguments: Sequence[str]) -> None:
    """Explain; exits with 2 where there is no such thing."""
    parser = Parser(
        prog="qc explain", description="Say what a key, a group or an option of a group means."
    )
    help_ = "such as lora.alpha, lora, or lora=r16; without any: the groups"
    parser.add_argument("names", nargs="*", metavar="NAME", help=help_)
    with told_to_users():
        names = parser.parse_args(arguments).names
        lines = [line for name in names for line in _explanation(name)] or list(_overview())
        print("\n".join(lines))


def _overview() -> Iterator[str]:
    for group in GROUPS:
        yield f"{group:<11} {', '.join(option_names(group, None))}"
    yield "qc explain GROUP, GROUP.KEY or GROUP=OPTION says more; docs/settings.md has every key"


def _explanation(name: str) -> Iterator[str]:
    group, equals, option = name.partition("=")
    if equals and group in GROUPS:
        options = option_names(group, None)
        if option not in options:
            raise UserError(
                f"{name}: {group} has no option {option}{nearest(option, options)}; it has "
                f"{', '.join(options)}"
            )
        yield f"{name}: {option_head(group, option) or 'has no description'}"
        return
    known = {one.key: one for prefix, cls in sections().items() for one in _of(cls, prefix)}
    if group in known:
        yield from _one(known[group])
        return
    if group not in sections() and group not in GROUPS:
        raise UserError(unknown_key(group))
    if group in sections():
        yield f"{group}: {' '.join((inspect.getdoc(sections()[group]) or '').split())}"
        for one in _of(sections()[group], group):
            yield f"  {one.key}={one.default if one.default is not None else '...'}"
            yield f"      {one.meaning}"
    if group in GROUPS:
        yield "options:"
        for option in option_names(group, None):
            yield f"  {group}={option}: {option_head(group, option)}"


def _of(section: type, prefix: str) -> Iterator[Explanation]:
    return explained(section, f"{prefix}." if prefix else "")


def _one(found: Explanation) -> Iterator[str]:
    default = "must be given" if found.default is None else f"default {found.default}"
    allowed = f"; {found.allowed}" if found.allowed else ""
    yield f"{found.key} ({found.kind}; {default}{allowed})"
    yield f"  {found.meaning}"
