"""Read a saved LoRA adapter: its settings, its files, and its weights onto a base model, none left over."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from os.path import lexists
from pathlib import Path
from typing import Any

from qc_experiments.errors import UserError
from qc_experiments.models.files import (
    TOKENIZER_FILES,
    TRAINING,
    Spelling,
    load_errors,
    read_json,
    weight_files,
)
from qc_experiments.models.weight_report import refuse_misfits
from qc_experiments.system.paths import folder_problem

CONFIG_FILE = "adapter_config.json"
RUNS_CODE = ("megatron_config", "runtime_config")
"""Settings with which PEFT imports modules that the file names, or that mean nothing in a file."""


def read_adapter_config(folder: Path, named: str) -> dict[str, Any]:
    """A saved LoRA adapter's settings, checked.

    Raises:
        UserError: if there are none, or they are not those of a LoRA adapter.
    """
    file = folder / CONFIG_FILE
    if not lexists(file):
        raise UserError(f"{named}: holds no {CONFIG_FILE}; name a run's adapter/")
    saved = read_json(file)
    if saved.get("peft_type") != "LORA":
        raise UserError(f"{named}: is a {saved.get('peft_type')} adapter, not LoRA")
    rank, alpha = saved.setdefault("r", 8), saved.setdefault("lora_alpha", 8)  # as PEFT has them
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise UserError(f"{file}: r={json.dumps(rank)} must be a whole number of at least 1")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise UserError(f"{file}: lora_alpha={json.dumps(alpha)} must be a number")
    for key in RUNS_CODE:
        if saved.get(key) is not None:
            raise UserError(f"{file}: {key} must be null: it would load code that the file names")
    return saved


def check_adapter_files(
    folder: Path, named: str, allow_pickle: bool, spelling: Spelling = TRAINING
) -> None:
    """Check that a saved adapter's files are there and whole.

    Args:
        folder: the saved adapter.
        named: the adapter as the user named it, for messages.
        allow_pickle: whether its weights may be a pickle.
        spelling: of the settings, for messages.

    Raises:
        UserError: if they are not.
    """
    problem = folder_problem(folder)
    if problem is not None:
        raise UserError(f"{named}: {problem}; name a run's adapter/")
    _check_known(read_adapter_config(folder, named), folder)
    weight_files(folder, "adapter_model", "adapter_model", allow_pickle, spelling)


def _check_known(saved: dict[str, Any], folder: Path) -> None:
    """Refuse settings that PEFT would leave out with no more than a warning."""
    import peft

    known = {field.name for field in fields(peft.LoraConfig)}
    foreign = sorted(key for key, value in saved.items() if key not in known and value)
    if foreign:
        raise UserError(
            f"{folder / CONFIG_FILE}: PEFT {peft.__version__} does not know {', '.join(foreign)}: take the "
            f"PEFT that saved the adapter ({saved.get('peft_version') or 'a newer one'})"
        )


def load_adapter(
    model: Any, folder: Path, named: str, *, trainable: bool, dropout: float = 0.0
) -> Any:
    """Put a saved adapter on a base model.

    Args:
        model: the base model.
        folder: the saved adapter, whose files `check_adapter_files` has checked.
        named: the adapter as the user named it, for messages.
        trainable: whether it is trained further.
        dropout: with which it is; what it was trained with before is no part of its weights.

    Raises:
        UserError: if the adapter is for another model, or lacks weights, or has weights left over.
    """
    import peft

    with load_errors(f"{named}: the adapter", folder):
        settings = peft.LoraConfig.from_pretrained(str(folder))
        settings.inference_mode, settings.lora_dropout = not trainable, dropout
        wrapped = peft.PeftModelForCausalLM(model, settings)
        # PeftModel.from_pretrained does the same, but keeps to itself what did not fit.
        report = wrapped.load_adapter(str(folder), "default", is_trainable=trainable)
    refuse_misfits(
        f"{named}: its weights are not those that it needs on this model",
        {_as_saved(name) for name in report.missing_keys},
        {_as_saved(name) for name in report.unexpected_keys},
        (),
        "it was made for another base model, or with other settings than its adapter_config.json has",
    )
    return wrapped


def _as_saved(name: str) -> str:
    """What a weight is called in the base model, with its part of the adapter."""
    return name.replace(".default", "").replace("base_model.model.", "", 1)


def saved_tokenizer(folder: Path, trust_remote_code: bool, spelling: Spelling) -> Any:
    """The tokenizer that was saved beside an adapter.

    Args:
        folder: of the adapter.
        trust_remote_code: whether its own code may run.
        spelling: of the settings, for messages.

    Raises:
        UserError: if it cannot be loaded.
    """
    from transformers import AutoTokenizer

    if not any(lexists(folder / name) for name in TOKENIZER_FILES):
        raise UserError(
            f"{folder}: has no tokenizer ({TOKENIZER_FILES[0]} or the like): copy it again"
        )
    with load_errors(f"{folder}: the tokenizer", folder, spelling):
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
