"""Whether the weights that were loaded are those that a model or adapter is made of, by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from qc_experiments.errors import UserError

TOGETHER = "get config.json and weights from the same place, or save the model again"
NAMED = 3
"""Weights that a message names of each kind."""


def check_loaded(report: Mapping[str, Any], named: str, advice: str = TOGETHER) -> None:
    """Refuse weights that are missing, left over or of another shape.

    Raises:
        UserError: with their names.
    """
    missing, unexpected = set(report["missing_keys"]), set(report["unexpected_keys"])
    mismatched = {
        f"{name} (stored {tuple(stored)}, the config asks for {tuple(asked)})"
        for name, stored, asked in report["mismatched_keys"]
    }
    refuse_misfits(
        f"{named}: its weights are not those that its config asks for",
        missing,
        unexpected,
        mismatched,
        _prefixed(missing, unexpected) or advice,
    )


def check_names(files: Sequence[Path], config: Any, named: str) -> None:
    """Compare the names of stored weights with those that a config asks for, without loading any.

    Raises:
        UserError: with the names of those that are missing or left over.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    stored: set[str] = set()
    for file in files:
        with safe_open(file, "np") as opened:
            stored.update(opened.keys())
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    asked = {name for name, _ in model.named_parameters()}  # tied ones once
    # Where quantization has weights of its own.
    layers = tuple(name.rpartition(".")[0] + "." for name in asked)
    extra = {name for name in stored if not name.startswith(layers)}
    report = {"missing_keys": asked - stored, "unexpected_keys": extra, "mismatched_keys": ()}
    check_loaded(report, named)


def refuse_misfits(
    what: str,
    missing: Collection[str],
    unexpected: Collection[str],
    mismatched: Collection[str],
    advice: str,
) -> None:
    """Refuse weights that are missing, left over or of another shape.

    Raises:
        UserError: with some of their names, if there are any.
    """
    parts = [
        f"{len(names)} {kind} ({_some(names)})"
        for names, kind in (
            (missing, "missing"),
            (unexpected, "unexpected"),
            (mismatched, "of another shape"),
        )
        if names
    ]
    if parts:
        raise UserError(f"{what}: {', '.join(parts)}; {advice}")


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:NAMED]
    return ", ".join([*shown, "..."] if len(names) > NAMED else shown)


def _prefixed(missing: set[str], unexpected: set[str]) -> str | None:
    # Saved from within a wrapper, every name begins with the wrapper's own.
    for name in unexpected:
        for wanted in missing:
            if name.endswith(f".{wanted}"):
                prefix = name.removesuffix(wanted)
                return f"they were saved under {prefix}*: save them without that prefix"
    return None
