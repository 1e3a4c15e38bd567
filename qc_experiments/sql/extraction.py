"""Take the SQL out of what a model wrote, and know when it is complete (docs/explanation/judging.md)."""

from __future__ import annotations

import re
import sqlite3

SQL_START = re.compile(
    r"""(?:SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|PRAGMA|EXPLAIN|VALUES)\b
      | WITH\s+(?:RECURSIVE\s+)?(?:\w+|"[^"]*"|`[^`]*`|\[[^\]]*\])\s*(?:\([^)]*\)\s*)?AS\b""",
    re.IGNORECASE | re.VERBOSE,
)
COMMENTS = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*\*/)*")
OPENS = re.compile(rf"[\s(]*(?:{SQL_START.pattern})", SQL_START.flags)
"""How a query begins: a part of a set operation may stand in parentheses."""
FENCE = re.compile(
    r"`{3,}(?:sql(?:ite)?\b[ \t]*\n?|[a-zA-Z0-9]*[ \t]*\n)?(.*?)(?:`{3,}|\Z)",
    re.DOTALL | re.IGNORECASE,
)
AFTER_PROSE = re.compile(
    rf"(?:^|:)[ \t]*(?=(?:{SQL_START.pattern}))", SQL_START.flags | re.MULTILINE
)
STATEMENT_BEGINS = re.compile(
    rf"(?:^|\*/)[ \t(]*(?:{SQL_START.pattern})", SQL_START.flags | re.MULTILINE
)
FENCE_MARK = re.compile(r"`{3,}")
QUOTED = re.compile(r"""'(?:[^']|'')*(?:'|\Z)|"(?:[^"]|"")*(?:"|\Z)""")

HALF_PAIR = re.compile("[\ud800-\udfff]")
"""What a server that cuts an emoji in two leaves of it."""


def extract_sql(text: str, after_query: str = "") -> str:
    """The SQL of an answer, without what models write around it.

    An answer that begins with SQL, but for comments, is read up to the end of its first statement. Otherwise
    the content of the first code fence counts. Where there is none, the SQL starts at the first line, or
    after the first colon, at which a statement begins; where none does, the whole text counts.
    Nothing inside the SQL is touched. ``after_query`` is the template's literal text after
    ``{query}``, at which the answer ends.
    """
    sql = after_comments(_readable(text).strip())
    if not OPENS.match(sql):
        fence = FENCE.search(sql)
        prose = None if fence else AFTER_PROSE.search(sql)
        sql = fence.group(1).strip() if fence else sql[prose.end() :] if prose else sql
    if closing := after_query.strip():
        # Blank out what is quoted, so that a closing text inside a string does not count.
        bare = QUOTED.sub(lambda match: "\0" * len(match.group()), sql)
        sql = sql[: bare.index(closing)] if closing in bare else sql
    return first_statement(sql).strip()


def after_comments(sql: str) -> str:
    """A text from its statement on, if nothing but comments stands before that; else the text."""
    match = COMMENTS.match(sql)
    place = 0 if match is None else match.end()
    return sql[place:] if OPENS.match(sql, place) else sql


def holds_sql(sql: str) -> bool:
    """Whether what `extract_sql` returns is SQL at all: a statement begins on one of its lines."""
    return STATEMENT_BEGINS.search(sql) is not None


def answer_complete(text: str) -> bool:
    """Whether whatever the model may still write cannot change what `extract_sql` returns."""
    sql = after_comments(_readable(text).lstrip())
    if OPENS.match(sql):
        return first_statement(sql) != sql
    return len(FENCE_MARK.findall(sql)) >= 2


def _readable(text: str) -> str:
    """Without what no database takes and sqlite3 raises on: NUL, and halves of surrogate pairs."""
    return HALF_PAIR.sub("\N{REPLACEMENT CHARACTER}", text.replace("\0", ""))


def first_statement(sql: str) -> str:
    """What stands before the first semicolon that ends a statement (not one inside a string)."""
    place = sql.find(";")
    while place != -1:
        if sqlite3.complete_statement(sql[: place + 1]):
            return sql[:place]
        place = sql.find(";", place + 1)
    return sql
