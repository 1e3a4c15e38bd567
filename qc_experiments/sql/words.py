"""What words of SQL do in a text that is read from left to right; see `query_reading`."""

from __future__ import annotations

import functools
import sqlite3
from contextlib import closing


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CLAUSES = {
    **{"select": 1, "from": 2, "where": 3, "group": 4, "having": 5, "window": 6, "qualify": 7},
    **{"order": 8, "limit": 9, "offset": 10, "fetch": 10},
}
"""Clauses of a query, by their order."""
SET_OPERATIONS = frozenset({"union", "intersect", "except"})
JOINS = _words("join inner left right full outer cross natural asof semi anti positional")
BINARY = _words(
    "and or in is like glob regexp match between ilike similar collate escape asc desc nulls isnull "
    "notnull at overlaps"
)
"""Words of an expression that stand after an operand."""
BEFORE_OPERAND = _words(
    "and or not in is like glob regexp match between ilike similar escape when then else case by "
    "distinct all exists any some to array"
)
"""Words after which an operand must come."""
ENDS_OPERAND = _words(
    "null end asc desc first next last true false current_date current_time current_timestamp isnull "
    "notnull localtime localtimestamp current_user row rows only ties unknown preceding following user "
    "session_user current_schema current_catalog current_role"
)
"""Words after which an expression may be complete."""
AGGREGATES = frozenset({"count", "sum", "avg", "total"})
FREE_NEXT = frozenset({"collate", "over", "interval", "window"})
"""Words after which a name of any kind may come."""
TYPES_AND_UNITS = _words(
    "date time timestamp datetime integer int text real varchar char character numeric decimal "
    "boolean float double precision bigint smallint blob year month day hour minute second week "
    "quarter epoch dow doy zone"
)
NOT_OF_SQLITE = TYPES_AND_UNITS | _words(
    "tablesample user session_user current_user current_schema current_catalog current_role localtime "
    "localtimestamp asof semi anti positional qualify fetch ilike similar at overlaps any some array "
    "next only unknown lateral unnest respect ignore varying without asymmetric symmetric both leading "
    "trailing for update share extract interval row_number grouping sets within"
)
"""Words that are nothing but names in SQLite."""
OTHERS = (NOT_OF_SQLITE - JOINS - BINARY - frozenset(CLAUSES)) | _words(
    "over filter range groups partition unbounded current recursive materialized indexed "
    "exclude cast"
)
"""Words with a meaning of their own that are neither clauses nor operators."""
RESERVED = (frozenset(CLAUSES) - {"window", "qualify", "offset", "fetch"}) | SET_OPERATIONS
RESERVED |= _words(
    "join on using as with values and or not in is null like between exists case when then else "
    "distinct"
)
"""Words that are names only in quotes."""
OPERATOR_WORDS = frozenset(CLAUSES) | SET_OPERATIONS | JOINS | BINARY | ENDS_OPERAND
OPERATOR_WORDS |= {"as", "on", "using", "not", "by", "when", "then", "else", *OTHERS}
"""What may stand after an operand."""
OPERAND_WORDS = BEFORE_OPERAND | ENDS_OPERAND | OTHERS | {"select", "with", "values", "order"}
"""What may stand where an operand is due."""
WORDS = OPERATOR_WORDS | OPERAND_WORDS | RESERVED | FREE_NEXT


@functools.cache
def sqlite_functions() -> frozenset[str]:
    """Names of the functions that this SQLite knows."""
    with closing(sqlite3.connect(":memory:")) as connection:
        rows = connection.execute("SELECT DISTINCT name FROM pragma_function_list")
        return frozenset(name.lower() for (name,) in rows) | {"cast", "if"}


@functools.cache
def _beginnings(operand: bool) -> frozenset[str]:
    # x is how a blob begins: x'00ff'.
    words = OPERAND_WORDS | sqlite_functions() | {"x"} if operand else OPERATOR_WORDS
    return frozenset(word[:size] for word in words for size in range(1, len(word) + 1))


def begins(start: str, *, operand: bool) -> bool:
    """Whether a word begins so that may stand where an operand, or else an operator, is due."""
    return start in _beginnings(operand)
