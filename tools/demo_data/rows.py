"""The rows of the three databases, drawn by dice from the `data` of each domain's table.

In each of them some parents have no children, and some have more than their share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import Any, TypeVar

from tools.demo_data.grammar import Dice

T = TypeVar("T")
Data = dict[str, Any]
Rows = list[tuple[Any, ...]]


def _often(items: Iterable[T], *steps: int) -> list[T]:
    """Return `items` and, for each step, every so many of them again: these come up more often."""
    once = list(items)
    return once + [item for step in steps for item in once[::step]]


def _falling(items: Sequence[T], first: int) -> list[T]:
    """Return the first of `items` `first` times, each further one once less."""
    return [item for place, item in enumerate(items) for _ in range(first - place)]


def _free(value: int, used: set[int], step: int = 1) -> int:
    """Return the first number from `value` on that is not yet in `used`, and add it."""
    while value in used:
        value += step
    used.add(value)
    return value


def _later(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


def _day(dice: Dice, first: str, last: str) -> str:
    span = date.fromisoformat(last) - date.fromisoformat(first)
    return _later(first, dice.below(span.days + 1))


def _different(count: int, draw: Callable[[int], str]) -> list[str]:
    """Return `count` different results of `draw`, which is given how many there are so far."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw(len(found))] = None
    return list(found)


def _people(dice: Dice, data: Data, count: int) -> list[str]:
    """Return `count` different full names; first and last names come up several times."""
    firsts = dice.shuffled(data["first"])
    return _different(count, lambda n: f"{firsts[n % len(firsts)]} {dice.pick(data['last'])}")


def library(dice: Dice, data: Data) -> dict[str, Rows]:
    """Return authors, books, members and loans."""
    authors = [(name, country, int(born)) for name, country, born in data["authors"]]
    books, loans, used = [], [], set[int]()
    idle = data["without_books"]
    writers = _often((row for row in enumerate(authors, 1) if row[1][0] not in idle), 2, 3, 5)
    for genre, titles in data["titles"].items():
        low, high = map(int, data["pages"].get(genre, data["pages"]["others"]))
        for title in titles:
            author, (_, _, born) = dice.pick(writers)
            year = dice.between(max(1952, born + 23), 2022)
            books.append((title, author, genre, year, _free(dice.between(low, high), used)))
    books = dice.shuffled(books)
    joined = _different(42, lambda _: _day(dice, "2017-02-01", "2022-11-30"))
    names, cities = _people(dice, data, len(joined)), _falling(data["cities"], 7)
    members = [(name, dice.pick(cities), day) for name, day in zip(names, joined, strict=True)]
    readers = _often((row for row in enumerate(members, 1) if row[0] not in (7, 19, 33)), 3, 4, 4)
    shelf = _often((number for number, _ in enumerate(books, 1) if number % 12 != 5), 3, 5, 5)
    for _ in range(150):
        member, (_, _, since) = dice.pick(readers)
        day = _day(dice, max("2021-01-04", _later(since, 1)), "2023-12-18")
        back = _later(day, dice.between(4, 42))
        is_out = back > "2023-12-20" or dice.below(20) == 0
        loans.append((dice.pick(shelf), member, day, None if is_out else back))
    loans.sort(key=lambda loan: (loan[2], loan[0], str(loan[1])))
    return {"author": authors, "book": books, "member": members, "loan": loans}


def clinic(dice: Dice, data: Data) -> dict[str, Rows]:
    """Return doctors, patients and visits; some have no phone number or no diagnosis."""
    facts = data["fields"]
    fields = [field for field in facts for _ in range(int(facts[field]["doctors"]))]
    names = _people(dice, data, len(fields) + 60)
    patients, visits, used = [], [], set[int]()
    fields = dice.shuffled(fields)
    pays = [dice.between(39, 72) * 100 + 900 * (field == "surgery") for field in fields]
    doctors = [
        (name, field, dice.pick(data["doctor_cities"]), _free(pay, used, step=50))
        for name, field, pay in zip(names, fields, pays, strict=False)
    ]
    places = _falling(list(zip(data["cities"], data["areas"], strict=True)), 8)
    born = _different(60, lambda _: _day(dice, "1938-03-01", "2017-10-31"))
    for name, day in zip(names[len(doctors) :], born, strict=True):
        city, area = dice.pick(places)
        phone = f"{area}-{dice.between(100000, 999999)}"
        patients.append((name, city, day, phone if dice.below(6) else None))
    busy = _often((row for row in enumerate(doctors, 1) if row[0] not in (4, 15)), 3, 5, 5)
    ill = _often((row for row in enumerate(patients, 1) if row[0] % 11 != 6), 4, 7, 7)
    for _ in range(180):
        (doctor, (_, field, *_)), (patient, (_, _, birth, _)) = dice.pick(busy), dice.pick(ill)
        if field == "pediatrics" and birth < "2003-01-01":
            others = [row for row in busy if row[1][1] != "pediatrics"]
            doctor, (_, field, *_) = dice.pick(others)
        diagnosis = dice.pick(facts[field]["diagnoses"]) if dice.below(7) else None
        fee = dice.between(*map(int, facts[field]["fees"]))
        visits.append((patient, doctor, _day(dice, "2021-01-05", "2023-12-21"), fee, diagnosis))
    visits.sort(key=lambda visit: (visit[2], str(visit[0]), str(visit[1])))
    return {"doctor": doctors, "patient": patients, "visit": visits}


def shop(dice: Dice, data: Data) -> dict[str, Rows]:
    """Return customers, products, orders and one to four items per order.

    Prices are multiples of a quarter: sums and products of them are exact in binary, too.
    """
    goods = [(text, kind) for kind, texts in data["products"].items() for text in texts]
    products, customers, orders, items, used = [], [], [], [], set[int]()
    for number, (text, category) in enumerate(dice.shuffled(goods), 1):
        name, _, price = text.rpartition(" ")
        stock = _free(dice.between(3, 180), used)
        products.append((name, category, float(price), 0 if number % 13 == 4 else stock))
    cities = _falling(data["cities"], 8)
    for name in _people(dice, data, 45):
        mail = f"{name.lower().replace(' ', '.')}@{dice.pick(data['mail_hosts'])}"
        customers.append((name, dice.pick(cities), mail if dice.below(5) else None))
    buyers = _often((number for number in range(1, 46) if number % 10 != 7), 3, 5, 5)
    for _ in range(110):
        day = _day(dice, "2022-01-03", "2024-06-28")
        shipped = _later(day, dice.between(1, 6))
        waiting = day > "2024-06-20" or dice.below(12) == 0
        orders.append((dice.pick(buyers), day, None if waiting else shipped))
    orders.sort(key=lambda order: (order[1], order[0]))
    sold = _often((number for number, _ in enumerate(products, 1) if number % 14 != 3), 4, 6, 6)
    for order, _ in enumerate(orders, 1):
        chosen = dict.fromkeys(dice.pick(sold) for _ in range(dice.pick((1, 1, 2, 2, 2, 3, 3, 4))))
        items += [(order, product, dice.pick((1, 1, 1, 2, 2, 3, 4, 6))) for product in chosen]
    return {"customer": customers, "product": products, "orders": orders, "item": items}


ROWS = {"library": library, "clinic": clinic, "shop": shop}
