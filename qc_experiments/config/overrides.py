"""What was typed after ``qc train``, put into Hydra's grammar, or answered with how it is written.

Hydra's grammar gives many signs of file names and URLs a meaning (``~ = # ' ( { ;``, letters beyond
ASCII) and reads ``2024_01`` as a number. Where a key takes text, such a value is quoted here, so that
it means what was typed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from qc_experiments.config.keys import (
    ALIASES,
    FILES,
    GROUP,
    GROUPS,
    OWN,
    SECTION,
    TAKES,
    keys_in,
    kinds_of_keys,
    option_names,
    shown,
    unknown_key,
)
from qc_experiments.errors import UserError
from qc_experiments.system.words import nearest

RANGE = re.compile(r"([\d.]+(?:e-?\d+)?) *[:;-] *([\d.]+(?:e-?\d+)?)(?: *[:;] *(\d+))?")
"""How a range is written elsewhere."""


def check_overrides(
    overrides: Sequence[str], config_dir: str | None = None, *, multirun: bool = False
) -> tuple[str, ...]:
    """Refuse command-line overrides that name an unknown key, group or option, or cannot be read.

    Args:
        overrides: as typed, such as ``lora=r16``, ``+lora.r=4``, ``~lora.r``.
        config_dir: a user's own folder of option files, or None.
        multirun: whether every combination of values is run (``-m``).

    Returns:
        The same in Hydra's grammar, quoted where that is needed.

    Raises:
        UserError: naming the override, what is allowed and the nearest match, or how it is written.
    """
    reader = _Overrides(config_dir, multirun)
    reader.refuse_torn(overrides)
    read = tuple(map(reader.read, overrides))
    for text, written in zip(overrides, read, strict=True):
        reader.check(text, written)
    _refuse_two_presets(overrides)
    return read


class _Overrides:
    def __init__(self, config_dir: str | None, multirun: bool) -> None:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        self._parser = OverridesParser.create()
        self._config_dir = config_dir
        self._multirun = multirun
        self._flag = "" if multirun else "-m "  # that several values need
        self._kinds = kinds_of_keys() | dict.fromkeys(GROUPS, GROUP)

    def _options(self, group: str) -> list[str]:
        return option_names(group, self._config_dir)

    def check(self, text: str, written: str) -> None:
        """Refuse an unknown key, group or option.

        Args:
            text: as typed.
            written: the same in Hydra's grammar.
        """
        from hydra.errors import HydraException

        try:
            override = self._parser.parse_override(written)
        except HydraException as error:
            reason = str(error).splitlines()[0].partition(" expecting ")[0]
            raise UserError(f"{text}: cannot be read as key=value ({reason})") from None
        key = (override.key_or_group or "").lstrip("/")
        problem = ""
        if key.partition(".")[0] == "hydra" or key.startswith("hydra/"):
            return
        if ALIASES.get(key) in GROUPS:
            problem = f"the group is called {ALIASES[key]}, as in {ALIASES[key]}=..."
        elif key not in self._kinds:
            problem = unknown_key(key)
        elif self._kinds[key] == SECTION:
            keys = ", ".join(keys_in(key))
            problem = f"{key} is a section; set one of its keys: {keys}"
        elif key in GROUPS:
            if override.is_delete():
                problem = "a group cannot be taken away; choose one of its options"
            elif override.is_add():
                problem = f"write {text.lstrip('+')}, without the +"
            elif key == "sweep" and not self._multirun:
                problem = f"a sweep needs -m, as in train.py -m {text}"
            else:
                swept = override.is_sweep_override()
                for value in override.sweep_iterator() if swept else [override.value()]:
                    self._check_option(key, "null" if value is None else str(value))
        if problem:
            raise UserError(f"{text}: {problem}")

    def _check_option(self, group: str, name: str) -> None:
        options = self._options(group)
        if name.removesuffix(".yaml") in options:
            return
        own = OWN.get(group) if re.search(r"[./~\\]", name) else None
        hint = f": write {own.format(shown(name))}" if own else nearest(name, options)
        if name in option_names(group, "conf"):  # of a project that qc init made
            hint = ": conf/ has it: add --config-dir conf"
        raise UserError(
            f"{group}={name}: no such option{hint}; "
            f"{group} can be {', '.join(options) or 'nothing yet'}"
        )

    def read(self, text: str) -> str:
        """An override in Hydra's grammar."""
        key, has_value, value = text.partition("=")
        kind = self._kind(key)
        if not has_value:
            return text
        if value.startswith("="):
            raise _no_setting(text, self.read(f"{key}={value.lstrip('= ')}"))
        parsed = self._parsed(text)
        if parsed is None:
            if "," in (value.strip()[:1], value.strip()[-1:]) or ",," in value:
                raise UserError(f"{text}: {self._lost_comma(text, kind)}")
            quoted = self._quoted(key, value, kind)
            if self._parsed(quoted) is None:
                takes = TAKES.get(kind.split(" ")[0], "no such value")
                raise UserError(f"{text}: cannot be read as key=value; {key} takes {takes}")
            return quoted
        if parsed.is_sweep_override():
            return self._sweep(text, parsed, kind)
        found = parsed.value()
        if kind == FILES and isinstance(found, list):
            return text
        if _takes_text(kind) and not isinstance(found, str) and found is not None:
            # 007 and 2024_01 are numbers to Hydra, 12e4567 is infinite; a revision may be called so.
            return text if str(found) == value.strip() else literal(key, value.strip())
        sweep = _meant_sweep(key, value, found) if kind.split(" ")[0] in ("int", "float") else None
        if sweep is not None:
            what = "is a list, but " if isinstance(found, list) else ""
            raise UserError(
                f"{text}: {what}{key} takes one number; a sweep over several is written -m {shown(sweep)}"
            )
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
        one = f"; one value is written {shown(literal(key, value))}" if kind[:3] == "str" else ""
        one += f", several files for one run {shown(f'{key}=[{value}]')}" if kind == FILES else ""
        raise UserError(f"{text}: several values need -m (--multirun): -m {shown(text)}{one}")

    def _kind(self, key: str) -> str:
        return self._kinds.get(key.lstrip("+"), "")

    def _parsed(self, text: str) -> Any:
        from hydra.errors import HydraException

        try:
            return self._parser.parse_override(text)
        except HydraException:
            return None

    def _quoted(self, key: str, value: str, kind: str) -> str:
        """The same with the parts quoted that cannot be read, where the key takes text."""
        inner = value.strip()
        if kind.startswith("list") or kind in ("Any", FILES):
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
            return f"holds nothing but commas: give {key} a value"
        several = shown(f"{key}={','.join(values)}")
        if len(values) > 1:
            return f"has a comma too many: write {self._flag}{several}"
        own = f", {shown(literal(key, value))} if the comma belongs to it"
        return (
            f"has a comma, but one value: write {several}{own if kind[:3] == 'str' else ''}; several "
            f"values are written -m {shown(f'{key}={values[0]},...')}, without blanks"
        )

    def refuse_torn(self, given: Sequence[str]) -> None:
        """Refuse what a shell has taken apart at blanks, with the whole as it is written."""
        for place, text in enumerate(given):
            if "=" in text.lstrip("=") or text.startswith("~"):
                continue
            before = given[place - 1] if place else ""
            after = list(given[place + 1 : place + 3])
            if "=" in before and (before.endswith((",", "=")) or text.startswith(",")):
                self._refuse_parts([before, *given[place:]])
            if text in self._kinds:
                self._refuse_bare(text, "".join(after if after[:1] == ["="] else after[:1]))
            name, colon, value = text.partition(":")
            if colon and name in self._kinds:
                raise _no_setting(text, f"{name}={value.strip()}")
            self._refuse_stray(text, before)

    def _refuse_parts(self, words: Sequence[str]) -> None:
        """Refuse a value of which the shell has made several words, the first of these."""
        whole = words[0]
        torn = [whole]
        for word in words[1:]:
            if "=" in word.lstrip("=") or not (whole.endswith((",", "=")) or word.startswith(",")):
                break
            whole += word
            torn.append(word)
        a_list = re.search(r"=\[[^\]]*\]$", whole) is not None
        flag = self._flag if "," in whole and not a_list else ""
        raise UserError(f"{' '.join(torn)}: a blank takes it apart: write {flag}{shown(whole)}")

    def _refuse_bare(self, key: str, after: str) -> None:
        value = after.lstrip("=")
        if value and "=" not in value:
            raise _no_setting(f"{key} {after}", self.read(f"{key}={value}"))
        options = f"; {key} can be {', '.join(self._options(key))}" if key in GROUPS else ""
        raise UserError(f"{key}: is no key=value: give it a value, {key}=...{options}")

    def _refuse_stray(self, text: str, before: str) -> None:
        key, _, value = before.partition("=")
        kind = self._kind(key)
        if text.lower().endswith((".csv", ".tsv", ".json", ".jsonl")) and kind[:3] != "str":
            written = shown(self.read(f"data.train={text}"))
            raise UserError(
                f"{text}: is no key=value: one's own rows are given as data=csv {written}"
            )
        if kind[:3] in ("int", "flo") and re.fullmatch(r"-?[\d.e-]+", text):
            several = shown(f"{before},{text}")
            raise UserError(f"{before} {text}: several values are written {self._flag}{several}")
        whole = literal(key, f"{value} {text}") if kind[:3] == "str" else f"{before} {text}"
        example = "" if kind[:3] == "str" else ", such as lora.r=8 or lora=r16"
        hint = f"; if it belongs to {before}, write {shown(whole)}" if key else ""
        raise UserError(f"{text}: is no key=value{example}{hint}")


