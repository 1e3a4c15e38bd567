"""The context of each row: the CSV's own, or made from its database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qc_experiments.data.table import Row
from qc_experiments.databases.locate import Databases
from qc_experiments.databases.schema import Schema, SchemaReader
from qc_experiments.errors import UserError


@dataclass(frozen=True)
class ContextMaker:
    """Gives rows their contexts.

    Attributes:
        reader: reads schemas, in the form that they are to have.
        databases: of the rows; None if there are none at hand.
        always: whether a context that a row brings is written anew, in the reader's form.
    """

    reader: SchemaReader
    databases: Databases | None
    always: bool

    def fill(
        self, rows: Sequence[Row], source: Path | str, beside: Sequence[Row] = ()
    ) -> list[Row]:
        """The rows of a CSV with their contexts, and with the name of a single database.

        ``beside`` has those of a mixture's first file, which are about that database. A row that is mixed
        with them is not, if it brings a context and not their db_id.

        Raises:
            UserError: if a row has neither a context nor a database, or that cannot be read.
        """
        if self.databases is None or (single := self.databases.single) is None:
            return [self._filled(row, source) for row in rows]
        names = {row.db_id for row in beside}
        others = [bool(names and row.context) and row.db_id not in names for row in rows]
        about = [*beside, *(row for row, other in zip(rows, others, strict=True) if not other)]
        self.databases.check_rows(((row.number, row.db_id) for row in about), source)
        name = next((row.db_id for row in about if row.db_id), single)
        alone = replace(self, databases=None)
        return [
            alone._filled(row, source)
            if other
            else self._filled(replace(row, db_id=row.db_id or name), source)
            for row, other in zip(rows, others, strict=True)
        ]

    def _filled(self, row: Row, source: Path | str) -> Row:
        if row.context and not self.always:
            return row
        schema = self._schema(row, f"{source}: row {row.number}", source)
        asked = f"{row.question} {row.evidence or ''}"
        text = self.reader.text_for(schema, asked)
        return replace(row, context=text, statements=schema.statements)

    def _schema(self, row: Row, where: str, source: Path | str) -> Schema:
        if self.databases is not None and (row.db_id or not row.context):
            try:
                found = self.databases.find(row.db_id) if row.db_id else None
            except UserError as error:
                raise UserError(f"{where}: {error}") from None
            if found is not None:
                alone = self.databases.single is not None
                said = f"{source}: {found.target}" if alone else f"{where}: db_id {row.db_id}"
                return self.reader.of_database(found, said)
            if not row.context or self.reader.samples:
                self.databases.check_rows([(row.number, row.db_id)], source)
        return self.reader.of_statements(row.context, where)
