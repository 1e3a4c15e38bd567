"""`qc data show`: a row as the model sees it, as text or decoded from the batch that a collator makes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qc_experiments.config.plugins import COLLATORS
from qc_experiments.config.schema import ColumnsConfig, DataConfig, OnInvalid, RunConfig
from qc_experiments.data.table import Row, name_rows, read_table
from qc_experiments.data.template import read_template
from qc_experiments.errors import UserError
from qc_experiments.system.paths import resolve_path

if TYPE_CHECKING:
    from qc_experiments.databases.locate import Databases


COLUMNS = tuple(one.name for one in fields(ColumnsConfig))


def add_columns(parser: argparse.ArgumentParser, names: Sequence[str] = COLUMNS) -> None:
    """The flags that say what the CSV calls its columns."""
    for name in names:
        what = f"name of the {name} column ({name})"
        parser.add_argument(f"--{name}", default=name, metavar="COLUMN", help=what)


def columns_of(options: argparse.Namespace) -> ColumnsConfig:
    """What the CSV calls its columns."""
    return ColumnsConfig(**{name: getattr(options, name) for name in COLUMNS})


def refuse_unused(options: argparse.Namespace, needed: Mapping[str, Sequence[str]]) -> None:
    """Refuse flags that do nothing without another one."""
    for one, others in needed.items():
        for name in others if getattr(options, one) is None else ():
            if getattr(options, name) not in (None, False):
                raise UserError(f"--{name.replace('_', '-')} goes with --{one}")


def databases_of(options: argparse.Namespace) -> Databases | None:
    """The databases of the rows; None if none were given."""
    from qc_experiments.databases.locate import find_databases

    refuse_unused(options, {"databases": ("engine",)})
    if options.databases is None:
        return None
    return find_databases(options.databases, "--databases", options.engine)


def show(options: argparse.Namespace) -> None:
    """Print a row; what carries loss is coloured, or in brackets where there are no colours."""
    path = resolve_path(options.csv, "CSV")
    refuse_unused(options, {"model": ("collator", "tokens", "max_length")})
    row = _row(path, options)
    if options.model is None:
        template = resolve_path(options.template or DataConfig().template, "--template")
        found = read_template(template)
        print(found.prompt(row.context, row.question, row.evidence or ""), end="")
        print(f"[the model writes:]{found.completion(row.query)}[end]")
        return
    from rich.console import Console
    from rich.text import Text

    from qc_experiments.inspection.shown_row import shown_parts

    console = Console(highlight=False, soft_wrap=True)
    config = row_config(options)
    parts, tokens = shown_parts(row, config)
    text = Text()
    for part, has_loss in parts:
        if has_loss:
            text.append(part if console.is_terminal else f"[[{part}]]", "bold green")
        else:
            text.append(part, "dim")
    console.print(text)
    labelled = sum(has_loss for *_, has_loss in tokens)
    print(f"row {row.number}: {len(tokens)} tokens, of which {labelled} carry loss")
    if len(tokens) > config.data.max_length:
        length = f"{config.data.max_length} tokens (--max-length, in training data.max_length)"
        print(f"training leaves it out: it is longer than {length}")
    if options.tokens:
        for number, token, has_loss in tokens:
            print(f"{number:>7}  {'loss' if has_loss else '    '}  {token!r}")


def _row(path: Path, options: argparse.Namespace) -> Row:
    from qc_experiments.data.contexts import ContextMaker
    from qc_experiments.databases.schema import SchemaReader

    databases = databases_of(options)
    table = read_table(path, columns_of(options), OnInvalid.drop, needs_context=databases is None)
    row = next((row for row in table.rows if row.number == options.row), None)
    if row is None:
        why = (one.what for one in table.decisions if options.row in one.rows)
        usable = f"usable: {name_rows([row.number for row in table.rows])}"
        raise UserError(
            f"{path}: there is no usable row {options.row}: {next(why, 'the CSV has none')}; {usable}"
        )
    with SchemaReader() as reader:
        return ContextMaker(reader, databases, always=False).fill([row], path)[0]


def row_config(options: argparse.Namespace) -> RunConfig:
    """The config of a run with the given model, template, length and collator."""
    from qc_experiments.config.compose import composed, register_schema, to_run_config
    from qc_experiments.config.keys import option_names

    register_schema()
    given = ["data=csv", "data.train=rows.csv"]
    known = options.model in option_names("model", None)
    given += [f"model={options.model}"] if known else ["model=hub", "model.name_or_path=given"]
    if options.max_length is not None:
        given.append(f"data.max_length={options.max_length}")
    if (collator := getattr(options, "collator", None)) is not None:
        if collator not in option_names("collator", None):
            raise UserError(f"--collator {collator}: must be one of {', '.join(COLLATORS)}")
        given.append(f"collator={collator}")
    config = to_run_config(composed(given, None))
    # Names are set here: Hydra would read what stands in them.
    if not known:
        config = replace(config, model=replace(config.model, name_or_path=options.model))
    if options.template is not None:
        config = replace(config, data=replace(config.data, template=options.template))
    return config
