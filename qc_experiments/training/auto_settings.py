"""Choose what a user has left open, from the rows, the model and the device (experiment=auto)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any

from qc_experiments.config.schema import QuantMode, RunConfig, plain
from qc_experiments.evaluation.processes import of_main_process
from qc_experiments.models.device import GPU
from qc_experiments.system.files import write_whole
from qc_experiments.system.processes import world_size
from qc_experiments.system.words import counted
from qc_experiments.training.memory_plan import GB, SURE
from qc_experiments.training.plan import Plan

USUAL = {"data.max_length": (2048,), "trainer.per_device_train_batch_size": (16,)}
"""What the usual options of groups set: data=csv and trainer=text_to_sql."""
GROUPS_OF_SETTINGS = ("trainer", "quant")
"""Groups whose options are such settings: whoever types one has set their keys (``quant=none``)."""
LENGTH_STEP = 64
RATES = ((3e8, 1e-3), (1e9, 5e-4), (4e9, 2e-4), (float("inf"), 1e-4))
"""Learning rate of LoRA by the number of weights; the first two measured (docs/log.md), the others usual."""
SCHEDULES = ((200, 8, 5.0), (2000, 16, 3.0), (20_000, 32, 2.0), (float("inf"), 64, 1.0))
"""Rows of a step and epochs by the number of rows."""
LARGE_GROUP = 16
SMALLER_PASSES = (2048, 1024, 512)


@dataclass(frozen=True)
class Choice:
    """A key, the value that was chosen for it, and why."""

    key: str
    value: Any
    why: str

    def override(self) -> str:
        """As it is typed."""
        return f"{self.key}={plain(self.value)}"


def choose_settings(config: RunConfig, plan: Plan) -> tuple[RunConfig, list[Choice]]:
    """The config with what was left at its default chosen, and the choices.

    Args:
        config: as the user gave it.
        plan: of that config with ``data.max_length`` as long as the model's window.
    """
    choices: list[Choice] = []
    chosen = config
    for choice in (*_by_rows(config, plan), *_by_model(config, plan)):
        if _is_open(config, choice.key):
            chosen = with_key(chosen, choice.key, choice.value)
            choices.append(choice)
    choices += _by_memory(chosen, plan)
    # Devices differ in what is free on them, but all processes have to train alike.
    choices = of_main_process(choices)
    for choice in choices:
        config = with_key(config, choice.key, choice.value)
    return config, choices


def with_key(config: Any, key: str, value: Any) -> Any:
    """A config in which a dotted key has another value."""
    name, _, rest = key.partition(".")
    inner = with_key(getattr(config, name), rest, value) if rest else value
    return replace(config, **{name: inner})


def write_preset(path: Path, choices: Sequence[Choice]) -> None:
    """Write choices as an experiment of one's own: ``--config-dir CONF experiment=NAME``."""
    lines = ["# @package _global_", "# Chosen by experiment=auto; each line says why."]
    for section in dict.fromkeys(choice.key.partition(".")[0] for choice in choices):
        lines.append(f"{section}:")
        for choice in choices:
            if choice.key.startswith(f"{section}."):
                name = choice.key.partition(".")[2]
                lines.append(f"  {name}: {plain(choice.value)}  # {choice.why}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "\n".join(lines) + "\n")


def _is_open(config: RunConfig, key: str) -> bool:
    """Whether nobody has set a key: not where the run was started, nor to another value in a file."""
    section, given = key.partition(".")[0], config.plan.given
    if key in given or (section in given and section in GROUPS_OF_SETTINGS):
        return False
    value = attrgetter(key)(config)
    return value in (*USUAL.get(key, ()), attrgetter(key)(RunConfig()))


def _by_rows(config: RunConfig, plan: Plan) -> Iterator[Choice]:
    rows = len(plan.train)
    longest = max(map(len, plan.train))
    length = -(-longest // LENGTH_STEP) * LENGTH_STEP
    if plan.window is not None:
        length = min(length, plan.window)
    yield Choice("data.max_length", length, f"the longest row has {longest} tokens")
    step, epochs = next((step, epochs) for most, step, epochs in SCHEDULES if rows < most)
    said = counted(rows, "row")
    shards = config.trainer.gradient_accumulation_steps * world_size()
    micro = max(1, step // shards)
    if config.trainer.effective_batch_size is None:
        why = f"{micro * shards} rows of a step, for {said}"
        yield Choice("trainer.per_device_train_batch_size", micro, why)
    yield Choice("trainer.num_train_epochs", epochs, f"for {said}")
    schemas = Counter(example.row.db_id or example.row.schema for example in plan.train)
    questions = median(schemas.values())
    if (
        questions >= LARGE_GROUP
        and config.collator.name == "shared_schema"
        and micro >= 2 * LARGE_GROUP
    ):
        why = f"{questions:g} questions per schema: it is computed once for so many"
        yield Choice("collator.max_group", LARGE_GROUP, why)


def _by_model(config: RunConfig, plan: Plan) -> Iterator[Choice]:
    if plan.shape is None or not config.lora.enabled:
        return
    weights = plan.shape.parameters
    rate = next(rate for most, rate in RATES if weights < most)
    yield Choice("trainer.learning_rate", rate, f"LoRA on {weights / 1e6:,.0f} million weights")


def _by_memory(config: RunConfig, plan: Plan) -> Iterator[Choice]:
    """What makes the run fit into the device, as little as is needed."""
    if plan.shape is None:
        return
    has = f"{plan.device.memory / GB:.0f} GB of {plan.device.name}"
    steps: list[tuple[str, Any]] = [("collator.max_tokens", tokens) for tokens in SMALLER_PASSES]
    if plan.device.kind == GPU:  # whose passes are as large as fits anyway
        steps = [("quant.mode", QuantMode.int4)] if config.lora.enabled else []
    steps.append(("trainer.gradient_checkpointing", True))
    found: dict[str, Choice] = {}
    for key, value in [one for one in steps if _is_open(config, one[0])]:
        needed = plan.memory(config)
        if needed is None or needed.at_most <= SURE * plan.device.memory:
            break
        config = with_key(config, key, value)
        found[key] = Choice(key, value, f"else {needed.at_most / GB:.0f} GB are needed, of {has}")
    yield from found.values()
