"""How much of what queries need is left in schemas of so many tokens: recall against length.

python scripts/measure_linking.py CSV --databases DIR [--tokens 100 200 400]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qc_experiments.config.schema import ColumnsConfig, OnInvalid, SchemaConfig, SchemaFormat
from qc_experiments.data.contexts import ContextMaker
from qc_experiments.data.table import Row, read_table
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.linking import CHARACTERS
from qc_experiments.databases.locate import find_databases
from qc_experiments.databases.schema import SchemaReader
from qc_experiments.inspection.query_facts import QueryFacts, query_facts
from qc_experiments.judging.judge import Judge
from qc_experiments.sql.ddl import read_ddl
from qc_experiments.sql.table_names import table_names
from qc_experiments.system.console import told_to_users


def needed(row: Row, fact: QueryFacts) -> tuple[set[str], set[str]]:
    """Tables of a query, and columns that only its tables can have."""
    known = table_names(row.schema)
    tables = set(fact.tables)
    columns = set(fact.columns) & (known.columns if known else frozenset())
    return tables, columns


def shown(context: str) -> tuple[set[str], set[str]]:
    """Tables and columns of a schema in statements."""
    tables = read_ddl(context)
    columns = {column.name.lower() for table in tables for column in table.columns}
    return {table.name.lower() for table in tables}, columns


def main() -> None:
    """Print a table, a line for each length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv")
    parser.add_argument("--databases", required=True)
    parser.add_argument("--tokens", type=int, nargs="+", default=[50, 75, 100, 150, 200, 300, 400])
    options = parser.parse_args()
    with told_to_users():
        measure(options.csv, options.databases, options.tokens)


def measure(source: str, place: str, lengths: list[int]) -> None:
    """Link every question to schemas of each length."""
    databases = find_databases(place, "--databases")
    table = read_table(Path(source), ColumnsConfig(), OnInvalid.drop, needs_context=False)
    with SchemaReader() as reader, Judge(databases, Limits(), cache=None) as judge:
        whole = ContextMaker(reader, databases, always=True).fill(table.rows, source)
        facts = query_facts(whole, judge)
    asked = [needed(row, fact) for row, fact in zip(whole, facts, strict=True)]
    print(
        "| most tokens | tokens on average | tables found | columns found | questions with all of both |"
    )
    print("| --- | --- | --- | --- | --- |")
    for most in [*lengths, None]:
        with SchemaReader(SchemaFormat.ddl, SchemaConfig(), most) as reader:
            rows = ContextMaker(reader, databases, always=True).fill(table.rows, source)
        found = [shown(row.context) for row in rows]
        parts = []
        for part in (0, 1):
            wanted = sum(len(one[part]) for one in asked)
            got = sum(len(a[part] & f[part]) for a, f in zip(asked, found, strict=True))
            parts.append(f"{100 * got / wanted:.1f} %")
        whole_count = sum(a[0] <= f[0] and a[1] <= f[1] for a, f in zip(asked, found, strict=True))
        tokens = sum(len(row.context) for row in rows) / CHARACTERS / len(rows)
        share = f"{100 * whole_count / len(rows):.1f} %"
        print(f"| {most or 'whole'} | {tokens:.0f} | {parts[0]} | {parts[1]} | {share} |")


if __name__ == "__main__":
    main()
