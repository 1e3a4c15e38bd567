"""From the data section of a config to the rows of a run: read, checked, split, sampled, hashed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qc_experiments.config.schema import ColumnsConfig, DataConfig, RunConfig, SchemaFormat, SplitBy
from qc_experiments.data.contexts import ContextMaker
from qc_experiments.data.split import sample_rows, split_rows
from qc_experiments.data.table import (
    OPTIONAL,
    Decision,
    Row,
    Table,
    hash_rows,
    read_cells,
    read_table,
)
from qc_experiments.data.template import Template, read_template
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.engine import engine as engine_of
from qc_experiments.databases.locate import Databases, find_databases
from qc_experiments.databases.schema import SchemaReader
from qc_experiments.errors import UserError
from qc_experiments.judging.verdict import judged_on
from qc_experiments.system.paths import PACKAGE_PREFIX, hash_texts, resolve_path
from qc_experiments.system.words import counted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunData:
    """The rows of a run."""

    train: tuple[Row, ...]
    validation: tuple[Row, ...]  # held-out rows that are measured
    also: tuple[Row, ...]  # of another task, to measure what training costs there
    template: Template
    databases: Databases | None  # where SQL is run
    dialect: str  # what sqlglot calls the SQL of the rows
    decisions: tuple[str, ...]  # lines that say which rows were left out or need a look
    train_source: str  # the CSVs of the training rows, for messages
    validation_source: str
    train_hash: str  # over the training rows, in their order
    judged_on: dict[str, str]  # hashes of what verdicts depend on: golds, databases, judge ...

    @property
    def judge_place(self) -> Databases | str:
        """What a `Judge` is given: the databases, or without any the dialect."""
        return self.databases or self.dialect

    @property
    def evaluation_hash(self) -> str:
        """One hash of all that verdicts depend on."""
        return hash_texts(*(f"{k}={v}" for k, v in sorted(self.judged_on.items())))

    def asked(self, rows: Sequence[Row], timeout: float) -> RunData:
        """The same where some held-out rows do not fit the model's window; statements run so many seconds."""
        if len(rows) == len(self.validation):
            return self
        found = judged_on(rows, self.judge_place, Limits(seconds=timeout))
        return replace(self, validation=tuple(rows), judged_on=found)


def load_data(config: RunConfig) -> RunData:
    """Read and check everything that the data section names."""
    data, evaluation = config.data, config.evaluation
    _refuse_mixture(data)
    template = read_template(resolve_path(data.template, "data.template"))
    databases = None
    if data.databases is not None:
        databases = find_databases(data.databases, "data.databases", data.engine)
    made = data.schema_format is not None or data.linking is not None
    form = data.schema_format or SchemaFormat.ddl
    with SchemaReader(form, data.schema, data.linking) as reader:
        contexts = ContextMaker(reader, databases, always=made)
        tables: list[Table] = []
        for file, _ in data.train_files():
            beside = tables[0].rows if tables else ()
            tables.append(_read(file, data, "data.train", contexts, beside))
        given = [] if data.validation is None else [data.validation]
        held_out = [_read(file, data, "data.validation", contexts) for file in given]
        reader.check_private("data.schema.private")
    for one in (*tables, *held_out):
        _check_evidence(template, one, data.columns.evidence)
    also = _also(data)
    lines = [d.line(one.path) for one in (*tables, *held_out, *also) for d in one.decisions]
    source = held_out[0].path if held_out else tables[0].path
    if held_out:
        parts: list[Sequence[Row]] = [one.rows for one in tables]
        validation = list(held_out[0].rows)
    else:
        parts, validation, lost = _split(tables, data)
        lines += lost
    train = _mixed(parts, data)
    train = sample_rows(train, data.limit, data.split_seed)
    validation = sample_rows(validation, evaluation.limit, evaluation.seed)
    lines += [d.line(source) for d in _leaks(train, validation)]
    if databases is not None:
        named = ((row.number, row.db_id) for row in validation)
        databases.check_rows(named, source)
    dialect = _dialect(data.engine, databases)
    return RunData(
        train=tuple(train),
        validation=tuple(validation),
        also=tuple(row for one in also for row in one.rows),
        template=template,
        databases=databases,
        dialect=dialect,
        decisions=tuple(lines),
        train_source=" and ".join(str(one.path) for one in tables),
        validation_source=str(source),
        train_hash=hash_rows(train),
        judged_on=judged_on(validation, databases or dialect, Limits(seconds=evaluation.timeout)),
    )


