"""Everything that is found out about a data set before training; `inspect` is the way in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from qc_experiments.config.schema import ColumnsConfig, OnInvalid, RunConfig, SchemaFormat
from qc_experiments.data.contexts import ContextMaker
from qc_experiments.data.table import Row, Table, read_table
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import Databases
from qc_experiments.databases.schema import SchemaReader
from qc_experiments.errors import UserError
from qc_experiments.inspection.faults import ERROR, Fault, Faults
from qc_experiments.inspection.query_checks import query_faults
from qc_experiments.inspection.query_facts import QueryFacts, query_facts
from qc_experiments.inspection.text_checks import leaks, near_repeats, table_faults, text_faults
from qc_experiments.inspection.token_counts import TokenCounts, count_tokens
from qc_experiments.judging.judge import Judge
from qc_experiments.sql.table_names import table_names

TIMEOUT = 5.0


@dataclass(frozen=True)
class Asked:
    """What is inspected.

    Attributes:
        csv: the rows.
        columns: what it calls its columns.
        databases: of the rows; None if there are none at hand.
        validation: CSV of held-out rows, which should not be known from training; None: there are none.
        target: CSV of questions that the data set is to be like; None: there are none.
        config: whose model, template and lengths rows are counted with; None: they are not.
    """

    csv: Path
    columns: ColumnsConfig
    databases: Databases | None = None
    validation: Path | None = None
    target: Path | None = None
    config: RunConfig | None = None


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        table: the usable rows.
        faults: of them, the worst first.
        facts: what each usable row's query tells.
        all_run: whether the query of every usable row was run, and runs.
        held_out: faults of the validation rows, and how many rows these are.
        target: what the queries of the target tell.
        untouched: tables, and columns as ``table.column``, that no query names, by schema.
        tokens: None where they were not counted.
    """

    table: Table
    faults: tuple[Fault, ...]
    facts: tuple[QueryFacts, ...]
    all_run: bool
    held_out: tuple[tuple[Fault, ...], int] | None
    target: tuple[QueryFacts, ...] | None
    untouched: dict[str, tuple[str, ...]]
    tokens: TokenCounts | None

    @property
    def fails(self) -> bool:
        """Whether anything must be mended."""
        own = [*self.faults, *(self.held_out[0] if self.held_out else ())]
        return any(fault.level == ERROR for fault in own)

    def schemas(self) -> list[int]:
        """Questions about each schema."""
        return sorted(Counter(row.db_id or row.schema for row in self.table.rows).values())

    def plain(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        schemas = self.schemas()
        tokens = self.tokens
        return {
            "csv": str(self.table.path),
            "rows": len(self.table.rows),
            "schemas": len(schemas),
            "questions_per_schema": {
                "least": schemas[0],
                "median": median(schemas),
                "most": schemas[-1],
            },
            "hardness": dict(Counter(fact.hardness for fact in self.facts)),
            "features": dict(Counter(one for fact in self.facts for one in fact.features)),
            "faults": [vars(fault) | {"level": fault.level} for fault in self.faults],
            "validation": None
            if self.held_out is None
            else {
                "rows": self.held_out[1],
                "faults": [vars(fault) | {"level": fault.level} for fault in self.held_out[0]],
            },
            "untouched": self.untouched,
            "tokens": None if tokens is None else vars(tokens) | {"fitting": tokens.fitting},
        }


def inspect(asked: Asked) -> Inspection:
    """Read, run and count; raises `UserError` for what cannot be read at all."""
    faults = Faults()
    with (
        SchemaReader(SchemaFormat.ddl) as reader,
        Judge(asked.databases, Limits(TIMEOUT), cache=None) as judge,
    ):
        maker = ContextMaker(reader, asked.databases, always=False)
        table = _read(asked.csv, asked, maker, faults)
        text_faults(table.rows, faults)
        near_repeats(table.rows, faults)
        rows = table.rows
        schemas = None if asked.databases is None else reader
        facts, all_run = query_faults(rows, judge, schemas, faults)
        all_run = all_run and not faults.rows("no_database")
        tokens = None if asked.config is None else count_tokens(rows, asked.config)
        if tokens is not None:
            long = [
                row.number
                for row, length in zip(rows, tokens.lengths, strict=True)
                if length > tokens.longest
            ]
            if long:
                faults.extend("too_long", long, f"data.max_length={tokens.longest} tokens")
        held_out = None
        if asked.validation is not None:
            found = Faults()
            others = _read(asked.validation, asked, maker, found).rows
            text_faults(others, found)
            theirs, _ = query_faults(others, judge, schemas, found)
            leaks(rows, others, found)
            _shared_queries(facts, others, theirs, found)
            held_out = tuple(found.ranked()), len(others)
        target = None
        if asked.target is not None:
            target = tuple(query_facts(_read(asked.target, asked, maker, Faults()).rows, judge))
    return Inspection(
        table,
        tuple(faults.ranked()),
        tuple(facts),
        all_run,
        held_out,
        target,
        _untouched(rows, facts),
        tokens,
    )


def _read(path: Path, asked: Asked, maker: ContextMaker, faults: Faults) -> Table:
    needed = asked.databases is None
    table = read_table(path, asked.columns, OnInvalid.drop, needs_context=needed)
    table_faults(table, faults)
    rows = [row for row in table.rows if _has_database(row, asked.databases, faults)]
    if not rows and asked.databases is not None:  # which says what is wrong with the first
        asked.databases.check_rows(((row.number, row.db_id) for row in table.rows), path)
    filled = maker.fill(rows, path)
    if asked.databases is not None:
        asked.databases.check_rows(((row.number, row.db_id) for row in filled), path)
    return replace(table, rows=tuple(filled))


def _has_database(row: Row, databases: Databases | None, faults: Faults) -> bool:
    """Whether a row's database is there."""
    if databases is None or databases.single is not None:
        return True
    if not row.db_id:
        faults.add("no_database", row.number, "an empty db_id")
        return False
    try:
        found = databases.find(row.db_id) is not None
    except UserError:
        found = False
    if not found:
        faults.add("no_database", row.number, row.db_id)
    return found


def _shared_queries(
    train: Sequence[QueryFacts],
    rows: Sequence[Row],
    facts: Sequence[QueryFacts],
    faults: Faults,
) -> None:
    """Which rows' queries stand in training as well, but for their values."""
    known = {fact.skeleton for fact in train if fact.skeleton}
    alike = (row.number for row, fact in zip(rows, facts, strict=True) if fact.skeleton in known)
    faults.extend("shared_query", alike)


def _untouched(rows: Sequence[Row], facts: Sequence[QueryFacts]) -> dict[str, tuple[str, ...]]:
    """What no query names of each schema: tables, and columns of the tables that are named."""
    named: dict[str, tuple[set[str], set[str], str]] = {}
    for row, fact in zip(rows, facts, strict=True):
        tables, columns, _ = named.setdefault(row.db_id or row.schema, (set(), set(), row.schema))
        tables |= set(fact.tables)
        columns |= set(fact.columns)
    found = {}
    for place, (schema, (tables, columns, text)) in enumerate(named.items(), 1):
        names = table_names(text)
        if names is None:
            continue
        left = [table for table in names.tables if table not in tables]
        left += [
            f"{table}.{column}"
            for table, own in names.tables.items()
            if table in tables
            for column in sorted((own or frozenset()) - columns)
        ]
        if left:
            found[schema if schema != text else f"schema {place}"] = tuple(left)
    return found
