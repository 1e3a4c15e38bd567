"""Write the demo data set: ``python scripts/make_demo_data.py [--output DIR]``.

The demo data are three small SQLite databases (a library, a clinic and a shop) and two CSV files of
questions with their SQL queries, `train.csv` and `validation.csv`, columns db_id, question, query
and context.  Everything is made up by the grammar in `demo_domains`, always the same on every run.
The validation questions use wordings that training never shows, their queries do not occur in
training, and some of them (the hand-written "combos") put known pieces together in a new way.

Every query is run before it is kept: it must return something, must not be cut in the middle of a
tie, and must not be trivial (see `problem`).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import re
import sqlite3
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_domains import clinic, library, shop
from demo_domains.grammar import Dice, Domain, Draft, Family, Writer
from demo_domains.heads import families

COLUMNS = ("db_id", "question", "query", "context")
DEFAULT_OUTPUT = Path(__file__).resolve().parents[1] / "qc_experiments" / "demo"
MAX_TRIES = 2000


@dataclass(frozen=True)
class Row:
    """One line of a CSV file, with the shape of its query for statistics."""

    db_id: str
    question: str
    query: str
    context: str
    shape: str


def domains() -> tuple[Domain, ...]:
    """Return the three domains."""
    return (library.domain(), clinic.domain(), shop.domain())


def create_database(domain: Domain, path: Path | str) -> sqlite3.Connection:
    """Create and fill the database of `domain`; return the open connection."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.executescript(domain.context)
    for table, rows in domain.rows.items():
        marks = ", ".join("?" for _ in rows[0])
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    connection.commit()
    return connection


def plain_question(question: str) -> str:
    """Return the question in lower case, without punctuation and extra space."""
    kept = question.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(kept.split())


def plain_query(query: str) -> str:
    """Return the query in lower case with single spaces."""
    return " ".join(query.lower().split())


def cut_in_tie(connection: sqlite3.Connection, query: str) -> bool:
    """Tell whether the order of `query` is left open by a tie, at its LIMIT or within its rows.

    Rows that tie in the sort key do no harm as long as they look the same in the output.
    """
    match = re.fullmatch(
        r"SELECT (DISTINCT )?(.+?) FROM (.+) ORDER BY (.+?)(?: LIMIT (\d+))?", query
    )
    if match is None:
        if "ORDER BY" in query or "LIMIT" in query:
            raise ValueError(f"cannot check the order of: {query}")
        return False
    distinct, columns, source, order, limit = match.groups()
    key = re.sub(r" DESC\b", "", order)
    longer = f" LIMIT {int(limit) + 1}" if limit else ""
    rows = connection.execute(
        f"SELECT {distinct or ''}{columns}, {key} FROM {source} ORDER BY {order}{longer}"
    ).fetchall()
    width = key.count(",") + 1 if "(" not in key else 1
    pairs = itertools.pairwise(rows)
    return any(one[-width:] == two[-width:] and one != two for one, two in pairs) or bool(
        limit and len(rows) > int(limit) and rows[-1][-width:] == rows[-2][-width:]
    )


def _count(connection: sqlite3.Connection, what: str, source: str) -> int:
    return int(connection.execute(f"SELECT {what} FROM {source}").fetchone()[0])


def _source_problem(connection: sqlite3.Connection, draft: Draft, min_rows: int) -> str:
    """Check that a query starts from enough rows and that its filter makes a difference."""
    rows = _count(connection, "COUNT(*)", draft.source)
    if rows < max(min_rows, draft.limit + 1 if draft.limit > 1 else 1):
        return "too few rows"
    base, _, where = draft.source.partition(" WHERE ")
    if where:
        unfiltered = draft.query.replace(draft.source, base)
        if connection.execute(unfiltered).fetchall() == connection.execute(draft.query).fetchall():
            return "the filter makes no difference"
    return ""


