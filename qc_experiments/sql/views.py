"""Views by their statements, and which of them read something, be it by way of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile

from qc_experiments.sql.tokens import tokens


def names_in(sql: str, dialect: str = "sqlite") -> set[str]:
    """What a query may call a table, in lower case: SQLite takes strings for names, too."""
    return {token.name() or token.text.strip("'").lower() for token in tokens(sql, dialect)}


def view_made_by(statement: str, dialect: str = "sqlite") -> str | None:
    """The name, in lower case, of the view that a statement makes; None where it makes none."""
    found = tokens(statement, dialect)
    head = list(takewhile(lambda token: token.text != "(" and not token.is_word("as"), found))
    if not any(token.is_word("view") for token in head[:-1]):
        return None
    return head[-1].name() or head[-1].text.strip("'").lower()


def with_readers(names: Iterable[str], views: Mapping[str, set[str]]) -> set[str]:
    """Some names, and those of the views that read one of them, themselves or by way of others.

    ``views`` tells which names each view's statement holds.
    """
    found = set(names)
    while more := {name for name, read in views.items() if read & found} - found:
        found |= more
    return found
