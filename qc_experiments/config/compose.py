"""The door between Hydra and the rest: compose, check every key, hand on frozen dataclasses.

Hydra's own messages run over several lines and advise ``+key``, which then accepts a typo. So each
override is checked here against the schema and the option files first, with the nearest match, and
whatever Hydra or OmegaConf still refuses (say, in a user's own YAML) is put into one line.
"""

from __future__ import annotations

import copy
import logging
import operator
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qc_experiments.config.overrides import SECTION, Overrides, kinds_of_keys, shown
from qc_experiments.config.schema import LORA_INITIALISATIONS, RunConfig
from qc_experiments.errors import UserError
from qc_experiments.system.console import of_the_system
from qc_experiments.system.words import nearest

log = logging.getLogger(__name__)

GROUPS = (
    "model",
    "data",
    "collator",
    "lora",
    "quant",
    "trainer",
    "evaluation",
    "tracking",
    "paths",
    "experiment",
    "sweep",
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


def register_schema() -> None:
    """Make the schema and our resolvers known to Hydra; may be called again."""
    from hydra.core.config_store import ConfigStore

    node = OmegaConf.structured(RunConfig)
    _unlock(node)
    ConfigStore.instance().store(name="schema", node=node)
    OmegaConf.register_new_resolver("mul", operator.mul, replace=True)
    OmegaConf.register_new_resolver("expanduser", os.path.expanduser, replace=True)


def _unlock(node: Any) -> None:
    # OmegaConf marks frozen dataclasses read-only, but Hydra still has to merge YAML into them.
    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            _unlock(child)


def option_names(group: str, config_dir: str | None) -> list[str]:
    """Names of the option files of a group, ours and those of the user's ``--config-dir``."""
    from importlib.resources import files

    roots = [Path(str(files("qc_experiments.conf")))]
    if config_dir is not None:
        roots.append(Path(config_dir))
    return sorted({p.name.removesuffix(".yaml") for r in roots for p in (r / group).glob("*.yaml")})


def check_overrides(
    overrides: Sequence[str], config_dir: str | None = None, *, multirun: bool = False
) -> tuple[str, ...]:
    """Refuse command-line overrides that name an unknown key, group or option.

    Args:
        overrides: as given to Hydra, such as ``lora=r16``, ``+lora.r=4``, ``~lora.r``.
        config_dir: a user's own folder of option files, or None.
        multirun: whether every combination of values is run (``-m``).

    Returns:
        The same in Hydra's grammar, quoted where that is needed.

    Raises:
        UserError: naming the override, what is allowed and the nearest match.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    keys = kinds_of_keys()
    reader = Overrides(GROUPS, lambda group: option_names(group, config_dir), multirun=multirun)
    read = reader.read(overrides)
    for text, written in zip(overrides, read, strict=True):
        try:
            override = parser.parse_override(written)
        except HydraException as error:
            reason = str(error).splitlines()[0].partition(" expecting ")[0]
            raise UserError(f"{text}: cannot be read as key=value ({reason})") from None
        key = (override.key_or_group or "").lstrip("/")
        if key.split(".")[0] == "hydra" or key.startswith("hydra/"):
            continue
        if ALIASES.get(key) in GROUPS:
            raise UserError(f"{text}: the group is called {ALIASES[key]}, as in {ALIASES[key]}=...")
        if key in GROUPS:
            if override.is_delete():
                raise UserError(f"{text}: a group cannot be taken away; choose one of its options")
            if override.is_add():
                raise UserError(f"{text}: write {text.lstrip('+')}, without the +")
            if key == "sweep" and not multirun:
                raise UserError(f"{text}: a sweep needs -m, as in train.py -m {text}")
            swept = override.is_sweep_override()
            names = list(override.sweep_iterator()) if swept else [override.value()]
            _check_options(key, names, config_dir)
            continue
        if key not in keys:
            raise UserError(f"{text}: {unknown_key(key)}")
        if keys[key] == SECTION:
            raise UserError(f"{text}: {key} is a section; set one of its keys: {_children(key)}")
    return tuple(read)


def _check_options(group: str, names: Sequence[object], config_dir: str | None) -> None:
    options = option_names(group, config_dir)
    for value in names:
        name = "null" if value is None else str(value)
        if name.removesuffix(".yaml") not in options:
            own = OWN.get(group, "{}") if re.search(r"[./~\\]", name) else "{}"
            hint = nearest(name, options) if own == "{}" else f": write {own.format(shown(name))}"
            raise UserError(
                f"{group}={name}: no such option{hint}; "
                f"{group} can be {', '.join(options) or 'nothing yet'}"
            )


def _children(key: str) -> str:
    prefix = f"{key}."
    names = [k[len(prefix) :] for k in kinds_of_keys() if k.startswith(prefix)]
    return ", ".join(n for n in names if "." not in n)


def unknown_key(key: str) -> str:
    """Say that a dotted key does not exist, what does, and what is nearest."""
    keys = kinds_of_keys()
    parent = key.rpartition(".")[0]
    siblings = [k for k in keys if k.rpartition(".")[0] == parent]
    if parent in GROUPS and parent in keys:
        alias = f"{parent}.{ALIASES.get(key.rpartition('.')[2])}"
        hint = f" (did you mean {alias}?)" if alias in keys else nearest(key, siblings)
        return f"unknown key {key}{hint}; {parent} has {_children(parent)}"
    leaves = [k for k, kind in keys.items() if kind != SECTION]
    last = key.rpartition(".")[2]
    last = ALIASES.get(last, last)
    same = [k for k in leaves if k.rpartition(".")[2] == last]
    hint = f" (did you mean {same[0]}?)" if same else nearest(key, [*leaves, *GROUPS])
    return f"unknown key {key}{hint}; the groups are {', '.join(GROUPS)}"


FLAGS = {
    **dict.fromkeys(("output", "out", "output_dir", "save_dir"), "paths.output"),
    **dict.fromkeys(("train", "train_file", "csv", "input", "file"), "data=csv data.train"),
    **dict.fromkeys(("validation_file", "eval_file", "dev"), "data.validation"),
    **dict.fromkeys(("database", "db", "db_path"), "data.databases"),
    **dict.fromkeys(("num_epochs", "epoch"), "trainer.num_train_epochs"),
    **dict.fromkeys(("max_seq_length", "max_seq_len", "cutoff_len"), "data.max_length"),
    **dict.fromkeys(("model_name", "base_model", "model_id"), "model.name_or_path"),
    **dict.fromkeys(("steps", "iters"), "trainer.max_steps"),
    **dict.fromkeys(("wandb_project",), "tracking.project"),
    **dict.fromkeys(("grad_accum",), "trainer.gradient_accumulation_steps"),
}
"""What other programs call our keys."""


def setting_of_flag(name: str, value: str) -> str | None:
    """The setting that somebody meant who gave a flag of another program; None where none is known.

    Args:
        name: such as ``--learning-rate``.
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


def composed(
    overrides: Sequence[str], config_dir: str | None, with_hydra: bool = False
) -> DictConfig:
    """The config as Hydra composes it, without running anything.

    Args:
        overrides: ``key=value`` and its like.
        config_dir: the user's folder of option files, or None.
        with_hydra: whether Hydra's own settings stand in it.
    """
    import hydra

    every = list(overrides)
    if config_dir is not None:
        every.append(f"hydra.searchpath=[file://{Path(config_dir).absolute()}]")
    with hydra.initialize_config_module("qc_experiments.conf", version_base="1.3"):
        return hydra.compose("config", every, return_hydra_config=with_hydra)


def to_run_config(composed: DictConfig) -> RunConfig:
    """Turn Hydra's composed config into checked, frozen dataclasses.

    Args:
        composed: what Hydra hands to the task function.

    Raises:
        UserError: for a value out of range, a contradiction, or a key left at ``???``.
    """
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing:
        raise UserError(f"{missing[0]} is not set: give {missing[0]}=... on the command line")
    config = OmegaConf.to_object(_without_idle_init(composed))
    if not isinstance(config, RunConfig):  # composed without the schema: a bug of ours
        raise TypeError(f"the composed config is a {type(config).__name__}, not a RunConfig")
    return config


def _without_idle_init(composed: DictConfig) -> DictConfig:
    """Take out an initialisation that a loaded adapter leaves nothing to do, so that no record claims it."""
    init = OmegaConf.select(composed, "lora.init")
    if OmegaConf.select(composed, "model.adapter") is None or init == "default":
        return composed
    if init not in LORA_INITIALISATIONS:
        return composed  # about to be refused
    log.warning(
        "lora.init=%s has no effect: model.adapter is continued with the weights that it has", init
    )
    settled = copy.deepcopy(composed)
    OmegaConf.update(settled, "lora.init", "default")
    return settled


def explain(error: Exception) -> str | None:
    """Put what Hydra or OmegaConf refused into one line; None for any other exception."""
    from hydra.errors import HydraException, MissingConfigException
    from yaml import YAMLError

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return of_the_system(error)
    if isinstance(error, YAMLError):
        return f"an option file is not YAML: {' '.join(str(error).split())}"
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    text = " ".join(" ".join(str(e) for e in chain).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        return f"no option file {error.missing_cfg_file}: {text}"
    unknown = re.search(r"Key '([^']+)' (?:not in|is not in)", text)
    full = re.search(r"full_key: (\S+)", text)
    if unknown and full:
        return unknown_key(full.group(1))
    if full and isinstance(chain[-1], OmegaConfBaseException):
        reason = str(chain[-1]).splitlines()[0]
        return f"{full.group(1)}: {reason}"
    return text