def _group_problem(connection: sqlite3.Connection, draft: Draft) -> str:
    """Check that no group is missing for want of rows, where a reader would expect a zero."""
    table, column = re.findall(r"([a-z]+)\.([a-z]+)", draft.group)[0]
    if re.search(
        rf"\b{column}\b",
        " ".join(
            re.findall(" WHERE (.+?)(?: GROUP BY | INTERSECT | EXCEPT | UNION |$)", draft.query)
        ),
    ):
        return "the group column is filtered"
    if re.search(rf"(AVG|MAX|MIN|SUM)\([a-z.]*{column}\)", draft.query):
        return "the group column is summed up"
    if " GROUP BY " not in draft.query:
        return ""
    shown = _count(connection, f"COUNT(DISTINCT {draft.group})", draft.source)
    if shown != _count(connection, f"COUNT(DISTINCT {draft.group})", table):
        return "a group without rows"
    if " HAVING " in draft.query:
        kept = len(connection.execute(draft.query).fetchall())
        if kept == shown:
            return "the HAVING keeps every group"
    return ""


def _set_problem(connection: sqlite3.Connection, query: str) -> str:
    """Check that a set operation does something: no side alone gives the same rows."""
    result = set(connection.execute(query).fetchall())
    for side in re.split(r" (?:INTERSECT|EXCEPT|UNION) ", query):
        if set(connection.execute(side).fetchall()) == result:
            return "one side of the set operation is enough"
    return ""


def _like_problem(connection: sqlite3.Connection, query: str) -> str:
    """Check that LIKE finds the same whether or not it minds the case of letters."""
    loose = connection.execute(query).fetchall()
    connection.execute("PRAGMA case_sensitive_like = ON")
    strict = connection.execute(query).fetchall()
    connection.execute("PRAGMA case_sensitive_like = OFF")
    return "" if loose == strict else "LIKE depends on the case"


def result_problem(connection: sqlite3.Connection, query: str) -> str:
    """Return what is wrong with the result of `query`, or an empty text."""
    rows = connection.execute(query).fetchall()
    if not any(value is not None for row in rows for value in row):
        return "nothing found"
    if query.startswith("SELECT DISTINCT") and any(None in row for row in rows):
        return "NULL among the distinct values"
    if re.match(r"SELECT COUNT\(", query) and rows == [(0,)]:
        return "a count of zero"
    if len(set(rows)) < len(rows) and "GROUP BY" not in query:
        return "the same row twice"
    if cut_in_tie(connection, query):
        return "a tie"
    return ""


def _column_problem(query: str) -> str:
    """Check that a query does not ask for what its own filter already says."""
    select, _, rest = query.partition(" FROM ")
    where = re.split(" (?:GROUP|ORDER) BY ", rest.partition(" WHERE ")[2])[0]
    while re.search(r"\(SELECT [^()]*(?:\([^()]*\)[^()]*)*\)", where):
        where = re.sub(r"\(SELECT [^()]*(?:\([^()]*\)[^()]*)*\)", "", where)
    shown = re.findall(r"[a-z]+(?:[._][a-z]+)*", re.sub("'[^']*'", "", select))
    if " OR " not in where and any(
        re.search(rf"(?<![.\w]){column} (?:=|IS NULL)", where) for column in shown
    ):
        return "asks for a value that the filter fixes"
    if " LIMIT " in query:
        shown = re.findall(r"[a-z]+(?:[._][a-z]+)*", query.partition(" ORDER BY ")[2])
    if re.search(r"DISTINCT |(?:AVG|MAX|MIN|SUM)\(| LIMIT ", query) and any(
        re.search(rf"(?<![.\w]){column}\b", where) for column in shown
    ):
        return "summarises the column it filters"
    return ""


def clumsy(question: str) -> bool:
    """Tell whether a phrase hangs on another one with the same first word ("with ... with")."""
    words = ("with", "without", "earning", "costing", "born", "joined", "placed")
    return any(re.search(rf"\b{word}\b[^,;:.?]*\b{word}\b", question) for word in words)


def problem(connection: sqlite3.Connection, draft: Draft, min_rows: int) -> str:
    """Return why `draft` cannot be kept, or an empty text."""
    is_set = re.search(" (INTERSECT|EXCEPT|UNION) ", draft.query)
    found = result_problem(connection, draft.query)
    if not found and draft.source:
        found = _source_problem(connection, draft, min_rows)
    if not found and draft.group:
        found = _group_problem(connection, draft)
    if not found and is_set:
        found = _set_problem(connection, draft.query)
    if not found and not is_set:
        found = "clumsy" if clumsy(draft.question) else _column_problem(draft.query)
    if not found and " LIKE " in draft.query:
        found = _like_problem(connection, draft.query)
    return found


