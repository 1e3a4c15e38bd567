"""Names of made-up people, shared by the three domains."""

from __future__ import annotations

from datetime import date, timedelta

from demo_domains.grammar import Dice

FIRST = (
    *("Adam", "Anna", "Ben", "Beth", "Carla", "Colin", "David", "Dora"),
    *("Ella", "Ethan", "Felix", "Fiona", "George", "Grace", "Hanna", "Henry"),
    *("Isla", "Ivan", "Jack", "Julia", "Karen", "Kevin", "Laura", "Liam"),
    *("Marco", "Maya", "Nina", "Noah", "Olivia", "Oscar", "Peter", "Rosa"),
    *("Sam", "Tara", "Umar", "Vera", "Walter", "Yara", "Zoe", "Nils"),
)
LAST = (
    *("Allen", "Baker", "Bennett", "Clark", "Cole", "Davies", "Dixon", "Ellis"),
    *("Evans", "Fisher", "Foster", "Grant", "Green", "Hart", "Hughes", "Ibrahim"),
    *("Jones", "Khan", "Lewis", "Morris", "Novak", "Owens", "Parker", "Reid"),
    *("Shah", "Turner", "Vaughan", "Walsh", "Young", "Ziegler"),
)


def full_names(dice: Dice, count: int) -> list[str]:
    """Return `count` different full names; first and last names come up several times."""
    firsts = dice.shuffled(FIRST)
    names: list[str] = []
    while len(names) < count:
        name = f"{firsts[len(names) % len(firsts)]} {dice.pick(LAST)}"
        if name not in names:
            names.append(name)
    return names


def iso_date(dice: Dice, first: str, last: str) -> str:
    """Return a date from `first` to `last` as ISO text."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return (start + timedelta(days=dice.below((end - start).days + 1))).isoformat()


def days_later(day: str, days: int) -> str:
    """Return the date `days` days after `day`."""
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()
