"""How much do votes of more answers bring? Accuracy and recall of the first k of many samples.

    python scripts/measure_votes.py RUN [--candidates 16] [--temperature 0.8] [--constrain schema]

The model of a run answers its held-out questions (those that fit its window) so many times each; the first
k of these answers vote (the first with the most frequent result on the database:
``evaluation.choose=majority``) for each k of 1, 2, 4 and so on. What a sample draws depends on the question
and its own number alone, so that its first 8 of 16 are those of ``evaluation.candidates=8``. Recall is the
share of questions for which any of the k is right. Each vote is compared with the run's own answers on the
same questions. In ``--output`` each run and way of asking it has a folder of its own: answers are kept there
as they come, so that what was stopped goes on, and each vote leaves a ``votes_K/predictions.csv``.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import Choose, Constrain, PathsConfig
from qc_experiments.data.encode import Encoder
from qc_experiments.data.split import sample_rows
from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Limits
from qc_experiments.evaluation.statistics import Rate, paired, rate
from qc_experiments.export.run_files import FinishedRun, read_run
from qc_experiments.generation.choosing import choose_by_running
from qc_experiments.generation.decoding import AnswerSettings, Decoding
from qc_experiments.generation.generate import SHARED_BATCH, write_answers
from qc_experiments.judging.judge import Judge
from qc_experiments.models.base import silence_transformers
from qc_experiments.models.saved import load_saved
from qc_experiments.sql.extraction import extract_sql
from qc_experiments.sql.prefix_check import schema_check
from qc_experiments.system.console import progress, told_to_users
from qc_experiments.system.files import csv_text, write_whole
from qc_experiments.system.paths import hash_texts
from qc_experiments.system.unfinished import Lines
from qc_experiments.system.words import counted
from qc_experiments.training.inputs import load_data

PART = 64
"""Questions that are answered and kept together."""


Samples = dict[int, list[str]]
"""The answers to each question, by its row, in the order of their numbers."""
Verdicts = dict[tuple[int, str], bool | None]
"""Whether a row's query is right."""


