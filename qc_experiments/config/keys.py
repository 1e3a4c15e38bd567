"""Which keys, groups and options there are, and which of them is meant by another name."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path

from qc_experiments.config.schema import keys_of
from qc_experiments.system.words import nearest

GROUP, SECTION = "group", ""
WITHOUT_OPTIONS = ("plan",)
"""Sections whose keys are set one by one."""
GROUPS = (
    *(k for k, _, section in keys_of() if section and "." not in k and k not in WITHOUT_OPTIONS),
    "experiment",
)
OWN = {
    "data": "data=csv data.train={}",
    "model": "model=hub model.name_or_path={}",
}
"""How a file, a folder or a hub id is given that was taken for an option of a group."""
ALIASES = {
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "rank": "r",
    "quantization": "quant",
    "dataset": "data",
    "training": "trainer",
    "peft": "lora",
    "eval": "evaluation",
    "wandb": "tracking",
    "preset": "experiment",
}
FLAGS = {
    **dict.fromkeys(("output", "out", "output_dir", "save_dir"), "paths.output"),
    **dict.fromkeys(("train", "train_file", "csv", "input", "file"), "data=csv data.train"),
    **dict.fromkeys(("validation_file", "eval_file", "dev"), "data.validation"),
    **dict.fromkeys(("database", "db", "db_path"), "data.databases"),
    **dict.fromkeys(("num_epochs", "epoch"), "trainer.num_train_epochs"),
    **dict.fromkeys(("max_seq_length", "max_seq_len", "cutoff_len"), "data.max_length"),
    **dict.fromkeys(("model_name", "base_model", "model_id"), "model.name_or_path"),
    **dict.fromkeys(("steps", "iters"), "trainer.max_steps"),
    "wandb_project": "tracking.project",
    "grad_accum": "trainer.gradient_accumulation_steps",
}
"""What other programs call our keys."""


TAKES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
"""What a key of a type takes."""
FILES = "str or list of str"
"""The type of a key that takes a file or several."""


def kinds_of_keys() -> dict[str, str]:
    """The type of each key by its dotted name, as the schema writes it; `SECTION` where it holds others."""
    return {
        key: SECTION if section else FILES if one.type == "Files" else str(one.type)
        for key, one, section in keys_of()
    }


def option_names(group: str, config_dir: str | None) -> list[str]:
    """Names of the option files of a group, ours and those of the user's ``--config-dir``."""
    roots = [Path(str(files("qc_experiments.conf"))), *([Path(config_dir)] if config_dir else [])]
    return sorted({p.name.removesuffix(".yaml") for r in roots for p in (r / group).glob("*.yaml")})


def keys_in(section: str) -> list[str]:
    """The names of a section's keys."""
    return [key.rpartition(".")[2] for key in kinds_of_keys() if key.rpartition(".")[0] == section]


def unknown_key(key: str) -> str:
    """Say that a dotted key does not exist, what does, and what is nearest."""
    keys = kinds_of_keys()
    section, _, last = key.rpartition(".")
    last = ALIASES.get(last, last)
    leaves = [name for name, kind in keys.items() if kind != SECTION]
    same = sorted((name for name in leaves if name.rpartition(".")[2] == last), key=len)
    if section in GROUPS and section in keys:
        names = keys_in(section)
        meant = [f"{section}.{last}"] if last in names else same
        near = nearest(key, [f"{section}.{name}" for name in names])
        what = f"{section} has {', '.join(names)}"
    else:
        meant, near = same, nearest(key, [*leaves, *GROUPS])
        what = f"the groups are {', '.join(GROUPS)}"
    return f"unknown key {key}{f' (did you mean {meant[0]}?)' if meant else near}; {what}"


def setting_of_flag(name: str, value: str) -> str | None:
    """The setting that is meant by a flag of another program, such as ``--lr``; None if none is known.

    Args:
        name: of the flag.
        value: what was given with it; may be empty.
    """
    word = name.strip("-").replace("-", "_")
    word = word if word in FLAGS else ALIASES.get(word, word)
    if word in OWN and value and value not in option_names(word, None):
        return OWN[word].format(shown(value))
    leaves = [key for key, kind in kinds_of_keys().items() if kind != SECTION]
    same = [FLAGS[word]] if word in FLAGS else []
    same += [key for key in leaves if word in (key.replace(".", "_"), key.rpartition(".")[2])]
    same += [group for group in GROUPS if group == word]
    return f"{same[0]}={shown(value) if value else '...'}" if same else None


def shown(override: str) -> str:
    """An override as it is typed into a shell."""
    return shlex.quote(override)
