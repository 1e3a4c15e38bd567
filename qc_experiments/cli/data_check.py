"""`qc data check`: what is wrong with a data set, ranked, with row numbers; as text, page and JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from qc_experiments.cli.data_show import columns_of, databases_of, row_config
from qc_experiments.errors import UserError
from qc_experiments.system.paths import output_file_problem, resolve_path, user_path

if TYPE_CHECKING:
    from qc_experiments.inspection.checks import Inspection


def check(options: argparse.Namespace) -> None:
    """Inspect; exits with 1 if something must be mended."""
    from qc_experiments.inspection.checks import Asked, inspect
    from qc_experiments.inspection.text_report import report_lines

    targets = {flag: _target(options, flag) for flag in ("page", "json", "fix")}
    databases = databases_of(options)
    found = inspect(
        Asked(
            resolve_path(options.csv, "CSV"),
            columns_of(options),
            databases,
            None
            if options.validation is None
            else resolve_path(options.validation, "--validation"),
            None if options.like is None else resolve_path(options.like, "--like"),
            None if options.model is None else row_config(options),
        )
    )
    lines = list(report_lines(found, with_databases=databases is not None))
    print("\n".join(lines))
    _write(found, lines, targets, options)
    if found.fails:
        raise SystemExit(1)


def _target(options: argparse.Namespace, flag: str) -> Path | None:
    if (given := getattr(options, flag)) is None:
        return None
    path = user_path(given, f"--{flag}")
    if problem := output_file_problem(path):
        raise UserError(f"--{flag} {path}: {problem}")
    if path.exists() and path.samefile(resolve_path(options.csv, "CSV")):
        raise UserError(f"--{flag} {path}: is the input; choose another name")
    return path


def _write(
    found: Inspection,
    lines: list[str],
    targets: dict[str, Path | None],
    options: argparse.Namespace,
) -> None:
    from qc_experiments.inspection.fixes import fixed_rows
    from qc_experiments.inspection.page import page_html
    from qc_experiments.system.files import csv_text, write_whole

    if (path := targets["page"]) is not None:
        write_whole(path, page_html(found, lines).encode())
        print(f"page: {path}")
    if (path := targets["json"]) is not None:
        write_whole(path, (json.dumps(found.plain(), indent=2) + "\n").encode())
        print(f"JSON: {path}")
    if (path := targets["fix"]) is not None:
        header, rows, done = fixed_rows(found, columns_of(options))
        write_whole(path, csv_text(header, rows))
        print(f"mended: {path} ({', '.join(done) if done else 'nothing to mend safely'})")
