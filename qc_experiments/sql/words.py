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
BEFORE_BY = ("group", "order", "partition", "indexed", "all", *SET_OPERATIONS)
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
_UNKNOWN_TO_SQLGLOT = _words(
    "age array_lower array_upper cardinality century clock_timestamp cube datepart decade element_at entropy "
    "every fsum gcd generate_subscripts hash histogram isfinite jaccard json_array_elements "
    "json_array_elements_text json_build_object json_each json_each_text json_object_keys json_typeof "
    "jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_object "
    "jsonb_each jsonb_each_text jsonb_extract_path_text jsonb_object_keys jsonb_typeof lcm list_aggregate "
    "list_sum list_unique mad make_timestamptz map_values millennium octet_length pg_typeof prefix product "
    "quote_ident quote_literal regexp_match regexp_split_to_array regexp_split_to_table rollup row "
    "row_to_json setseed similarity statement_timestamp string_to_table strip_accents suffix timezone "
    "to_json to_jsonb transaction_timestamp unaccent weekday yearweek"
)
"""Functions of PostgreSQL and DuckDB that queries use and that sqlglot has no names for."""
TABLE_FUNCTIONS = _words(
    "generate_series json_array_elements json_array_elements_text json_each json_each_text "
    "jsonb_array_elements jsonb_array_elements_text jsonb_each jsonb_each_text range read_csv "
    "read_json read_parquet regexp_split_to_table string_to_table unnest"
)
"""The same of functions that may stand in a FROM."""


@functools.cache
def sqlite_functions() -> frozenset[str]:
    """Names of the functions that this SQLite knows."""
    with closing(sqlite3.connect(":memory:")) as connection:
        rows = connection.execute("SELECT DISTINCT name FROM pragma_function_list")
        return frozenset(name.lower() for (name,) in rows) | {"cast", "if"}


@functools.cache
def functions(*, sqlite: bool) -> frozenset[str]:
    """Names of SQLite's functions, or else of those that PostgreSQL and DuckDB are known to have as well."""
    if sqlite:
        return sqlite_functions()
    from sqlglot.dialects import DuckDB, Postgres

    parsers = (Postgres.Parser, DuckDB.Parser)
    known = {name.lower() for one in parsers for name in (*one.FUNCTIONS, *one.FUNCTION_PARSERS)}
    return sqlite_functions() | _UNKNOWN_TO_SQLGLOT | known


@functools.cache
def _beginnings(operand: bool, pair: bool, sqlite: bool) -> frozenset[str]:
    words = OPERAND_WORDS if operand else OPERATOR_WORDS
    if not pair:
        words -= BINARY | {"by", "order", "select"} if operand else {"by"}
    if sqlite:
        words -= NOT_OF_SQLITE
    if operand:
        words |= functions(sqlite=sqlite) | {"x"}  # x is how a blob begins: x'00ff'
    return frozenset(word[:size] for word in words for size in range(1, len(word) + 1))


def begins(start: str, *, operand: bool, pair: bool, sqlite: bool) -> bool:
    """Whether a word begins so that may stand where an operand, or else an operator, is due.

    Args:
        start: the word's beginning.
        operand: whether an operand is due.
        pair: whether it may be the second of two words: NOT IN, ORDER BY, UNION SELECT.
        sqlite: whether the dialect is SQLite's.
    """
    return start in _beginnings(operand, pair, sqlite)
