"""Cut SQL into tokens, so that clauses are found by structure and never by searching the text.

Comments are skipped; strings, quoted identifiers and numbers are one token each. No grammar is
needed for what is asked here: whatever stands outside all parentheses belongs to the outermost query.
The time it takes grows with the length of the text and nothing else, whatever the text is.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BRACKETED = r"|\[[^\]]*(?:\]|\Z)"
_ESCAPED_STRING = r"[eE]'[^'\\]*(?:(?:''|\\(?:.|\Z))[^'\\]*)*(?:'|\Z)|"
_TOKEN = r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    | (?P<string>{escaped}'[^']*(?:''[^']*)*(?:'|\Z))
    | (?P<quoted>"[^"]*(?:""[^"]*)*(?:"|\Z)|`[^`]*(?:``[^`]*)*(?:`|\Z){bracketed})
    | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?))
    | (?P<word>\$?\w[\w$]*)
    | (?P<mark>.)
"""


def _pattern(escaped: str, bracketed: str) -> re.Pattern[str]:
    return re.compile(_TOKEN.format(escaped=escaped, bracketed=bracketed), re.VERBOSE | re.DOTALL)


_SQLITE = _pattern("", _BRACKETED)
_OTHERS = _pattern(_ESCAPED_STRING, "")
"""PostgreSQL and DuckDB: brackets are arrays, E'...' has escapes, comments may hold comments."""
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")


class Token(NamedTuple):
    """A piece of SQL.

    Attributes:
        kind: ``string``, ``quoted`` (an identifier in ``"``, `````` or, in SQLite, ``[]``), ``number``,
            ``word`` or ``mark`` (one character of punctuation).
        text: as it is written.
        start: place of its first character.
        end: place after its last one.
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
        mark = self.text[0]
        inner = self.text[1:-1]
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
        if text in _CLOSING:
            depth -= 1
        found.append(Token(kind, text, start, place, depth))
        if text in _OPENING:
            depth += 1
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
