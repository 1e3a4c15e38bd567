"""Keep what a run predicted on Spider's dev.csv, so that anyone with Spider can judge it again.

    python scripts/publish_result.py RUN NAME --spider DIR [--base]   into docs/results/NAME
    python scripts/publish_result.py                                 the table and the picture of all

The folder gets ``predictions.csv`` (``row``, the place in dev.csv, and ``prediction``) and ``report.json``,
which is that of ``qc evaluate --golds dev.csv --fuzz 5`` on it, without the golds it quotes: no question,
gold or schema of Spider is kept. ``--base`` takes the answers of the base model.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path
from typing import Any

from qc_experiments.config.metrics import BIRD, EXECUTION, FUZZ, TEST_SUITE, VALID, Metric

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PICTURE = ROOT / "docs" / "results", ROOT / "docs" / "images" / "spider_result.png"
COPIES = 5
PUBLISHED = (
    ("distill-sql: Qwen2.5-0.5B, LoRA, 3,397 checked traces, greedy", 33.9, 60.0),
    ("SLM-SQL: Qwen2.5-Coder-0.5B, 916,000 rows, vote over 16", 42.1, 65.3),
    ("SLM-SQL, with reinforcement learning as well", 42.1, 70.6),
    ("FINER-SQL: Qwen2.5-Coder-0.5B, vote over 30", None, 75.0),
)
"""Others' figures on Spider's dev set, untrained and trained (docs/results/index.md)."""
COLUMNS = (EXECUTION, BIRD, TEST_SUITE, FUZZ, VALID)


def main() -> None:
    """Keep one run's predictions, or show all that are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, help="a run's folder")
    parser.add_argument("name", nargs="?", help="of the folder in docs/results")
    default = os.environ.get("QC_SPIDER", "spider")
    parser.add_argument("--spider", type=Path, default=Path(default))
    parser.add_argument("--base", action="store_true", help="the base model's answers")
    options = parser.parse_args()
    if options.run is not None:
        if options.name is None:
            parser.error("a run needs a NAME")
        source = options.run / f"{'base_' if options.base else ''}predictions.csv"
        _publish(source, RESULTS / options.name, options.spider)
    found = {
        path.parent.name: json.loads(path.read_text()) for path in RESULTS.glob("*/report.json")
    }
    reports = dict(sorted(found.items(), key=lambda one: _value(one[1], EXECUTION)))
    print(_table(reports))
    _draw(reports)
    print(f"\nDrawn: {PICTURE.relative_to(ROOT)}")


def _publish(source: Path, folder: Path, spider: Path) -> None:
    from qc_experiments import evaluate
    from qc_experiments.system.files import csv_text, write_whole

    with source.open(encoding="utf-8", newline="") as file:
        # A run counts as a spreadsheet does, with the header as row 1.
        said = {int(row["row"]) - 1: row["prediction"] for row in csv.DictReader(file)}
    rows = [[place, said[place]] for place in sorted(said)]
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "predictions.csv", csv_text(["row", "prediction"], rows))
    judged = ROOT / "build" / "judged" / folder.name
    report = evaluate(
        str(folder / "predictions.csv"),
        str(spider / "database"),
        str(judged),
        golds=str(spider / "dev.csv"),
        fuzz=COPIES,
    )
    for golds in ("gold_errors", "ambiguous_golds"):
        report[golds] = [{"row": one["row"], "db_id": one["db_id"]} for one in report[golds]]
    for measured in ("predictions", "seconds"):
        del report[measured]
    write_whole(folder / "report.json", json.dumps(report, indent=2) + "\n")


def _value(report: dict[str, Any], metric: Metric) -> float:
    return 100 * float(report["figures"][metric.key]["value"])


def _table(reports: dict[str, dict[str, Any]]) -> str:
    lines = [f"| | {' | '.join(one.title for one in COLUMNS)} |", "| --- " * 6 + "|"]
    for name, report in reports.items():
        found = report["figures"][EXECUTION.key]
        cells = [
            f"**{100 * found['value']:.1f} %** ({found['hits']} of {found['count']}; "
            f"{100 * found['low']:.1f} to {100 * found['high']:.1f})"
        ]
        cells += [f"{_value(report, one):.1f}" for one in COLUMNS[1:]]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    kinds = list(dict.fromkeys(kind for one in reports.values() for kind in one["by_hardness"]))
    lines += ["", f"| | {' | '.join(kinds)} |", "| --- " * (len(kinds) + 1) + "|"]
    for name, report in reports.items():
        shares = [report["by_hardness"][kind] for kind in kinds]
        cells = [f"{one['hits']} of {one['count']}" for one in shares]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _draw(reports: dict[str, dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    from qc_experiments.evaluation.plot import COLOURS

    figure = Figure(figsize=(9, 1.1 + 0.36 * (len(reports) + len(PUBLISHED))), layout="constrained")
    axes = figure.subplots()
    names = []
    for place, (name, report) in enumerate(reports.items()):
        share = report["figures"][EXECUTION.key]
        value, low, high = (100 * share[key] for key in ("value", "low", "high"))
        axes.barh(
            place, value, 0.6, color=COLOURS[0], xerr=[[value - low], [high - value]], capsize=3
        )
        axes.text(high + 1, place, f"{value:.1f} %", va="center")
        names.append(f"here: {name.replace('_', ' ')}")
    for place, (name, before, after) in enumerate(PUBLISHED, len(reports)):
        axes.barh(place, after, 0.6, color="white", edgecolor=COLOURS[1], hatch="//")
        if before is not None:
            axes.plot([before] * 2, [place - 0.3, place + 0.3], color=COLOURS[1], linewidth=2)
        axes.text(after + 1, place, f"{after:.1f} %", va="center")
        names.append(name)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(
        "right answers on Spider's dev questions in %\n"
        "hatched: published by others (line: untrained)"
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
