"""What is saved is worth what the run reports, whatever the adapter was made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import CACHE, adapter_weights, losses_by_plain_peft
from safetensors.torch import load_file, save_file

from qc_experiments.config.schema import (
    DataConfig,
    LoraConfig,
    ModelConfig,
    PathsConfig,
    QuantConfig,
    QuantMode,
    RunConfig,
    shifts_base,
)
from qc_experiments.errors import UserError
from qc_experiments.models.base import load_base_model
from qc_experiments.models.lora import add_adapter, save_adapter
from qc_experiments.training import fit
from qc_experiments.training.worth import check_worth

FAST = ("data.limit=4", "evaluation.limit=2", "evaluation.base=false", "data.databases=null")
LEARNS = (*FAST, "trainer.learning_rate=1e-2", "trainer.max_steps=3")


def test_a_continued_adapter_is_saved_as_it_was_trained_whatever_init_is_asked_for(
    train, tiny_model, tmp_path, capsys
):
    first = train(*LEARNS, "lora.init=pissa", output=tmp_path / "first")
    asked = (f"model.adapter={first.folder / 'adapter'}", "lora.r=8", "lora.alpha=16")
    second = train(*LEARNS, *asked, "lora.init=pissa", output=tmp_path / "second")
    assert second.result["eval_loss"] < first.result["eval_loss"]
    loss, base = losses_by_plain_peft(second, tiny_model)
    assert loss == pytest.approx(second.result["eval_loss"], rel=1e-5)
    assert base - loss > 0.1
    assert "lora.init=pissa has no effect" in capsys.readouterr().err
    assert "init: default" in (second.folder / "config.yaml").read_text()
    for init in ("olora", "pissa_niter_16", "gaussian"):  # no record says that it did something
        again = train(*LEARNS, *asked, f"lora.init={init}", output=tmp_path / "second")
        assert again.folder == second.folder
    weights = adapter_weights(second.folder).values()
    assert second.result["parameters_trainable"] == sum(weight.numel() for weight in weights)


def halved(folder: Path) -> None:
    change_weights(folder / "adapter_model.safetensors", lambda k, w: w / 2 if "lora_B" in k else w)


def without_a_layer(folder: Path) -> None:
    change_weights(folder / "adapter_model.safetensors", lambda k, w: w * ("layers.1" not in k))


def other_scaling(folder: Path) -> None:
    file = folder / "adapter_config.json"
    saved = json.loads(file.read_text())
    file.write_text(json.dumps(saved | {"lora_alpha": 2 * saved["lora_alpha"]}))


def change_weights(file: Path, change: Any) -> None:
    save_file({k: change(k, w) for k, w in load_file(file).items()}, file, {"format": "pt"})


@pytest.fixture(scope="module")
def plan(tiny_model):
    """The plan of a small run, which says on which rows a loss is taken."""
    from qc_experiments.models.base import model_source
    from qc_experiments.training.inputs import load_data
    from qc_experiments.training.plan import make_plan

    config = run_config(tiny_model, LoraConfig())
    return make_plan(config, load_data(config), model_source(config.model, CACHE))


def run_config(model: Path, lora: LoraConfig, quant: QuantMode = QuantMode.none) -> RunConfig:
    return RunConfig(
        model=ModelConfig(name_or_path=str(model)),
        data=DataConfig(train="pkg://qc_experiments.demo/train.csv", limit=4),
        lora=lora,
        quant=QuantConfig(mode=quant),
        paths=PathsConfig(cache=str(CACHE)),
    )


def trained_and_saved(config: RunConfig, plan: Any, folder: Path) -> Any:
    """A model whose adapter is far from where it began, and what `fit` saves of it."""
    torch.manual_seed(0)
    model = load_base_model(plan.source, config.model, config.quant)
    model = add_adapter(model, config.lora, gradient_checkpointing=False)
    initial = folder / "initial_adapter" if shifts_base(config.lora) else None
    if initial is not None:
        model.save_pretrained(str(initial))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    save_adapter(model, folder / "adapter", initial)
    return model


KINDS = {
    "lora": (LoraConfig(r=4), QuantMode.none),
    "rslora": (LoraConfig(r=4, use_rslora=True, dropout=0.5), QuantMode.none),
    "dora": (LoraConfig(r=4, use_dora=True), QuantMode.none),
    "qlora": (LoraConfig(r=4, target_modules="attention"), QuantMode.int4),
    "int8": (LoraConfig(r=4), QuantMode.int8),
    "pissa": (LoraConfig(r=4, init="pissa", use_rslora=True), QuantMode.none),
    "olora": (LoraConfig(r=4, init="olora", alpha=7.5), QuantMode.none),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_that_is_not_worth_what_was_trained_is_named(tiny_model, plan, tmp_path, kind):
    config = run_config(tiny_model, *KINDS[kind])
    model = trained_and_saved(config, plan, tmp_path)
    adapter = tmp_path / "adapter"
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    check_worth(model, adapter, config, plan)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert sum(p.requires_grad for p in model.parameters()) > 0
    for damage in (other_scaling, without_a_layer):
        damage(adapter)
        with pytest.raises(UserError, match="what was saved has a loss of"):
            check_worth(model, adapter, config, plan)


def test_the_check_sees_a_loaded_adapter_that_is_taken_for_the_initial_one(
    tiny_model, plan, tmp_path
):
    """What once was done where an adapter was continued with lora.init=pissa."""
    config = run_config(tiny_model, LoraConfig(r=4))
    model = trained_and_saved(config, plan, tmp_path)
    model.save_pretrained(str(tmp_path / "initial_adapter"))
    save_adapter(model, tmp_path / "worthless", tmp_path / "initial_adapter")
    with pytest.raises(UserError, match="what was saved has a loss of"):
        check_worth(model, tmp_path / "worthless", config, plan)


def test_shifted_base_weights_that_are_saved_as_plain_lora_are_named(tiny_model, plan, tmp_path):
    config = run_config(tiny_model, LoraConfig(r=4, init="olora"))
    model = trained_and_saved(config, plan, tmp_path)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(str(tmp_path / "shifted"))
    with pytest.raises(UserError, match="what was saved has a loss of"):
        check_worth(model, tmp_path / "shifted", config, plan)


def test_a_whole_model_is_checked_as_well(tiny_model, plan, tmp_path):
    config = run_config(tiny_model, LoraConfig(enabled=False))
    model = load_base_model(plan.source, config.model, config.quant)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(3)
    for part in (model, plan.tokenizer):
        part.save_pretrained(str(tmp_path))
    check_worth(model, tmp_path, config, plan)
    norm = "model.layers.0.input_layernorm.weight"
    change_weights(tmp_path / "model.safetensors", lambda k, w: w * 2 if k == norm else w)
    with pytest.raises(UserError, match="what was saved has a loss of"):
        check_worth(model, tmp_path, config, plan)


def test_a_run_whose_adapter_is_worth_something_else_keeps_none(
    train, refused, monkeypatch, tmp_path
):
    save = fit.save_adapter

    def save_badly(model, folder, initial):
        save(model, folder, initial)
        halved(folder)

    monkeypatch.setattr(fit, "save_adapter", save_badly)
    assert "what was saved has a loss of" in refused(train, *LEARNS)
    (folder,) = [path.parent for path in tmp_path.glob("outputs/*/config.yaml")]
    assert not (folder / "adapter").exists()
    assert json.loads((folder / "result.json").read_text())["status"] == "failed"


def test_what_pissa_and_olora_cannot_give_back_is_refused():
    for init in ("pissa", "olora"):
        with pytest.raises(UserError, match=r"lora\.use_dora"):
            LoraConfig(use_dora=True, init=init)
    assert replace(LoraConfig(use_dora=True), init="gaussian").use_dora
