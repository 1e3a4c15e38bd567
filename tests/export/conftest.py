"""What tests of exports share: llama.cpp's server, where there is one."""

from __future__ import annotations

import os
import shutil

import pytest

from qc_experiments.export.llama_server import LLAMA_SERVER, PROGRAM


@pytest.fixture
def real_server(monkeypatch):
    """The program, taken even where ``llama-cpp-python`` is installed."""
    program = shutil.which(os.environ.get(LLAMA_SERVER) or PROGRAM)
    if program is None:
        pytest.skip(f"{PROGRAM} is neither on PATH nor named by {LLAMA_SERVER}")
    monkeypatch.setenv(LLAMA_SERVER, program)
