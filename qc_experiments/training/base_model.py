"""Measure the base model, once for all runs that would find the same.

The jobs of a sweep differ in rank, learning rate or seed, none of which the base model knows. What the
first of them found (loss and answers; the verdicts are judged again) is kept beside the runs.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import transformers

from qc_experiments.config.determining import Affects, settings_affecting
from qc_experiments.config.schema import RunConfig
from qc_experiments.evaluation.evaluator import Measured
from qc_experiments.evaluation.journal import Journal
from qc_experiments.generation.served import ServedModel
from qc_experiments.records.folder import RunFolder
from qc_experiments.records.state import SHARED
from qc_experiments.system.files import write_whole
from qc_experiments.system.paths import hash_bytes
from qc_experiments.system.processes import is_main_process, world_size
from qc_experiments.system.unfinished import code_hash, code_mark
from qc_experiments.system.words import duration
from qc_experiments.training.inputs import RunData
from qc_experiments.training.job import TrainingJob
from qc_experiments.training.plan import Plan

log = logging.getLogger(__name__)


def base_journal(folder: RunFolder) -> Journal:
    """What has been found out of the base model in a run's folder, by the code that runs now."""
    return Journal(folder / "base_answers.jsonl", f"base model, by code {code_mark()}")


def measure_base(job: TrainingJob, model: Any) -> Measured:
    """Loss and answers of the base model, from an earlier run where it was the same (`shared_place`)."""
    folder, place = job.folder, job.base_place
    journal = base_journal(folder)
    if not len(journal) and place is not None:
        _copy(place, folder / "base_answers.jsonl")
        journal = base_journal(folder)
    known = len(journal)
    kept = f"; {known} answers are kept from before" if known else ""
    log.info("Measuring the base model%s ...", kept)
    measured = job.evaluator.measure(model, "Base model", journal, job.base_answerer())
    after = "" if known else " (the trained model will take about as long)"
    log.info("Measured in %s%s", duration(measured.seconds), after)
    if place is not None and not os.path.exists(place):
        _copy(folder / "base_answers.jsonl", place)
    return measured


def _copy(source: Path, target: Path) -> None:
    with suppress(OSError):  # nothing is lost but time
        content = source.read_bytes()
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content)


def shared_place(
    config: RunConfig, data: RunData, plan: Plan, served: ServedModel | None
) -> Path | None:
    """The file that runs share whose base model finds the same to the last bit; None: there is none.

    ``served`` is the base model of a server that answers in its place.
    """
    if world_size() > 1 or not is_main_process():
        return None  # the others would have to wait for the copy
    asked = [
        [e.row.number, *e.prompt_ids, -1, *e.completion_ids] for e in [*plan.validation, *plan.also]
    ]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    versions = [torch.__version__, transformers.__version__, gpu, str(torch.get_num_threads())]
    what = {
        "model": plan.source.fingerprint,
        "settings": settings_affecting(Affects.BASE, config),
        "asked": [data.evaluation_hash, asked, *([str(served)] if served else [])],
        "code": code_hash(),
        "machine": [platform.node(), os.cpu_count(), *versions],
    }
    key = hash_bytes(json.dumps(what, sort_keys=True, default=str).encode())[:16]
    return Path(config.paths.output).expanduser() / SHARED / f"{code_mark()}-{key}.jsonl"
