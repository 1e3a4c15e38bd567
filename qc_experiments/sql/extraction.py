"""Take the SQL out of what a model wrote, and know when it is complete (docs/explanation/judging.md)."""

from __future__ import annotations

import re
import sqlite3
from itertools import pairwise

from qc_experiments.sql.tokens import tokens


def _blanks(longest: str, most: str) -> str:
    """A pattern of blanks and comments, with how long a comment may be and how many there may be."""
    return rf"\s*(?:(?:--[^\n]{longest}+(?:\n|\Z)|/\*(?:[^*]|\*(?!/)){longest}+\*/)\s*){most}"


COMMENTS = re.compile(_blanks("*", "*"))
GAP = _blanks("{0,500}", "{0,9}")
"""Between the first words of a query. It has bounds, as all has that is tried at every line: the time that a
text takes must not grow with its square."""
NAME = r"(?:[\w$]|(?![\s\w\u2010-\u201f])[^\x00-\x7f])+"
"""In any script, marks included; a quote or a dash of prose is none."""
SQL_START = re.compile(
    rf"""(?:SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|PRAGMA|EXPLAIN|VALUES)\b
      | WITH\b{GAP}(?:RECURSIVE\b{GAP})?
        (?:{NAME}|"[^"]{{0,200}}"|`[^`]{{0,200}}`|\[[^\]]{{0,200}}\]){GAP}
        (?:\([^)]{{0,2000}}\){GAP})?\bAS\b""",
    re.IGNORECASE | re.VERBOSE,
)
OPENS = re.compile(
    rf"{COMMENTS.pattern}(?:\({COMMENTS.pattern})*(?:{SQL_START.pattern})", SQL_START.flags
)
"""How a query begins: a part of a set operation may stand in parentheses."""
FENCE = re.compile(
    r"`{3,}(?:sql(?:ite)?\b[ \t]*\n?|[a-zA-Z0-9]*[ \t]*\n)?(.*?)(?:`{3,}|\Z)",
    re.DOTALL | re.IGNORECASE,
)
AFTER_PROSE = re.compile(
    rf"(?:^[ \t]*|:{GAP})(?=(?:\({GAP}){{0,5}}(?:{SQL_START.pattern}))",
    SQL_START.flags | re.MULTILINE,
)
STATEMENT_BEGINS = re.compile(
    rf"(?:^|\*/)[ \t(]*(?:{SQL_START.pattern})", SQL_START.flags | re.MULTILINE
)
FROM_FIRST = re.compile(
    rf"""{COMMENTS.pattern}(?:\({COMMENTS.pattern})*FROM\s(?!\s*\w+(?:\s+(?!(?:
        AS|SELECT|WHERE|GROUP|ORDER|HAVING|QUALIFY|WINDOW|LIMIT|OFFSET|USING|TABLESAMPLE|UNION|EXCEPT|INTERSECT
        |JOIN|LEFT|RIGHT|FULL|INNER|CROSS|NATURAL|SEMI|ANTI|ASOF|POSITIONAL)\b)\w+){{2}})""",
    SQL_START.flags,
)
"""How a query of DuckDB's may begin, too; where three words follow of which none is SQL, it is prose."""
FENCE_MARK = re.compile(r"`{3,}")
PROSE_FENCE = re.compile(r"(?:\w+[ \t]*:[^`;]*|[^`;]*:[ \t]*)\n[ \t]*`{3,}sql", re.IGNORECASE)
"""Prose that begins with a word of SQL (*Update: ...*, *Select all users:*) and leads to a query."""
CODE_SPAN = re.compile(rf"(?<!`)`(?={OPENS.pattern}\s)([^`]+)`(?!`)", SQL_START.flags)
"""A query between single backticks, as in Markdown."""
QUOTED = re.compile(r"""'(?:[^']|'')*(?:'|\Z)|"(?:[^"]|"")*(?:"|\Z)""")

CLOSING_FENCE = re.compile(r"\n[ \t]*`{3,}[ \t]*(?:\n|\Z)")

HALF_PAIR = re.compile("[\ud800-\udfff]")
"""What a server that cuts an emoji in two leaves of it."""


def extract_sql(text: str, after_query: str = "") -> str:
    """The SQL of an answer, without what models write around it.

    An answer that begins with SQL, but for comments, is read up to the end of its first statement, or to a
    fence that closes it. Otherwise the content of the first code fence counts, or of the first code span that
    is a query. Where there is none, the SQL starts at the first line, or after the first colon, at which a
    statement begins; where none does, the whole text counts.
    Nothing inside the SQL is touched. ``after_query`` is the template's literal text after
    ``{query}``, at which the answer ends.
    """
    sql = _readable(text).strip()
    place = _first_place(sql)
    if place is None or PROSE_FENCE.match(sql):
        fence = FENCE.search(sql)
        span = None if fence else CODE_SPAN.search(sql)
        prose = None if fence or span else AFTER_PROSE.search(sql)
        found = fence or span
        sql = found.group(1).strip() if found else sql[prose.end() :] if prose else sql
    else:
        sql = CLOSING_FENCE.split(sql[place:], maxsplit=1)[0]
    if closing := after_query.strip():
        # Blank out what is quoted, so that a closing text inside a string does not count.
        bare = QUOTED.sub(lambda match: "\0" * len(match.group()), sql)
        sql = sql[: bare.index(closing)] if closing in bare else sql
    return first_statement(sql).strip()


def begins_with_sql(text: str) -> bool:
    """Whether nothing but comments and parentheses stands before the first statement of a text."""
    return _first_place(text) is not None


def _first_place(text: str) -> int | None:
    """Where the statement begins before which nothing but comments stands; None where there is other text."""
    match = COMMENTS.match(text)
    begins = OPENS.match(text) is not None or _is_from_first(text)
    return match.end() if match and begins else None


def _is_from_first(text: str) -> bool:
    """Whether a text begins with a query of DuckDB's that has its FROM first.

    Prose may begin with that word, too; the SELECT that follows then has a FROM of its own.
    """
    match = FROM_FIRST.match(text)
    if match is None:
        return False
    sql = first_statement(text)
    begins = AFTER_PROSE.search(sql, match.end())
    place = begins.end() if begins else match.end()
    found = tokens(sql[place:], "duckdb")
    select = next((one for one in found if one.is_word("select")), None)
    after_colon = begins is not None and begins.group().startswith(":")
    if select is None or after_colon or FENCE_MARK.search(sql, 0, place + select.start):
        return False
    if any(one.depth < 0 for one in found):
        return True  # a subquery of what stands before it
    for before, token in pairwise(found):
        if not token.depth and token.is_word("union", "intersect", "except"):
            break
        if not token.depth and token.is_word("from") and not before.is_word("distinct"):
            return False
    return True


def holds_sql(sql: str) -> bool:
    """Whether what `extract_sql` returns is SQL at all: a statement begins on one of its lines."""
    return STATEMENT_BEGINS.search(sql) is not None or begins_with_sql(sql)


def answer_complete(text: str) -> bool:
    """Whether whatever the model may still write cannot change what `extract_sql` returns."""
    sql = _readable(text)
    place = _first_place(sql)
    if place is not None:
        return first_statement(sql[place:]) != sql[place:]
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
