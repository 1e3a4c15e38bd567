"""The figures by which runs can be ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qc_experiments.compare.runs import Run
from qc_experiments.errors import UserError

EVAL_LOSS = "eval_loss"
EXECUTION_ACCURACY = "execution_accuracy"

OBJECTIVES = {
    EXECUTION_ACCURACY: "execution accuracy",
    "exact_match": "exact match",
    "valid_sql": "valid SQL",
    EVAL_LOSS: "loss on the held-out rows",
    "repaired_execution_accuracy": "execution accuracy after one repair",
    "fuzz_accuracy": "execution accuracy on all neighbour databases",
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

    def order(self, run: Run) -> tuple[bool, float, float, str]:
        """Sort key: the best first, equal ones by loss and name, unmeasured ones last."""
        value, loss = run.figure(self.key), run.figure(EVAL_LOSS)
        return (
            value is None,
            0.0 if value is None else self.sign * value,
            float("inf") if loss is None else loss,
            run.name,
        )


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
