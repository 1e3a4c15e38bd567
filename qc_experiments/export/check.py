"""An exported model judged again: what it answers to held-out questions, beside what the run's own answers.

Exports go wrong in ways that load and run: a merged model of rounded weights, a lost template, another end
token. So the exported thing answers by the engine it is for, the same judge runs both, and the difference is
said with its interval and McNemar's test.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from qc_experiments.config.metrics import EXACT, EXECUTION
from qc_experiments.data.split import sample_rows
from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Limits
from qc_experiments.errors import UserError
from qc_experiments.evaluation.metrics import Judged, assess
from qc_experiments.evaluation.statistics import LEVEL, Paired, paired
from qc_experiments.evaluation.wording import verdict
from qc_experiments.export.engines import Engine, Transformers
from qc_experiments.export.run_files import FinishedRun
from qc_experiments.judging.judge import Judge
from qc_experiments.system.console import progress
from qc_experiments.system.words import counted
from qc_experiments.training.inputs import RunData, load_data

log = logging.getLogger(__name__)

COMPARED_ROWS = 32
"""Held-out rows whose tokens' probabilities are compared."""
GGUF_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""How the number formats that both have are called in GGUF."""


@dataclass(frozen=True)
class Check:
    """How an export compares with the run it was made of.

    Attributes:
        table: of right answers, the run's own first.
        by: what counts as right.
        different: questions that are answered with another text.
        mean_distance: of a gold token's log-probability, in nats, on average.
        largest_distance: at most.
        engine: that answered.
        formats: the number formats of the run's own model and of the export.
    """

    table: Paired
    by: str
    different: int
    mean_distance: float
    largest_distance: float
    engine: str
    formats: tuple[str, str]

    @property
    def worse(self) -> bool:
        """Whether it is worse than the run's own, beyond chance."""
        difference, p = self.table.difference(), self.table.p_value()
        return difference is not None and p is not None and difference < 0 and p < LEVEL

    def lines(self) -> list[str]:
        """In words."""
        table = self.table
        if not table.count:
            return ["Nothing could be judged."]
        own, other = table.both + table.only_first, table.both + table.only_second
        share = 100 / table.count
        trained, stored = self.formats
        rounding = f" ({trained} and {stored} round differently)" if trained != stored else ""
        return [
            f"{self.by} on {counted(table.count, 'held-out question')}, greedy: {share * own:.1f} % ({own}) "
            f"by the run's own model in {trained}, {share * other:.1f} % ({other}) by the export in "
            f"{stored}, asked through {self.engine}",
            verdict(table, "the run's own model", "the export"),
            f"{counted(self.different, 'answer')} of {table.count} written differently; the log-probability "
            f"of a gold token differs by {self.mean_distance:.4f} nats on average, "
            f"{self.largest_distance:.3f} at most{rounding}",
        ]


def held_out(run: FinishedRun, count: int) -> tuple[RunData, list[Row]]:
    """Some of the run's held-out questions, drawn by its seed.

    Raises:
        UserError: if they are not where they were, or the rows it was trained on are others now.
    """
    try:
        data = load_data(run.config)
    except UserError as error:
        raise UserError(
            f"--check: the run's held-out questions are needed ({error}); or leave the check out with "
            "--check 0"
        ) from None
    if run.result.get("data_hash", data.train_hash) != data.train_hash:
        raise UserError(
            f"--check: {data.train_source} no longer gives the rows that the run was trained on, so it may "
            "have been trained on what is held out now: put back what was there, or leave the check out "
            "with --check 0"
        )
    there = list(data.validation)
    if len(there) < count:
        log.warning(
            "--check %d: the run has %s, all of which are asked",
            count,
            counted(len(there), "held-out question"),
        )
    return data, sample_rows(there, count, run.config.evaluation.seed)


def compare_engines(
    run: FinishedRun,
    asked: tuple[RunData, Sequence[Row]],
    own: Callable[[], Transformers],
    exported: Callable[[], Engine],
    named: tuple[str, str, Path],
) -> Check:
    """Let the run's own model and the exported one answer the same questions, one after the other.

    Args:
        run: whose export it is.
        asked: the run's rows, and those that are asked.
        own: loads the run's own model.
        exported: loads the exported one.
        named: the export's engine and number format (of an adapter none); the cache folder, for results of
            golds.
    """
    data, rows = asked
    name, kind, cache = named
    limits = Limits(seconds=run.config.evaluation.timeout)
    total = 2 * len(rows)
    judged: list[list[Judged]] = []
    distances: list[list[list[float]]] = []
    with (
        Judge(data.judge_place, limits, cache=cache) as judge,
        progress(f"Asking both {counted(len(rows), 'question')}", total) as advance,
    ):
        first = own()
        trained = first.number_format
        examples = first.encoder.examples(rows[:COMPARED_ROWS])
        engine: Engine = first
        for place in range(2):
            if place:
                engine = exported()
            with closing(engine):
                answers = engine.answers(rows, judge, advance)
                distances.append(engine.log_probabilities(examples))
            judged.append(assess(rows, answers, judge))
    executed = any(one.correct is not None for one in judged[0])
    outcomes = [[one.correct if executed else one.exact for one in each] for each in judged]
    texts = [[one.prediction for one in each] for each in judged]
    apart = [
        abs(first - second)
        for before, after in zip(*distances, strict=True)
        for first, second in zip(before, after, strict=True)
    ]
    return Check(
        table=paired(*outcomes),
        by=(EXECUTION if executed else EXACT).title,
        different=sum(
            one != other
            for one, other, *known in zip(*texts, *outcomes, strict=True)
            if None not in known
        ),
        mean_distance=sum(apart) / len(apart),
        largest_distance=max(apart),
        engine=name,
        formats=(trained, GGUF_NAMES.get(kind, kind) or trained),
    )
