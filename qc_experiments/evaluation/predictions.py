"""Judge any system's predicted SQL by running it: what ``qc evaluate`` does."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qc_experiments.config.metrics import own_metrics
from qc_experiments.config.schema import PathsConfig
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import Databases, find_databases
from qc_experiments.errors import UserError
from qc_experiments.evaluation.comparison import (
    JudgedFile,
    compare_judged,
    comparison_lines,
    distinct_names,
    read_judged,
)
from qc_experiments.evaluation.confidence import pairs, risks
from qc_experiments.evaluation.metrics import (
    FUZZ_COLUMN,
    ROW_COLUMNS,
    VERDICT_COLUMNS,
    Judged,
    assess,
    report,
    verdict_cells,
    verdict_columns,
    with_confidence,
)
from qc_experiments.evaluation.prediction_table import PredictionTable, read_predictions
from qc_experiments.evaluation.verdict_journal import VerdictJournal
from qc_experiments.evaluation.wrong_answers import with_rows, wrong_answers
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.verdict import judged_on
from qc_experiments.system.console import progress
from qc_experiments.system.files import csv_text, write_whole
from qc_experiments.system.paths import hash_bytes, output_problem, user_path
from qc_experiments.system.unfinished import code_hash, kept_at, told_what_is_kept, written
from qc_experiments.system.words import counted

log = logging.getLogger(__name__)

UNFINISHED = ".judged.partial"
"""Verdicts of an evaluation that has not come to its end, in the output folder."""
REPLACED = (*VERDICT_COLUMNS, FUZZ_COLUMN, *ROW_COLUMNS)
"""Columns of an earlier evaluation, whose output may be judged again."""
MOST_SECONDS = 86_400
FILES = ("judged.csv", "report.json", "accuracy.png")


@dataclass(frozen=True)
class Asked:
    """What is judged, and how.

    Attributes:
        predictions: CSV with the columns ``db_id`` (which may be absent with a single database),
            ``question``, ``query`` (the gold) and ``prediction``.
        databases: a database's file, a folder with ``<db_id>/<db_id>.sqlite`` (or ``.duckdb``), or a URL.
        output: folder for ``judged.csv``, ``report.json`` and pictures.
        against: an earlier evaluation's output, or a run's folder, to compare with question by question.
        timeout: seconds for each statement.
        fuzz: perturbed copies of its database on which an answer must hold as well.
        seed: fixes those copies.
        processes: that run SQL; None: one per core.
        cache: as ``paths.cache`` in training; None takes its default.
        metrics: dotted names of the user's own metrics.
        columns: what the CSV calls some of them.
        engine: name of the engine of the databases, as ``data.engine`` in training.
        golds: CSV with all of them but the prediction; ``predictions`` then has the columns ``row``
            (place in that file, the first is 1) and ``prediction``, one for each of its rows.
        show: wrong answers that are shown, the easiest first.
        rows: of what gold and prediction return, in ``judged.csv`` for each wrong answer; 0: no columns.
    """

    predictions: str
    databases: str
    output: str
    against: str | None = None
    timeout: float = 5.0
    fuzz: int = 0
    seed: int = 0
    processes: int | None = None
    cache: str | None = None
    metrics: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    engine: str | None = None
    golds: str | None = None
    show: int = 3
    rows: int = 0

    def __post_init__(self) -> None:
        """Check ranges, and that the output can be written."""
        if not 0 < self.timeout <= MOST_SECONDS:
            raise UserError(
                f"--timeout {self.timeout:g}: must be above 0 seconds and at most {MOST_SECONDS}"
            )
        output = user_path(self.output, "--output")
        if problem := output_problem(output):
            raise UserError(f"--output {output}: cannot be written ({problem}); name a folder")
        if self.against is not None:
            against = user_path(self.against, "--against")
            if os.path.realpath(output) == os.path.realpath(against):
                raise UserError(
                    f"--output {output}: is what --against names; choose another folder"
                )
        for name in ("fuzz", "show", "rows"):
            if (given := getattr(self, name)) < 0:
                raise UserError(f"--{name} {given}: must be at least 0")
        if self.processes is not None and self.processes < 1:
            raise UserError(f"--processes {self.processes}: must be at least 1")


@dataclass(frozen=True)
class Evaluation:
    """What came of it.

    Attributes:
        report: the content of ``report.json``.
        lines: the comparison with another evaluation in words; empty without one.
        wrong: some wrong answers as text; empty where there is none to show.
        output: the folder with the files.
        files: their names.
    """

    report: dict[str, Any]
    lines: list[str]
    wrong: str
    output: Path
    files: tuple[str, ...]


def evaluate(asked: Asked, say: Callable[[str], None] = log.info) -> Evaluation:
    """Judge predictions; verdicts are kept as they come, the files are written once all are there.

    Args:
        asked: what is judged, and how.
        say: is told what is under way, a line at a time.

    Raises:
        UserError: for anything the user can mend.
    """
    own = own_metrics(asked.metrics)
    source, output = user_path(asked.predictions, "CSV"), user_path(asked.output, "--output")
    databases = find_databases(asked.databases, "--databases", asked.engine)
    first = (
        None
        if asked.against is None
        else read_judged(user_path(asked.against, "--against"), "--against")
    )
    golds = None if asked.golds is None else user_path(asked.golds, "--golds")
    for column, name in asked.columns.items():
        if name in REPLACED:
            raise UserError(
                f"--{column.replace('_', '-')}-column {name}: judged.csv has a verdict of this name: rename "
                "the column"
            )
    table = read_predictions(source, asked.columns, golds, databases.single)
    databases.check_rows(((row.number, row.db_id) for row in table.rows), golds or source)
    hashes = judged_on(table.rows, databases, Limits(seconds=asked.timeout))
    if first is not None:  # refuse before computing
        compare_judged(first, [None] * len(table.rows), hashes, str(source))
    work = json.dumps([hashes, table.predictions, asked.fuzz, asked.seed, code_hash()])
    kept, option = output / UNFINISHED, f"--output {output}"
    started = time.perf_counter()
    with kept_at(kept, option):
        journal = VerdictJournal(kept, hash_bytes(work.encode()), option)
        with told_what_is_kept(lambda: len(journal), len(table.rows), "verdicts"):
            judged, wrong = _judged(asked, table, databases, journal, say)
        judged = with_confidence(judged, table.confidences)
        seconds = journal.seconds + time.perf_counter() - started
        content = report(judged, hashes, own) | {"seconds": seconds, "predictions": str(source)}
        drawn = {source.stem: content}
        lines: list[str] = []
        if first is not None:
            drawn, lines = _compared(first, judged, content, source)
        with written(option):
            files = _write(output, table, judged, content, drawn)
        journal.remove()
    return Evaluation(content, lines, wrong, output, files)


def _judged(
    asked: Asked,
    table: PredictionTable,
    databases: Databases,
    journal: VerdictJournal,
    say: Callable[[str], None],
) -> tuple[list[Judged], str]:
    """Judge what an earlier start has not judged; some wrong answers come as text as well."""
    judge = Judge(
        databases,
        Limits(seconds=asked.timeout),
        cache=user_path(asked.cache or PathsConfig().cache, "--cache"),
        perturbed=asked.fuzz,
        seed=asked.seed,
        processes=asked.processes,
    )
    places = len({row.db_id for row in table.rows})
    copies = counted(asked.fuzz, "perturbed copy", "perturbed copies")
    where = counted(places, "database") + (f" and {copies} of each" if asked.fuzz else "")
    say(
        f"Judging {counted(len(table.rows), 'prediction')} on {where}: a hundred per second as a rule, "
        f"at most {asked.timeout:g} s per statement"
    )
    if replaced := [name for name in table.header if name in REPLACED]:
        say(f"In judged.csv these verdicts take the place of the CSV's own {', '.join(replaced)}")
    if journal.dropped:
        say("An unfinished evaluation of something else was here: it starts again")
    if journal.known:
        say(f"Goes on: {len(journal.known)} were judged before")
    with judge:
        with progress("Judging", len(table.rows)) as advance:
            judged = assess(table.rows, table.predictions, judge, advance, memory=journal)
        return with_rows(judged, judge, asked.rows), wrong_answers(judged, judge, asked.show)


def _compared(
    first: JudgedFile, judged: Sequence[Judged], content: dict[str, Any], source: Path
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Both reports by name and the comparison in words; it is added to this one's report, too."""
    outcomes = [one.correct for one in judged]
    found = compare_judged(first, outcomes, content["judged_on"], str(source))
    content["against"] = {"folder": str(first.folder), **found.plain()}
    names = distinct_names(first.folder.name, source.stem)
    return dict(zip(names, (first.report, content), strict=True)), comparison_lines(found, *names)


def _write(
    output: Path,
    table: PredictionTable,
    judged: Sequence[Judged],
    content: dict[str, Any],
    drawn: dict[str, dict[str, Any]],
) -> tuple[str, ...]:
    """Write all files; gives their names."""
    from qc_experiments.evaluation.plot import accuracy_plot, confidence_plot

    verdicts = verdict_columns(judged)
    kept = [place for place, name in enumerate(table.header) if name not in REPLACED]
    cells = [
        [*(row[place] for place in kept), *verdict_cells(one, verdicts)]
        for row, one in zip(table.cells, judged, strict=True)
    ]
    columns = [*(table.header[place] for place in kept), *verdicts]
    write_whole(output / "judged.csv", csv_text(columns, cells))
    write_whole(output / "report.json", json.dumps(content, indent=2) + "\n")
    write_whole(output / "accuracy.png", accuracy_plot(drawn))
    sure, picture = pairs(judged), output / "confidence.png"
    if not sure:
        picture.unlink(missing_ok=True)  # an earlier evaluation's
        return FILES
    write_whole(picture, confidence_plot({table.path.stem: risks(sure)}))
    return (*FILES, picture.name)
