"""Faults that show when queries are read and run: on their databases, else on tables made from contexts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlglot import exp

from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Execution
from qc_experiments.databases.schema import SchemaReader
from qc_experiments.inspection.faults import Faults
from qc_experiments.inspection.query_facts import QueryFacts, query_facts
from qc_experiments.inspection.text_checks import is_wrapped
from qc_experiments.judging.judge import Judge
from qc_experiments.sql.ddl import TableDefinition, read_ddl
from qc_experiments.system.console import progress
from qc_experiments.system.words import counted

QUOTED = re.compile(r'"(?:[^"]|"")*"')
TOO_MUCH = ("timeout", "memory", "result_too_large")
WRITES = ("forbidden", "not_a_query")
LACKING = ("no_such_table", "no_such_column")
MARKS = ("several_statements", "random", "cross_join")
MOST_COLUMNS = 60
"""In tables with more a value is not looked for."""


def query_faults(
    rows: Sequence[Row], judge: Judge, reader: SchemaReader | None, faults: Faults
) -> tuple[list[QueryFacts], bool]:
    """What the queries tell, read and run, and whether all of them run.

    ``reader`` reads the schemas of their databases; None if there are no databases.
    """
    facts = query_facts(rows, judge)
    for row, fact in zip(rows, facts, strict=True):
        for mark in fact.marks:
            if mark in MARKS:
                faults.add(mark, row.number)
    if reader is None:
        return facts, _schema_faults(rows, facts, judge, faults)
    running = _run_faults(rows, facts, judge, faults)
    _context_faults([row for row, _ in running], judge, faults)
    _tie_faults(running, judge, faults)
    _value_faults(running, judge, reader, faults)
    return facts, len(running) == len(rows)


def _run_faults(
    rows: Sequence[Row], facts: Sequence[QueryFacts], judge: Judge, faults: Faults
) -> list[tuple[Row, QueryFacts]]:
    """What comes of running the queries on their databases; gives the rows whose queries run."""
    running = []
    with progress(f"Running {counted(len(rows), 'query', 'queries')}", len(rows)) as advance:
        golds = judge.golds(rows, advance)
    for row, fact, gold in zip(rows, facts, golds, strict=True):
        ran = gold.execution
        if ran.rows is None:
            _add_failure(row, fact, ran, faults, on_context=False)
            continue
        running.append((row, fact))
        if not ran.rows:
            faults.add("empty_result", row.number)
        if gold.ambiguous:
            unordered = "limit_without_order" in fact.marks
            faults.add("limit_without_order" if unordered else "tie", row.number)
        if ran.warning:
            names = QUOTED.findall(ran.warning)
            doubtful = [one for one in names if one[1:-1] not in fact.double_quoted]
            kind = "text_for_column" if doubtful else "double_quoted"
            faults.add(kind, row.number, ", ".join(doubtful))
    return running


def _schema_faults(
    rows: Sequence[Row], facts: Sequence[QueryFacts], judge: Judge, faults: Faults
) -> bool:
    """What comes of running the queries on empty tables made from their contexts; whether all run."""
    found = judge.on_contexts(rows)
    for row, fact, ran in zip(rows, facts, found, strict=True):
        if ran.rows is None:
            _add_failure(row, fact, ran, faults, on_context=True)
        if "picks_any_rows" in fact.marks:
            faults.add("limit_without_order", row.number)
    return all(ran.rows is not None for ran in found)


def _add_failure(
    row: Row, fact: QueryFacts, ran: Execution, faults: Faults, *, on_context: bool
) -> None:
    kind, error = ran.error_class, str(ran.error)
    if "several_statements" in fact.marks or (kind == "syntax" and is_wrapped(row.query)):
        return  # which is said already
    if kind in TOO_MUCH:
        faults.add("too_slow", row.number, error)
    elif kind in WRITES:
        faults.add("query_writes", row.number, error)
    elif kind == "syntax" and not fact.is_sql:
        faults.add("not_sql", row.number)
    elif on_context and kind in LACKING and _is_plain_name(error, fact):
        faults.add("not_in_context", row.number, _lacking(error))
    elif on_context and kind is None:
        faults.add("not_tried", row.number, error)
    elif on_context and kind in ("syntax", "no_such_function", *LACKING):
        faults.add("not_tried", row.number, f"SQLite cannot run it, another engine may ({error})")
    else:
        where = "an empty database made from its context" if on_context else "its database"
        faults.add("query_fails", row.number, f"{where} ({kind}: {error})")


def _lacking(error: str) -> str:
    """The table or column that SQLite misses, from its message."""
    return error.partition(": ")[2].partition(" - ")[0]


def _is_plain_name(error: str, fact: QueryFacts) -> bool:
    """Whether what SQLite misses is so in any engine: no function's table, system table or own name."""
    name = _lacking(error).lower()
    column = name.rpartition(".")[2].strip('"')
    is_column = "column" in error.partition(":")[0]
    return (
        (column in fact.columns and column not in fact.own_names)
        if is_column
        else name in fact.tables
    )


