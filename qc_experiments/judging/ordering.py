"""How a gold query orders and cuts its rows, and a query that shows which rows tie.

Rows that tie under ORDER BY may come in any order, and where LIMIT cuts through a tie several
results are right. Which rows tie is asked of the database itself: the keys are added to the query's
columns and ranked by RANK, so that collations and NULLs count as the database counts them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from qc_experiments.sql.tokens import Token, statement, tokens

COMPOUNDS = ("union", "intersect", "except")
CLAUSES = ("from", "where", "group", "having", "window", "qualify", "order")
_ORDERING_WORD = re.compile(r"order|limit|fetch|offset", re.IGNORECASE)


class Key(NamedTuple):
    """A term of ORDER BY; its suffix is COLLATE, ASC, DESC and NULLS FIRST or LAST, as written."""

    expression: Sequence[Token]
    suffix: str


@dataclass(frozen=True)
class Ordering:
    """What stands outside all parentheses of a query after its rows.

    Attributes:
        body: the query without its LIMIT and, unless DISTINCT ON needs it, its ORDER BY.
        distinct: whether its SELECT is DISTINCT, so that no two of its rows are the same.
        offset: rows that it skips; None where that is no plain number.
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
    top = _outer(found)
    pairs = list(pairwise(top))
    order = next(
        (i for i, (a, b) in enumerate(pairs) if a.is_word("order") and b.is_word("by")), None
    )
    clauses = [i for i, token in enumerate(top) if token.is_word(*CLAUSES, *COMPOUNDS)]
    after = clauses[-1] + 1 if clauses else 0
    limit = next((i for i in range(after, len(top)) if _starts_cut(top, i)), None)
    end = len(sql) if limit is None else top[limit].start
    keys: list[Key] = []
    if order is not None:
        first = top[order + 1].end
        keys = [_key(term) for term in _between_commas(found, first, end)]
    selects = [b for a, b in pairs if a.is_word("select")]
    picks = any(a.is_word("distinct") and b.is_word("on") for a, b in pairs)
    distinct = not picks and any(token.is_word("distinct") for token in selects)
    # ORDER BY decides which row DISTINCT ON keeps, so that it stays with the rows.
    body_end = end if order is None or picks else min(end, top[order].start)
    cut = [] if limit is None else top[limit:]
    return Ordering(
        sql[:body_end].rstrip(), tuple(keys), bool(cut), _offset(cut), distinct, dialect
    )


def _outer(found: Sequence[Token]) -> list[Token]:
    return [token for token in found if token.depth == 0]


def _between_commas(found: Sequence[Token], start: int, end: int) -> list[list[Token]]:
    """The tokens from one place to another, cut at the outer commas."""
    parts: list[list[Token]] = [[]]
    for token in found:
        if start <= token.start < end:
            if token.depth == 0 and token.text == ",":
                parts.append([])
            else:
                parts[-1].append(token)
    return [part for part in parts if part]


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
    """Whether LIMIT, FETCH or OFFSET starts here, where no clause of a query follows.

    Each may be a column's name where no number or expression follows it as a clause.
    """
    if not top[place].is_word("limit", "fetch", "offset") or not 0 < place < len(top) - 1:
        return False
    before, after = top[place - 1], top[place + 1]
    if before.text in (".", ",") or before.is_word("select", "by", "as"):
        return False
    if top[place].is_word("fetch") and not after.is_word("first", "next"):
        return False
    return after.text not in (".", ",", "=", "<", ">")


def _offset(cut: Sequence[Token]) -> int | None:
    """Rows that a cut skips, from the outer tokens of LIMIT n [OFFSET m], LIMIT m, n, OFFSET m."""
    for place, token in enumerate(cut):
        if token.is_word("offset"):
            plain = [t for t in cut[place + 1 :] if not t.is_word("rows", "row")]
            ends = (i for i, t in enumerate(plain) if t.is_word("fetch", "limit"))
            return _number(plain[: next(ends, None)])
        if token.text == ",":
            return _number(cut[1:place])
    return 0


def _number(found: Sequence[Token]) -> int | None:
    """The plain number that some tokens are; None if they are anything else."""
    alone = len(found) == 1 and found[0].kind == "number" and found[0].text.isdigit()
    return int(found[0].text) if alone else None


def _key(term: Sequence[Token]) -> Key:
    end = len(term)
    # From the end: a CASE within the expression may hold a COLLATE of its own.
    if end > 2 and term[end - 2].is_word("nulls"):
        end -= 2
    if end > 1 and term[end - 1].is_word("asc", "desc"):
        end -= 1
    if end > 2 and term[end - 2].is_word("collate"):
        end -= 2
    return Key(term[:end], " ".join(token.text for token in term[end:]))


