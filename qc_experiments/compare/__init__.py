"""Compare the runs of a sweep: what may be ranked together, what a test says of it, a page to look at."""

from __future__ import annotations

from qc_experiments.compare.study import Study, compare
from qc_experiments.compare.table import comparison_table

__all__ = ["Study", "compare", "comparison_table"]
