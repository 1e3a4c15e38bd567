"""A run is another one where anything differs that its figures come from."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import torch
from helpers.runs import CACHE, saved_adapter
from safetensors.torch import load_file, save_file

from qc_experiments.config import determining
from qc_experiments.config.schema import (
    DataConfig,
    ModelConfig,
    PathsConfig,
    RunConfig,
    TrainerConfig,
)
from qc_experiments.data.table import Row, hash_rows
from qc_experiments.models import fingerprint as file_hashes
from qc_experiments.models.base import model_source
from qc_experiments.models.source import hub_commit
from qc_experiments.records.folder import Identity
from qc_experiments.runs import identity as of_run
from qc_experiments.runs import provenance
from qc_experiments.runs.train import run_folder
from qc_experiments.system.files import csv_text
from qc_experiments.system.paths import resolve_path
from qc_experiments.training.inputs import load_data


def identity(model: Path, adapter: Path | None = None) -> str:
    config = RunConfig(
        model=ModelConfig(name_or_path=str(model), adapter=str(adapter) if adapter else None),
        data=DataConfig(train="pkg://qc_experiments.demo/train.csv", limit=4),
        paths=PathsConfig(cache=str(CACHE)),
    )
    return run_folder(config, load_data(config)).identity.config_hash


def test_on_a_gpu_it_counts_what_auto_means_there_and_not_on_the_cpu_beside_it(
    tiny_model, monkeypatch
):
    found = {}
    for on_gpu in (None, "bfloat16", "float16"):
        for on_cpu in (True, False):
            monkeypatch.setattr(of_run, "format_on_gpu", lambda on_gpu=on_gpu: on_gpu)
            monkeypatch.setattr(determining, "auto_is_bfloat16", lambda *_, on_cpu=on_cpu: on_cpu)
            found[on_gpu, on_cpu] = identity(tiny_model)
    assert found["bfloat16", True] == found["bfloat16", False] != found["float16", True]
    assert found["float16", True] == found["float16", False]
    assert found[None, True] == found["bfloat16", True]
    assert found[None, True] != found[None, False]


@pytest.fixture
def model(tiny_model, tmp_path):
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def fingerprint(folder: Path, cache: Path, **settings: str) -> str:
    config = ModelConfig(name_or_path=str(folder), **settings)
    return model_source(config, cache, unpack=False).fingerprint  # these GGUF files are none


def pickled(folder: Path) -> Path:
    file = folder / "adapter_model.safetensors"
    torch.save(load_file(file), folder / "adapter_model.bin")
    file.unlink()
    return folder


def test_adapters_that_differ_are_other_runs_however_they_are_stored(tiny_model, tmp_path):
    one, two = (
        saved_adapter(tiny_model, tmp_path / str(seed), init_lora_weights=False) for seed in (1, 2)
    )
    assert identity(tiny_model, one) != identity(tiny_model, two)
    assert identity(tiny_model, pickled(one)) != identity(tiny_model, pickled(two))
    before = identity(tiny_model, one)
    copy = shutil.copytree(one, tmp_path / "elsewhere")
    assert identity(tiny_model, copy) == before
    (copy / "README.md").write_text("another card")
    assert identity(tiny_model, copy) == before
    file = copy / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_alpha": 64}))
    assert identity(tiny_model, copy) != before


def asked(tiny_model: Path, folder: Path, **cells: str) -> str:
    """Hash of a run whose held-out rows have these cells."""
    return identity_of(tiny_model, folder, **cells).config_hash


def identity_of(
    tiny_model: Path, folder: Path, trainer: TrainerConfig | None = None, **cells: str
) -> Identity:
    with resolve_path("pkg://qc_experiments.demo/validation.csv", "").open(newline="") as file:
        rows = [row | cells for row in csv.DictReader(file)][:4]
    (folder / "held_out.csv").write_text(
        csv_text(list(rows[0]), [list(row.values()) for row in rows])
    )
    config = RunConfig(
        model=ModelConfig(name_or_path=str(tiny_model)),
        data=DataConfig(
            train="pkg://qc_experiments.demo/train.csv",
            validation=str(folder / "held_out.csv"),
            databases="pkg://qc_experiments.demo/databases",
            limit=4,
        ),
        trainer=trainer or TrainerConfig(),
        paths=PathsConfig(cache=str(CACHE)),
    )
    return run_folder(config, load_data(config)).identity


def test_without_databases_the_engine_says_whose_sql_it_is_and_so_makes_another_run():
    def of(engine: str | None, databases: str | None = None) -> dict[str, str]:
        data = DataConfig(
            train="pkg://qc_experiments.demo/train.csv", engine=engine, databases=databases
        )
        return load_data(RunConfig(data=data)).judged_on

    here = "pkg://qc_experiments.demo/databases"
    assert of("sqlite") == of(None)
    assert of("sqlite", here) == of(None, here)
    found = [of(engine) for engine in (None, "postgresql", "duckdb")]
    assert len({one["databases"] for one in found}) == 3


def test_other_contexts_of_held_out_rows_make_another_run(tiny_model, tmp_path):
    """The golds and databases are the same, but the prompts are not."""
    before = asked(tiny_model, tmp_path)
    assert asked(tiny_model, tmp_path) == before
    assert asked(tiny_model, tmp_path, context="CREATE TABLE book (title TEXT)") != before


def test_a_hint_that_stood_at_another_row_makes_other_rows():
    def hashed(*hints: str) -> str:
        return hash_rows([Row(n, "q", "s", "c", evidence=hint) for n, hint in enumerate(hints)])

    assert hashed("x", "") != hashed("", "x")
    assert hashed("x", "") == hashed("x", "")


def test_as_many_rows_a_step_make_the_same_run_on_however_many_processes(
    tiny_model, tmp_path, monkeypatch
):
    each = TrainerConfig(per_device_train_batch_size=4)
    in_all = TrainerConfig(effective_batch_size=16)
    alone = [identity_of(tiny_model, tmp_path, trainer) for trainer in (each, in_all)]
    monkeypatch.setenv("WORLD_SIZE", "4")
    together = [identity_of(tiny_model, tmp_path, trainer) for trainer in (each, in_all)]
    assert together[0].config_hash != alone[0].config_hash
    assert together[1] == alone[1]
    assert "_b16x1_" in alone[1].name


def test_the_commit_is_not_that_of_a_users_repository_that_the_package_lies_in(
    tmp_path, monkeypatch
):
    package = tmp_path / "mine" / ".venv" / "qc_experiments" / "runs"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    mine = str(tmp_path / "mine")
    (tmp_path / "mine" / ".gitignore").write_text(".venv\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "mine"]):
        who = ["-c", "user.name=me", "-c", "user.email=me@example.com"]
        subprocess.run(["git", "-C", mine, *who, *command], check=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    assert provenance.code_commit() is None


def in_the_middle(path: Path) -> None:
    """Change one number of a large file; its size, its ends and its time stay."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_model_is_known_by_the_whole_content_of_its_weights(model, tmp_path, monkeypatch):
    monkeypatch.setattr(file_hashes, "SETTLED_NS", 0)  # remember files that were just written, too
    cache = tmp_path / "cache"
    weights = model / "model.safetensors"
    assert weights.stat().st_size > 4 * file_hashes.SMALL_FILE
    before = fingerprint(model, cache)
    assert fingerprint(model, cache) == before
    time.sleep(0.02)  # longer than a tick of the file system's clock
    in_the_middle(weights)
    assert fingerprint(model, cache) != before
    time.sleep(0.02)
    in_the_middle(weights)
    assert fingerprint(model, cache) == before


