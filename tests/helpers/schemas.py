"""A database's schema, as a prompt tells it."""

from __future__ import annotations

from qc_experiments.databases.locate import named_database
from qc_experiments.databases.schema import SchemaReader


def read_schema(place: str) -> str:
    with SchemaReader() as reader:
        return reader.of_database(named_database(place, "db"), f"db {place}").text
