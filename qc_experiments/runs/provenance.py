"""What a run was made with: versions, commit, hardware, data, as ``environment.json`` holds them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from qc_experiments.records.folder import Identity
from qc_experiments.system.processes import world_size
from qc_experiments.system.unfinished import code_mark
from qc_experiments.training.inputs import RunData

PACKAGES = (
    *("qc_experiments", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets"),
    *("wandb", "hydra-core", "omegaconf", "sqlglot"),
)


def environment(identity: Identity, data: RunData, model: Mapping[str, str]) -> dict[str, Any]:
    """Versions, commit, hardware, base model and data hashes, as ``environment.json`` holds them."""
    return {
        "name": identity.name,
        "config_hash": identity.config_hash,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "code_commit": code_commit(),
        "code_mark": code_mark(),
        "hardware": _hardware(),
        "model": dict(model),
        "data": {
            "train": data.train_source,
            "train_hash": data.train_hash,
            "validation": data.validation_source,
            "evaluation_hash": data.evaluation_hash,
            "template": data.template.source,
            "template_hash": data.template.content_hash(),
            "decisions": list(data.decisions),
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def code_commit() -> str | None:
    """Commit of the code that runs, with ``+changes`` where files differ; None outside git."""
    try:
        _git("ls-files", "--error-unmatch", "__init__.py")  # else the repository is another one's
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", ".", "../conf")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changed else commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def _hardware() -> dict[str, Any]:
    import torch

    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }
