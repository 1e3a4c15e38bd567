"""Cut SQL into tokens, so that clauses are found by structure and never by searching the text.

Comments are skipped; strings, quoted identifiers and numbers are one token each. No grammar is
needed for what is asked here: whatever stands outside all parentheses belongs to the outermost query.
The time it takes grows with the length of the text and nothing else, whatever the text is.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

_TOKEN = r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    | (?P<string>{escaped}'[^']*(?:''[^']*)*(?:'|\Z))
    | (?P<quoted>"[^"]*(?:""[^"]*)*(?:"|\Z)|`[^`]*(?:``[^`]*)*(?:`|\Z){bracketed})
    | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?))
    | (?P<word>\$?(?:\w|[^\x00-\x7f\s\ufffd])(?:[\w$]|[^\x00-\x7f\s\ufffd])*)
    | (?P<mark>.)
"""
# In PostgreSQL and DuckDB brackets are arrays, E'...' has escapes, comments may hold comments.
_SQLITE, _OTHERS = (
    re.compile(_TOKEN.format(escaped=escaped, bracketed=bracketed), re.VERBOSE | re.DOTALL)
    for escaped, bracketed in (
        ("", r"|\[[^\]]*(?:\]|\Z)"),
        (r"[eE]'[^'\\]*(?:(?:''|\\(?:.|\Z))[^'\\]*)*(?:'|\Z)|", ""),
    )
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")

RANDOM_FUNCTIONS = {
    "sqlite": ("random", "randomblob"),
    "duckdb": ("random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7"),
    "postgres": (
        *("random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7"),
        *("uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4"),
    ),
}
RANDOM_ELSEWHERE = ("rand", "random", "uuid", "newid")
_RANDOM_WORD = re.compile("rand|uuid|newid|sample", re.IGNORECASE)

CLOCK_WORDS = ("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp")
CLOCK_FUNCTIONS = {
    "sqlite": ("date", "time", "datetime", "julianday", "unixepoch"),
    "duckdb": (
        "now",
        "today",
        "get_current_time",
        "get_current_timestamp",
        "transaction_timestamp",
    ),
    "postgres": (
        *("now", "timeofday"),
        *("clock_timestamp", "statement_timestamp", "transaction_timestamp"),
    ),
}
"""Functions that ask for the time where they are given nothing."""
CLOCK_STRINGS = ("now", "today", "tomorrow", "yesterday")
"""Texts that PostgreSQL reads as a time, wherever it needs one; SQLite only the first, as an argument."""
_CLOCK_WORD = re.compile(
    "now|today|tomorrow|yesterday|current|local|_timestamp|timeofday|age|date|time|julianday|unixepoch",
    re.IGNORECASE,
)


class Token(NamedTuple):
    """A piece of SQL and its place in the text.

    Attributes:
        kind: ``string``, ``quoted`` (an identifier in ``"``, `````` or, in SQLite, ``[]``), ``number``,
            ``word`` or ``mark`` (one character of punctuation).
        depth: in how many parentheses it stands; the parentheses count as outside themselves.
    """

    kind: str
    text: str
    start: int
    end: int
    depth: int

    def is_word(self, *words: str) -> bool:
        """Whether it is one of some keywords, given in lower case."""
        return self.kind == "word" and self.text.lower() in words

    def name(self) -> str | None:
        """The identifier that it is, in lower case and without quotes; None for anything else."""
        if self.kind == "word":
            return self.text.lower()
        if self.kind != "quoted":
            return None
        mark, inner = self.text[0], self.text[1:-1]
        return (inner if mark == "[" else inner.replace(mark * 2, mark)).lower()


def tokens(sql: str, dialect: str = "sqlite") -> list[Token]:
    """The tokens of a text in a dialect of sqlglot's, comments and blanks left out."""
    pattern = _SQLITE if dialect == "sqlite" else _OTHERS
    found: list[Token] = []
    depth = place = 0
    while (match := pattern.match(sql, place)) is not None:
        kind, start, place = match.lastgroup or "mark", place, match.end()
        if kind == "space":
            continue
        if kind == "comment":
            place = _comment_end(sql, place, nested=dialect != "sqlite")
            continue
        if kind == "dollar":  # one that is not closed goes on to the end, as an open string does
            closing = sql.find(match.group(), place)
            kind, place = "string", len(sql) if closing < 0 else closing + len(match.group())
        text = sql[start:place]
        depth -= text in (")", "]", "}")
        found.append(Token(kind, text, start, place, depth))
        depth += text in ("(", "[", "{")
    return found


def _comment_end(sql: str, start: int, *, nested: bool) -> int:
    """Where a comment ends whose opening mark ends at a place."""
    open_comments = 1
    for edge in _COMMENT_EDGE.finditer(sql, start):
        if edge.group() == "*/":
            open_comments -= 1
        elif nested:
            open_comments += 1
        if not open_comments:
            return edge.end()
    return len(sql)


def statement(sql: str, dialect: str = "sqlite") -> str:
    """A statement without the semicolons and comments that follow it."""
    found = tokens(sql, dialect)
    while found and found[-1].text == ";":
        found.pop()
    return sql[: found[-1].end] if found else ""


@lru_cache(maxsize=100_000)  # the rows of a data set, each of which is compared with many
def plain_sql(sql: str) -> str:
    """A query with words in lower case, but for quoted ones, and without comments and a last semicolon."""
    return " ".join(
        one.text if one.kind in ("string", "quoted") else one.text.lower()
        for one in tokens(statement(sql))
    )


def statements(sql: str, dialect: str = "sqlite") -> list[str]:
    """The statements of a text, without the semicolons (outside parentheses) that end them."""
    ends = [one.end for one in tokens(sql, dialect) if one.text == ";" and not one.depth]
    parts = (sql[start:end] for start, end in pairwise((0, *ends, len(sql))))
    return [part.strip().removesuffix(";") for part in parts if tokens(part.strip(" ;"), dialect)]


def calls_random(sql: str, dialect: str = "sqlite") -> bool:
    """Whether a query calls a random function or samples rows: it may return others each time."""
    if _RANDOM_WORD.search(sql) is None:  # which saves the tokens of a query of megabytes
        return False
    names = RANDOM_FUNCTIONS.get(dialect, RANDOM_ELSEWHERE)
    return any(
        (after.text == "(" and token.name() in names)
        or (token.is_word("tablesample") and dialect != "sqlite")
        or (dialect == "duckdb" and token.is_word("using") and after.is_word("sample"))
        for token, after in pairwise(tokens(sql, dialect))
    )


def asks_the_clock(sql: str, dialect: str = "sqlite") -> bool:
    """Whether a query asks for the time of day or the date: another day it may return other rows."""
    if _CLOCK_WORD.search(sql) is None:
        return False
    found = tokens(sql, dialect)
    return any(_is_clock(found, place, dialect) for place in range(len(found)))


def _is_clock(found: list[Token], place: int, dialect: str) -> bool:
    token, before = found[place], found[place - 1] if place else None
    after = [one.text.lower() for one in found[place + 1 : place + 4]]
    if before is not None and before.text == ".":
        return False  # a column
    if token.is_word(*CLOCK_WORDS):
        return after[:1] != ["."]
    name = token.name()
    if after[:1] == ["("]:
        alone = after[1:2] == [")"]
        one_argument = after[2:3] == [")"]
        if name == "age" and dialect != "sqlite":  # of the time that it is given, today
            return one_argument
        if name == "strftime" and dialect == "sqlite":
            return one_argument
        return alone and name in CLOCK_FUNCTIONS.get(dialect, CLOCK_FUNCTIONS["postgres"])
    # SQLite takes a name in double quotes for a text where no column is called so.
    is_text = token.kind == "string" or (dialect == "sqlite" and token.text[0] == '"')
    text = token.text[1:-1].strip().lower()
    if not is_text or text not in CLOCK_STRINGS:
        return False
    if dialect == "sqlite":
        return text == "now" and before is not None and before.text in ("(", ",")
    return dialect != "duckdb"
