"""What each key affects, said once: for a run's hash, the comparison of runs, the base model's cache."""

from __future__ import annotations

from enum import Flag, auto
from operator import attrgetter
from typing import Any

from qc_experiments.config.model import auto_is_bfloat16
from qc_experiments.config.schema import RunConfig, keys_of, plain


class Affects(Flag):
    """What a key can change; what changes anything at all is in the run's hash."""

    NOTHING = 0
    TRAINING = auto()
    """The weights that come out."""
    BASE = auto()
    """What is measured of the base model: runs that agree in it share that measurement."""
    JUDGING = auto()
    """What answers count for: runs that differ in it are not ranked together."""
    LOSS = auto()
    """What a loss per token is counted on: losses of runs that differ in it do not compare."""
    CONTENT = auto()
    """It is a name of contents, whose own hashes count in its place."""


NOTHING, TRAINING, BASE = Affects.NOTHING, Affects.TRAINING, Affects.BASE
JUDGING, LOSS, CONTENT = Affects.JUDGING, Affects.LOSS, Affects.CONTENT

EFFECTS = {
    "model": TRAINING | BASE,
    "model.name_or_path": TRAINING | BASE | LOSS,  # hashed by the model's fingerprint
    "model.revision": TRAINING | BASE | LOSS,
    "model.adapter": TRAINING,  # hashed by its files
    "model.allow_pickle": NOTHING,
    "data": TRAINING,
    "data.name": CONTENT,
    "data.train": CONTENT,
    "data.weights": CONTENT,  # the rows know it
    "data.also_evaluate": CONTENT,
    "data.validation": CONTENT,
    "data.template": CONTENT,
    "data.databases": CONTENT,
    "data.engine": NOTHING,  # the databases' contents know it; without any, what is judged on
    "data.loss_on": TRAINING | LOSS,
    "data.wrap": TRAINING | LOSS,
    "collator": TRAINING,
    "collator.attention": NOTHING,  # no more than rounding
    "lora": TRAINING,
    # The layers that an adapter wraps are computed in another order of operations.
    "lora.enabled": TRAINING | BASE,
    "lora.target_modules": TRAINING | BASE,
    "lora.use_dora": TRAINING | BASE,
    "lora.init": TRAINING | BASE,
    "quant": TRAINING | BASE,
    "trainer": TRAINING,
    "trainer.gradient_checkpointing": TRAINING | BASE,
    "trainer.save_total_limit": NOTHING,
    "trainer.logging_steps": NOTHING,
    "trainer.dataloader_num_workers": NOTHING,
    "evaluation": BASE | JUDGING,
    "evaluation.timeout": BASE,  # a limit of time; the judge's hash knows it
    "evaluation.limit": BASE,  # which rows: their hash knows them
    "evaluation.seed": BASE,
    "evaluation.batch_size": BASE,  # changes no more than rounding
    "evaluation.base": BASE,  # whether something else is measured too
    "evaluation.metrics": BASE,  # what else is counted
    "evaluation.endpoint_key_env": NOTHING,
    "evaluation.show": NOTHING,
    "evaluation.rows": NOTHING,
    "evaluation.during_training": TRAINING | BASE,  # a part of choosing the checkpoint
    "tracking": NOTHING,
    "paths": NOTHING,
    "sweep": NOTHING,
    "plan": NOTHING,
    "seed": TRAINING,
    "objective": NOTHING,
}
"""By key or section; a key that is not named here affects what its section does."""

ADDED_LATER = frozenset(
    (
        *("evaluation.metrics", "evaluation.constrain", "trainer.full_determinism"),
        *("evaluation.endpoint", "evaluation.endpoint_model"),
        *("data.schema_format", "data.schema", "data.linking", "data.columns.evidence"),
    )
)
"""Keys and sections that came after runs were hashed: left out at their defaults, so that hashes stay."""

AS_BY_DEFAULT = frozenset(("evaluation.batch_size",))
"""Keys that change no more than rounding, and once were hashed: now as at their defaults, so hashes stay."""


def is_new_default(key: str, value: object) -> bool:
    """Whether a key came after runs were hashed, and says what they did before it came."""
    if ADDED_LATER.isdisjoint((key, key.rpartition(".")[0])):
        return False
    known = {one for one, _, section in keys_of() if not section}
    return key in known and bool(value == plain(attrgetter(key)(RunConfig())))


def meant(key: str, value: Any) -> Any:
    """What counts of a value: of a server only that there is one, since it may listen elsewhere tomorrow."""
    return "a server" if key == "evaluation.endpoint" and value is not None else value


def affects(key: str) -> Affects:
    """What a dotted key can change; one that the schema does not have counts as training."""
    while key and key not in EFFECTS:
        key = key.rpartition(".")[0]
    return EFFECTS.get(key, TRAINING)


def keys_affecting(what: Affects) -> tuple[str, ...]:
    """The keys that affect at least one of some things."""
    return tuple(key for key, _, section in keys_of() if not section and affects(key) & what)


def settings_affecting(what: Affects, config: RunConfig) -> dict[str, Any]:
    """The same with their values; of a number format that is chosen by the machine, what it means here."""
    found = {key: meant(key, plain(attrgetter(key)(config))) for key in keys_affecting(what)}
    if found.get("model.dtype") == "auto" and auto_is_bfloat16(config.lora, config.quant):
        found["model.dtype"] = "auto: bfloat16"
    return found


def hashed(config: RunConfig) -> dict[str, Any]:
    """The tree of settings that a run's hash is made of; contents are hashed beside it."""
    tree: dict[str, Any] = {}
    for key, value in settings_affecting(~CONTENT, config).items():
        if is_new_default(key, value):
            continue
        if key in AS_BY_DEFAULT:
            value = plain(attrgetter(key)(RunConfig()))
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return tree
