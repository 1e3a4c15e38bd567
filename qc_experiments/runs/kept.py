"""What a process keeps between the runs that it makes, such as the jobs of a sweep."""

from __future__ import annotations

from qc_experiments.models.base import KeptBaseModel
from qc_experiments.packing.agreement import PackAgreement
from qc_experiments.training.job import Pace


class Kept:
    """The base model, and what was found out about models of its kind.

    Attributes:
        computes: whether the run at hand has begun to compute, and was not refused before.
    """

    def __init__(self) -> None:
        self.base_model = KeptBaseModel()
        self.agreement = PackAgreement()
        self.pace = Pace()
        self.computes = False
