"""The comparison as one HTML page that needs nothing else: no network, no server, no other file.

All data stands in the page as JSON. Its text comes from CSV files and from models, so it is escaped
such that nothing in it can end the script element, and the page's script puts it into the document
as text only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from string import Template
from typing import Any

from qc_experiments.comparison.facts import facts
from qc_experiments.comparison.grouping import Group
from qc_experiments.comparison.predictions import Answer, read_answers
from qc_experiments.comparison.runs import Curve, Run
from qc_experiments.comparison.significance import Against
from qc_experiments.comparison.study import Study
from qc_experiments.comparison.views.table import SAYS_NOTHING, remarks
from qc_experiments.config.metrics import COSTS, METRICS, OF_EXECUTION, plain_metric
from qc_experiments.evaluation.shown import rows_lines
from qc_experiments.records.results import Scalar

WITH_TEXTS = 30
"""Runs of each group, the best ones, whose SQL is in the page."""
WITH_ROWS = 10
"""Of these the best, with what wrong answers return, where ``evaluation.rows`` has kept it."""

LONGEST_TEXT = 2000
"""Characters of a text that are shown; a model that rambles writes more."""


def page_html(study: Study) -> str:
    """The whole page."""
    here = files("qc_experiments.comparison.views")
    style, script, page = (
        here.joinpath(name).read_text(encoding="utf-8")
        for name in ("page.css", "page.js", "page.html")
    )
    # The browser runs this script and no other, should any text ever become markup after all.
    script = f"\n{script}"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(page).substitute(
        style=style, script=script, script_hash=digest, data=embedded(page_data(study))
    )


def embedded(data: object) -> str:
    """JSON that may stand in a script element: no text in it can end the element or open markup.

    Characters beyond ASCII are escaped too, among them the line separators U+2028 and U+2029.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def page_data(study: Study) -> dict[str, Any]:
    """What the page's script reads."""
    runs = [run for group in study.groups for run in group.members]
    number = {run.folder: place for place, run in enumerate(runs)}
    # Contents in place of paths, and the paths as well, for the diff of two runs.
    known: list[dict[str, Scalar]] = [{**run.config, **facts(run)} for run in runs]
    keys = list(dict.fromkeys(key for one in known for key in one))
    metrics = (*METRICS, *study.own_metrics)
    figures = [one.key for one in metrics] + [one.key for one in OF_EXECUTION]
    figures += [cost.recorded.key for cost in COSTS]
    tested = {folder: test for group in study.groups for folder, test in group.against.items()}
    varying = [key for key in keys if len({repr(one.get(key)) for one in known}) > 1]
    return {
        "objective": study.objective.key,
        "metrics": {one.key: plain_metric(one) for one in metrics},
        "others": [one.key for one in study.other_metrics],
        "costs": [
            {"key": c.recorded.key, "title": c.recorded.title, "head": c.head, "unit": c.unit}
            for c in COSTS
        ],
        "says_nothing": SAYS_NOTHING,
        "counted": study.counted(),
        "counts": study.counts(),
        "left_out": study.left_out_lines(),
        "folders": [str(folder) for folder in study.folders],
        "made": datetime.now(UTC).isoformat(timespec="minutes"),
        "keys": varying,
        "common": {key: known[0].get(key) for key in keys if key not in set(varying)},
        "groups": [_group_data(group, number, varying) for group in study.groups],
        "unfinished": [number[run.folder] for run in study.unfinished()],
        "runs": [
            _run_data(run, figures, [one.get(key) for key in varying], tested.get(run.folder))
            for run, one in zip(runs, known, strict=True)
        ],
    }


def _group_data(group: Group, number: dict[Any, int], varying: Sequence[str]) -> dict[str, Any]:
    return {
        "name": group.name,
        "apart": group.apart,
        "best": None if group.best is None else number[group.best.folder],
        "remarks": remarks(group),
        "swept": [key for key in group.swept if key in set(varying)],
        "runs": [number[run.folder] for run in group.runs],
        "unfinished": [number[run.folder] for run in group.unfinished],
        "configurations": [
            [number[run.folder] for run in one.runs] for one in group.configurations
        ],
        **_texts(group, number),
    }


def _run_data(
    run: Run, figures: Sequence[str], values: Sequence[Scalar], against: Against | None
) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": run.name,
        "folder": str(run.folder),
        "status": run.status,
        "error": run.error,
        "step": run.last_step,
        "v": list(values),
        "f": {key: _rounded(value) for key in figures if (value := run.figure(key)) is not None},
        "loss": _curve(run.curves.training),
        "held": _curve(run.curves.held_out),
        "bits": run.outcomes.bits if run.outcomes else "",
        "asked": run.outcomes.asked[:12] if run.outcomes else "",
        "hard": run.by_hardness,
        "db": run.by_database,
    }
    if against is not None:
        data["test"] = [*map(_rounded, against.figures), against.verdict]
    return data


def _texts(group: Group, number: dict[Any, int]) -> dict[str, Any]:
    """Questions once, and the SQL of the best runs, each text once and then by its number."""
    texts: dict[str, int] = {}
    questions: list[list[str]] = []
    asked = ""
    answers: dict[str, list[list[int]]] = {}
    without_rows = 0

    def place(text: str) -> int:
        return texts.setdefault(_cut(text), len(texts))

    for run in group.runs[:WITH_TEXTS]:
        if run.outcomes is None:
            continue
        found = read_answers(run.folder / "predictions.csv")
        if len(found) != len(run.outcomes.bits):
            continue
        if not questions:
            questions = [[one.row, one.db_id, _cut(one.question), _cut(one.gold)] for one in found]
            asked = run.outcomes.asked
        if run.outcomes.asked == asked:
            rows = len(answers) < WITH_ROWS
            without_rows += not rows and any(one.gold_rows for one in found)
            answers[str(number[run.folder])] = [
                [place(text) for text in _answer_texts(one, rows)] for one in found
            ]
    known = {"questions": questions, "asked": asked[:12], "texts": list(texts)}
    limits = {"with_texts": WITH_TEXTS, "with_rows": WITH_ROWS, "without_rows": without_rows}
    return {**known, "answers": answers, **limits}


def _answer_texts(answer: Answer, rows: bool) -> list[str]:
    """SQL and verdict, and, where they are there and wanted, the rows of gold and prediction."""
    texts = [answer.prediction, answer.verdict]
    if rows and answer.gold_rows:
        texts += [rows_lines(answer.gold_rows), rows_lines(answer.predicted_rows)]
    return texts


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"


def _curve(curve: Curve) -> list[list[float]]:
    return [[step for step, _ in curve], [loss for _, loss in curve]]


def _rounded(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")
