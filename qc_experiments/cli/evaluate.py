"""`qc evaluate`: judge any system's predicted SQL by running it.

qc evaluate predictions.csv --databases my_databases --output judged
qc evaluate other.csv --databases my_databases --output judged_other --against judged
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qc_experiments.databases.engine import HELP
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users, visible
from qc_experiments.system.signals import GOES_ON, StopRequests

if TYPE_CHECKING:
    from qc_experiments.data.table import Row
    from qc_experiments.databases.locate import Databases
    from qc_experiments.evaluation.comparison import JudgedFile
    from qc_experiments.evaluation.metrics import Judged
    from qc_experiments.evaluation.verdict_journal import VerdictJournal

UNFINISHED = ".judged.partial"
"""Verdicts of an evaluation that has not come to its end, in the output folder."""

NEEDED = ("db_id", "question", "query", "prediction")


def main(arguments: Sequence[str]) -> None:
    """Judge; exits with 2 where the user has to mend something."""
    with told_to_users(GOES_ON), StopRequests().listening():
        _evaluate(_parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qc evaluate",
        description="Judge predicted SQL by running it: does it return the gold query's rows?",
    )
    parser.add_argument(
        "predictions", metavar="CSV", help="columns db_id, question, query (the gold), prediction"
    )
    parser.add_argument(
        "--databases",
        required=True,
        metavar="DIR_OR_URL",
        help="folder with <db_id>/<db_id>.sqlite (or .duckdb), or postgresql://host/{db_id}",
    )
    parser.add_argument("--engine", metavar="NAME", help=HELP)
    parser.add_argument("--output", required=True, metavar="DIR", help="where the verdicts go")
    parser.add_argument(
        "--against",
        metavar="DIR",
        help="an earlier evaluation's output, or a run's folder: compare with it question by question",
    )
    parser.add_argument(
        "--timeout", type=float, default=5.0, metavar="SECONDS", help="for each statement (5)"
    )
    parser.add_argument(
        "--fuzz",
        type=int,
        default=0,
        metavar="N",
        help="an answer must hold on N perturbed copies of its database as well (0)",
    )
    parser.add_argument("--seed", type=int, default=0, help="fixes those copies (0)")
    parser.add_argument("--processes", type=int, metavar="N", help="that run SQL (one a core)")
    parser.add_argument("--cache", metavar="DIR", help="cache folder, as paths.cache in training")
    for column in NEEDED:
        parser.add_argument(
            f"--{column.replace('_', '-')}-column",
            default=column,
            metavar="NAME",
            help=f"what the CSV calls its column {column}",
        )
    return parser


def _evaluate(options: argparse.Namespace) -> None:
    """Read, judge, write; verdicts are kept as they come, the files are written once all are there."""
    from qc_experiments.databases.engine import Limits
    from qc_experiments.databases.locate import find_databases
    from qc_experiments.evaluation.comparison import compare_judged, read_judged
    from qc_experiments.evaluation.metrics import report
    from qc_experiments.evaluation.verdict_journal import VerdictJournal
    from qc_experiments.judging.verdict import judged_on
    from qc_experiments.system.paths import hash_bytes, user_path
    from qc_experiments.system.unfinished import code_hash, kept_at, written

    _check(options)
    source, output = user_path(options.predictions, "CSV"), user_path(options.output, "--output")
    databases = find_databases(options.databases, "--databases", options.engine)
    first = (
        None
        if options.against is None
        else read_judged(user_path(options.against, "--against"), "--against")
    )
    header, cells, rows, predictions = _read(source, options)
    databases.check_rows(((row.number, row.db_id) for row in rows), source)
    hashes = judged_on(rows, databases, Limits(seconds=options.timeout))
    if first is not None:
        compare_judged(first, [None] * len(rows), hashes, str(source))  # refuse before computing
    work = json.dumps([hashes, predictions, options.fuzz, options.seed, code_hash()])
    kept, option = output / UNFINISHED, f"--output {output}"
    started = time.perf_counter()
    with kept_at(kept, option):
        journal = VerdictJournal(kept, hash_bytes(work.encode()), option)
        judged = _judged(options, rows, predictions, databases, journal)
        seconds = journal.seconds + time.perf_counter() - started
        content = report(judged, hashes) | {"seconds": seconds, "predictions": str(source)}
        drawn = {source.stem: content}
        lines: list[str] = []
        if first is not None:
            drawn, lines = _compared(first, judged, hashes, content, source)
        with written(option):
            _write(output, header, cells, judged, content, drawn)
        journal.remove()
    print(summary(content))
    for line in lines:
        print(line)
    if options.fuzz and content["figures"]["fuzz_accuracy"]["value"] is None:
        print("No perturbed copies were asked: they are made of SQLite databases, where golds run.")
    rate = len(rows) / seconds
    print(
        f"\n{seconds:.1f} s, {rate:.0f} a second. Files in {output}: judged.csv, report.json, accuracy.png"
    )


def _judged(
    options: argparse.Namespace,
    rows: Sequence[Row],
    predictions: Sequence[str],
    databases: Databases,
    journal: VerdictJournal,
) -> list[Judged]:
    """Judge what an earlier start has not judged."""
    from qc_experiments.config.schema import PathsConfig
    from qc_experiments.databases.engine import Limits
    from qc_experiments.evaluation.metrics import assess
    from qc_experiments.judging.judge import Judge
    from qc_experiments.system.paths import user_path
    from qc_experiments.system.progress import progress

    judge = Judge(
        databases,
        Limits(seconds=options.timeout),
        cache=user_path(options.cache or PathsConfig().cache, "--cache"),
        perturbed=options.fuzz,
        seed=options.seed,
        processes=options.processes,
    )
    places = len({row.db_id for row in rows})
    fuzz = f", on {options.fuzz} perturbed copies each as well" if options.fuzz else ""
    print(
        f"Judging {len(rows)} predictions on {places} databases{fuzz}: a hundred a second as a rule, "
        f"at most {options.timeout:g} s a statement",
        flush=True,
    )
    if journal.dropped:
        print("An unfinished evaluation of something else was here: it starts anew")
    if journal.known:
        print(f"Goes on: {len(journal.known)} were judged before", flush=True)
    with judge, progress("Judging", len(rows)) as advance:
        return assess(rows, predictions, judge, advance, memory=journal)


def _compared(
    first: JudgedFile,
    judged: Sequence[Judged],
    hashes: dict[str, str],
    content: dict[str, Any],
    source: Path,
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Both reports by name and the comparison in words; it is added to this one's report, too."""
    from qc_experiments.evaluation.comparison import (
        compare_judged,
        comparison_lines,
        distinct_names,
    )

    found = compare_judged(first, [one.correct for one in judged], hashes, str(source))
    content["against"] = {"folder": str(first.folder), **found.plain()}
    names = distinct_names(first.folder.name, source.stem)
    drawn = dict(zip(names, (first.report, content), strict=True))
    return drawn, comparison_lines(found, *names)


