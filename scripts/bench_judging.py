"""Time the judge: ``python scripts/bench_judging.py --predictions CSV --databases DIR``.

How many (gold, prediction) pairs a second are judged with a warm pool of processes. The file's gold
queries are judged against themselves unless it has a column `prediction`. Each round runs every
prediction and every gold (no result is kept on disk); a second figure has the golds kept, as when a
second system is judged on the same questions.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter
from pathlib import Path

from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Limits
from qc_experiments.databases.locate import Databases
from qc_experiments.judging.judge import Judge


def main() -> None:
    """Judge in rounds and print pairs a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", required=True, type=Path)
    parser.add_argument("--databases", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int)
    options = parser.parse_args()
    with options.predictions.open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    rows = [Row(n, r["question"], r["query"], "", r["db_id"]) for n, r in enumerate(cells, 2)]
    predictions = [r.get("prediction", r["query"]) for r in cells]
    place = Databases(options.databases)
    place.check("--databases")
    place.check_rows(((row.number, row.db_id) for row in rows), options.predictions)
    limits = Limits()
    for number in range(1, options.rounds + 1):
        with Judge(place, limits, cache=None, processes=options.processes) as judge:
            judge.judge(rows[:8], predictions[:8])  # start the processes
            verdicts, again = _timed(judge, rows, predictions)
            _, kept = _timed(judge, rows, predictions)
        counted = ", ".join(f"{count} {name}" for name, count in sorted(verdicts.items()))
        print(
            f"round {number}: {len(rows) / again:.0f} pairs/s, {len(rows) / kept:.0f} with golds kept"
            f" ({counted})"
        )


def _timed(judge: Judge, rows: list[Row], predictions: list[str]) -> tuple[Counter[str], float]:
    started = time.perf_counter()
    verdicts = judge.judge(rows, predictions)
    seconds = time.perf_counter() - started
    return Counter(one.verdict for one in verdicts), seconds


if __name__ == "__main__":
    main()