def ranked_queries(ordering: Ordering, columns: Sequence[str], count: int) -> list[str]:
    """Queries that give the rows of the body, each with its rank under the keys.

    Rows that tie with none of those that the cut takes (``count`` of them) may be left out. The first
    query that runs and of which the gold's rows are a legal cut tells the ties. Rows come as the body's
    columns (called as the database says), then the rank from 1 on.
    """
    if not ordering.keys:
        return [f"WITH qc_body AS ({ordering.body}\n) SELECT *, 1 FROM qc_body"]
    body = tokens(ordering.body, ordering.dialect)
    aliases = _aliases(ordering.body, body)
    named = _with_names_only(ordering)
    # First with the keys as they are; then with the query's aliases replaced by what they stand for.
    forms: list[tuple[Ordering, dict[str, str]]] = [
        (named, {}),
        (named, aliases),
        (ordering, aliases),
    ]
    queries = [_ranked(form, columns, body, replaced) for form, replaced in forms]
    # A rank counts the rows before it, so that what begins beyond the cut has a larger one than its end.
    # Of DISTINCT all rows are needed, to see whether the keys multiplied them.
    cut = ordering.limited and not ordering.distinct
    end = f" WHERE qc_rank <= {(ordering.offset or 0) + count}" if cut else ""
    return [f"{query}{end}" for query in dict.fromkeys(queries) if query is not None]


def _with_names_only(ordering: Ordering) -> Ordering:
    """With `x` for "x" in SQLite's keys, which takes "x" for a text where no column is called so.

    An alias is none where the keys are asked for.
    """
    if ordering.dialect != "sqlite":
        return ordering
    keys = (Key([_in_backticks(t) for t in key.expression], key.suffix) for key in ordering.keys)
    return replace(ordering, keys=tuple(keys))


def _in_backticks(token: Token) -> Token:
    if token.kind != "quoted" or token.text[0] != '"':
        return token
    inner = token.text[1:-1].replace('""', '"').replace("`", "``")
    return token._replace(text=f"`{inner}`")


def _ranked(
    ordering: Ordering, columns: Sequence[str], body: Sequence[Token], aliases: dict[str, str]
) -> str | None:
    names = [name.lower() for name in columns]
    own = [f"c{i + 1}" for i in range(len(columns))]
    added: list[str] = []
    terms: list[str] = []
    for expression, suffix in ordering.keys:
        ranked = [f"c{len(columns) + len(added) + 1}"]
        place = _output_column(expression, names)
        if ordering.dialect == "duckdb" and "".join(t.text for t in expression).lower() == "all":
            ranked = own
        elif place is not None:
            ranked = [f"c{place + 1}"]
        else:
            added.append(_expression(expression, aliases))
        terms += [f"{column} {suffix}".rstrip() for column in ranked]
    inner = ordering.body
    if added:
        top = _outer(body)
        places = _columns(top, len(inner))
        if places is None or any(token.is_word(*COMPOUNDS) for token in top):
            return None  # a compound is ordered by its columns only
        inner = f"{inner[: places[1]]}, {', '.join(added)} {inner[places[1] :]}"
    everything = ", ".join(f"c{i + 1}" for i in range(len(columns) + len(added)))
    shown, rank = ", ".join(own), f"RANK() OVER (ORDER BY {', '.join(terms)}) AS qc_rank"
    ranked_rows = f"(SELECT {shown}, {rank} FROM qc_body) AS qc_ranked"
    return f"WITH qc_body({everything}) AS ({inner}\n) SELECT {shown}, qc_rank FROM {ranked_rows}"


def _output_column(expression: Sequence[Token], names: Sequence[str]) -> int | None:
    """The place of the output column that a key is, by number or by name; None if it is another."""
    while len(expression) > 1 and (
        expression[0].text == "+" or (expression[0].text, expression[-1].text) == ("(", ")")
    ):  # (1) and +1 are numbers of columns as well
        expression = expression[1:-1] if expression[0].text == "(" else expression[1:]
    if len(expression) != 1:
        return None
    number, name = _number(expression), expression[0].name()
    if number is not None:
        return number - 1 if number <= len(names) else None
    return names.index(name) if name in names else None


def _expression(expression: Sequence[Token], aliases: dict[str, str]) -> str:
    """A key's text, with aliases replaced by what they stand for."""
    text = ""
    for place, token in enumerate(expression):
        before = expression[place - 1].text if place else ""
        after = expression[place + 1].text if place + 1 < len(expression) else ""
        name = token.name() if before != "." and after not in (".", "(") else None
        # Apart where they were apart: `<` and `=` may be one operator or, with a blank, an error.
        if place and expression[place - 1].end < token.start:
            text += " "
        text += f"({aliases[name]})" if name in aliases else token.text
    return text


def _aliases(sql: str, found: Sequence[Token]) -> dict[str, str]:
    """Alias, in lower case, to expression, of the outermost columns."""
    places = _columns(_outer(found), len(sql))
    aliases: dict[str, str] = {}
    for item in _between_commas(found, *places) if places else ():
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
    follow = zip(top[first + 1 :], ("distinct", "on"), strict=False)
    distinct = [token.is_word(word) for token, word in follow]
    last = first + (4 if distinct == [True, True] else distinct[:1] == [True])  # 4: ON ( )
    if last >= len(top):
        return None
    for before, token in pairwise(top[first:]):
        clause = token.is_word(*CLAUSES, "limit")
        if not clause or before.text == "." or before.is_word("as"):
            continue
        # `a IS DISTINCT FROM b` is an expression; SELECT DISTINCT FROM is no SQL.
        if not (token.is_word("from") and before.is_word("distinct")):
            return top[last].end, token.start
    return top[last].end, length
