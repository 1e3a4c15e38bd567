"""Faults that show when queries are read and run: on their databases, else on tables made from contexts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlglot import exp

from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Execution
from qc_experiments.databases.schema import SchemaReader
from qc_experiments.inspection.faults import Faults
from qc_experiments.inspection.query_facts import QueryFacts, is_number, literal_text
from qc_experiments.inspection.text_checks import is_wrapped
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.verdict import Tried
from qc_experiments.sql.ddl import TableDefinition, read_ddl
from qc_experiments.system.console import progress
from qc_experiments.system.words import counted

UNITS = (
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
    ),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NAMED = {word: number for number, word in enumerate(UNITS)} | {
    word: 10 * number for number, word in enumerate(TENS) if word
}
TIMES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "dozen": 12}
QUOTED = re.compile(r'"(?:[^"]|"")*"')
DATE = re.compile(r"(\d{4})-\d\d")
TOO_MUCH = ("timeout", "memory", "result_too_large")
WRITES = ("forbidden", "not_a_query")
MARKS = ("several_statements", "limit_without_order", "random", "cross_join")
MOST_COLUMNS = 60
"""Columns in which a value is looked for."""


def fact_faults(rows: Sequence[Row], facts: Sequence[QueryFacts], faults: Faults) -> None:
    """What the texts of the queries tell."""
    for row, found in zip(rows, facts, strict=True):
        for mark in found.marks:
            if mark in MARKS:
                faults.add(mark, row.number)
        if found.missing:
            faults.add("not_in_context", row.number, ", ".join(found.missing))


def run_faults(
    rows: Sequence[Row], facts: Sequence[QueryFacts], judge: Judge, faults: Faults
) -> list[Row]:
    """What comes of running the queries on their databases; gives the rows whose queries run."""
    running = []
    with progress(f"Running {counted(len(rows), 'query', 'queries')}", len(rows)) as advance:
        golds = judge.golds(rows, advance)
    for row, fact, gold in zip(rows, facts, golds, strict=True):
        ran = gold.execution
        if ran.rows is None:
            _add_failure(row, fact, ran, "its database", faults)
            continue
        running.append(row)
        if not ran.rows:
            faults.add("empty_result", row.number)
        if gold.ambiguous and "limit_without_order" not in fact.marks:
            faults.add("tie", row.number)
        if ran.warning:
            names = QUOTED.findall(ran.warning)
            doubtful = [one for one in names if one[1:-1] not in fact.double_quoted]
            kind = "text_for_column" if doubtful else "double_quoted"
            faults.add(kind, row.number, ", ".join(doubtful))
    return running


def schema_faults(
    rows: Sequence[Row], facts: Sequence[QueryFacts], judge: Judge, faults: Faults
) -> None:
    """What comes of running the queries on empty tables made from their contexts."""
    tried = judge.try_all([(row, row.query) for row in rows])
    for row, fact, found in zip(rows, facts, tried, strict=True):
        if found.error is not None:
            _add_failure(row, fact, found, "an empty database made from its context", faults)


def _add_failure(
    row: Row, fact: QueryFacts, ran: Execution | Tried, where: str, faults: Faults
) -> None:
    kind = ran.error_class
    said = f"{kind}: {ran.error}" if kind else str(ran.error)
    if "several_statements" in fact.marks:
        return
    if kind in TOO_MUCH:
        faults.add("too_slow", row.number, str(ran.error))
    elif kind in WRITES:
        faults.add("query_writes", row.number, str(ran.error))
    elif kind == "syntax":
        if not is_wrapped(row.query):
            faults.add("not_sql", row.number)
    elif kind is None and isinstance(ran, Tried):
        faults.add("not_tried", row.number, str(ran.error))
    elif kind in ("no_such_table", "no_such_column") and fact.missing:
        pass  # said of the context already
    else:
        faults.add("query_fails", row.number, f"{where} ({said})")


def literal_faults(
    rows: Sequence[Row],
    facts: Sequence[QueryFacts],
    judge: Judge,
    reader: SchemaReader,
    faults: Faults,
) -> None:
    """Values of queries that stand in neither the question nor the database; rows must have databases."""
    asked = [
        (row, literal, _is_asked(literal, _said(row)))
        for row, fact in zip(rows, facts, strict=True)
        for literal in fact.literals
        if not (is_number(literal) and _is_asked(literal, _said(row)))
    ]
    by_row = {row.number: fact for row, fact in zip(rows, facts, strict=True)}
    looks = []
    for row, literal, _ in asked:
        database = judge.database(row)
        schema = reader.of_database(database, f"db_id {row.db_id}").statements
        named = set(by_row[row.number].tables)
        some = [one for one in read_ddl(schema, database.dialect) if one.name.lower() in named]
        looks.append((row, _look(literal, some, database.dialect)))
    found = judge.run_all(looks)
    for (row, literal, is_asked), ran in zip(asked, found, strict=True):
        exact, in_any_case = ran.rows[0] if ran.rows else (1, 1)  # none: it took too long
        if exact or (is_asked and not in_any_case):
            continue
        kind = "literal_case" if in_any_case else "unknown_literal"
        faults.add(kind, row.number, literal.removeprefix("'"))


def _said(row: Row) -> str:
    return f"{row.question} {row.evidence or ''}"


def _numbers(question: str) -> set[float]:
    """The numbers that a question says, in digits or in words."""
    found = {float(one.replace(",", "")) for one in re.findall(r"\d[\d,]*(?:\.\d+)?", question)}
    said = 0
    for word in [*re.findall(r"\w+", question.casefold()), ""]:
        if word in NAMED:
            said += NAMED[word]
            found.add(NAMED[word])
        elif word in TIMES:
            said = max(said, 1) * TIMES[word]
        elif word != "and":
            found.add(said)
            said = 0
    return found


def _is_asked(literal: str, question: str) -> bool:
    """Whether a question says a value; a small number may stand for words such as "more than one"."""
    text = literal_text(literal)
    if is_number(literal):
        return abs(float(text)) <= 2 or float(text) in _numbers(question)
    if (date := DATE.match(text)) is not None and float(date.group(1)) in _numbers(question):
        return True  # a month or a day in words
    said, words = question.casefold(), re.findall(r"\w+", text.casefold())
    # A code of one letter is one such as F for female.
    return len(text) < 2 or text.casefold() in said or all(word in said for word in words)


def _look(literal: str, tables: Sequence[TableDefinition], dialect: str) -> str:
    """SQL that tells whether a value stands in some tables, as it is and in any case, as 0 or 1."""
    columns = [(table, column) for table in tables for column in table.columns][:MOST_COLUMNS]
    texts = [literal.removeprefix("'")]
    if is_number(literal):  # 4 may be kept as 4.0
        texts += {str(float(literal)), f"{float(literal):g}"} - set(texts)
    tests = []
    for fold in (False, True):
        exists = [
            _exists(table.written, column.name, exp.Literal.string(text), fold, dialect)
            for table, column in columns
            for text in texts
        ]
        tests.append(f"CASE WHEN {' OR '.join(exists) or '1 = 0'} THEN 1 ELSE 0 END")
    return f"SELECT {tests[0]}, {tests[1]}"


def _exists(table: str, column: str, value: exp.Literal, fold: bool, dialect: str) -> str:
    name = exp.to_identifier(column, quoted=True).sql(dialect)
    cell, text = f"CAST({name} AS TEXT)", value.sql(dialect)
    if fold:
        cell, text = f"lower({cell})", f"lower({text})"
    test = f"{cell} LIKE {text}" if "%" in value.this else f"{cell} = {text}"
    return f"EXISTS (SELECT 1 FROM {table} WHERE {test})"
