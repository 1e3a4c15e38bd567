"""A domain: a database and the vocabulary to ask about it, read from the YAML tables.

The vocabulary stands in *slots*, ``slot:item; item | slot:item``.  An item is ``SQL => wording /
wording``; without wordings, English says what the SQL says.  In SQL, ``loan + book`` is the join along
the foreign key, ``year(day)`` and ``month(day)`` cut a date short, and a column without a table belongs
to the first table of its entity.  A slot of an entity that is named in the plan, such as ``eq`` or
``join``, holds noun phrases: conditions (after further tables to join) and what they do to the noun.
"""

from __future__ import annotations

import re
import sqlite3
from calendar import month_name
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tools.demo_data.grammar import DIGITS, SLOT, Dice, Family, Phrase, Pools
from tools.demo_data.rows import ROWS

NOUNS = ("cols", "attr", "dcol", "grp", "parent", "kid", "pname")
DATES = {"year": "%Y", "month": "%Y-%m"}
Head = tuple[str, list[tuple[str, ...]], int]
Entity = tuple[dict[str, list[Phrase]], list[tuple[str, Phrase]], list[str]]


def read(name: str) -> dict[str, Any]:
    """Read the table `name`; all values in it are texts."""
    text = Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8")
    return dict(yaml.load(text, Loader=yaml.BaseLoader))


