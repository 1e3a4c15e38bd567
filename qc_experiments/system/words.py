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


def duration(seconds: float) -> str:
    """A time for people: ``40 s``, ``7 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