def _write(
    output: Path,
    header: Sequence[str],
    cells: Sequence[Sequence[str]],
    judged: Sequence[Judged],
    content: dict[str, Any],
    drawn: dict[str, dict[str, Any]],
) -> None:
    from qc_experiments.evaluation.metrics import VERDICT_COLUMNS, verdict_cells
    from qc_experiments.evaluation.plot import accuracy_plot
    from qc_experiments.system.files import csv_text, write_whole

    kept = [place for place, name in enumerate(header) if name not in VERDICT_COLUMNS]
    table = [
        [*(row[p] for p in kept), *verdict_cells(one)]
        for row, one in zip(cells, judged, strict=True)
    ]
    columns = [*(header[p] for p in kept), *VERDICT_COLUMNS]
    write_whole(output / "judged.csv", csv_text(columns, table))
    write_whole(output / "report.json", json.dumps(content, indent=2) + "\n")
    write_whole(output / "accuracy.png", accuracy_plot(drawn))


def _check(options: argparse.Namespace) -> None:
    from qc_experiments.system.paths import output_problem, user_path

    if not 0 < options.timeout <= MOST_SECONDS:
        raise UserError(
            f"--timeout {options.timeout:g}: must be above 0 seconds and at most {MOST_SECONDS}"
        )
    output = user_path(options.output, "--output")
    if problem := output_problem(output):
        raise UserError(f"--output {output}: cannot be written ({problem}); name a folder")
    if options.against is not None and output.absolute() == Path(options.against).absolute():
        raise UserError(f"--output {output}: is what --against names; choose another folder")
    if options.fuzz < 0:
        raise UserError(f"--fuzz {options.fuzz}: must be at least 0")
    if options.processes is not None and options.processes < 1:
        raise UserError(f"--processes {options.processes}: must be at least 1")


