"""Which optimizers a training here can step."""

from __future__ import annotations

from qc_experiments.errors import UserError
from qc_experiments.system.words import nearest

UNUSABLE = ("schedule_free_", "lomo", "adalomo")
"""How optimizers are called that a training would have to switch over or step in ways of their own."""


def check_optimizer(name: str) -> None:
    """Refuse what transformers does not have, or a training here does not step as it wants to be."""
    from transformers.training_args import OptimizerNames

    usable = [one.value for one in OptimizerNames if not one.value.startswith(UNUSABLE)]
    if name not in usable:
        raise UserError(
            f"trainer.optim={name}: is no optimizer of transformers that can be used here"
            f"{nearest(name, usable)}"
        )