def _refuse_two_presets(given: Sequence[str]) -> None:
    """Refuse two presets, of which Hydra silently takes the last though both look as if they added up.

    Of keys and of other groups' options the last one counts, as scripts expect that add to a command.
    """
    chosen: dict[str, str] = {}
    for text in given:
        group = text.partition("=")[0].lstrip("/")
        if group in ("experiment", "sweep") and chosen.setdefault(group, text) != text:
            raise UserError(
                f"{chosen[group]} {text}: only the last would count: name one, and give the keys of the "
                "other with their values"
            )


def _no_setting(text: str, meant: str) -> UserError:
    return UserError(f"{text}: is no key=value: write {shown(meant)}")


def _takes_text(kind: str) -> bool:
    return kind == GROUP or kind.startswith("str")


def _meant_sweep(key: str, value: str, found: object) -> str | None:
    """The sweep that is meant by a list or a range; None if the value is neither."""
    if isinstance(found, list) and found:
        return f"{key}={','.join(map(str, found))}"
    written = RANGE.fullmatch(value.strip())
    if written is None:
        return None
    first, last, step = written.groups()
    if first.isdigit() and last.isdigit() and int(first) < int(last):
        step = step or max(1, (int(last) - int(first)) // 3)
        return f"{key}=range({first},{int(last) + 1},{step})"
    return f"{key}={first},{last}"


def literal(key: str, value: str) -> str:
    """An override whose value is exactly this text, in Hydra's grammar."""
    # Within quotes a backslash escapes a quote, and itself only before one.
    escaped = re.sub(r"(\\*)(\"|$)", lambda m: 2 * m[1] + ("\\" + m[2] if m[2] else ""), value)
    return f'{key}="{escaped}"'
