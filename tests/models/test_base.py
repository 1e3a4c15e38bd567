"""Where base models come from: the embedded package, local folders, GGUF files."""

from __future__ import annotations

import json
import re

import pytest
import torch
from helpers.runs import CACHE

from qc_experiments.config.schema import DType, ModelConfig, QuantConfig
from qc_experiments.errors import UserError
from qc_experiments.models.base import load_base_model, load_tokenizer, model_source, model_window
from qc_experiments.models.lora import attention_modules, read_adapter_config
from qc_experiments.models.packaged import SMOLLM2, gguf_file
from qc_experiments.models.saved import SavedPrompting


def test_the_embedded_model_is_smollm2_and_writes_text(tokenizer):
    source = model_source(ModelConfig(name_or_path="embedded"), CACHE)
    assert model_window(source) == 8192
    model = load_base_model(source, ModelConfig(dtype=DType.float32), QuantConfig())
    assert model.num_parameters() == 134_515_008
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        written = model.generate(ids, max_new_tokens=1, do_sample=False)
    assert tokenizer.decode(written[0, -1]).strip() == "Paris"


def test_a_gguf_file_is_a_model(tiny_model, tmp_path):
    path = gguf_file(SMOLLM2, CACHE)
    source = model_source(ModelConfig(name_or_path=str(path)), tmp_path, unpack=False)
    assert source.gguf_file == SMOLLM2.file_name
    assert source.label == "SmolLM2-135M-Instruct.Q4_1"
    with pytest.raises(UserError, match="no such GGUF file"):
        model_source(ModelConfig(name_or_path=str(tmp_path / "not.gguf")), tmp_path)
    with pytest.raises(UserError, match=r"model\.gguf_file=x\.gguf"):
        model_source(ModelConfig(name_or_path=str(tiny_model), gguf_file="x.gguf"), tmp_path)


@pytest.mark.slow
def test_a_gguf_file_trains(train):
    path = gguf_file(SMOLLM2, CACHE)
    run = train(
        "model=gguf",
        f"model.name_or_path={path}",
        "trainer.max_steps=1",
        "data.limit=4",
        "evaluation.limit=2",
    )
    assert run.result["eval_loss"] <= run.result["base_eval_loss"]


def test_a_pad_token_must_be_one_of_the_tokenizers(tiny_model, tmp_path):
    source = model_source(ModelConfig(name_or_path=str(tiny_model)), tmp_path)
    assert load_tokenizer(source, "<|endoftext|>").pad_token == "<|endoftext|>"
    assert load_tokenizer(source, None).pad_token == "<|im_end|>"
    with pytest.raises(UserError, match=r"model\.pad_token"):
        load_tokenizer(source, "<nope>")


def test_a_local_model_is_known_by_its_content(tiny_model, tmp_path):
    config = ModelConfig(name_or_path=str(tiny_model))
    before = model_source(config, tmp_path).fingerprint
    file = tiny_model / "generation_config.json"
    text = file.read_text()
    try:
        file.write_text(json.dumps(json.loads(text) | {"temperature": 0.5}))
        assert model_source(config, tmp_path).fingerprint != before
    finally:
        file.write_text(text)
    assert model_source(config, tmp_path).fingerprint == before


def test_attention_layers_are_named_whole_where_their_last_names_are_ambiguous(tiny_model):
    from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

    llama = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert attention_modules(llama) == ["k_proj", "o_proj", "q_proj", "v_proj"]
    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=16))
    names = attention_modules(gpt2)
    assert names == ["transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj"]


def test_a_run_in_the_place_of_its_part_is_told_which_is_meant(tmp_path):
    for part in ("adapter", "model"):
        (tmp_path / part).mkdir()
    adapter, model = f"did you mean {tmp_path}/adapter", f"{tmp_path}/model?"
    with pytest.raises(UserError, match=re.escape(adapter) + r"\?$"):
        read_adapter_config(tmp_path, "model.adapter=run")
    with pytest.raises(UserError, match=re.escape(f"{adapter} or {model}")):
        SavedPrompting.load(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"did you mean {model}")):
        model_source(ModelConfig(name_or_path=str(tmp_path)), CACHE)


@pytest.mark.parametrize("name", ["~/mdl", "~/mdl.gguf"])
def test_a_model_that_is_not_there_is_told_with_the_place_that_was_looked_at(name, monkeypatch):
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(UserError, match=re.escape(f"(looked at /nowhere{name[1:]})")):
        model_source(ModelConfig(name_or_path=name), CACHE)
