"""What a query must fulfil to be kept: it returns something, says something, and is not open."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

from tools.demo_data.grammar import Draft, tidy

COLUMN = re.compile(r"[a-z]+(?:[._][a-z]+)*")
SUBQUERY = re.compile(r"\(SELECT [^()]*(?:\([^()]*\)[^()]*)*\)")
CLUMSY = re.compile(r"\b(with|without|earning|costing|born|joined|placed)\b[^,;:.?]*\b\1\b")
SETS = " (?:INTERSECT|EXCEPT|UNION) "


def cut_in_tie(connection: sqlite3.Connection, query: str) -> bool:
    """Tell whether the order of `query` is left open by a tie, at its LIMIT or within its rows.

    Rows that tie in the sort key do no harm as long as they look the same in the output.
    """
    parts = r"SELECT (DISTINCT )?(.+?) FROM (.+) ORDER BY (.+?)(?: LIMIT (\d+))?"
    match = re.fullmatch(parts, query)
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


def result_problem(connection: sqlite3.Connection, query: str) -> str:
    """Return what is wrong with the result of `query`, or an empty text."""
    rows = connection.execute(query).fetchall()
    if not any(value is not None for row in rows for value in row):
        return "nothing found"
    if query.startswith("SELECT DISTINCT") and any(None in row for row in rows):
        return "NULL among the distinct values"
    if query.startswith("SELECT COUNT(") and rows == [(0,)]:
        return "a count of zero"
    if len(set(rows)) < len(rows) and "GROUP BY" not in query:
        return "the same row twice"
    return "a tie" if cut_in_tie(connection, query) else ""


def _query_problems(query: str) -> Iterator[str]:
    """Check that `query` does not ask for what its own filter already says."""
    select, _, rest = query.partition(" FROM ")
    where = re.split(" (?:GROUP|ORDER) BY ", rest.partition(" WHERE ")[2])[0]
    while SUBQUERY.search(where):
        where = SUBQUERY.sub("", where)

    def filtered(columns: list[str], condition: str) -> bool:
        return any(re.search(rf"(?<![.\w]){column}{condition}", where) for column in columns)

    shown = COLUMN.findall(re.sub("'[^']*'", "", select))
    if " OR " not in where and filtered(shown, " (?:=|IS NULL)"):
        yield "asks for a value that the filter fixes"
    if " LIMIT " in query:
        shown = COLUMN.findall(query.partition(" ORDER BY ")[2])
    if re.search(r"DISTINCT |(?:AVG|MAX|MIN|SUM)\(| LIMIT ", query) and filtered(shown, r"\b"):
        yield "summarises the column it filters"


def problems(connection: sqlite3.Connection, draft: Draft, min_rows: int) -> Iterator[str]:
    """Yield why `draft` cannot be kept; a check may rely on what an earlier one would have found."""

    def run(query: str) -> list[Any]:
        return connection.execute(query).fetchall()

    query, result = draft.query, run(draft.query)
    if flaw := result_problem(connection, query):
        yield flaw
    if source := tidy(draft.slots.get("np", "")):
        if len(run(f"SELECT 1 FROM {source}")) < max(min_rows, int(draft.slots.get("n", 0)) + 1):
            yield "too few rows"
        base, _, where = source.partition(" WHERE ")
        if where and run(query.replace(source, base)) == result:
            yield "the filter makes no difference"
    if group := draft.slots.get("grp"):
        table, column = re.findall(r"([a-z]+)\.([a-z]+)", group)[0]
        filters = re.findall(f" WHERE (.+?)(?: GROUP BY |{SETS}|$)", query)
        if re.search(rf"\b{column}\b", " ".join(filters)):
            yield "the group column is filtered"
        if re.search(rf"(AVG|MAX|MIN|SUM)\([a-z.]*{column}\)", query):
            yield "the group column is summed up"
        if " GROUP BY " in query:  # a reader would expect a zero for a group that is not there
            count = f"SELECT COUNT(DISTINCT {group}) FROM"
            shown = run(f"{count} {source}")
            if shown != run(f"{count} {table}"):
                yield "a group without rows"
            if " HAVING " in query and [(len(result),)] == shown:
                yield "the HAVING keeps every group"
    if re.search(SETS, query):
        if any(set(run(side)) == set(result) for side in re.split(SETS, query)):
            yield "one side of the set operation is enough"
    elif CLUMSY.search(draft.question):
        yield "a phrase hangs on another one with the same first word"
    else:
        yield from _query_problems(query)
