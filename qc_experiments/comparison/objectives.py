"""The figures by which runs can be ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qc_experiments.comparison.runs import Run
from qc_experiments.errors import UserError

EVAL_LOSS = "eval_loss"
EXECUTION_ACCURACY = "execution_accuracy"

LOSS_KEYS = ("model.name_or_path", "model.revision", "data.loss_on", "data.wrap")
"""Losses per token compare only for one tokenizer and the same labelled tokens."""

OBJECTIVES = {
    EXECUTION_ACCURACY: "execution accuracy",
    "exact_match": "exact match",
    "valid_sql": "valid SQL",
    EVAL_LOSS: "loss on the held-out rows",
    "repaired_execution_accuracy": "execution accuracy after one repair",
    "fuzz_accuracy": "execution accuracy on all perturbed databases",
    "ex_bird": "BIRD's rule",
    "ex_test_suite": "Spider's rule",
}
"""Keys of ``result.json``, with what they are called."""


@dataclass(frozen=True)
class Objective:
    """A figure that orders runs.

    Attributes:
        key: its name in ``result.json``.
    """

    key: str

    @property
    def is_loss(self) -> bool:
        """Whether less of it is more."""
        return self.key == EVAL_LOSS

    @property
    def title(self) -> str:
        """What it is called."""
        return OBJECTIVES[self.key]

    @property
    def sign(self) -> int:
        """Factor with which smaller comes first."""
        return 1 if self.is_loss else -1

    def order(self, run: Run, by_loss: bool = True) -> tuple[bool, float, float, str]:
        """Sort key: the best first, equal ones by loss and name, unmeasured ones last.

        Args:
            run: what is to be ordered.
            by_loss: whether its loss compares with those of the others (see `losses_compare`).
        """
        value, loss = run.figure(self.key), run.figure(EVAL_LOSS) if by_loss else None
        known = value is not None and (by_loss or not self.is_loss)
        return (
            value is None,
            self.sign * value if known and value is not None else 0.0,
            float("inf") if loss is None else loss,
            run.name,
        )


def losses_compare(runs: Sequence[Run]) -> bool:
    """Whether the losses of some runs are of one tokenizer and the same labelled tokens."""
    return len({tuple(str(run.config.get(key)) for key in LOSS_KEYS) for run in runs}) < 2


def choose_objective(name: str | None, runs: Sequence[Run]) -> Objective:
    """The objective that was asked for, else execution accuracy, else (nothing was run) the loss.

    Raises:
        UserError: if there is no such figure.
    """
    if name is None:
        executed = any(run.figure(EXECUTION_ACCURACY) is not None for run in runs)
        unknown = not any(run.finished for run in runs)
        return Objective(EXECUTION_ACCURACY if executed or unknown else EVAL_LOSS)
    if name not in OBJECTIVES:
        raise UserError(f"--objective {name}: must be one of {', '.join(OBJECTIVES)}")
    return Objective(name)
