"""GGUF files: tied as the weights are, converted once per content, whole or not at all."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import quants
from helpers.gguf_files import EMBEDDING, TOKENS, WIDTH, write_gguf

from qc_experiments.config.schema import DType, ModelConfig, QuantConfig
from qc_experiments.errors import UserError
from qc_experiments.models import gguf
from qc_experiments.models.base import load_base_model, load_tokenizer, model_source
from qc_experiments.models.fingerprint import base_model_fingerprint


def load(path: Path, cache: Path, **settings: Any) -> Any:
    config = ModelConfig(name_or_path=str(path), **settings)
    source = model_source(config, cache)
    assert load_tokenizer(source, None).eos_token_id == TOKENS - 1
    return load_base_model(source, config, QuantConfig())


def as_stored(kind: Kind) -> torch.Tensor:
    return torch.from_numpy(quants.dequantize(quants.quantize(EMBEDDING, kind), kind).copy())


@pytest.mark.parametrize(
    ("embedding", "head", "kept"),
    [
        (Kind.Q5_0, None, Kind.Q5_0),
        (Kind.Q5_0, Kind.Q8_0, Kind.Q8_0),
        (Kind.Q8_0, Kind.Q5_0, Kind.Q8_0),
        (Kind.Q4_1, Kind.Q5_1, Kind.Q5_1),
        (Kind.F16, Kind.Q4_0, Kind.F16),
        (Kind.BF16, Kind.F32, Kind.F32),
        (Kind.F32, Kind.F32, Kind.F32),
    ],
)
def test_an_embedding_and_a_head_of_one_weight_are_tied_to_the_finer_copy(
    tmp_path, embedding, head, kept
):
    model = load(write_gguf(tmp_path / "a.gguf", embedding, head), tmp_path)
    weight = model.get_output_embeddings().weight
    assert weight is model.get_input_embeddings().weight
    assert model.config.tie_word_embeddings
    assert model.num_parameters() == (TOKENS + 7 * WIDTH + 3) * WIDTH
    assert torch.equal(weight.data, as_stored(kept))


@pytest.mark.parametrize(
    ("kind", "noise"),
    [(Kind.F32, 1e-3), (Kind.F16, 0.01), (Kind.Q8_0, 0.1), (Kind.Q5_0, 0.5), (Kind.Q4_0, 1.0)],
)
def test_weights_that_were_trained_apart_stay_apart(tmp_path, kind, noise):
    model = load(write_gguf(tmp_path / "a.gguf", kind, kind, noise), tmp_path)
    assert not model.config.tie_word_embeddings
    assert torch.equal(model.get_input_embeddings().weight.data, as_stored(kind))
    assert not torch.equal(model.get_output_embeddings().weight.data, as_stored(kind))


def test_in_bfloat16_copies_are_one_as_well(tmp_path):
    path = write_gguf(tmp_path / "a.gguf", Kind.F16, Kind.F32)
    model = load(path, tmp_path, dtype=DType.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_file_is_converted_once_by_its_content(tmp_path, monkeypatch):
    made = []
    convert = gguf.convert
    monkeypatch.setattr(gguf, "convert", lambda *given: (made.append(given[0]), convert(*given)))
    path = write_gguf(tmp_path / "a.gguf", Kind.Q8_0)
    load(path, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    renamed = Path(shutil.move(path, tmp_path / "elsewhere" / "b.gguf"))
    load(renamed, tmp_path)
    assert len(made) == 1
    load(renamed, tmp_path, dtype=DType.bfloat16)
    load(write_gguf(renamed, Kind.F16), tmp_path)
    assert len(made) == 3
    assert len(list((tmp_path / "models").iterdir())) == 3


def test_several_at_once_convert_once_and_leave_nothing_behind(tmp_path, monkeypatch):
    made = []
    convert = gguf.convert
    monkeypatch.setattr(gguf, "convert", lambda *given: (made.append(given[0]), convert(*given)))
    path = write_gguf(tmp_path / "a.gguf", Kind.Q8_0)
    config = ModelConfig(name_or_path=str(path))
    (tmp_path / "models" / ".unpacking-killed").mkdir(parents=True)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(model_source(config, tmp_path)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len({source.name_or_path for source in found}) == 1
    assert [str(p) for p in (tmp_path / "models").iterdir()] == [found[0].name_or_path]


def test_without_room_it_is_told_in_one_line_and_nothing_is_left(tmp_path, monkeypatch):
    import errno

    from transformers import PreTrainedModel

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write_gguf(tmp_path / "a.gguf", Kind.Q8_0)
    with monkeypatch.context() as patched:
        patched.setattr(PreTrainedModel, "save_pretrained", full)
        with pytest.raises(UserError, match=r"No space left on device.*paths\.cache"):
            load(path, tmp_path)
    assert list((tmp_path / "models").iterdir()) == []
    load(path, tmp_path)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda b: b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (lambda b: b"", "the file is empty"),
        (lambda b: b"hello", "the file is not GGUF"),
        (lambda b: b[: len(b) // 2], "half downloaded"),
        (lambda b: b[:4] + bytes(range(256)) * 9, "half downloaded"),
    ],
    ids=["a pointer", "empty", "text", "half", "garbage"],
)
def test_a_broken_file_is_told_in_one_line(tmp_path, harm, said):
    path = write_gguf(tmp_path / "a.gguf", Kind.Q8_0)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(UserError, match=rf"^model\.name_or_path={path}: .*{said}"):
        load(path, tmp_path)
    models = tmp_path / "models"
    assert not models.exists() or list(models.iterdir()) == []


def test_a_file_that_lacks_a_weight_is_refused_by_its_name(tmp_path):
    path = write_gguf(tmp_path / "a.gguf", Kind.Q8_0, lost="blk.0.attn_q.weight")
    with pytest.raises(
        UserError, match=r"1 missing \(model\.layers\.0\.self_attn\.q_proj\.weight\)"
    ):
        load(path, tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


def test_an_adapter_beside_the_file_is_not_loaded_with_it(tmp_path):
    path = write_gguf(tmp_path / "a.gguf", Kind.Q8_0)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert not getattr(load(path, tmp_path), "_hf_peft_config_loaded", False)


def test_a_file_is_the_same_base_model_wherever_it_lies(tmp_path):
    def fingerprint(path: Path) -> Any:
        return base_model_fingerprint(model_source(ModelConfig(name_or_path=str(path)), tmp_path))

    one, other = (
        write_gguf(tmp_path / f"{kind.name}.gguf", kind) for kind in (Kind.Q8_0, Kind.Q5_0)
    )
    before = fingerprint(one)
    (tmp_path / "elsewhere").mkdir()
    assert fingerprint(Path(shutil.copy(one, tmp_path / "elsewhere" / "x.gguf"))) == before
    assert before.difference(fingerprint(other)) == "its weights are others"
