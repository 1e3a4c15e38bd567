"""The options by which commands are told which saved model they ask, and how."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qc_experiments.errors import UserError
from qc_experiments.system.memory import out_of_memory
from qc_experiments.system.paths import user_path

if TYPE_CHECKING:
    from qc_experiments.generation.choosing import Predicted
    from qc_experiments.generation.saved import SavedPredictor

FOR_LOADING = ("base_model", "trust_remote_code", "allow_pickle")
UNDECODED = re.compile("[\ud800-\udfff]")
"""In their place Python puts bytes of the command line that are no text."""


def add_model_options(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add them to a parser."""
    add = parser.add_argument
    what = "a run's folder, its adapter/ or model/, or latest: the run that finished last"
    shown = "" if default is None else f" ({default})"
    add("--adapter", default=default, metavar="RUN", help=what + shown)
    add("--outputs", default="outputs", metavar="DIR", help="where latest is looked for (outputs)")
    add(
        "--decoding",
        choices=("guided", "greedy"),
        help="guided: under the schema, the first of four beams that runs; greedy: the likeliest (guided)",
    )
    add(
        "--not-below",
        type=float,
        metavar="CONFIDENCE",
        help="from 0 to 1: say 'not sure' where an answer's confidence is below",
    )
    add("--cache", metavar="DIR", help="cache folder, as paths.cache in training")
    add(
        "--base-model",
        metavar="PATH_OR_ID",
        help="where the base model is now, if it is not where it was in training",
    )
    add(
        "--trust-remote-code",
        action="store_true",
        help="let code run that comes with the base model or the tokenizer; read it first",
    )
    add(
        "--allow-pickle",
        action="store_true",
        help="read weights from pickles (.bin) where there are no safetensors",
    )


def model_folder(options: argparse.Namespace) -> Path:
    """The folder of the saved model that is asked; checks the options that need no model."""
    from qc_experiments.generation.choosing import check_confidence
    from qc_experiments.models.named import named_model

    check_confidence(options.not_below, "--not-below")
    return named_model(options.adapter, "--adapter", options.outputs)


def say_model(folder: Path) -> None:
    """Say what is being loaded, which may take a while; not where answers go."""
    print(f"Loading {folder} ...", file=sys.stderr, flush=True)


def load_model(
    folder: Path, options: argparse.Namespace, batch_size: int | None = None
) -> SavedPredictor:
    """The model of that folder."""
    say_model(folder)
    from qc_experiments.generation.saved import SavedPredictor

    given = {name: getattr(options, name) for name in FOR_LOADING}
    guided = options.decoding != "greedy"
    given["engine"] = options.engine
    return SavedPredictor(folder, cache_folder(options), batch_size, guided=guided, **given)


def cache_folder(options: argparse.Namespace) -> Path:
    """Where things are kept that are made once per user."""
    from qc_experiments.config.schema import PathsConfig

    return user_path(options.cache or PathsConfig().cache, "--cache")


def checked_text(text: str, named: str) -> str:
    """What was typed, without blanks around it.

    Args:
        text: of the command line, or of the standard input with ``surrogateescape``.
        named: what the user calls it, for messages.

    Raises:
        UserError: if it holds bytes that are no text.
    """
    if UNDECODED.search(text):
        raise UserError(f"{named} is not UTF-8: convert it, with iconv say")
    return text.strip()


def unsure_line(answer: Predicted, least: float) -> str:
    """What is printed in place of an answer that is held back; as SQL it is a comment."""
    return f"-- not sure: confidence {confidence_text(answer)} is below {least:g}"


def confidence_text(answer: Predicted) -> str:
    """The confidence in an answer, for people."""
    return "not known" if answer.confidence is None else f"{answer.confidence:.2g}"


@contextmanager
def memory_told(advice: str) -> Iterator[None]:
    """Say what to do where memory does not suffice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"out of memory: {advice}") from error
