"""How a gold query orders and cuts its rows, and a query that shows which rows tie.

Rows that tie under ORDER BY may come in any order, and where LIMIT cuts through a tie several
results are right. Which rows tie is asked of the database itself: the keys are added to the query's
columns and ranked by DENSE_RANK, so that collations and NULLs count as the database counts them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from qc_experiments.sql.tokens import Token, statement, tokens

COMPOUNDS = ("union", "intersect", "except")
CLAUSES = ("from", "where", "group", "having", "window", "qualify", "order")
CLAUSES_BEFORE_LIMIT = (*CLAUSES, *COMPOUNDS)
CLAUSES_AFTER_COLUMNS = (*CLAUSES, "limit")
_ORDERING_WORD = re.compile(r"order|limit|fetch|offset", re.IGNORECASE)


@dataclass(frozen=True)
class Key:
    """One term of ORDER BY.

    Attributes:
        expression: what is ordered by, its tokens.
        suffix: COLLATE, ASC, DESC and NULLS FIRST or LAST, as written.
    """

    expression: tuple[Token, ...]
    suffix: str


@dataclass(frozen=True)
class Ordering:
    """What stands outside all parentheses of a query after its rows.

    Attributes:
        body: the query without its LIMIT and, unless DISTINCT ON needs it, its ORDER BY.
        keys: terms of ORDER BY.
        limited: whether it has a LIMIT.
        distinct: whether its SELECT is DISTINCT, so that no two of its rows are the same.
        offset: rows that it skips; None where that is no plain number.
        dialect: what sqlglot calls the SQL it is written in.
    """

    body: str
    keys: tuple[Key, ...]
    limited: bool
    offset: int | None
    distinct: bool = False
    dialect: str = "sqlite"


def read_ordering(sql: str, dialect: str = "sqlite") -> Ordering:
    """Find the outermost ORDER BY and LIMIT of a query; text that is no query has neither."""
    if _ORDERING_WORD.search(sql) is None:  # which saves the tokens of a query of megabytes
        return Ordering(sql, (), False, 0, dialect=dialect)
    sql = _without_outer_parentheses(statement(sql, dialect), dialect)
    found = tokens(sql, dialect)
    top = [token for token in found if token.depth == 0]
    last_clause = max(
        (i for i, t in enumerate(top) if t.is_word(*CLAUSES_BEFORE_LIMIT)), default=-1
    )
    order = limit = None
    for place, token in enumerate(top):
        after = top[place + 1] if place + 1 < len(top) else None
        if token.is_word("order") and after is not None and after.is_word("by") and order is None:
            order = place
        # `limit` may be a column's name where no number or expression follows it as a clause.
        elif (
            limit is None
            and token.is_word("limit", "fetch", "offset")
            and last_clause < place
            and _starts_cut(top, place)
        ):
            limit = place
    end = len(sql) if limit is None else top[limit].start
    keys: tuple[Key, ...] = ()
    if order is not None:
        first = top[order + 1].end
        keys = _keys([t for t in found if first <= t.start < end])
    picks = any(a.is_word("distinct") and b.is_word("on") for a, b in pairwise(top))
    # ORDER BY decides which row DISTINCT ON keeps, so that it stays with the rows.
    body_end = end if order is None or picks else min(end, top[order].start)
    cut = [] if limit is None else top[limit:]
    distinct = not picks and any(
        a.is_word("select") and b.is_word("distinct") for a, b in pairwise(top)
    )
    return Ordering(sql[:body_end].rstrip(), keys, bool(cut), _offset(cut), distinct, dialect)


def _without_outer_parentheses(sql: str, dialect: str) -> str:
    found = tokens(sql, dialect)
    pairs = 0
    while 2 * pairs + 2 < len(found) and (found[pairs].text, found[-1 - pairs].text) == ("(", ")"):
        pairs += 1
    # A pair is one that encloses all if nothing between stands outside it, from the innermost out.
    lowest = min((token.depth for token in found[pairs : len(found) - pairs]), default=0)
    outer = pairs if lowest >= pairs else 0
    for place in range(pairs - 1, 0, -1):
        lowest = min(lowest, found[place].depth, found[-1 - place].depth)
        if not outer and lowest >= place:
            outer = place
    return sql[found[outer - 1].end : found[-outer].start] if outer else sql


def _starts_cut(top: Sequence[Token], place: int) -> bool:
    """Whether a word that may start a LIMIT does, where no clause of a query follows."""
    before = top[place - 1] if place else None
    if before is None or before.text in (".", ",") or before.is_word("select", "by", "as"):
        return False
    rest = top[place + 1 : place + 2]
    if top[place].is_word("fetch") and not (rest and rest[0].is_word("first", "next")):
        return False
    return bool(rest) and rest[0].text not in (".", ",", "=", "<", ">")


def _offset(cut: Sequence[Token]) -> int | None:
    """Rows that a cut skips, from the outer tokens of LIMIT n [OFFSET m], LIMIT m, n, OFFSET m."""
    for place, token in enumerate(cut):
        if token.is_word("offset"):
            plain = [t for t in cut[place + 1 :] if not t.is_word("rows", "row")]
            plain = plain[: next((i for i, t in enumerate(plain) if t.is_word("fetch")), None)]
            return int(plain[0].text) if _is_number(plain) else None
        if token.text == ",":
            return int(cut[1].text) if _is_number(cut[1:place]) else None
    return 0


def _is_number(found: Sequence[Token]) -> bool:
    return len(found) == 1 and found[0].kind == "number" and found[0].text.isdigit()


def _keys(found: Sequence[Token]) -> tuple[Key, ...]:
    terms: list[list[Token]] = [[]]
    for token in found:
        if token.depth == 0 and token.text == ",":
            terms.append([])
        else:
            terms[-1].append(token)
    return tuple(_key(term) for term in terms if term)


def _key(term: Sequence[Token]) -> Key:
    end = len(term)
    # From the end: a CASE within the expression may hold a COLLATE of its own.
    if end > 2 and term[end - 2].is_word("nulls"):
        end -= 2
    if end > 1 and term[end - 1].is_word("asc", "desc"):
        end -= 1
    if end > 2 and term[end - 2].is_word("collate"):
        end -= 2
    return Key(tuple(term[:end]), " ".join(token.text for token in term[end:]))


def ranked_queries(ordering: Ordering, columns: Sequence[str]) -> list[str]:
    """Queries that give all rows of the body, uncut, each with its rank under the keys.

    The first that runs and of which the gold's rows are a legal cut tells the ties. Rows come as the
    body's columns, then the rank from 1 on.

    Args:
        ordering: the query's ordering.
        columns: names of the query's columns, as the database gave them.
    """
    if not ordering.keys:
        return [f"WITH qc_body AS ({ordering.body}\n) SELECT *, 1 FROM qc_body"]
    found = []
    for substituted in (False, True):
        query = _ranked(ordering, columns, substituted)
        if query is not None and query not in found:
            found.append(query)
    return found


def _ranked(ordering: Ordering, columns: Sequence[str], substituted: bool) -> str | None:
    body = tokens(ordering.body, ordering.dialect)
    top = [token for token in body if token.depth == 0]
    aliases = _aliases(ordering.body, body)
    names = [name.lower() for name in columns]
    added: list[str] = []
    terms: list[str] = []
    for key in ordering.keys:
        if (
            ordering.dialect == "duckdb"
            and "".join(t.text.lower() for t in key.expression) == "all"
        ):
            terms += [f"c{i + 1} {key.suffix}".rstrip() for i in range(len(columns))]
            continue
        place = _output_column(key.expression, names)
        if place is None:
            added.append(_expression(ordering, key, aliases if substituted else {}))
            place = len(columns) + len(added) - 1
        terms.append(f"c{place + 1} {key.suffix}".rstrip())
    inner = ordering.body
    if added:
        if any(token.is_word(*COMPOUNDS) for token in top):
            return None  # a compound is ordered by its columns only
        places = _columns(top, len(inner))
        if places is None:
            return None
        keys = "".join(f", {expression}" for expression in added)
        inner = f"{inner[: places[1]]}{keys} {inner[places[1] :]}"
    everything = ", ".join(f"c{i + 1}" for i in range(len(columns) + len(added)))
    shown = ", ".join(f"c{i + 1}" for i in range(len(columns)))
    rank = f"DENSE_RANK() OVER (ORDER BY {', '.join(terms)})"
    return f"WITH qc_body({everything}) AS ({inner}\n) SELECT {shown}, {rank} FROM qc_body"


def _output_column(expression: Sequence[Token], names: Sequence[str]) -> int | None:
    """The place of the output column that a key is, by number or by name; None if it is another."""
    while len(expression) > 1 and (
        expression[0].text == "+" or (expression[0].text, expression[-1].text) == ("(", ")")
    ):  # (1) and +1 are numbers of columns as well
        bracketed = expression[0].text == "("
        expression = expression[1:-1] if bracketed else expression[1:]
    if len(expression) != 1:
        return None
    token = expression[0]
    if _is_number(expression):
        place = int(token.text) - 1
        return place if place < len(names) else None
    name = token.name()
    return names.index(name) if name in names else None


def _expression(ordering: Ordering, key: Key, aliases: dict[str, str]) -> str:
    """A key's text, with the query's own aliases replaced by what they stand for."""
    text = ""
    for place, token in enumerate(key.expression):
        before = key.expression[place - 1].text if place else ""
        after = key.expression[place + 1].text if place + 1 < len(key.expression) else ""
        alone = before != "." and after not in (".", "(")
        name = token.name() if alone else None
        # Apart where they were apart: `<` and `=` may be one operator or, with a blank, an error.
        if place and key.expression[place - 1].end < token.start:
            text += " "
        text += f"({aliases[name]})" if name in aliases else token.text
    return text


def _aliases(sql: str, found: Sequence[Token]) -> dict[str, str]:
    """Alias, in lower case, to expression, of the outermost columns."""
    top = [token for token in found if token.depth == 0]
    places = _columns(top, len(sql))
    if places is None:
        return {}
    start, end = places
    aliases: dict[str, str] = {}
    items: list[list[Token]] = [[]]
    for token in found:
        if start <= token.start < end:
            if token.depth == 0 and token.text == ",":
                items.append([])
            else:
                items[-1].append(token)
    for item in items:
        name = item[-1].name() if len(item) > 1 else None
        if name is None or item[-2].text == ".":
            continue
        # `a AS b` and `a b`; what is taken for an alias though it is none fails, or ranks alike.
        last = item[-3:-2] if item[-2].is_word("as") else item[-2:-1]
        if last:
            aliases[name] = sql[item[0].start : last[0].end]
    return aliases


def _columns(top: Sequence[Token], length: int) -> tuple[int, int] | None:
    """Where the outermost SELECT's columns start and end; None where there is no such SELECT."""
    first = next((i for i, token in enumerate(top) if token.is_word("select")), None)
    if first is None:
        return None
    last = first
    if top[first + 1 : first + 2] and top[first + 1].is_word("distinct"):
        last += 1
        if top[first + 2 : first + 3] and top[first + 2].is_word("on"):
            last += 3  # ON ( )
    if last >= len(top):
        return None
    for place in range(first + 1, len(top)):
        token, before = top[place], top[place - 1]
        if not token.is_word(*CLAUSES_AFTER_COLUMNS) or before.text == "." or before.is_word("as"):
            continue
        # `a IS DISTINCT FROM b` is an expression; SELECT DISTINCT FROM is no SQL.
        if not (token.is_word("from") and before.is_word("distinct")):
            return top[last].end, token.start
    return top[last].end, length
