"""Whether two queries are the same but for spelling; by parsing, with sqlglot."""

from __future__ import annotations

from sqlglot import exp

from qc_experiments.sql.parsing import parse


def exact_match(gold: str, predicted: str, dialect: str = "sqlite") -> bool:
    """Whether two queries are the same but for spelling (case, blanks, quotes).

    What cannot be parsed, or is too deep to be written out, is only lower-cased and freed of
    repeated blanks.
    """
    return _normalised(gold, dialect) == _normalised(predicted, dialect)


def _normalised(sql: str, dialect: str) -> str:
    squeezed = " ".join(sql.lower().rstrip("; \n").split())
    shared = parse(sql, dialect).tree
    if shared is None:
        return squeezed
    tree = shared.copy()
    for identifier in tree.find_all(exp.Identifier):
        name = identifier.name
        if dialect == "duckdb":  # where case never counts in a name
            identifier.set("this", name.lower())
            identifier.set("quoted", not name.isidentifier())
        elif not identifier.args.get("quoted"):
            identifier.set("this", name.lower())
        elif name == name.lower() and name.isidentifier():
            identifier.set("quoted", False)  # with capitals, "Bonn" may be a string to SQLite
    try:
        return tree.sql(dialect=dialect, comments=False)
    except RecursionError:
        return squeezed
