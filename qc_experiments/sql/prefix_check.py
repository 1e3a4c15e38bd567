"""Whether a text that a model is writing can still become a query that is valid under a schema.

After PICARD (Scholak et al. 2021, arXiv:2109.05093), for several dialects and without a grammar of each: what
cannot be told is let through, so that no valid query is refused. Refused are names that nothing in the schema
has or can have, columns of a table that lacks them as soon as FROM says what an alias stands for, names that
two tables share, and texts that are no SQL: clauses out of their order, operands or operators that are
missing, parentheses that do not match.
"""

from __future__ import annotations

import re

from qc_experiments.sql.extraction import QUOTED
from qc_experiments.sql.query_reading import QueryReading
from qc_experiments.sql.reading import Beyond, Refused
from qc_experiments.sql.scopes import Outlook
from qc_experiments.sql.table_names import TableNames, table_names

_FENCE = re.compile(r"[ \t\r\n]*(`{0,3}|```\s*(s|sq|sql|sqli|sqlit|sqlite)?\s*)", re.IGNORECASE)
_NEVER = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]|\A\s{5}|\s{64}")
"""Control characters, and blanks without end."""
_FENCED = re.compile(r"\s*```(?:sql(?:ite)?)?\s+", re.IGNORECASE)


class PrefixCheck:
    """Looks at texts under one schema.

    Args:
        names: tables and columns.
        dialect: of sqlglot.
        closing: literal text of the template that the model writes after the query.
    """

    def __init__(self, names: TableNames, dialect: str = "sqlite", closing: str = "") -> None:
        self._names = names
        self._dialect = dialect
        self._closing = closing.strip()
        self._all_ascii = all(name.isascii() for name in (*names.tables, *names.columns))

    def outlook(self, text: str, *, ended: bool = False) -> Outlook:
        """What can still become of a text.

        Args:
            text: what the model has written.
            ended: whether it writes no more.
        """
        if _NEVER.search(text):
            return Outlook.IMPOSSIBLE
        if not ended and _FENCE.fullmatch(text):
            return Outlook.POSSIBLE
        # Of a letter that is several tokens the first ones are decoded as this character.
        half_letter = not ended and not self._all_ascii
        sql = text.lstrip().rstrip("\N{REPLACEMENT CHARACTER}" if half_letter else "")
        if fence := _FENCED.match(sql):
            sql, closed, _ = sql[fence.end() :].partition("```")
            sql, ended = sql.rstrip("`"), ended or bool(closed)
        if self._closing and (place := _tail(sql, self._closing)) < len(sql):
            sql, ended = sql[:place], ended or sql.startswith(self._closing, place)
        if not sql:
            return Outlook.IMPOSSIBLE if ended else Outlook.POSSIBLE
        try:
            return QueryReading(self._names, self._dialect).read(sql, ended)
        except Refused:
            return Outlook.IMPOSSIBLE
        except Beyond as beyond:
            return beyond.outlook


def _tail(sql: str, closing: str) -> int:
    """Where the template's closing text, or its beginning at the end of the text, stands."""
    bare = QUOTED.sub(lambda match: "\0" * len(match.group()), sql)  # as extract_sql does
    if (place := bare.find(closing)) >= 0:
        return place
    for size in range(min(len(closing) - 1, len(sql)), 0, -1):
        if bare.endswith(closing[:size]) and closing[:1] not in "abcdefghijklmnopqrstuvwxyz":
            return len(sql) - size
    return len(sql)


def schema_check(schema: str, dialect: str, closing: str = "") -> PrefixCheck | None:
    """The check under a schema's CREATE TABLE statements; None where a text holds none.

    Args:
        schema: text.
        dialect: of sqlglot.
        closing: as for `PrefixCheck`.
    """
    names = table_names(schema, dialect)
    return None if names is None else PrefixCheck(names, dialect, closing)
