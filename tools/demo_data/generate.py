"""Write the demo data set: ``python -m tools.demo_data.generate [--output DIR]``.

The demo data are three small SQLite databases (a library, a clinic and a shop) and two CSV files of
questions with their SQL queries, `train.csv` and `validation.csv`.  Everything is made up from the
tables beside this file, always the same on every run.  The validation questions use wordings that
training never shows, their queries do not occur in training, and some of them (the hand-written
"combos") put known pieces together in a new way.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

from tools.demo_data.checks import problems, result_problem
from tools.demo_data.domain import Domain, read
from tools.demo_data.grammar import Dice, Writer

COLUMNS = ("db_id", "question", "query", "context")
DATABASES = ("library", "clinic", "shop")
OUTPUT = Path(__file__).resolve().parents[2] / "qc_experiments" / "demo"
MAX_TRIES = 2000
Row = tuple[str, str, str, str]


def domains() -> list[Domain]:
    """Return the three domains."""
    shared = read("shared")
    return [Domain(db_id, shared) for db_id in DATABASES]


def _plain(question: str, query: str) -> set[str]:
    """Return both in lower case: without punctuation; with the sides of set operations sorted."""
    query = query.lower()
    for operation in (" intersect ", " union "):
        query = operation.join(sorted(query.split(operation)))
    return {" ".join(re.sub(r"[^\w\s]|_", "", question.lower()).split()), query}


def rows_of(domain: Domain) -> tuple[list[Row], list[Row]]:
    """Return the training rows and the validation rows about a database."""
    writer = Writer(Dice(f"{domain.db_id} questions"), domain.pools)
    seen: set[str] = set()
    files: tuple[list[Row], list[Row]] = ([], [])

    def keep(number: int, question: str, query: str) -> None:
        seen.update(_plain(question, query))
        files[number].append((domain.db_id, question, query, domain.context))

    for question, query in domain.combos.items():
        if flaw := result_problem(domain.connection, query):
            raise ValueError(f"{domain.db_id}: {flaw}: {query}")
        keep(1, question, query)
    for number, family in ((number, family) for number in (0, 1) for family in domain.families):
        missing = family.counts[number]
        for _ in range(MAX_TRIES):
            if missing == 0:
                break
            draft = writer.draft(family, family.wordings[number])
            known = not seen.isdisjoint(_plain(draft.question, draft.query))
            flawed = known or any(problems(domain.connection, draft, family.min_rows))
            writer.accept(draft, weight=1 if flawed else 10)
            if not flawed:
                keep(number, draft.question, draft.query)
                missing -= 1
        else:
            raise RuntimeError(f"{domain.db_id}: {family.key} lacks {missing} rows")
    return files


def write_all(output: Path) -> tuple[list[Row], list[Row]]:
    """Write the whole data set under `output`; return its training and its validation rows."""
    files: tuple[list[Row], list[Row]] = ([], [])
    for domain in domains():
        for rows, more in zip(files, rows_of(domain), strict=True):
            rows += more
        path = output / "databases" / domain.db_id / f"{domain.db_id}.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        connection = domain.create(path)
        connection.execute("VACUUM")
        connection.close()
    for name, rows in zip(("train", "validation"), files, strict=True):
        with (output / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerows((COLUMNS, *Dice(f"{name} order").shuffled(rows)))
    return files


def main() -> None:
    """Read the command line and write the data."""
    parser = argparse.ArgumentParser(description="Write the demo data set.")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR")
    output: Path = parser.parse_args().output
    train, valid = write_all(output)
    print(f"{len(train)} training rows and {len(valid)} validation rows in {output}")


if __name__ == "__main__":
    main()