def mirrored(query: str) -> str:
    """Return the plain query with the sides of INTERSECT and UNION in alphabetical order."""
    plain = plain_query(query)
    for operation in (" intersect ", " union "):
        plain = operation.join(sorted(plain.split(operation)))
    return plain


class Generator:
    """Generates the rows of one domain."""

    def __init__(self, domain: Domain) -> None:
        """Fill a database in memory to try the queries on."""
        self.domain = domain
        self._connection = create_database(domain, ":memory:")
        self._writer = Writer(Dice(f"{domain.db_id} questions"), domain.pools)
        self._questions: set[str] = set()
        self._queries: set[str] = set()

    def rows(self) -> tuple[list[Row], list[Row]]:
        """Return the training rows and the validation rows."""
        plan = families(self.domain)
        valid = [self._combo(combo.question, combo.query) for combo in self.domain.combos]
        train = [row for family in plan for row in self._family(family, train=True)]
        valid += [row for family in plan for row in self._family(family, train=False)]
        return train, valid

    def _row(self, question: str, query: str, shape: str) -> Row:
        self._questions.add(plain_question(question))
        self._queries.add(mirrored(query))
        return Row(self.domain.db_id, question, query, self.domain.context, shape)

    def _combo(self, question: str, query: str) -> Row:
        """Check a hand-written row; its flaws are mistakes to mend, not drafts to drop."""
        flaw = result_problem(self._connection, query)
        if flaw:
            raise ValueError(f"{self.domain.db_id}: {flaw}: {query}")
        return self._row(question, query, "combo")

    def _family(self, family: Family, train: bool) -> list[Row]:
        """Return the rows of one family for one of the two files."""
        wanted = family.counts[0 if train else 1]
        wordings = family.train if train else family.valid
        rows: list[Row] = []
        for _ in range(MAX_TRIES):
            if len(rows) == wanted:
                return rows
            draft, marks = self._writer.draft(family, wordings)
            if self._seen(draft) or problem(self._connection, draft, family.min_rows):
                self._writer.accept(marks, weight=1)
                continue
            self._writer.accept(marks)
            rows.append(self._row(draft.question, draft.query, family.shape))
        raise RuntimeError(f"{self.domain.db_id}: {family.key} has only {len(rows)} of {wanted}")

    def _seen(self, draft: Draft) -> bool:
        return (
            plain_question(draft.question) in self._questions
            or mirrored(draft.query) in self._queries
        )


def make_rows(worlds: Sequence[Domain]) -> tuple[list[Row], list[Row]]:
    """Return all training rows and all validation rows, each mixed."""
    train: list[Row] = []
    valid: list[Row] = []
    for world in worlds:
        more_train, more_valid = Generator(world).rows()
        train += more_train
        valid += more_valid
    return Dice("train order").shuffled(train), Dice("validation order").shuffled(valid)


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write `rows` as CSV with line feeds."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        writer.writerow(COLUMNS)
        writer.writerows((row.db_id, row.question, row.query, row.context) for row in rows)


def write_database(folder: Path, domain: Domain) -> None:
    """Write the SQLite file of `domain` under `folder`."""
    path = folder / domain.db_id / f"{domain.db_id}.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    connection = create_database(domain, path)
    connection.execute("VACUUM")
    connection.close()


def write_all(output: Path) -> tuple[list[Row], list[Row]]:
    """Write the whole data set under `output` and return its rows."""
    worlds = domains()
    output.mkdir(parents=True, exist_ok=True)
    for world in worlds:
        write_database(output / "databases", world)
    train, valid = make_rows(worlds)
    write_csv(output / "train.csv", train)
    write_csv(output / "validation.csv", valid)
    return train, valid


def main() -> None:
    """Read the command line and write the data."""
    parser = argparse.ArgumentParser(description="Write the demo data set.")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, metavar="DIR")
    output: Path = parser.parse_args().output
    train, valid = write_all(output)
    print(f"{len(train)} training rows and {len(valid)} validation rows in {output}")


if __name__ == "__main__":
    main()
