"""What determines a run's figures, by key, with contents in place of the paths to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from qc_experiments.comparison.runs import Run
from qc_experiments.config.determining import Affects, affects, is_new_default, meant
from qc_experiments.config.schema import DEFAULT_MICRO_BATCH
from qc_experiments.records.results import Scalar

DATA, TEMPLATE, CODE = "training data", "template", "code"
"""Columns for what stands behind the config's paths, and for the code: commit, else hash of its files."""

SEED = "seed"
Facts = Mapping[Path, Mapping[str, Scalar]]
"""By a run's folder."""
MICRO_BATCH, EFFECTIVE_BATCH = "trainer.per_device_train_batch_size", "trainer.effective_batch_size"


def facts(run: Run) -> dict[str, Scalar]:
    """Everything that determines a run's figures, by key, with contents in place of paths."""
    kept = {
        key: meant(key, value)
        for key, value in run.config.items()
        if affects(key) & ~Affects.CONTENT and not is_new_default(key, value)
    }
    # What belongs to something that is switched off has no effect.
    off: tuple[str, ...] = ("lora.",) if kept.get("lora.enabled") is False else ()
    off += ("quant.",) if kept.get("quant.mode") == "none" else ()
    switches = {"lora.enabled", "quant.mode"}
    kept |= {key: None for key in kept.keys() - switches if key.startswith(off)} | _batch(run)
    kept[DATA] = f"{run.config.get('data.name')} {short(run.data_hash)}"
    template = PurePath(str(run.config.get("data.template"))).stem
    kept[TEMPLATE] = f"{template} {short(run.template_hash)}"
    commit, plus, changes = (run.code_commit or "").partition("+")
    # Code that pip installed has no commit; the hash of its files tells versions apart.
    kept[CODE] = short(commit or run.code_mark) + plus + changes
    return kept


def _batch(run: Run) -> dict[str, Scalar]:
    """Micro-batch and effective batch as they were, where the config lets one follow from the other."""
    given, effective = run.config.get(MICRO_BATCH), run.config.get(EFFECTIVE_BATCH)
    shards = run.config.get("trainer.gradient_accumulation_steps")
    if not isinstance(shards, int) or shards < 1:
        return {}
    shards *= run.processes
    if isinstance(effective, int):
        return {MICRO_BATCH: effective // shards, EFFECTIVE_BATCH: effective}
    rows = given if isinstance(given, int) else DEFAULT_MICRO_BATCH
    return {MICRO_BATCH: rows, EFFECTIVE_BATCH: rows * shards}


def differing(settings: Sequence[Mapping[str, Scalar]]) -> tuple[str, ...]:
    """The keys in which some mappings differ, in the order of their first mention."""
    keys = dict.fromkeys(key for one in settings for key in one)
    return tuple(key for key in keys if len({hashable(one.get(key)) for one in settings}) > 1)


def swept_keys(all_facts: Sequence[Mapping[str, Scalar]]) -> tuple[str, ...]:
    """The keys in which some runs differ: settings in the config's order, then contents, then the seed."""
    swept, last = differing(all_facts), (DATA, TEMPLATE, CODE, SEED)
    return (*(key for key in swept if key not in last), *(key for key in last if key in swept))


def hashable(value: Scalar) -> tuple[str, Scalar]:
    """A value such that equal ones are equal in a config."""
    # True == 1 in Python, but not in a config; 1 and 1.0 are one value.
    return ("bool" if isinstance(value, bool) else "", value)


def short(content: str | None) -> str:
    """The beginning of a hash."""
    return content[:8] if content else "unknown"