def _slots(text: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield the items in `text`: slot, SQL and wordings."""
    for part in text.split(" | "):
        slot, _, items = part.partition(":")
        for item in items.split("; "):
            sql, _, wordings = item.partition("=> ")
            yield slot, sql.strip(), tuple(wordings.split(" / ")) if wordings else ()


def _phrase(text: str, wordings: tuple[str, ...]) -> Phrase:
    """Return a phrase; without wordings, a value, a month (``2023-03``) or a range (``10..20``)."""
    if wordings:
        return Phrase(text, wordings)
    low, is_range, high = text.partition("..")
    if is_range:
        sql = f"{low} AND {high}" if low.isdigit() else f"'{low}' AND '{high}'"
        return Phrase(sql, (f"between {low} and {high}", f"from {low} to {high}"))
    month = re.fullmatch(r"(\d{4})-(\d\d)", text)
    return Phrase(text, (f"{month_name[int(month[2])]} {month[1]}" if month else text,))


def _noun(text: str) -> str:
    """Return a noun, or several ("name and city"), in the singular and the plural."""
    many = text
    for end, ending in (("", "s"), ("ys", "ies"), ("sss", "sses"), ("siss", "ses")):
        many = re.sub(rf"(?<=\w){end}(?=,| and |$)", ending, many)
    return f"[{text}|{many}]"


def _orders(sql: str, name: str, ends: tuple[str, ...]) -> list[Phrase]:
    """Return the order by a column from A to Z, or up and down where `ends` says what is first."""
    if not ends:
        return [Phrase(sql, (f"in alphabetical order of {name}", f"sorted by {name} from A to Z"))]
    return [
        Phrase(sql + tail, (f"in {way} order of {name}", end, f"ordered by {name}, {end}"))
        for tail, way, end in zip(("", " DESC"), ("ascending", "descending"), ends, strict=True)
    ]


class Domain:
    """A database with the vocabulary to ask about it."""

    def __init__(self, db_id: str, shared: dict[str, Any]) -> None:
        table = read(db_id)
        self.db_id = db_id
        self.context = "\n".join(table["schema"])
        self._names: dict[str, str] = table["names"]
        self._columns: dict[str, list[str]] = {}
        self._keys: dict[tuple[str, str], str] = {}
        for name, columns in re.findall(r"CREATE TABLE (\w+) \((.*)\);", self.context):
            self._columns[name] = [column.split()[0] for column in columns.split(", ")]
            for column, parent in re.findall(r"(\w+) INTEGER REFERENCES (\w+)", columns):
                self._keys[name, parent] = f"{name}.{column} = {parent}.id"
        data = shared["data"] | table["data"]
        self._rows = ROWS[db_id](Dice(f"{db_id} rows"), data)
        self.connection = self.create(":memory:")
        dice = Dice(f"{db_id} values")
        self.pools: defaultdict[str, list[Phrase]] = defaultdict(list)
        for slot, sql, wordings in _slots(f"{shared['pools']} | {table['pools']}"):
            self.pools[slot] += self._values(sql, data, dice) or [_phrase(sql, wordings)]
        combos = (combo.split(" => ") for combo in table["combos"])
        self.combos = {question: self._sql(query) for question, query in combos}
        lines = f"{shared['plan']}; {table['plan']}".split("; ")
        plan = [re.split("[ /]", line) for line in lines]
        kinds = {kind for _, *kinds, _ in plan for kind in kinds}
        entities = [self._entity(kinds, *item) for item in table["entities"].items()]
        entities += [self._entity(kinds, *item) for item in table["parents"].items()]
        heads: dict[str, Head] = {}
        for key, text in (shared["heads"] | table["heads"]).items():
            name, _, pattern = key.partition(" = ")
            texts = [tuple(part.split(" / ")) for part in text.split(" | ")]
            heads[name] = self._sql(pattern), texts, int(shared["min_rows"].get(name, 1))
        self.families = [self._family(line, heads[line[0]], entities) for line in plan]

    def create(self, path: Path | str) -> sqlite3.Connection:
        """Create and fill the database at `path`; return the open connection."""
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.executescript(self.context)
        for table, rows in self._rows.items():
            columns = ", ".join(column for column in self._columns[table] if column != "id")
            marks = ", ".join("?" for _ in rows[0])
            connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
        connection.commit()
        return connection

    def _values(self, sql: str, data: dict[str, Any], dice: Dice) -> list[Phrase]:
        """Return the values of some ``@data`` or of a query, shuffled if it has no order."""
        values: list[str] = list(data[sql[1:]]) if sql.startswith("@") else []
        if sql.startswith("SELECT "):
            values = [str(row[0]) for row in self.connection.execute(self._sql(sql))]
            values = values if "ORDER BY" in sql else dice.shuffled(values)
        return [Phrase(value, (value,)) for value in values]

    def _sql(self, text: str) -> str:
        """Write out the joins and the parts of dates in `text`."""
        date = r"\b(year|month)\(([a-z.]+)\)"
        text = re.sub(date, lambda m: f"strftime('{DATES[m[1]]}', {m[2]})", text)
        return re.sub(r"[a-z]+(?: \+ [a-z]+)+", lambda match: self._join(match[0]), text)

    def _join(self, names: str) -> str:
        sql, seen = "", list[str]()
        for table in names.split(" + "):
            keys = [self._keys[child, table] for child in seen if (child, table) in self._keys]
            sql += f" JOIN {table} ON {keys[0]}" if seen else table
            seen.append(table)
        return sql

    def _name(self, columns: str, base: str) -> str:
        """Return what English calls some columns; those of other tables go with the table's name."""
        names = []
        for column in columns.split(", "):
            table, _, bare = column.partition(".")
            words = [self._names.get(table, table)] if table != base or not bare else []
            names.append(" ".join(words + [self._names.get(column, bare)] * bool(bare)))
        return ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]

    def _entity(self, kinds: set[str], join: str, text: str) -> Entity:
        """Read what can be asked about the rows of a join, or about the parents of these rows."""
        base, source, heads = join.partition(" + ")[0], self._sql(join), list[str]()
        bare = re.compile(rf"(?<![.{{\w])({'|'.join(self._columns[base])})\b(?![.(])")
        pools = defaultdict(list, noun=[Phrase(source, (_noun(self._name(base, base)),))])
        noun_phrases = [("all", Phrase(source, ("~",)))]
        for slot, short, wordings in _slots(text):
            sql = bare.sub(rf"{base}.\1", short)
            if slot == "heads":
                heads = sql.split()
            elif slot == "order":
                pools[slot] += _orders(sql, self._name(sql, base), wordings)
            elif slot in kinds or slot == "who":
                where = sql if sql.startswith("+") else f"WHERE {sql}"
                noun_phrases.append((slot, Phrase(self._sql(f"{join} {where}"), wordings)))
            else:
                if slot in NOUNS:
                    wordings = tuple(map(_noun, wordings or (self._name(sql, base),)))
                pools[slot].append(_phrase(self._sql(sql), wordings))
        pools["who"] = [phrase for kind, phrase in noun_phrases if kind == "who"]
        return pools, [] if "parent" in pools else noun_phrases, heads

    def _family(self, line: list[str], head: Head, entities: list[Entity]) -> Family:
        """Return the family for a line of the plan: a head and kinds of noun phrases."""
        name, *kinds, counts = line
        sql, wordings, min_rows = head
        slots = {slot for slot, _ in SLOT.findall(sql)}
        needs = Counter(base for slot in slots if (base := slot.rstrip(DIGITS)) not in self.pools)
        variants: list[Pools] = [] if needs else [{}]
        for entity, noun_phrases, heads in entities:
            pools = entity | {"np": [phrase for kind, phrase in noun_phrases if kind in kinds]}
            fits = all(len(pools.get(slot, ())) >= count for slot, count in needs.items())
            if needs and fits and name in (heads or [name]):
                variants.append(pools)
        if not variants:
            raise ValueError(f"{self.db_id}: nothing to say for {' '.join(line)}")
        rows = [int(count) for count in counts.split("+")]
        return Family("_".join((name, *kinds)), sql, wordings, rows, variants, min_rows)
