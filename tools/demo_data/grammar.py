"""A small grammar that writes a question and its SQL query from the same choices.

A *family* has a SQL pattern and several wordings.  Both hold slots such as ``{np}`` or ``{city}``.
For each slot a *phrase* is picked from a pool; the phrase says what the slot becomes in the SQL and
what it becomes in English, so that the two cannot drift apart.  In English:

* ``{np}`` is the singular form, ``{np:s}`` the plural form;
* ``{city2}`` is a second, different pick from the pool ``city``;
* ``~`` inside a phrase is the noun that it describes, which else comes first ("from {city}");
* ``[a book|books]`` inside a phrase is what differs between singular and plural;
* ``<is>`` is "is" or "are", whichever suits the number of columns asked for.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")

DIGITS = "0123456789"
SLOT = re.compile(r"\{(\w+?)(:s)?\}")
INNER = {"np": "noun", "sup": "np", "par": "parent"}


class Dice:
    """Random choices built on `random.Random.random` alone, the one method that never changes."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def below(self, limit: int) -> int:
        """Return a whole number from 0 to `limit` - 1."""
        return int(self._random.random() * limit)

    def between(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def pick(self, items: Sequence[T]) -> T:
        """Return one of `items`."""
        return items[self.below(len(items))]

    def shuffled(self, items: Iterable[T]) -> list[T]:
        """Return `items` in random order."""
        keyed = [(self._random.random(), item) for item in items]
        return [item for _, item in sorted(keyed, key=lambda pair: pair[0])]


class Phrase(NamedTuple):
    """One thing to say, in SQL and in English (several wordings)."""

    sql: str
    texts: tuple[str, ...]


Pools = Mapping[str, Sequence[Phrase]]


class Family(NamedTuple):
    """A query pattern; `wordings` and `counts` of rows are for training and for validation."""

    key: str
    sql: str
    wordings: Sequence[Sequence[str]]
    counts: Sequence[int]
    variants: Sequence[Pools]
    min_rows: int


class Draft(NamedTuple):
    """A question with its query before the checks, the SQL of its slots and all choices made."""

    question: str
    query: str
    slots: dict[str, str]
    marks: list[tuple[str, ...]]


class Writer:
    """Writes drafts and counts what was used, so that all phrases get their turn."""

    def __init__(self, dice: Dice, pools: Pools) -> None:
        self._dice = dice
        self._pools = pools
        self._used: Counter[tuple[str, ...]] = Counter()

    def draft(self, family: Family, wordings: Sequence[str]) -> Draft:
        """Write one draft of `family`; call `accept` with what became of it."""
        number = self._least_used(range(len(family.variants)), str, family.key)
        wording = self._least_used(wordings, str, "wording")
        self._key, self._slots = family.key, {**self._pools, **family.variants[number]}
        self._picked: dict[str, tuple[Phrase, int]] = {}
        self._marks: list[tuple[str, ...]] = [(family.key, str(number)), ("wording", wording)]
        question = re.sub(r"\ba (?=[aeio])", "an ", self._english(wording))
        slots = {slot: self._sql(f"{{{slot}}}") for slot, _ in SLOT.findall(family.sql)}
        question = question[0].upper() + question[1:]
        return Draft(question, tidy(self._sql(family.sql)), slots, self._marks)

    def accept(self, draft: Draft, weight: int) -> None:
        """Count the choices behind `draft`; a rejected one has a small weight."""
        for mark in draft.marks:
            self._used[mark] += weight

    def _least_used(self, items: Sequence[T], name: Callable[[T], str], *scope: str) -> T:
        used = [self._used[(*scope, name(item))] for item in items]
        least = min(used)
        return self._dice.pick([items[place] for place, n in enumerate(used) if n == least])

    def _pick(self, slot: str) -> tuple[Phrase, int]:
        """Return the phrase of `slot` and its wording, picking them when the slot is met first."""
        if slot not in self._picked:
            base = slot.rstrip(DIGITS)
            taken = [phrase for s, (phrase, _) in self._picked.items() if s.rstrip(DIGITS) == base]
            pool = [phrase for phrase in self._slots[base] if phrase not in taken]
            phrase = self._least_used(pool, lambda found: found.sql, self._key, base)
            place = self._least_used(range(len(phrase.texts)), str, self._key, phrase.sql)
            self._marks += [(self._key, base, phrase.sql), (self._key, phrase.sql, str(place))]
            self._picked[slot] = (phrase, place)
        return self._picked[slot]

    def _english(self, template: str) -> str:
        def fill(match: re.Match[str]) -> str:
            slot, plural = match[1], match[2] or ""
            phrase, place = self._pick(slot)
            form = r"\2" if plural else r"\1"
            text = _numbered(slot, re.sub(r"\[(.*?)\|(.*?)\]", form, phrase.texts[place]))
            base = slot.rstrip(DIGITS)
            if base in INNER:
                text = text if "~" in text else f"~ {text}"
                text = text.replace("~", f"{{{INNER[base]}{plural}}}")
            if base == "sup" and plural:
                text = f"{{n}} {text}"
            return self._english(text)

        text = SLOT.sub(fill, template)
        asked = [self._picked[slot][0].sql for slot in ("cols", "agg") if slot in self._picked]
        return text.replace("<is>", "are" if any("," in sql for sql in asked) else "is")

    def _sql(self, template: str) -> str:
        return SLOT.sub(lambda m: self._sql(_numbered(m[1], self._pick(m[1])[0].sql)), template)


def _numbered(slot: str, text: str) -> str:
    """Return `text` with the number of `slot` on the slots inside it."""
    number = slot[len(slot.rstrip(DIGITS)) :]
    return re.sub(r"\{([a-z]+)\b", rf"{{\g<1>{number}", text) if number else text


def tidy(query: str) -> str:
    """Drop double spaces, and the table names when one table at a time is in sight."""
    query = " ".join(query.split())
    alone = " JOIN " not in query and "EXISTS (" not in query
    return re.sub(r"\b[a-z]+\.(?=[a-z_]+\b)", "", query) if alone else query
