"""The section ``evaluation``: how the model is measured on the held-out rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from qc_experiments.config.ranges import SEED, Range, at_least, check_ranges, setting
from qc_experiments.errors import UserError


class Choose(Enum):
    """Which of several candidates is the prediction."""

    first = "first"
    first_valid = "first_valid"
    majority = "majority"


class Constrain(Enum):
    """What answers are held to while they are written."""

    none = "none"
    schema = "schema"


@dataclass(frozen=True)
class EvaluationConfig:
    """How the model is measured on the held-out rows."""

    limit: int | None = setting(None, at_least(1))
    """At most this many held-out rows (a seeded sample), for loss and generation; null: all."""
    seed: int = setting(0, SEED)
    """Seed of that sample and of sampled answers; apart from ``seed``, so that runs are measured on the
    same rows."""
    during_training: int = setting(64, at_least(1))
    """Rows generated at each evaluation in training, when the best checkpoint is chosen by them."""
    base: bool = True
    """Whether the untrained base model is measured as well, for the gain."""
    batch_size: int = setting(16, at_least(1))
    """Held-out rows that are computed at once, for the loss and for generation; a GPU writes up to 256
    answers at once where its memory allows, unless this is below 16."""
    max_new_tokens: int = setting(128, at_least(1))
    """Longest prediction in tokens."""
    timeout: float = setting(
        5.0, Range("above 0, at most 86400 s", lambda value: 0 < value <= 86_400)
    )
    """Seconds one SQL statement may run."""
    temperature: float = setting(0.0, at_least(0))
    """0: the likeliest token each time (greedy, or beams); above: sampled at this temperature."""
    top_p: float = setting(1.0, Range("above 0, at most 1", lambda value: 0 < value <= 1))
    """Sampling takes the likeliest tokens that together have this probability."""
    num_beams: int = setting(1, at_least(1))
    """Width of the beam search; 1: none."""
    candidates: int = setting(1, at_least(1))
    """Answers per question, from which ``choose`` takes one; needs sampling or as many beams."""
    choose: Choose = Choose.first
    """Which candidate counts: the first (likeliest), the first that runs, or the first of those with
    the most frequent result."""
    constrain: Constrain = Constrain.none
    """schema: what can no longer become a valid query under the context's CREATE TABLE statements is not
    written (after PICARD, arXiv:2109.05093)."""
    repair: int = setting(0, Range("0 or 1", lambda value: value in (0, 1)))
    """1: a prediction that fails is asked for once more, with the database's error; reported beside
    the accuracy without repair."""
    fuzz: int = setting(0, at_least(0))
    """An answer must hold on this many perturbed copies of its SQLite database as well; a metric of its
    own."""
    endpoint: str | None = None
    """A server that writes the answers of the base model and the trained one in place of the model that is
    here, such as ``http://localhost:8000/v1`` of vLLM; the adapter is loaded into it."""
    endpoint_model: str | None = None
    """What that server calls the model, where it has it already; nothing is trained then."""
    endpoint_key_env: str | None = None
    """Environment variable that holds the server's key."""
    show: int = setting(3, at_least(0))
    """Wrong answers that a run shows at its end, the easiest first; 0: none."""
    rows: int = setting(0, at_least(0))
    """Rows of what gold and prediction return that stand in ``predictions.csv`` for each wrong answer;
    0: no columns for them."""
    metrics: list[str] = field(default_factory=list)
    """Dotted names of metrics of your own (`qc_experiments.config.metrics.Metric`), such as
    ``[my_module.my_metric]``: measured, recorded and shown beside ours."""

    def __post_init__(self) -> None:
        check_ranges(self, "evaluation")
        if self.temperature > 0 and self.num_beams > 1:
            raise UserError(
                f"evaluation.num_beams={self.num_beams} contradicts "
                f"evaluation.temperature={self.temperature:g}: sample, or search with beams"
            )
        if self.top_p < 1 and self.temperature == 0:
            raise UserError(
                f"evaluation.top_p={self.top_p:g} is for sampling: set evaluation.temperature too"
            )
        if self.temperature == 0 and self.candidates > self.num_beams:
            raise UserError(
                f"evaluation.candidates={self.candidates} needs different answers: set "
                "evaluation.temperature=0.7, say, or as many evaluation.num_beams"
            )
        if self.choose is not Choose.first and self.candidates == 1:
            raise UserError(
                f"evaluation.choose={self.choose.value} needs evaluation.candidates above 1"
            )
        self._check_endpoint()

    def _check_endpoint(self) -> None:
        if self.endpoint is None:
            for key in ("endpoint_model", "endpoint_key_env"):
                if (value := getattr(self, key)) is not None:
                    raise UserError(
                        f"evaluation.{key}={value} goes with evaluation.endpoint: the server that has "
                        "the model"
                    )
            return
        ours = {"num_beams": 1, "constrain": Constrain.none, "repair": 0}
        for key, plain in ours.items():
            if (value := getattr(self, key)) != plain:
                shown = value.value if isinstance(value, Enum) else value
                raise UserError(
                    f"evaluation.{key}={shown} contradicts evaluation.endpoint: servers do not decode so; "
                    "leave one of them out"
                )
        if self.endpoint_model is not None and self.base:
            raise UserError(
                f"evaluation.endpoint_model={self.endpoint_model} is one model, so that the base model is "
                "not there to be asked: set evaluation.base=false"
            )
