"""Cut SQL into tokens, so that clauses are found by structure and never by searching the text.

Comments are skipped; strings, quoted identifiers and numbers are one token each. No grammar is
needed for what is asked here: whatever stands outside all parentheses belongs to the outermost query.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<string>'(?:[^']|'')*(?:'|\Z)|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<quoted>"(?:[^"]|"")*(?:"|\Z)|`(?:[^`]|``)*(?:`|\Z)|\[[^\]]*(?:\]|\Z))
    | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?))
    | (?P<word>\w[\w$]*)
    | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    """A piece of SQL.

    Attributes:
        kind: ``string``, ``quoted`` (an identifier in ``"``, `````` or ``[]``), ``number``, ``word``
            or ``mark`` (one character of punctuation).
        text: as it is written.
        start: place of its first character.
        end: place behind its last one.
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


def tokens(sql: str) -> list[Token]:
    """The tokens of a text, comments and blanks left out."""
    found: list[Token] = []
    depth = 0
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or "mark"
        if kind == "space":
            continue
        text = match.group()
        if text == ")":
            depth -= 1
        found.append(Token(kind, text, match.start(), match.end(), depth))
        if text == "(":
            depth += 1
    return found


def statement(sql: str) -> str:
    """A statement without the semicolons and comments that follow it."""
    found = tokens(sql)
    while found and found[-1].text == ";":
        found.pop()
    return sql[: found[-1].end] if found else ""
