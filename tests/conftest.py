"""What the tests share: the real tokenizer, a tiny random Llama, and a way to run the command."""

from __future__ import annotations

import os

# Before anything imports a library that would ask a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.pop("WORLD_SIZE", None)
# Figures are those of float32 on every machine.
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # threads of several processes would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.postgresql import server  # noqa: F401
from helpers.runs import TINY_TRAINING, Run, run_folders
from tiny_model import embedded_tokenizer, save_tiny_model

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


MANY_MODULES = 50


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The embedded model's own tokenizer."""
    return embedded_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a Llama of two tiny layers, random weights, and the real tokenizer."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama", tokenizer)


@pytest.fixture(autouse=True)
def users_modules_forgotten():
    """Modules that a test brings as a user's own are not there for the next test of this process."""
    yield
    for name in [one for one in sys.modules if one.startswith("my_")]:
        del sys.modules[name]
    loaded = sys.modules.get("qc_experiments.databases.engine")
    if loaded is not None:
        loaded.engine.cache_clear()


def pytest_collection_finish() -> None:
    """Spare each run to look through all libraries when it gives memory back: half of a short run's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def libraries_frozen():
    """The same for what a test has loaded."""
    modules = len(sys.modules)
    yield
    if len(sys.modules) - modules > MANY_MODULES:
        gc.collect()
        gc.freeze()


@pytest.fixture
def train(tiny_model: Path, tmp_path: Path):
    """Train the tiny model in this process: ``train("lora.r=8") -> Run``."""
    from qc_experiments.cli.train import main

    def start(*overrides: str, output: Path | None = None) -> Run:
        output = output or tmp_path / "outputs"
        before = set(run_folders(output))
        main(
            [
                "model=hub",
                f"model.name_or_path={tiny_model}",
                "tracking=none",
                f"paths.output={output}",
                *TINY_TRAINING,
                *overrides,
            ]
        )
        new = set(run_folders(output)) - before or before
        assert len(new) == 1, new
        return Run(new.pop())

    return start


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """Run something that must end with exit code 2 and one line; returns the line."""

    def start(action: Any, *arguments: Any) -> str:
        with pytest.raises(SystemExit) as stopped:
            action(*arguments)
        assert stopped.value.code == 2
        said = capsys.readouterr().err.splitlines()
        lines = [line for line in said if "warning:" not in line and line[:8] != "Loading "]
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        return lines[0]

    return start
