"""Where an interrupted training goes on."""

from __future__ import annotations

import json
from pathlib import Path

from qc_experiments.processes import is_main_process
from qc_experiments.record import write_whole


def resume_point(checkpoints: Path, metrics: Path) -> Path | None:
    """The last whole checkpoint, with the metrics cut back to it; None starts afresh.

    Args:
        checkpoints: folder with ``checkpoint-<step>`` folders.
        metrics: ``metrics.jsonl``; lines after the checkpoint's step are removed, since those steps
            will be taken again.
    """
    found = sorted(checkpoints.glob("checkpoint-*/trainer_state.json"), key=_step)
    step = _step(found[-1]) if found else -1
    if metrics.exists() and is_main_process():
        lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        write_whole(metrics, "".join(kept))
    return found[-1].parent if found else None


def _step(state: Path) -> int:
    return int(state.parent.name.rpartition("-")[2])
