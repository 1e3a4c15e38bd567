"""`qc data check`: what is wrong with a data set, ranked, with row numbers; as text, page and JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from qc_experiments.cli.data_show import columns_of, databases_of, refuse_unused, row_config
from qc_experiments.system.outputs import CSV, JSON, PAGE, output_paths
from qc_experiments.system.paths import resolve_path

if TYPE_CHECKING:
    from qc_experiments.inspection.checks import Inspection


def check(options: argparse.Namespace) -> None:
    """Inspect; exits with 1 if something must be mended."""
    from qc_experiments.inspection.checks import Asked, inspect
    from qc_experiments.inspection.text_report import report_lines

    refuse_unused(options, {"model": ("template", "max_length")})
    targets = output_paths(
        [
            ("--page", options.page, PAGE),
            ("--json", options.json, JSON),
            ("--fix", options.fix, CSV),
        ],
        [options.csv, options.databases, options.validation, options.like, options.template],
    )
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


def _write(
    found: Inspection,
    lines: list[str],
    targets: dict[str, Path],
    options: argparse.Namespace,
) -> None:
    from qc_experiments.inspection.fixes import fixed_rows
    from qc_experiments.inspection.page import page_html
    from qc_experiments.system.files import csv_text, write_whole

    if path := targets.get("--page"):
        write_whole(path, page_html(found, lines))
        print(f"page: {path}")
    if path := targets.get("--json"):
        write_whole(path, (json.dumps(found.plain(), indent=2) + "\n").encode())
        print(f"JSON: {path}")
    if path := targets.get("--fix"):
        header, rows, done = fixed_rows(found, columns_of(options))
        write_whole(path, csv_text(header, rows))
        print(f"mended: {path} ({', '.join(done) if done else 'nothing to mend safely'})")