def _split(
    tables: Sequence[Table], data: DataConfig
) -> tuple[list[Sequence[Row]], list[Row], list[str]]:
    """The rows to train on, file by file; those of the first that are held out; lines about others left out.

    Held-out schemas are kept out of every file, where the split is by schema.
    """
    first, *others = tables
    own, held_out = split_rows(first.rows, data.validation_fraction, data.split_by, data.split_seed)
    if data.split_by is SplitBy.row:
        return [own, *(one.rows for one in others)], held_out, []
    ids, schemas = {row.db_id for row in held_out} - {None}, {row.schema for row in held_out}
    parts: list[Sequence[Row]] = [own]
    lines = []
    for one in others:
        out = {row.number for row in one.rows if row.db_id in ids or row.schema in schemas}
        parts.append([row for row in one.rows if row.number not in out])
        if out:
            what = "about held-out schemas (data.split_by=schema); left out"
            lines.append(Decision(what, tuple(sorted(out))).line(one.path))
    return parts, held_out, lines


def _dialect(engine: str | None, databases: Databases | None) -> str:
    if databases is not None:
        return databases.dialect
    return "sqlite" if engine is None else engine_of(engine).dialect


def _check_evidence(template: Template, table: Table, column: str) -> None:
    """Refuse a template with a field that the CSV lacks; say so where the CSV has one that is not used."""
    there = table.rows[0].evidence is not None
    if template.takes_evidence and not there:
        raise UserError(
            f"{template.source}: has {{evidence}}, but {table.path} has no column {column}: add it, or "
            "map it with data.columns.evidence"
        )
    if there and not template.takes_evidence:
        log.warning(
            "%s: its column %s is not used: the template has no {evidence}", table.path, column
        )


def _read(
    file: str, data: DataConfig, key: str, contexts: ContextMaker, beside: Sequence[Row] = ()
) -> Table:
    """The rows of a CSV with their contexts; ``beside`` as `ContextMaker.fill` takes it."""
    path = resolve_path(file, key)
    needed = contexts.databases is None
    table = read_table(path, data.columns, data.on_invalid, needs_context=needed)
    rows = contexts.fill(table.rows, path, beside)
    several = data.weights or not isinstance(data.train, str)
    if key == "data.train" and several:  # a row's number does not tell its file
        rows = [replace(row, source=str(path)) for row in rows]
    return replace(table, rows=tuple(rows))


def _also(data: DataConfig) -> list[Table]:
    """The rows of another task, if one is named."""
    if data.also_evaluate is None:
        return []
    path, usual = resolve_path(data.also_evaluate, "data.also_evaluate"), ColumnsConfig()
    header, _ = read_cells(path)
    # Optional columns of the rows that are trained on need not be there, whatever they are called.
    own = {
        name: getattr(usual, name) for name in OPTIONAL if getattr(data.columns, name) not in header
    }
    return [read_table(path, replace(data.columns, **own), data.on_invalid, needs_context=False)]


def _mixed(parts: Sequence[Sequence[Row]], data: DataConfig) -> list[Row]:
    """The rows of several files, each as often as its weight says; what is left of a weight is drawn."""
    mixed: list[Row] = []
    for rows, (file, weight) in zip(parts, data.train_files(), strict=True):
        times = int(weight)
        rest = round((weight - times) * len(rows))
        if not times and not rest:
            raise UserError(
                f"data.weights: {weight:g} of the {counted(len(rows), 'row')} of {file} is none: raise it, "
                "or leave the file out"
            )
        mixed += list(rows) * times + sample_rows(rows, rest, data.split_seed)
    return mixed


def _refuse_mixture(data: DataConfig) -> None:
    """Refuse a user's rows measured on the demo's: a forgotten ``data=csv``, not a wish."""
    demo = f"{PACKAGE_PREFIX}qc_experiments.demo/"
    if all(file.startswith(demo) for file, _ in data.train_files()):
        return
    for key in ("validation", "databases"):
        if (getattr(data, key) or "").startswith(demo):
            raise UserError(
                f"data.train={data.train} would be measured on the demo's data.{key}: start from "
                f"data=csv, as in data=csv data.train={data.train}, or give data.{key}=..."
            )


def _leaks(train: Sequence[Row], validation: Sequence[Row]) -> list[Decision]:
    seen = {(row.context, row.question.casefold()) for row in train}
    rows = [r.number for r in validation if (r.context, r.question.casefold()) in seen]
    what = "held out but asked in training as well; the figures are too good by them"
    return [Decision(what, tuple(rows))] if rows else []
