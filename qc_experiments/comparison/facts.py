"""What determines a run's figures, by key, with contents in place of the paths to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import PurePath

from qc_experiments.comparison.runs import Run
from qc_experiments.config.schema import DEFAULT_MICRO_BATCH, RunConfig, determining, plain
from qc_experiments.records.results import Scalar, flatten

DATA, TEMPLATE, CODE = "training data", "template", "code"
"""Columns that stand for the content behind the config's paths, and for the commit."""

SEED = "seed"
MICRO_BATCH, EFFECTIVE_BATCH = "trainer.per_device_train_batch_size", "trainer.effective_batch_size"

OWN_COLUMN = frozenset(("data.name", "data.train", "data.validation", "data.template"))
"""Keys that are names of contents; `DATA`, `TEMPLATE` and the evaluation's hash stand for them."""


def facts(run: Run) -> dict[str, Scalar]:
    """Everything that determines a run's figures, by key, with contents in place of paths."""
    kept = {
        key: value
        for key, value in run.config.items()
        if key not in OWN_COLUMN
        and key not in _not_determining()
        and not key.startswith(("paths.", "tracking."))
        and key != "data.databases"  # the evaluation's hash holds their contents
    }
    kept |= dict.fromkeys(_without_effect(kept), None)
    kept |= _batch(run)
    kept[DATA] = f"{run.config.get('data.name')} {short(run.data_hash)}"
    template = PurePath(str(run.config.get("data.template"))).stem
    kept[TEMPLATE] = f"{template} {short(run.template_hash)}"
    commit, plus, changes = (run.code_commit or "").partition("+")
    kept[CODE] = short(commit) + plus + changes
    return kept


def _without_effect(config: Mapping[str, Scalar]) -> list[str]:
    """Keys whose values play no part, as what they belong to is switched off."""
    off = []
    if config.get("lora.enabled") is False:
        off.append("lora.")
    if config.get("quant.mode") == "none":
        off.append("quant.")
    kept = ("lora.enabled", "quant.mode")
    return [key for key in config if key.startswith(tuple(off)) and key not in kept] if off else []


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


@lru_cache(maxsize=1)
def _not_determining() -> frozenset[str]:
    config = RunConfig()
    return frozenset(flatten(plain(config)).keys() - flatten(determining(config)).keys())


def differing(settings: Sequence[Mapping[str, Scalar]]) -> tuple[str, ...]:
    """The keys in which some mappings differ, in the order of their first mention."""
    keys = dict.fromkeys(key for one in settings for key in one)
    return tuple(key for key in keys if len({hashable(one.get(key)) for one in settings}) > 1)


def swept_keys(all_facts: Sequence[Mapping[str, Scalar]]) -> tuple[str, ...]:
    """The keys in which some runs differ: settings in the config's order, then contents, then the seed."""
    swept = differing(all_facts)
    last = [key for key in (DATA, TEMPLATE, CODE, SEED) if key in swept]
    return (*(key for key in swept if key not in last), *last)


def hashable(value: Scalar) -> tuple[str, Scalar]:
    """A value such that equal ones are equal in a config."""
    # True == 1 in Python, but not in a config; 1 and 1.0 are one value.
    return ("bool" if isinstance(value, bool) else "", value)


def short(content: str | None) -> str:
    """The beginning of a hash."""
    return content[:8] if content else "unknown"
