"""What of an adapter is known to be wrong before any weight is loaded."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import CACHE, adapter_weights, saved_adapter

from qc_experiments.config.schema import DataConfig, LoraConfig, ModelConfig, PathsConfig, RunConfig
from qc_experiments.errors import UserError
from qc_experiments.models.base import model_source
from qc_experiments.training.inputs import load_data
from qc_experiments.training.plan import Plan, make_plan

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]


def planned(model: Path, adapter: Path | None = None, **lora: Any) -> Plan:
    """The plan of a small run, or its refusal."""
    config = RunConfig(
        model=ModelConfig(name_or_path=str(model), adapter=str(adapter) if adapter else None),
        data=DataConfig(train="pkg://qc_experiments.demo/train.csv", limit=4),
        lora=LoraConfig(**{"r": 4, "alpha": 8, **lora}),
        paths=PathsConfig(cache=str(CACHE)),
    )
    return make_plan(config, load_data(config), model_source(config.model, CACHE))


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory):
    return saved_adapter(tiny_model, tmp_path_factory.mktemp("adapters") / "all")


@pytest.fixture(scope="module")
def untied_model(tiny_model, tmp_path_factory):
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("models") / "untied"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, tie_word_embeddings=False)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("targets", "missing", "near"),
    [
        (["q_proj", "FAKE_proj"], "FAKE_proj", "v_proj"),
        (["qproj"], "qproj", "q_proj"),
        (["layers.0.self_attn.q_proj", "layers.7.self_attn.q_proj"], "layers.7", "layers.1"),
        (["o_proj", ".*_proj"], ".*_proj", "_proj"),
        (["q_proj", "mlp"], "mlp", "gate_proj"),  # no layer but a part with layers
        (["q_proj", "input_layernorm"], "input_layernorm", "lm_head"),
    ],
)
def test_each_target_module_must_be_a_layer_of_the_model(tiny_model, targets, missing, near):
    with pytest.raises(UserError, match=r"lora\.target_modules") as refused:
        planned(tiny_model, target_modules=targets)
    assert missing in str(refused.value)
    assert near in str(refused.value)


def test_target_modules_that_are_there_are_taken(tiny_model):
    assert planned(tiny_model, target_modules=["q_proj", "layers.1.mlp.up_proj"]).decisions == ()
    (line,) = planned(tiny_model, target_modules=["q_proj", "lm_head"]).decisions
    assert "lm_head" in line
    assert "do not merge" in line


@pytest.mark.parametrize("options", [(), ("quant=8bit", "collator=shared_schema")])
def test_output_layer_and_embedding_can_be_adapted(train, tiny_model, recwarn, options):
    targets = "lora.target_modules=[q_proj,lm_head,embed_tokens]"
    run = train(targets, *options, "evaluation.base=false", "data.databases=null", "data.limit=4")
    names = list(adapter_weights(run.folder))
    assert any("lm_head.lora_A" in name for name in names)
    assert any("lora_embedding_B" in name for name in names)
    assert not any("base_layer" in name for name in names)  # the base model's stay with it
    assert not [w for w in recwarn if "tie" in str(w.message) or "embedding" in str(w.message)]


def test_dora_adapts_the_output_layer_unless_it_would_divide_by_zero(tiny_model):
    from transformers import AutoModelForCausalLM

    from qc_experiments.models.lora import add_adapter

    config = LoraConfig(r=4, use_dora=True, target_modules=["lm_head", "embed_tokens"])
    for padding in (0.0, 1.0):
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        base.get_input_embeddings().weight.data[2] = padding  # transformers makes it of zeros
        if padding == 0:
            with pytest.raises(UserError, match=r"lora\.use_dora: lm_head has rows of zeros"):
                add_adapter(base, config, gradient_checkpointing=False)
            continue
        adapted = add_adapter(base, config, gradient_checkpointing=False)
        assert adapted(torch.tensor([[5, 6, 2]])).logits.isfinite().all()


def test_an_output_layer_of_its_own_is_adapted_without_a_word(untied_model):
    assert planned(untied_model, target_modules=["lm_head"]).decisions == ()
    assert planned(untied_model, target_modules=["lm_head"], init="pissa").decisions == ()


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"init": "pissa", "r": 64}, r"k_proj is wide \(32\).*lora\.r=32"),
        ({"init": "olora", "r": 33}, r"k_proj is wide \(32\).*lora\.r=32"),
        ({"init": "pissa_niter_16", "r": 128, "target_modules": ["up_proj"]}, r"lora\.r=64"),
        ({"init": "pissa", "target_modules": ["q_proj", "lm_head"]}, "lm_head.*tied"),
        ({"init": "olora", "target_modules": ["embed_tokens"]}, "embed_tokens, an embedding"),
        ({"init": "orthogonal", "r": 5}, r"lora\.r=5.*even"),
    ],
)
def test_what_an_initialisation_cannot_do_is_known_before_the_training(tiny_model, lora, said):
    with pytest.raises(UserError, match=said):
        planned(tiny_model, **lora)


def test_a_rank_above_a_layers_width_is_fine_where_it_can_be_saved(tiny_model):
    for init in ("default", "gaussian"):
        planned(tiny_model, r=128, init=init)
    planned(tiny_model, r=64, init="pissa", target_modules=["q_proj", "o_proj"])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"r": 8}, r"has r=4, the run asks for r=8: set lora\.r=4"),
        ({"use_dora": True}, r"set lora\.use_dora=false"),
        ({"use_rslora": True, "alpha": 4}, r"set lora\.alpha=8 lora\.use_rslora=false"),
        ({"target_modules": "attention"}, r"also has 6 such as .*lora\.target_modules=all-linear"),
        ({"target_modules": [*ALL, "lm_head"]}, r"lacks lm_head.*lora\.target_modules=all-linear"),
    ],
)
def test_an_adapter_other_than_asked_for_is_refused(tiny_model, adapter, asked, said):
    with pytest.raises(UserError, match=said):
        planned(tiny_model, adapter, **asked)


def test_the_same_layers_under_another_name_are_the_same(tiny_model, adapter):
    planned(tiny_model, adapter)
    planned(tiny_model, adapter, target_modules=ALL)


def test_layers_can_be_named_where_no_attention_is_recognised(tiny_model, adapter, monkeypatch):
    monkeypatch.setattr("qc_experiments.models.lora.ATTENTION", re.compile("(?!)"))
    planned(tiny_model, adapter, target_modules=ALL)
    with pytest.raises(UserError, match=r"also has .*set lora\.target_modules=all-linear"):
        planned(tiny_model, adapter, target_modules=ATTENTION)


@pytest.mark.parametrize("trained_with", [0.0, 0.3])
@pytest.mark.parametrize("asked", [0.0, 0.5])
def test_an_adapter_is_trained_further_with_the_runs_dropout(
    tiny_model, tmp_path, trained_with, asked
):
    from transformers import AutoModelForCausalLM

    from qc_experiments.models.lora import continue_adapter

    folder = saved_adapter(tiny_model, tmp_path, lora_dropout=trained_with)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    config = LoraConfig(r=4, alpha=8, dropout=asked)
    model = continue_adapter(base, folder, config, gradient_checkpointing=False)
    layers = [m for m in model.modules() if hasattr(m, "lora_dropout")]
    assert layers
    assert {getattr(layer.lora_dropout["default"], "p", 0.0) for layer in layers} == {asked}
    assert model.peft_config["default"].lora_dropout == asked


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"use_dora": True}, r"set lora\.use_dora=true"),
        ({"target_modules": ATTENTION}, r"set lora\.target_modules=attention"),
        (
            {"target_modules": r".*layers\.1.*(q|v)_proj"},
            r"lacks 12 .*\[model\.layers\.1\.self_attn",
        ),
        ({"target_modules": ALL, "layers_to_transform": [0]}, "lacks 7 such as model.layers.1"),
        ({"bias": "all"}, "bias=all"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"init_lora_weights": "olora"}, "init_lora_weights=olora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"trainable_token_indices": [5]}, "trainable_token_indices"),
    ],
)
def test_a_foreign_adapter_is_what_the_run_says_or_refused(tiny_model, tmp_path, saved, said):
    folder = saved_adapter(tiny_model, tmp_path, **saved)
    with pytest.raises(UserError, match=said) as refused:
        planned(tiny_model, folder)
    assert str(folder) in str(refused.value)


def test_an_adapter_of_another_kind_or_model_is_refused(tiny_model, adapter, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(adapter, folder)
    file = folder / "adapter_config.json"
    saved = json.loads(file.read_text())
    for change, said in (
        ({"peft_type": "IA3"}, "IA3 adapter, not LoRA"),
        ({"task_type": "SEQ_CLS"}, "task_type=SEQ_CLS"),
        ({"target_modules": ["c_attn"]}, "does not fit this model"),
        ({"a_key_of_a_newer_peft": "other"}, "a_key_of_a_newer_peft"),
        ({"lora_alpha": 0}, "has alpha=0, the run asks for alpha=8"),
        ({"use_dora": "yes"}, 'has use_dora="yes"'),
    ):
        file.write_text(json.dumps(saved | change))
        with pytest.raises(UserError, match=said):
            planned(tiny_model, folder)
    old = {k: v for k, v in saved.items() if not k.startswith(("use_", "init_", "lora_bias"))}
    file.write_text(json.dumps(old | {"a_key_of_a_newer_peft": None}))
    planned(tiny_model, folder)


def test_tokens_without_a_row_in_the_embedding_are_refused_where_they_are_used(
    tiny_model, tokenizer, tmp_path
):
    import copy

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)

    def with_tokens(added: Any) -> Path:
        more = copy.deepcopy(tokenizer)
        more.add_special_tokens(added) if isinstance(added, dict) else more.add_tokens(added)
        more.save_pretrained(folder)
        return folder

    with pytest.raises(UserError, match=r"49152 rows.*row \d+ has CREATE TABLE \(id 49152\)"):
        planned(with_tokens(["CREATE TABLE"]))
    with pytest.raises(
        UserError, match=r"padding token <\|pad\|> .*set model\.pad_token=<\|im_end"
    ):
        planned(with_tokens({"pad_token": "<|pad|>"}))
    planned(with_tokens(["<never used>"]))


def test_an_adapters_settings_are_saved_in_the_same_order_by_every_process(tmp_path):
    from helpers.families import FAMILIES, adapted, made

    from qc_experiments.models.lora import save_adapter

    save_adapter(adapted(made(FAMILIES["llama"])), tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert saved == sorted(saved)
    assert len(saved) == 7
