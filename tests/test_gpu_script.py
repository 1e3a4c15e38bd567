"""What `make gpu` runs works, as far as a machine without a GPU can tell."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.runs import child


def checked(tmp_path, *options: str) -> dict[str, dict[str, object]]:
    output = tmp_path / "gpu.json"
    done = child("scripts/check_gpu.py", "--device", "cpu", "--output", str(output), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout
    return json.loads(output.read_text())


@pytest.mark.slow
def test_packed_rows_are_compared_with_padded_ones_in_each_number_format(tmp_path):
    found = checked(tmp_path, "--only", "packed against padded")["packed against padded"]
    assert {"float32, blocks", "bfloat16, mask", "4 bits, blocks", "8 bits, mask"} <= set(found)


@pytest.mark.slow
def test_all_checks_run_on_a_tiny_model(tmp_path):
    found = checked(tmp_path)
    assert found["runs"]["killed and resumed, deterministic"] == "the same"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to check")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path):
    done = child("scripts/check_gpu.py", "--output", str(tmp_path / "gpu.json"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: torch sees no GPU here")
    assert not (tmp_path / "gpu.json").exists()
