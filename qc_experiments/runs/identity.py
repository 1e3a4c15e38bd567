"""What tells one run from another: the hash of everything that determines its figures.

Which settings that are stands in `config.determining.EFFECTS`; files count by their contents.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qc_experiments.config.determining import hashed
from qc_experiments.config.plugins import COLLATORS, content_hash
from qc_experiments.config.schema import LORA_VARIANTS, DType, QuantMode, RunConfig
from qc_experiments.data.table import hash_rows
from qc_experiments.models.device import format_on_gpu
from qc_experiments.records.folder import Identity
from qc_experiments.system.paths import hash_bytes
from qc_experiments.system.processes import world_size
from qc_experiments.training.inputs import RunData


def identify(config: RunConfig, data: RunData, model_label: str, fingerprint: str) -> Identity:
    """Name and hash of a run."""
    what: dict[str, Any] = hashed(config)
    what["model"]["name_or_path"] = fingerprint
    if config.model.dtype is DType.auto and (on_gpu := format_on_gpu()):
        what["model"]["dtype"] = f"auto: {on_gpu}"  # whatever the CPU beside it has
    if config.model.adapter is not None:
        what["model"]["adapter"] = _adapter_hash(config.model.adapter)
    if world_size() > 1 and config.trainer.effective_batch_size is None:
        what["trainer"]["rows_per_step"] = config.trainer.rows_per_step()
    what["content"] = {
        "train": data.train_hash,
        "template": data.template.content_hash(),
        "evaluation": data.evaluation_hash,
    }
    if data.databases is not None or any(row.evidence for row in data.validation):
        # What is judged does not tell all that is asked: contexts and evidence stand in the prompts.
        what["content"]["held_out"] = hash_rows(data.validation)
    if data.also:
        what["content"]["also"] = hash_rows(data.also)
    own = content_hash(config.collator.name, COLLATORS)
    if own is not None:
        what["content"]["collator"] = own
    if config.evaluation.metrics:
        what["content"]["metrics"] = [content_hash(name, {}) for name in config.evaluation.metrics]
    config_hash = hash_bytes(json.dumps(what, sort_keys=True).encode())
    return Identity(f"{_values(config, model_label)}-{config_hash[:8]}", config_hash)


def _adapter_hash(adapter: str) -> str:
    names = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
    found = [path for name in names if (path := Path(adapter).expanduser() / name).is_file()]
    return hash_bytes(*(path.read_bytes() for path in found))


def _values(config: RunConfig, model_label: str) -> str:
    trainer, lora = config.trainer, config.lora
    target = lora.target_modules
    parts = [model_label.lower(), config.data.name, config.collator.name]
    if lora.enabled:
        kind = "".join(short for key, (_, short) in LORA_VARIANTS.items() if getattr(lora, key))
        parts += [f"{kind}r{lora.r}", f"a{lora.alpha:g}", f"d{lora.dropout:g}"]
        if target != "all-linear":
            parts.append(target if isinstance(target, str) else "+".join(target))
    else:
        parts.append("full")
    if config.quant.mode is not QuantMode.none:
        parts.append(config.quant.mode.value)
    rows = trainer.micro_batch_size()
    if trainer.effective_batch_size is not None and trainer.per_device_train_batch_size is None:
        # As one process has it: on several it is the same run, and so has one folder.
        rows = trainer.effective_batch_size // trainer.gradient_accumulation_steps
    batch = f"b{rows}x{trainer.gradient_accumulation_steps}"
    parts += [f"lr{trainer.learning_rate:g}", batch, f"s{config.seed}"]
    text = "_".join(parts)
    return "".join(c if c.isalnum() or c in "._+-" else "-" for c in text)[:150]
