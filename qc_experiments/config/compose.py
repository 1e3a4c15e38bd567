"""The door between Hydra and the rest: compose, hand on frozen dataclasses, put refusals into one line.

Overrides are checked before (`qc_experiments.config.overrides`), since Hydra's own messages run over
several lines and advise ``+key``, which then accepts a typo. What Hydra or OmegaConf still refuses is in
a user's own YAML, say.
"""

from __future__ import annotations

import logging
import operator
import os
import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qc_experiments.config.keys import TAKES, kinds_of_keys, unknown_key
from qc_experiments.config.schema import (
    LORA_INITIALISATIONS,
    QuantMode,
    RunConfig,
    Strategy,
    keys_of,
)
from qc_experiments.errors import UserError
from qc_experiments.system.console import of_the_system

log = logging.getLogger(__name__)

LISTS = {"list[str]": "[one,two]", "list[float]": "[2,0.5]"}
"""An example for each type of list."""


def register_schema() -> None:
    """Make the schema and our resolvers known to Hydra; may be called again."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=open_schema(RunConfig))
    OmegaConf.register_new_resolver("mul", operator.mul, replace=True)
    OmegaConf.register_new_resolver("expanduser", os.path.expanduser, replace=True)


def open_schema(schema: type[Any]) -> Any:
    """A config with a section's defaults and types, into which values can be merged.

    OmegaConf marks frozen dataclasses read-only.
    """
    node = OmegaConf.structured(schema)
    sections = [OmegaConf.select(node, key) for key, _, section in keys_of(schema) if section]
    for one in (node, *sections):
        OmegaConf.set_readonly(one, None)
    return node


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


def to_run_config(given: DictConfig, overrides: Sequence[str] | None = None) -> RunConfig:
    """Turn Hydra's composed config into checked, frozen dataclasses.

    Args:
        given: the config.
        overrides: that were typed; None: those of Hydra's job, if it runs one.

    Raises:
        UserError: for a value out of range, a contradiction, or a key left at ``???``.
    """
    missing = sorted(OmegaConf.missing_keys(given))
    if missing:
        raise UserError(f"{missing[0]} is not set: give {missing[0]}=... on the command line")
    settled: Any = given
    init = OmegaConf.select(given, "lora.init")
    continued = OmegaConf.select(given, "model.adapter") is not None
    if continued and init != "default" and init in LORA_INITIALISATIONS:
        log.warning(
            "lora.init=%s has no effect: model.adapter is continued with the weights that it has",
            init,
        )
        settled = OmegaConf.merge(given, {"lora": {"init": "default"}})  # no record may claim it
    if OmegaConf.select(given, "plan.auto"):
        settled = OmegaConf.merge(settled, {"plan": {"given": _keys_given(overrides)}})
    config = OmegaConf.to_object(settled)
    if not isinstance(config, RunConfig):  # composed without the schema: a bug of ours
        raise TypeError(f"the composed config is a {type(config).__name__}, not a RunConfig")
    _warn_of_no_effect(config, _keys_given(overrides))
    return config


def _warn_of_no_effect(config: RunConfig, given: Sequence[str]) -> None:
    """Warn of keys that were typed and change nothing but the run's hash."""
    needed = (
        ("trainer.eval_steps", "trainer.eval_strategy", Strategy.steps),
        ("trainer.save_steps", "trainer.save_strategy", Strategy.steps),
        ("data.validation_fraction", "data.validation", None),
        ("data.split_by", "data.validation", None),
        ("quant.quant_type", "quant.mode", QuantMode.int4),
        ("quant.double_quant", "quant.mode", QuantMode.int4),
    )
    for key, other, value in needed:
        if key in given and operator.attrgetter(other)(config) != value:
            wanted = "null" if value is None else value.name
            log.warning("%s has no effect: it goes with %s=%s", key, other, wanted)


def _keys_given(overrides: Sequence[str] | None) -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    if overrides is None:
        overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
    return [one.lstrip("+").partition("=")[0] for one in overrides]


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
    full = re.search(r"full_key: (\S+)", text)
    if full and re.search(r"Key '[^']+' (is )?not in", text):
        return unknown_key(full[1])
    if full and isinstance(chain[-1], OmegaConfBaseException):
        return _of_another_type(full[1], str(chain[-1]).splitlines()[0])
    return text


def _of_another_type(key: str, said: str) -> str:
    """What OmegaConf says of a value whose type is another than its key's, in our words."""
    found = re.search(r"[Vv]alue '(.*?)'(?: of type|,| is not)", said)
    value = found[1] if found else None
    if "not Optional" in said or "value 'None'" in said:
        value = "null"
    wanted = _wanted(key)
    choices = re.search(r"expected one of \[(.*)\]", said)
    if wanted is None and choices:
        wanted = f"one of {choices[1]}"
    of_a_type = value is not None or re.search("ListConfig|Cannot convert|valid input", said)
    if wanted is None or not of_a_type:  # ${nothing}, say
        return f"{key}: {said}"
    return f"{key}: must be {wanted}" if value is None else f"{key}={value}: must be {wanted}"


def _wanted(key: str) -> str | None:
    """What a key takes, in words; None where its type does not say."""
    key = key.partition("[")[0]  # of a list it may be one of its items that is of another type
    kind = kinds_of_keys().get(key, "").removesuffix(" | None")
    if kind in LISTS:
        return f"a list, as in {key}={LISTS[kind]}"
    field = next((one for name, one, _ in keys_of() if name == key), None)
    if field is not None and isinstance(field.default, Enum):
        return f"one of {', '.join(one.name for one in type(field.default))}"
    if field is not None and kind == "str" and "range" in field.metadata:
        return str(field.metadata["range"].text)
    return TAKES.get(kind)