def main() -> None:
    """Ask, vote, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--candidates", type=int, default=16, metavar="K")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--constrain", default="none", choices=[one.value for one in Constrain])
    parser.add_argument("--questions", type=int, metavar="N", help="of the held-out ones; else all")
    parser.add_argument("--at-once", type=int, default=256, help="answers written at once")
    parser.add_argument("--output", type=Path, default=Path("outputs/votes"))
    options = parser.parse_args()
    silence_transformers()
    with told_to_users():
        run = read_run(options.run)
        data = load_data(run.config)
        own = _own_answers(run)
        asked = [row for row in data.validation if row.number in own]
        rows = sample_rows(asked, options.questions, run.config.evaluation.seed)
        output = options.output / hash_texts(_work(run, options))[:8]
        output.mkdir(parents=True, exist_ok=True)
        cache = Path(PathsConfig().cache).expanduser()
        limits = Limits(seconds=run.config.evaluation.timeout)
        with Judge(data.databases, limits, cache=cache) as judge:
            samples = _samples(run, rows, judge, options, output)
            _report(own, rows, samples, judge, output)


def _own_answers(run: FinishedRun) -> dict[int, str]:
    """The run's own answer to each question that it was asked, by its row."""
    with (run.folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return {int(one["row"]): one["prediction"] for one in csv.DictReader(file)}


def _work(run: FinishedRun, options: argparse.Namespace) -> str:
    """What tells samples from those of other starts."""
    how = [options.candidates, options.temperature, options.constrain]
    return str([run.result["config_hash"], *how])


def _samples(
    run: FinishedRun, rows: Sequence[Row], judge: Judge, options: argparse.Namespace, output: Path
) -> Samples:
    """What the model answers to each question; what an earlier start has kept is not asked again."""
    found: Samples = {}

    def take(line: dict[str, Any]) -> None:
        found.update((int(row), list(texts)) for row, texts in line["answers"].items())

    kept = Lines(output / "samples.jsonl", _work(run, options), take)
    waiting = sorted((row for row in rows if row.number not in found), key=lambda row: row.context)
    if not waiting:
        return found
    tokenizer, model, saved = load_saved(run.trained, Path(PathsConfig().cache).expanduser())
    encoder = Encoder(tokenizer, saved.template, saved.wrap)
    seed = run.config.evaluation.seed
    decoding = Decoding(options.candidates, options.temperature, seed=seed)
    settings = AnswerSettings(
        tokenizer, encoder.stop_ids, saved.max_new_tokens, options.at_once // SHARED_BATCH, decoding
    )
    closing = saved.template.after_query()
    what = f"{counted(options.candidates, 'answer')} to {counted(len(rows), 'question')}"
    with progress(what, len(rows)) as advance, saved.precision()():
        advance(len(rows) - len(waiting))
        for start in range(0, len(waiting), PART):
            part = waiting[start : start + PART]
            checks = None
            if options.constrain != Constrain.none.value:
                checks = [schema_check(row.schema, judge.dialect(row), closing) for row in part]
            written = write_answers(model, encoder.prompts(part), settings, advance, checks)
            answers = {
                row.number: [extract_sql(one.text, closing) for one in each]
                for row, each in zip(part, written, strict=True)
            }
            kept.append({"answers": answers})
            found |= answers
    return found


def _report(
    own: Mapping[int, str], rows: Sequence[Row], samples: Samples, judge: Judge, output: Path
) -> None:
    queries = [(row, sql) for row in rows for sql in {own[row.number], *samples[row.number]}]
    with progress(f"Judging {counted(len(queries), 'query', 'queries')}", len(queries)) as advance:
        verdicts = judge.judge([row for row, _ in queries], [sql for _, sql in queries], advance)
    judged = zip(queries, verdicts, strict=True)
    right: Verdicts = {(row.number, sql): one.correct for (row, sql), one in judged}
    before = [right[row.number, own[row.number]] for row in rows]
    print(f"Its own answers: {_share(before)}\n")
    print("| votes | right | against its greedy answers | won, lost | p | a right one among them |")
    print("| --- " * 6 + "|")
    most = len(next(iter(samples.values())))
    found: list[tuple[int, Rate, Rate]] = []
    for count in (2**power for power in range(most.bit_length())):
        asked = [samples[row.number][:count] for row in rows]
        chosen, _ = choose_by_running(rows, asked, Choose.majority, judge)
        voted = [right[row.number, sql] for row, sql in zip(rows, chosen, strict=True)]
        any_right = [
            any(right[row.number, sql] for sql in each)
            for row, each in zip(rows, asked, strict=True)
        ]
        table = paired(before, voted)
        low, high = (100 * (end or 0.0) for end in table.interval())
        print(
            f"| {count} | {_share(voted)} | {100 * (table.difference() or 0.0):+.1f} ({low:+.1f} to "
            f"{high:+.1f}) | {table.only_second}, {table.only_first} | {table.p_value():.2g} "
            f"| {100 * (rate(any_right).value or 0.0):.1f} % |",
            flush=True,
        )
        found.append((count, rate(voted), rate(any_right)))
        folder = output / f"votes_{count}"
        folder.mkdir(exist_ok=True)
        lines = [[row.number, sql] for row, sql in zip(rows, chosen, strict=True)]
        write_whole(folder / "predictions.csv", csv_text(["row", "prediction"], lines))
    _draw(rate(before), found, output / "votes.png")


def _share(outcomes: Sequence[bool | None]) -> str:
    found = rate(outcomes)
    low, high = (100 * (end or 0.0) for end in found.interval())
    share = 100 * (found.value or 0.0)
    return f"{share:.1f} % ({found.hits} of {found.count}; {low:.1f} to {high:.1f})"


def _draw(own: Rate, found: Sequence[tuple[int, Rate, Rate]], path: Path) -> None:
    from matplotlib.figure import Figure

    from qc_experiments.evaluation.plot import COLOURS

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    counts = [str(count) for count, _, _ in found]
    lines = {
        "chosen by vote": [voted for _, voted, _ in found],
        "a right one among them": [recalled for _, _, recalled in found],
    }
    for (label, rates), colour in zip(lines.items(), COLOURS, strict=False):
        values = [100 * (one.value or 0.0) for one in rates]
        ends = [one.interval() for one in rates]
        errors = [
            [value - 100 * (low or 0.0) for value, (low, _) in zip(values, ends, strict=True)],
            [100 * (high or 0.0) - value for value, (_, high) in zip(values, ends, strict=True)],
        ]
        axes.errorbar(counts, values, yerr=errors, fmt="o-", color=colour, capsize=3, label=label)
    axes.axhline(100 * (own.value or 0.0), color="grey", linestyle="--", label="greedy, no vote")
    axes.set_xlabel("answers that vote")
    axes.set_ylabel("right in %, with 95 % intervals")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
    print(f"\nDrawn: {path}")


if __name__ == "__main__":
    main()