def test_large_files_are_read_once(model, tmp_path, monkeypatch):
    monkeypatch.setattr(file_hashes, "SETTLED_NS", 0)
    cache = tmp_path / "cache"
    before = fingerprint(model, cache)
    remembered = list((cache / "file_hashes").iterdir())
    assert len(remembered) == 2  # the weights, and tokenizer.json
    for file in remembered:
        file.write_text("remembered")
    assert fingerprint(model, cache) != before
    shutil.rmtree(cache)
    cache.write_text("a cache that cannot be written")
    assert fingerprint(model, cache) == before


def test_a_file_that_may_still_be_written_is_not_remembered(model, tmp_path):
    weights = model / "model.safetensors"
    os.utime(weights)
    fingerprint(model, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_whatever_a_model_loads_is_in_its_fingerprint(model, tmp_path):
    seen = [fingerprint(model, tmp_path)]
    index = {"weight_map": {"model.norm.weight": "shards/1.safetensors"}}
    files = {
        "chat_template.jinja": "{{ messages }}",
        "modeling_own.py": "x = 1",
        "own/layers.py": "x = 2",
        "additional_chat_templates/tool.jinja": "{{ tools }}",
        "model.safetensors.index.json": json.dumps(index),
        "shards/1.safetensors": "weights",
        "pytorch_model.bin": "pickle",
    }
    for name, content in files.items():
        for text in (content, content + " "):  # a new file, and another one in its place
            (model / name).parent.mkdir(exist_ok=True)
            (model / name).write_text(text)
            seen.append(fingerprint(model, tmp_path))
    assert len(set(seen)) == len(seen)


def test_what_a_model_does_not_load_makes_no_other_run(model, tmp_path):
    before = fingerprint(model, tmp_path)
    for name in (".git/HEAD", ".cache/download.json", "runs/events.out", "other.gguf"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("x")
    assert fingerprint(model, tmp_path) == before
    copy = shutil.copytree(model, tmp_path / "elsewhere")
    assert fingerprint(copy, tmp_path) == before
    of_gguf = fingerprint(model, tmp_path, gguf_file="other.gguf")
    (model / "other.gguf").write_text("y")
    assert of_gguf != fingerprint(model, tmp_path, gguf_file="other.gguf") != before


def test_a_gguf_file_is_known_by_the_whole_of_it(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(3 * file_hashes.SMALL_FILE))
    before = fingerprint(file, tmp_path)
    in_the_middle(file)
    assert fingerprint(file, tmp_path) != before


def test_a_model_of_the_hub_is_known_by_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--owner--name" / "refs"
    refs.mkdir(parents=True)
    seen = []
    for commit in ("a" * 40, "b" * 40):
        (refs / "main").write_text(commit)
        hub_commit.cache_clear()
        source = model_source(ModelConfig(name_or_path="owner/name"), tmp_path)
        assert source.revision == commit  # so that what is loaded is what is known
        seen.append(source.fingerprint)
    assert seen[0] != seen[1]
    hub_commit.cache_clear()
    pinned = ModelConfig(name_or_path="owner/name", revision="c" * 40)
    assert model_source(pinned, tmp_path).revision == "c" * 40
    (refs / "main").unlink()
    hub_commit.cache_clear()
    assert model_source(ModelConfig(name_or_path="owner/name"), tmp_path).revision is None


def test_weights_that_are_saved_again_are_another_run(model, tmp_path):
    before = identity(model)
    file = model / "model.safetensors"
    save_file({k: w * 1.5 for k, w in load_file(file).items()}, file, {"format": "pt"})
    assert identity(model) != before
