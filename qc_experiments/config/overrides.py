"""What was typed behind ``qc train``, put into Hydra's grammar, or answered with how it is written.

Hydra's grammar gives many signs of file names and URLs a meaning (``~ = # ' ( { ;``, letters beyond
ASCII) and reads ``2024_01`` as a number. Where a key takes text, such a value is quoted here, so that
it means what was typed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError

GROUP, SECTION = "group", ""
RANGE = re.compile(r"([\d.]+(?:e-?\d+)?) *[:;-] *([\d.]+(?:e-?\d+)?)(?: *[:;] *(\d+))?")
"""How a range is written elsewhere."""
TAKES = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def kinds_of_keys(schema: type = RunConfig, prefix: str = "") -> dict[str, str]:
    """The type of each key by its dotted name, as the schema writes it; `SECTION` where it holds others."""
    found: dict[str, str] = {}
    for field in fields(schema):
        default = field.default_factory() if callable(field.default_factory) else field.default
        found[prefix + field.name] = SECTION if is_dataclass(default) else str(field.type)
        if is_dataclass(default):
            found |= kinds_of_keys(type(default), f"{prefix}{field.name}.")
    return found


class Overrides:
    """Reads overrides as they were meant.

    Args:
        groups: names of the config groups.
        options: gives the names of a group's options.
        multirun: whether keys may have several values.
    """

    def __init__(
        self, groups: Sequence[str], options: Callable[[str], list[str]], *, multirun: bool
    ) -> None:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        self._parser = OverridesParser.create()
        self._groups = groups
        self._options = options
        self._multirun = multirun
        self._kinds = kinds_of_keys() | dict.fromkeys(groups, GROUP)

    def read(self, given: Sequence[str]) -> list[str]:
        """The overrides in Hydra's grammar.

        Args:
            given: as typed.

        Raises:
            UserError: showing how it is written, for what cannot be meant.
        """
        self._refuse_torn(given)
        return [self._read(text) for text in given]

    def _read(self, text: str) -> str:
        key, has_value, value = text.partition("=")
        kind = self._kinds.get(key.lstrip("+"), "")
        if not has_value:
            return text
        if value.startswith("="):
            written = shown(self._written(key, value.lstrip("= ")))
            raise UserError(f"{text}: is no key=value: write {written}")
        parsed = self._parsed(text)
        if parsed is None:
            if "," in (value.strip()[:1], value.strip()[-1:]) or ",," in value:
                raise UserError(self._lost_comma(text, kind))
            quoted = self._quoted(key, value, kind)
            if self._parsed(quoted) is None:
                takes = TAKES.get(kind.split(" ")[0], "no such value")
                raise UserError(f"{text}: cannot be read as key=value; {key} takes {takes}")
            return quoted
        if parsed.is_sweep_override():
            return self._sweep(text, parsed, kind)
        found = parsed.value()
        if _takes_text(kind) and not isinstance(found, str) and found is not None:
            # 007 and 2024_01 are numbers to Hydra, 12e4567 is infinite; a revision may be called so.
            return text if str(found) == value.strip() else literal(key, value.strip())
        _refuse_several(text, key, value, found, kind)
        return text

    def _sweep(self, text: str, parsed: Any, kind: str) -> str:
        from hydra.core.override_parser.types import Glob

        key, _, value = text.partition("=")
        if isinstance(parsed.value(), Glob):
            if kind != GROUP:
                raise UserError(
                    f"{text}: glob chooses among the options of a group, as in lora=..."
                )
            options = self._options(key)
            names = parsed.value().filter(options)
            if not names:
                raise UserError(f"{text}: matches no option; {key} can be {', '.join(options)}")
            text = f"{key}={','.join(names)}"
        if self._multirun or key.startswith("hydra.") or kind == "":
            return text
        one = (
            f"; one value is written {shown(literal(key, value))}" if kind.startswith("str") else ""
        )
        raise UserError(f"{text}: several values need -m (--multirun): -m {shown(text)}{one}")

    def _parsed(self, text: str) -> Any:
        from hydra.errors import HydraException

        try:
            return self._parser.parse_override(text)
        except HydraException:
            return None

    def _written(self, key: str, value: str) -> str:
        """An override for this text, quoted only if need be."""
        plain = self._parsed(f"{key}={value}")
        simple = plain is not None and not plain.is_sweep_override() and plain.value() == value
        number = not _takes_text(self._kinds.get(key, ""))
        return f"{key}={value}" if simple or (plain is not None and number) else literal(key, value)

    def _quoted(self, key: str, value: str, kind: str) -> str:
        """The same with the parts quoted that cannot be read, where the key takes text."""
        inner = value.strip()
        if kind.startswith("list") or kind == "Any":
            if inner[:1] == "[" and inner[-1:] == "]":
                return f"{key}=[{self._each(inner[1:-1])}]"
        elif kind and not _takes_text(kind):
            return f"{key}={value}"
        if self._multirun and "," in value:
            return f"{key}={self._each(value)}"
        return literal(key, value)

    def _each(self, values: str) -> str:
        parts = [part.strip() for part in values.split(",")]
        return ",".join(
            part if self._parsed(f"x={part}") is not None else literal("", part)[1:]
            for part in parts
        )

    def _lost_comma(self, text: str, kind: str) -> str:
        key, _, value = text.partition("=")
        values = [part.strip() for part in value.split(",") if part.strip()]
        if not values:
            return f"{text}: holds nothing but commas: give {key} a value"
        several = shown(f"{key}={','.join(values)}")
        if len(values) > 1:
            return f"{text}: has a comma too many: write {'' if self._multirun else '-m '}{several}"
        one = (
            f", {shown(literal(key, value))} if the comma belongs to it"
            if kind[:3] == "str"
            else ""
        )
        return (
            f"{text}: has a comma, but one value: write {several}{one}; several values are written "
            f"-m {shown(f'{key}={values[0]},...')}, without blanks"
        )

    def _refuse_torn(self, given: Sequence[str]) -> None:
        """Refuse what a shell has taken apart at blanks, with the whole as it is written."""
        for place, text in enumerate(given):
            if "=" in text.lstrip("=") or text.startswith("~"):
                continue
            before = given[place - 1] if place else ""
            behind = given[place + 1] if place + 1 < len(given) else ""
            if "=" in before and (before.endswith((",", "=")) or text.startswith(",")):
                rest = [one for one in given[place + 1 : place + 2] if text in (",", "=")]
                torn = [before, text, *rest]
                flag = "-m " if "," in "".join(torn) and not self._multirun else ""
                raise UserError(
                    f"{' '.join(torn)}: a blank takes it apart: write {flag}{shown(''.join(torn))}"
                )
            if text in self._kinds:
                self._refuse_bare(
                    text, "".join(given[place + 1 : place + (3 if behind == "=" else 2)])
                )
            name, colon, value = text.partition(":")
            if colon and name in self._kinds:
                raise UserError(
                    f"{text}: is no key=value: write {shown(f'{name}={value.strip()}')}"
                )
            self._refuse_stray(text, before)

    def _refuse_bare(self, key: str, behind: str) -> None:
        value = behind.lstrip("=")
        if value and "=" not in value:
            written = shown(self._written(key, value))
            raise UserError(f"{key} {behind}: is no key=value: write {written}")
        options = f"; {key} can be {', '.join(self._options(key))}" if key in self._groups else ""
        raise UserError(f"{key}: is no key=value: give it a value, {key}=...{options}")

    def _refuse_stray(self, text: str, before: str) -> None:
        key, _, value = before.partition("=")
        kind = self._kinds.get(key.lstrip("+"), "")
        if text.lower().endswith((".csv", ".tsv", ".json", ".jsonl")) and kind[:3] != "str":
            raise UserError(
                f"{text}: is no key=value: one's own rows are given as data=csv "
                f"{shown(self._written('data.train', text))}"
            )
        if kind.startswith("str"):
            whole = shown(literal(key, f"{value} {text}"))
            raise UserError(f"{text}: is no key=value; if it belongs to {before}, write {whole}")
        if re.fullmatch(r"-?[\d.e-]+", text) and kind[:3] in ("int", "flo"):
            flag = "" if self._multirun else "-m "
            raise UserError(
                f"{before} {text}: several values are written {flag}{shown(f'{before},{text}')}"
            )
        whole = f"; if it belongs to {before}, write {shown(f'{before} {text}')}" if key else ""
        raise UserError(f"{text}: is no key=value, such as lora.r=8 or lora=r16{whole}")


def _takes_text(kind: str) -> bool:
    return kind == GROUP or kind.startswith("str")


def _refuse_several(text: str, key: str, value: str, found: object, kind: str) -> None:
    """Refuse a list or a range for a key that takes one number, with the sweep that was meant."""
    if kind.split(" ")[0] not in ("int", "float"):
        return
    if isinstance(found, list) and found:
        listed = ",".join(str(one) for one in found)
        raise UserError(
            f"{text}: is a list, but {key} takes one number; a sweep over several is written "
            f"-m {shown(f'{key}={listed}')}"
        )
    written = RANGE.fullmatch(value.strip())
    if written is None:
        return
    first, last, step = written.groups()
    sweep = f"{key}={first},{last}"
    if first.isdigit() and last.isdigit() and int(first) < int(last):
        step = step or max(1, (int(last) - int(first)) // 3)
        sweep = f"{key}=range({first},{int(last) + 1},{step})"
    raise UserError(
        f"{text}: {key} takes one number; a sweep over several is written -m {shown(sweep)}"
    )


def literal(key: str, value: str) -> str:
    """An override whose value is exactly this text, in Hydra's grammar."""
    # Within quotes a backslash escapes a quote, and itself only before one.
    escaped = re.sub(r"(\\*)(\"|$)", lambda m: 2 * m[1] + ("\\" + m[2] if m[2] else ""), value)
    return f'{key}="{escaped}"'


def shown(override: str) -> str:
    """An override as it is typed into a shell."""
    return shlex.quote(override)