def _read(
    source: Path, options: argparse.Namespace
) -> tuple[list[str], list[list[str]], list[Row], list[str]]:
    """Header, cells, rows and predictions of the CSV."""
    from qc_experiments.data.table import Row, no_column, read_cells

    header, numbered = read_cells(source)
    names = {column: getattr(options, f"{column}_column") for column in NEEDED}
    for column, name in names.items():
        if name not in header:
            raise UserError(
                f"{no_column(source, name, header)}: name it with "
                f"--{column.replace('_', '-')}-column"
            )
    place = {column: header.index(name) for column, name in names.items()}
    rows, predictions = [], []
    for number, cells in numbered:
        query = cells[place["query"]].strip()
        if not query:
            raise UserError(f"{source}: row {number} has an empty {names['query']}: fill it")
        db_id = cells[place["db_id"]].strip()
        rows.append(Row(number, cells[place["question"]].strip(), query, "", db_id))
        predictions.append(cells[place["prediction"]])
    if not rows:
        raise UserError(f"{source}: has no rows below its header")
    return header, [cells for _, cells in numbered], rows, predictions


MOST_SECONDS = 86_400

SHOWN = {
    "execution_accuracy": "execution accuracy",
    "fuzz_accuracy": "  on all perturbed databases",
    "ex_bird": "ex_bird (BIRD's rule)",
    "ex_test_suite": "ex_test_suite (Spider's rule)",
    "exact_match": "exact match",
    "valid_sql": "valid SQL",
}


def summary(content: dict[str, Any]) -> str:
    """The report as a table for a terminal.

    Args:
        content: as `metrics.report` gives it.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("", "share", "count", "95 % interval"):
        table.add_column(title, justify="left" if not title else "right")

    def add(name: str, share: dict[str, Any]) -> None:
        if share["value"] is None:
            return
        interval = f"{100 * share['low']:.1f} to {100 * share['high']:.1f} %"
        counted = f"{share['hits']} of {share['count']}"
        table.add_row(name, f"{100 * share['value']:.1f} %", counted, interval)

    for name, title in SHOWN.items():
        add(title, content["figures"][name])
    for title, key in (
        ("right by hardness", "by_hardness"),
        ("right by database", "by_database"),
        ("wrong because of", "by_error_class"),
    ):
        if content[key]:
            table.add_section()
            table.add_row(title)
            for name, share in content[key].items():
                add(f"  {visible(name)}", share)
    buffer = io.StringIO()
    # Names are data: no markup, no emoji.
    Console(file=buffer, width=100, color_system=None, markup=False, emoji=False).print(table)
    lines = [buffer.getvalue().rstrip()]
    failed = content["gold_errors"]
    if failed:
        shown = ", ".join(f"row {one['row']} ({one['error_class']})" for one in failed[:10])
        more = f" and {len(failed) - 10} more" if len(failed) > 10 else ""
        lines.append(f"{len(failed)} gold queries fail and count for nothing: {shown}{more}")
    left_out = content.get("not_fuzzed")
    if left_out:
        reasons = "; ".join(f"{reason} ({count})" for reason, count in left_out.items())
        lines.append(
            f"{sum(left_out.values())} questions were not asked on perturbed copies and do not count "
            f"there: {reasons}"
        )
    ambiguous = content["ambiguous_golds"]
    if ambiguous:
        shown = ", ".join(str(one["row"]) for one in ambiguous[:10])
        more = " …" if len(ambiguous) > 10 else ""
        lines.append(
            f"{len(ambiguous)} golds are ambiguous (their LIMIT cuts through a tie; any legal cut "
            f"counts): rows {shown}{more}"
        )
    return "\n".join(lines)
