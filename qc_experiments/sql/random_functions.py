"""Whether a query may return other rows each time it runs."""

from __future__ import annotations

import re
from itertools import pairwise

from qc_experiments.sql.tokens import Token, tokens

RANDOM_FUNCTIONS = {
    "sqlite": ("random", "randomblob"),
    "duckdb": ("random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7"),
    "postgres": (
        *("random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7"),
        *("uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4"),
    ),
}
ELSEWHERE = ("rand", "random", "uuid", "newid")
"""Random functions of any other dialect."""
_RANDOM_WORD = re.compile("rand|uuid|newid|sample", re.IGNORECASE)


def calls_random(sql: str, dialect: str = "sqlite") -> bool:
    """Whether a query in a dialect of sqlglot's calls a random function, or takes rows at random."""
    if _RANDOM_WORD.search(sql) is None:  # which saves the tokens of a query of megabytes
        return False
    names = RANDOM_FUNCTIONS.get(dialect, ELSEWHERE)
    return any(
        (after.text == "(" and token.name() in names) or _samples(token, after, dialect)
        for token, after in pairwise(tokens(sql, dialect))
    )


def _samples(token: Token, after: Token, dialect: str) -> bool:
    if token.is_word("tablesample"):
        return dialect != "sqlite"
    return dialect == "duckdb" and token.is_word("using") and after.is_word("sample")
