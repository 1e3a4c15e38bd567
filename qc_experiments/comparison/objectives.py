"""The metric by which runs are ranked, and their order by it."""

from __future__ import annotations

from collections.abc import Sequence

from qc_experiments.comparison.runs import Run
from qc_experiments.config.determining import Affects, keys_affecting
from qc_experiments.config.metrics import EXECUTION, LOSS, Metric, metric_called

LOSS_KEYS = keys_affecting(Affects.LOSS)
"""Losses per token compare only for one tokenizer and the same labelled tokens."""

Order = tuple[bool, float, float, str]


def order(run: Run, objective: Metric, by_loss: bool = True) -> Order:
    """Sort key: the best first, equal ones by name, unmeasured ones last.

    Losses order the runs as well where they compare, see `losses_compare`.
    """
    value, loss = run.figure(objective.key), run.figure(LOSS.key)
    compares = by_loss or objective is not LOSS
    return (
        value is None,
        sign(objective) * value if value is not None and compares else 0.0,
        loss if loss is not None and by_loss else float("inf"),
        run.name,
    )


def sign(objective: Metric) -> int:
    """Factor with which smaller comes first."""
    return -1 if objective.higher_is_better else 1


def losses_compare(runs: Sequence[Run]) -> bool:
    """Whether the losses of some runs are of one tokenizer and the same labelled tokens."""
    return len({tuple(str(run.config.get(key)) for key in LOSS_KEYS) for run in runs}) < 2


def own_metrics_of(runs: Sequence[Run]) -> tuple[Metric, ...]:
    """The users' own metrics of some runs, each key once."""
    return tuple({metric.key: metric for run in runs for metric in run.own_metrics}.values())


def choose_objective(name: str | None, runs: Sequence[Run]) -> Metric:
    """The metric that was asked for, else execution accuracy, else (nothing was run) the loss."""
    if name is not None:
        own = own_metrics_of(runs)
        return metric_called(name, own, setting="--objective ", chosen=False)
    executed = any(run.figure(EXECUTION.key) is not None for run in runs)
    return EXECUTION if executed or not any(run.finished for run in runs) else LOSS
