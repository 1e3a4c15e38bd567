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
_FUNCTIONS_ELSEWHERE = _words(
    "age century clock_timestamp date_add date_diff date_part date_sub date_trunc datediff datepart "
    "dayname dayofmonth dayofweek dayofyear decade epoch_ms isodow justify_days justify_hours "
    "justify_interval last_day make_date make_interval make_time make_timestamp make_timestamptz "
    "millennium monthname now statement_timestamp strptime time_bucket timezone to_char to_date to_number "
    "to_timestamp today transaction_timestamp weekday weekofyear yearweek "
    "ascii bit_length btrim char_length character_length chr concat concat_ws contains ends_with format "
    "initcap jaccard left length levenshtein lpad md5 octet_length overlay position prefix quote_ident "
    "quote_literal regexp_count regexp_extract regexp_extract_all regexp_full_match regexp_like "
    "regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr "
    "repeat reverse right rpad similarity split_part starts_with str_split string_split string_to_array "
    "string_to_table strip_accents strpos substring suffix to_hex translate unaccent "
    "cbrt ceil ceiling cos cot degrees div exp factorial floor gcd isfinite isinf isnan lcm ln log log10 "
    "log2 mod pi power pow radians setseed sin sqrt tan trunc width_bucket greatest least try_cast "
    "any_value approx_count_distinct approx_quantile arg_max arg_min argmax argmin array_agg bit_and "
    "bit_or bit_xor bool_and bool_or corr count_if countif covar_pop covar_samp entropy every first fsum "
    "histogram json_agg json_object_agg jsonb_agg jsonb_object_agg kurtosis last list listagg mad max_by "
    "median min_by mode percentile_cont percentile_disc product quantile quantile_cont quantile_disc "
    "regr_count regr_intercept regr_r2 regr_slope skewness stddev stddev_pop stddev_samp string_agg "
    "sumif var_pop var_samp variance cube rollup "
    "array_append array_cat array_contains array_length array_lower array_position array_remove "
    "array_sort array_to_string array_upper cardinality element_at flatten generate_series "
    "generate_subscripts json_array_elements json_array_elements_text json_build_object json_each "
    "json_each_text json_extract_path_text json_extract_string json_object_keys json_typeof "
    "jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_object jsonb_each "
    "jsonb_each_text jsonb_extract_path_text jsonb_object_keys jsonb_typeof len list_aggregate "
    "list_contains list_distinct list_filter list_has list_sort list_sum list_transform list_unique "
    "list_value map_keys map_values range row row_to_json struct_extract struct_pack to_json to_jsonb "
    "gen_random_uuid hash pg_typeof uuid version"
)
"""Functions of PostgreSQL and DuckDB that queries use, but for those that SQLite has as well."""
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


def functions(*, sqlite: bool) -> frozenset[str]:
    """Names of SQLite's functions, or else of those that PostgreSQL and DuckDB are known to have."""
    return sqlite_functions() if sqlite else sqlite_functions() | _FUNCTIONS_ELSEWHERE


@functools.cache
def _beginnings(operand: bool, sqlite: bool) -> frozenset[str]:
    # x is how a blob begins: x'00ff'.
    words = OPERAND_WORDS | functions(sqlite=sqlite) | {"x"} if operand else OPERATOR_WORDS
    return frozenset(word[:size] for word in words for size in range(1, len(word) + 1))


def begins(start: str, *, operand: bool, sqlite: bool = True) -> bool:
    """Whether a word begins so that may stand where an operand, or else an operator, is due."""
    return start in _beginnings(operand, sqlite)
