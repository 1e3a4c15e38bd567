"""Words: counts with their nouns, times, the nearest of some, one or several."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: ``1 run``, ``1,200 runs``."""
    return f"{count:,} {noun_for(count, noun, plural)}"


def noun_for(count: int, noun: str, plural: str | None = None) -> str:
    """A noun for one, or else its plural; None adds an s."""
    return noun if count == 1 else plural or f"{noun}s"


def nearest(word: str, candidates: Iterable[str], cutoff: float = 0.5) -> str:
    """A phrase that offers the most similar of some names, or nothing where none is similar."""
    match = difflib.get_close_matches(word, list(candidates), n=1, cutoff=cutoff)
    return f" (did you mean {match[0]}?)" if match else ""


def items(given: str | Iterable[str]) -> tuple[str, ...]:
    """Several texts; a single one is one item, not its characters."""
    return (given,) if isinstance(given, str) else tuple(given)


def size(count: float) -> str:
    """Bytes for people: ``512 B``, ``1.2 MB``, ``3.4 GB``."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def age(seconds: float) -> str:
    """How long ago something was: ``now``, ``7 min``, ``3 h``, ``12 days``."""
    for factor, unit in ((86_400, "day"), (3600, "h"), (60, "min")):
        if seconds >= 2 * factor:
            count = int(seconds // factor)
            return counted(count, unit) if unit == "day" else f"{count} {unit}"
    return "now"


def duration(seconds: float) -> str:
    """A time for people: ``40 s``, ``7 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
