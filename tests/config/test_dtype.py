"""model.dtype=auto: the fastest number format that is exact enough, and part of what a run is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.slow import then_slow

from qc_experiments.config import model as model_section
from qc_experiments.config.compose import composed, register_schema, to_run_config
from qc_experiments.config.determining import hashed
from qc_experiments.config.schema import DType
from qc_experiments.models import device
from qc_experiments.models.device import precision_of, to_train, torch_dtype
from qc_experiments.models.saved import load_saved
from qc_experiments.records.find import MODELS
from qc_experiments.system.processes import cpu_multiplies_bfloat16


@pytest.fixture
def bfloat16_units(monkeypatch):
    """A CPU with units for bfloat16."""
    for module in (model_section, device):
        monkeypatch.setattr(module, "cpu_multiplies_bfloat16", lambda: True)


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


@pytest.mark.parametrize(
    "settings",
    then_slow(
        ["lora=none"],
        ["lora=none", "model.dtype=bfloat16"],
        ["quant=4bit"],
        ["lora.init=pissa"],
    ),
    ids=" ".join,
)
def test_what_a_run_has_saved_is_asked_in_the_formats_in_which_it_was_measured(
    settings, train, tmp_path, bfloat16_units
):
    run, config = train(*settings), to_run_config(composed(settings, None))
    folder = next(run.folder / name for name in MODELS if (run.folder / name).exists())
    _, model, saved = load_saved(folder, tmp_path / "cache")
    of_base = [one for name, one in model.named_parameters() if "lora_" not in name]
    stored = {one.dtype for one in of_base if one.is_floating_point()}
    assert stored == {torch_dtype(to_train(config).dtype)}
    wanted = precision_of(config.model, trained_weights=not config.lora.enabled)
    assert saved.precision() == wanted


def test_a_gpu_is_asked_through_torch_where_the_system_shows_one(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "DEVICES", tmp_path)
    monkeypatch.setattr(device, "training_device", lambda: SimpleNamespace(type=device.GPU))
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: False)
    for name in ("nvidiactl", "nvme0"):
        (tmp_path / name).touch()
    assert device.format_on_gpu() is None
    (tmp_path / "nvidia0").touch()
    assert device.format_on_gpu() == "float16"
    monkeypatch.setattr(device, "training_device", lambda: SimpleNamespace(type="cpu"))
    assert device.format_on_gpu() is None


def test_a_cpu_is_known_by_its_flags_and_by_what_torchs_library_may_use(monkeypatch):
    known = cpu_multiplies_bfloat16.__wrapped__
    flags = set(Path("/proc/cpuinfo").read_text().split())
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "ALL")
    assert known() == bool(flags & {"avx512_bf16", "amx_bf16"})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert not known()
