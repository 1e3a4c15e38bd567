"""What a sweep is going to do, told before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.composition import composed, explain
from qc_experiments.config import Metric
from qc_experiments.errors import UserError


@dataclass(frozen=True)
class Outlook:
    """What is known of a sweep beforehand.

    Attributes:
        output: folder of its runs, which all its jobs can write to, on whatever machine.
        swept: ``key=values`` as given, of each key that takes several values.
        jobs: the swept values of each job; None where a sweeper searches.
        halving: one in how many goes on, or None.
    """

    output: Path
    swept: tuple[str, ...]
    jobs: tuple[tuple[str, ...], ...] | None
    halving: int | None

    @property
    def keys(self) -> list[str]:
        """The keys that take several values."""
        return [one.partition("=")[0] for one in self.swept]

    def text(self) -> str:
        """The same in one line for the user."""
        if self.jobs is None:
            return f"A search over {' '.join(self.swept)} in {self.output}"
        runs = f"{len(self.jobs):,} run{'' if len(self.jobs) == 1 else 's'}"
        text = f"A sweep of {runs} in {self.output}"
        if self.swept:
            text += f": {' '.join(self.swept)}"
        if self.halving is not None:
            text += f"; sweep.halving={self.halving}: only the better ones go to their end"
        return text


def outlook(overrides: Sequence[str], config_dir: str | None) -> Outlook | None:
    """Look ahead; None where Hydra is about to say what is wrong.

    Args:
        overrides: of the command line, checked.
        config_dir: the user's folder of option files, or None.

    Raises:
        UserError: for what would make the sweep useless as a whole.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    given = [parser.parse_override(one) for one in overrides]
    presets = [one for one in given if one.key_or_group == "sweep"]
    if len(presets) > 1 or any(one.is_sweep_override() for one in presets):
        named = " ".join(str(one.input_line) for one in presets)
        raise UserError(
            f"{named}: the last alone would hold; name one preset and give the keys of the other with "
            "their values"
        )
    fixed = [one.input_line or "" for one in given if not one.is_sweep_override()]
    try:
        # Not checked as a whole: what is swept may be what makes it right.
        config = composed(fixed, config_dir, with_hydra=True)
    except Exception as error:
        if explain(error) is None:
            raise
        return None
    halving, sweeper = config.sweep.halving, config.hydra.sweeper
    from_preset = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    every = [*parser.parse_overrides(from_preset), *given]
    last = {one.get_key_element(): one for one in every}
    swept = [one for one in last.values() if one.is_sweep_override()]
    lines = tuple(str(one.input_line) for one in swept)
    output = Path(config.paths.output).expanduser().absolute()
    if not str(sweeper["_target_"]).endswith("BasicSweeper"):
        if halving is not None:
            raise UserError(
                "sweep.halving goes through a grid: leave out either it or hydra/sweeper"
            )
        _check_direction(config.objective, sweeper)
        return Outlook(output, lines, None, None)
    for one in swept:
        if not one.is_discrete_sweep():
            raise UserError(f"{one.input_line}: only a search takes this; add hydra/sweeper=optuna")
        if halving is not None and getattr(one.value(), "shuffle", False):
            raise UserError(
                f"{one.input_line}: a halving needs the same order each time: no shuffle"
            )
        if one.get_key_element() == "sweep.halving":
            raise UserError(f"{one.input_line}: goes through a grid as a whole; give it one value")
    (jobs,) = BasicSweeper.split_arguments(swept, None)
    return Outlook(output, lines, tuple(map(tuple, jobs)), halving)


def _check_direction(objective: Metric, sweeper: Any) -> None:
    given = sweeper.get("direction")
    direction = getattr(given, "name", given)
    wanted = "maximize" if objective.greater_is_better else "minimize"
    if isinstance(direction, str) and direction != wanted:
        raise UserError(
            f"hydra.sweeper.direction={direction} looks for the worst {objective.value}: it must "
            f"be {wanted} with objective={objective.value}"
        )
