"""A small grammar that writes a question and its SQL query from the same choices.

A *family* has a SQL pattern and several wordings.  Both hold slots such as ``{np}`` or ``{city}``.
For each slot a *phrase* is picked from a pool; the phrase says what the slot becomes in the SQL and
what it becomes in English, so that the two cannot drift apart.  Slot syntax in English:

* ``{np}`` the singular form, ``{np:s}`` the plural form;
* ``{city2}`` a second, different pick from the pool ``city``;
* ``~`` inside a phrase: the noun that the phrase describes ("~ from {city}");
* ``#`` inside a superlative: the place of the number ("the # longest ~");
* ``<is>``: "is" or "are", whichever suits the number of columns asked for.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
SLOT = re.compile(r"\{(\w+?)(:s)?\}")
INNER = {"np": "noun", "sup": "np", "par": "parent"}


class Dice:
    """Random choices built on `random.Random.random` alone, the one method that never changes."""

    def __init__(self, seed: str) -> None:
        """Start the sequence that belongs to `seed`."""
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
        keyed = [(self._random.random(), place, item) for place, item in enumerate(items)]
        return [item for _, _, item in sorted(keyed, key=lambda entry: entry[:2])]


@dataclass(frozen=True)
class Phrase:
    """One thing to say, in SQL and in English (several wordings, singular and plural)."""

    sql: str
    one: tuple[str, ...]
    many: tuple[str, ...]

    def english(self, index: int, plural: bool) -> str:
        """Return the wording number `index`."""
        return (self.many if plural else self.one)[index]


Pools = Mapping[str, Sequence[Phrase]]


def phrase(sql: str, *texts: str) -> Phrase:
    """Make a phrase; without texts the English is the SQL itself.

    A text may give the singular and the plural, as in "~ who lives in {city}|~ who live in {city}".
    """
    forms = [text.split("|") for text in texts or (sql,)]
    return Phrase(sql, tuple(form[0] for form in forms), tuple(form[-1] for form in forms))


def noun(sql: str, one: str, many: str) -> Phrase:
    """Make a phrase that has a singular and a plural."""
    return phrase(sql, f"{one}|{many}")


def values(*items: str | int) -> tuple[Phrase, ...]:
    """Make a pool of plain values that read the same in SQL and in English."""
    return tuple(phrase(str(item)) for item in items)


def spans(*bounds: tuple[str | int, str | int]) -> tuple[Phrase, ...]:
    """Make a pool of ranges for BETWEEN, bounds included; texts are quoted."""
    pool = []
    for low, high in bounds:
        sql = f"{low} AND {high}" if isinstance(low, int) else f"'{low}' AND '{high}'"
        pool.append(phrase(sql, f"between {low} and {high}", f"from {low} to {high}"))
    return tuple(pool)


def months(*items: str) -> tuple[Phrase, ...]:
    """Make a pool of months from texts such as ``2023-03``."""
    return tuple(phrase(item, f"{MONTHS[int(item[5:]) - 1]} {item[:4]}") for item in items)


NUMBERS = (
    phrase("2", "two"),
    phrase("3", "three"),
    phrase("4", "four"),
    phrase("5", "five"),
)
SHARED_POOLS: Pools = {
    "n": NUMBERS,
    "k": values(2, 3, 4, 5, 6, 7, 8),
    "cmp": (phrase(">", "more than"), phrase(">=", "at least"), phrase("<", "fewer than")),
    "over": (phrase(">", "more than"), phrase(">=", "at least")),
    "sign": (phrase(">", "above"), phrase("<", "below")),
    "most": (phrase(" DESC", "most"), phrase("", "fewest")),
}


def sort_keys(column: str, name: str, up: str, down: str) -> tuple[Phrase, Phrase]:
    """Make the ascending and the descending order by `column`.

    Args:
        column: The column, with its table.
        name: What English calls the column.
        up: A natural way to say the ascending order, for example "cheapest first".
        down: The same for the descending order.
    """
    return (
        phrase(column, f"in ascending order of {name}", up, f"ordered by {name}, {up}"),
        phrase(
            f"{column} DESC", f"in descending order of {name}", down, f"ordered by {name}, {down}"
        ),
    )


@dataclass(frozen=True)
class Np:
    """A noun phrase: what the rows are limited to, under a kind that the plan can ask for."""

    kind: str
    where: str
    texts: tuple[str, ...]
    join: str = ""


def np(kind: str, where: str, *texts: str, join: str = "") -> Np:
    """Make a noun phrase; each text has ``~`` where the noun goes (``|`` as in `phrase`)."""
    return Np(kind, where, texts, join)


@dataclass(frozen=True)
class Entity:
    """What can be asked about the rows of one table (or of one fixed join)."""

    noun: Phrase
    cols: tuple[Phrase, ...]
    nps: tuple[Np, ...] = ()
    pools: Pools = field(default_factory=dict)
    heads: tuple[str, ...] = ()

    def noun_phrases(self, kinds: Iterable[str]) -> tuple[Phrase, ...]:
        """Return the noun phrases of the given kinds, as FROM clauses with their English."""
        wanted = tuple(kinds)
        found = [phrase(self.noun.sql, "~")] if "all" in wanted else []
        for item in self.nps:
            if item.kind in wanted:
                source = " ".join(part for part in (self.noun.sql, item.join) if part)
                found.append(phrase(f"{source} WHERE {item.where}", *item.texts))
        return tuple(found)


@dataclass(frozen=True)
class Family:
    """A query pattern with its wordings for training and the held-out ones for validation."""

    key: str
    shape: str
    sql: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    counts: tuple[int, int]
    variants: tuple[Pools, ...] = ({},)
    min_rows: int = 1


@dataclass(frozen=True)
class Combo:
    """A hand-written validation row that puts known pieces together in a new way."""

    question: str
    query: str


@dataclass(frozen=True)
class Domain:
    """A database with the vocabulary to ask about it."""

    db_id: str
    schema: tuple[str, ...]
    rows: Mapping[str, Sequence[tuple[object, ...]]]
    pools: Pools
    entities: tuple[Entity, ...]
    parents: tuple[Pools, ...]
    families: tuple[Family, ...]
    combos: tuple[Combo, ...]

    @property
    def context(self) -> str:
        """The schema text, one line a table."""
        return "\n".join(self.schema)


@dataclass(frozen=True)
class Draft:
    """A question with its query, before the checks."""

    question: str
    query: str
    source: str
    group: str
    limit: int


class Writer:
    """Writes drafts and keeps count of what was used, so that all phrases get their turn."""

    def __init__(self, dice: Dice, pools: Pools) -> None:
        """Take the dice and the pools that every family may draw from."""
        self._dice = dice
        self._pools: Pools = {**SHARED_POOLS, **pools}
        self._used: Counter[tuple[str, ...]] = Counter()

    def least_used(self, items: Sequence[T], name: Callable[[T], str], *scope: str) -> T:
        """Return one of the items that were used least in the given scope."""
        lowest = min(self._used[(*scope, name(item))] for item in items)
        return self._dice.pick([i for i in items if self._used[(*scope, name(i))] == lowest])

    def draft(self, family: Family, wordings: Sequence[str]) -> tuple[Draft, list[tuple[str, ...]]]:
        """Write one draft of `family`; also return the marks to hand to `accept`."""
        number = self.least_used(range(len(family.variants)), str, family.key)
        wording = self.least_used(wordings, str, "wording")
        pools: Pools = {**self._pools, **family.variants[number]}
        choice = _Choice(self, family.key, pools)
        question = choice.english(wording)
        query = choice.sql(family.sql)
        marks = [(family.key, str(number)), ("wording", wording), *choice.marks]
        draft = Draft(
            question=polish(question),
            query=tidy(query),
            source=tidy(choice.sql("{np}")) if "{np}" in family.sql else "",
            group=choice.sql("{grp}") if "{grp}" in family.sql else "",
            limit=int(choice.sql("{n}")) if "{n}" in family.sql else 1,
        )
        return draft, marks

    def accept(self, marks: Iterable[tuple[str, ...]], weight: int = 10) -> None:
        """Count the choices behind a draft; a rejected draft counts with a small weight."""
        for mark in marks:
            self._used[mark] += weight


class _Choice:
    """The phrases picked for one draft."""

    def __init__(self, writer: Writer, key: str, pools: Pools) -> None:
        self._writer = writer
        self._key = key
        self._pools = pools
        self._picked: dict[str, tuple[Phrase, int]] = {}
        self.marks: list[tuple[str, ...]] = []

    def _pick(self, slot: str) -> tuple[Phrase, int]:
        """Return the phrase of `slot`, picking it when it is met first."""
        if slot not in self._picked:
            base = slot.rstrip("0123456789")
            taken = {
                chosen.sql
                for other, (chosen, _) in self._picked.items()
                if other.rstrip("0123456789") == base
            }
            pool = [item for item in self._pools[base] if item.sql not in taken]
            item = self._writer.least_used(pool, lambda found: found.sql, self._key, base)
            index = int(
                self._writer.least_used(
                    [str(place) for place in range(len(item.one))], str, self._key, item.sql
                )
            )
            self.marks += [(self._key, base, item.sql), (self._key, item.sql, str(index))]
            self._picked[slot] = (item, index)
        return self._picked[slot]

    def english(self, template: str) -> str:
        """Fill the slots of an English template."""

        def fill(match: re.Match[str]) -> str:
            slot, plural = match[1], bool(match[2])
            item, index = self._pick(slot)
            base, text = _number_slots(slot, item.english(index, plural))
            if base in INNER:
                inner = INNER[base] + (":s" if plural else "")
                text = text.replace("# ", "{n} " if plural else "")
                text = text.replace("~", "{" + inner + "}")
            return self.english(text)

        text = SLOT.sub(fill, template)
        if "<is>" in text:
            several = any(
                "," in self._pick(slot)[0].sql for slot in {"cols", "agg"} & set(self._picked)
            )
            text = text.replace("<is>", "are" if several else "is")
        return text

    def sql(self, template: str) -> str:
        """Fill the slots of a SQL template."""

        def fill(match: re.Match[str]) -> str:
            _, text = _number_slots(match[1], self._pick(match[1])[0].sql)
            return self.sql(text)

        return SLOT.sub(fill, template)


def _number_slots(slot: str, text: str) -> tuple[str, str]:
    """Return the slot's pool name and the text with the slot's number on the slots inside it."""
    base = slot.rstrip("0123456789")
    number = slot[len(base) :]
    return base, re.sub(r"\{([a-z]+)\b", rf"{{\g<1>{number}", text) if number else text


def polish(question: str) -> str:
    """Put the last touch to a question: capital letter, "an" before a vowel."""
    question = re.sub(r"\ba (?=[aeio])", "an ", question)
    return question[0].upper() + question[1:]


def tidy(query: str) -> str:
    """Drop the table names in front of columns when one table at a time is in sight."""
    if " JOIN " in query or "EXISTS (" in query:
        return query
    return re.sub(r"\b[a-z]+\.(?=[a-z_]+\b)", "", query)
