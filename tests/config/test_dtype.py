"""model.dtype=auto: the fastest number format that is exact enough, and part of what a run is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qc_experiments.config import model as model_section
from qc_experiments.config.compose import composed, register_schema, to_run_config
from qc_experiments.config.determining import hashed
from qc_experiments.config.schema import DType
from qc_experiments.models.device import to_train
from qc_experiments.system.processes import cpu_multiplies_bfloat16


@pytest.mark.parametrize(
    ("settings", "means"),
    [
        ([], "bfloat16"),
        (["model.dtype=float32"], "float32"),
        (["lora=none"], "float32"),  # trained weights
        (["lora.init=pissa"], "float32"),  # changed weights
        (["quant=4bit"], "float32"),
    ],
)
def test_auto_is_bfloat16_for_frozen_weights_where_the_cpu_has_units_for_it(
    settings, means, monkeypatch
):
    register_schema()

    def told(has_units: bool) -> tuple[DType, str]:
        monkeypatch.setattr(model_section, "cpu_multiplies_bfloat16", lambda: has_units)
        config = to_run_config(composed(settings, None))
        return to_train(config).dtype, json.dumps(hashed(config), sort_keys=True)

    (there, hashed_there), (here, hashed_here) = told(True), told(False)
    assert there.value == means
    assert here is DType.float32
    assert (hashed_there != hashed_here) == (means == "bfloat16")  # never compared as the same


def test_a_cpu_is_known_by_its_flags_and_by_what_torchs_library_may_use(monkeypatch):
    known = cpu_multiplies_bfloat16.__wrapped__
    flags = set(Path("/proc/cpuinfo").read_text().split())
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "ALL")
    assert known() == bool(flags & {"avx512_bf16", "amx_bf16"})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert not known()