def _context_faults(rows: Sequence[Row], judge: Judge, faults: Faults) -> None:
    """What queries that run take from their databases, but the contexts of the CSV do not show."""
    own = [row for row in rows if row.statements is None and judge.dialect(row) == "sqlite"]
    for row, ran in zip(own, judge.on_contexts(own), strict=True):
        if ran.error_class in LACKING:
            faults.add("not_in_context", row.number, _lacking(str(ran.error)))


def _tie_faults(running: Sequence[tuple[Row, QueryFacts]], judge: Judge, faults: Faults) -> None:
    """Queries that return other rows when an inner LIMIT cuts a tie from its other end."""
    tied = faults.rows("tie") | faults.rows("random")
    asked = [(row, fact) for row, fact in running if fact.tie_breaks and row.number not in tied]
    found = judge.run_all([(row, query) for row, fact in asked for query in fact.tie_breaks])
    for (row, _), one, other in zip(asked, found[::2], found[1::2], strict=True):
        if one.rows is None or other.rows is None:
            continue
        if sorted(map(repr, one.rows)) != sorted(map(repr, other.rows)):
            faults.add("tie", row.number)


def _value_faults(
    running: Sequence[tuple[Row, QueryFacts]],
    judge: Judge,
    reader: SchemaReader,
    faults: Faults,
) -> None:
    """Values that stand in neither the question nor the tables of the query, or are spelled otherwise there.

    Nothing is said where a table's columns are not known (a view, a virtual table), or are too many.
    """
    looks: list[tuple[Row, str]] = []
    values: list[tuple[Row, str]] = []
    for row, fact in running:
        database = judge.database(row) if fact.values else None
        if database is None:
            continue
        schema = reader.of_database(database, f"db_id {row.db_id}").statements
        known = [
            one for one in read_ddl(schema, database.dialect) if one.name.lower() in fact.tables
        ]
        columns = [(table, column.name) for table in known for column in table.columns]
        if {one.name.lower() for one in known if one.columns and not one.is_view} != {
            *fact.tables
        } or len(columns) > MOST_COLUMNS:
            continue
        for text, operator in fact.values:
            values.append((row, text))
            looks.append((row, _look(text, operator, columns, database.dialect)))
    for (row, text), ran in zip(values, judge.run_all(looks), strict=True):
        exact, in_any_case = ran.rows[0] if ran.rows else (1, 1)  # none: it took too long
        if not exact and in_any_case:
            faults.add("literal_case", row.number, text)
        elif not exact and not _is_asked(text, f"{row.question} {row.evidence or ''}"):
            faults.add("unknown_literal", row.number, text)


def _is_asked(text: str, question: str) -> bool:
    """Whether a question says a text; one of a letter is a code such as F for female."""
    plain, said = text.strip("%_ ").casefold(), question.casefold()
    words = re.findall(r"\w+", plain)
    return len(plain) < 2 or plain in said or all(word in said for word in words)


def _look(
    text: str, operator: str, columns: Sequence[tuple[TableDefinition, str]], dialect: str
) -> str:
    """SQL that tells whether a text stands in some columns, as it is and in any case, as 0 or 1."""
    tests = []
    for fold in (operator == "ILIKE", True):
        exists = [
            f"EXISTS (SELECT 1 FROM {table.written} WHERE {_test(column, text, operator, fold, dialect)})"
            for table, column in columns
        ]
        tests.append(f"CASE WHEN {' OR '.join(exists)} THEN 1 ELSE 0 END")
    return f"SELECT {tests[0]}, {tests[1]}"


def _test(column: str, text: str, operator: str, fold: bool, dialect: str) -> str:
    name = exp.to_identifier(column, quoted=True).sql(dialect)
    cell = f"CAST({name} AS TEXT)"
    sign = "=" if operator == "=" else "LIKE"
    value = exp.Literal.string(text).sql(dialect)
    if fold and dialect == "sqlite":
        return f"{cell} GLOB {exp.Literal.string(_in_any_case(text, sign)).sql(dialect)}"
    if fold:
        return f"lower({cell}) {sign} lower({value})"
    # A column of SQLite may itself compare in any case.
    as_is = f" OR {name} = {value}" if dialect == "sqlite" and sign == "=" else ""
    return f"{cell} {sign} {value}{as_is}"


def _in_any_case(text: str, sign: str) -> str:
    """A text, or a pattern of LIKE, as one of GLOB in any case: SQLite folds the letters of ASCII alone."""
    wild = {"%": "*", "_": "?"} if sign == "LIKE" else {}
    parts = []
    for one in text:
        cases = "".join(
            sorted({case for case in (one, one.lower(), one.upper()) if len(case) == 1})
        )
        special = len(cases) > 1 or one in "*?["
        parts.append(wild.get(one) or (f"[{cases}]" if special else one))
    return "".join(parts)
