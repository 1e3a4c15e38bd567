"""A base model that its checkpoint already stores in 4 or 8 bits is planned, trained and recorded as such."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import CACHE

from qc_experiments.config.schema import (
    DataConfig,
    LoraConfig,
    ModelConfig,
    PathsConfig,
    QuantConfig,
    QuantMode,
    RunConfig,
)
from qc_experiments.errors import UserError
from qc_experiments.models.base import KeptBaseModel, load_base_model, model_source
from qc_experiments.models.files import Spelling
from qc_experiments.models.stored_quantization import stored_quantization
from qc_experiments.training.inputs import load_data
from qc_experiments.training.plan import make_plan


@pytest.fixture(scope="module")
def stored(tiny_model, tokenizer, tmp_path_factory):
    """Folders with the tiny model as bitsandbytes stores it."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    place = tmp_path_factory.mktemp("stored")
    for name, settings in (
        ("4bit", BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")),
        ("8bit", BitsAndBytesConfig(load_in_8bit=True)),
    ):
        model = AutoModelForCausalLM.from_pretrained(tiny_model, quantization_config=settings)
        model.save_pretrained(place / name)
        tokenizer.save_pretrained(place / name)
    return place


def run_config(model: Path, quant: QuantConfig | None = None, **lora: Any) -> RunConfig:
    return RunConfig(
        model=ModelConfig(name_or_path=str(model)),
        data=DataConfig(train="pkg://qc_experiments.demo/train.csv", limit=4),
        lora=LoraConfig(**{"r": 4, "alpha": 8, **lora}),
        quant=quant or QuantConfig(),
        paths=PathsConfig(cache=str(CACHE)),
    )


def planned(config: RunConfig) -> str:
    plan = make_plan(config, load_data(config), model_source(config.model, CACHE))
    return plan.lines(config)[0]


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        ("4bit", "in int4 (nf4, without double quantization), as the checkpoint has them"),
        ("8bit", "in int8, as the checkpoint has them"),
    ],
)
def test_the_plan_and_the_record_say_how_the_checkpoint_stores_its_weights(
    train, stored, capsys, bits, said
):
    run = train(
        f"model.name_or_path={stored / bits}", "data.limit=4", "evaluation.base=false", "lora.r=4"
    )
    printed = capsys.readouterr()
    assert f"base weights {said}" in printed.out
    assert "Warning" not in printed.err
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["model"] == {"label": bits, "weights": said}


@pytest.mark.parametrize(
    ("bits", "quant", "lora", "said"),
    [
        ("4bit", QuantConfig(QuantMode.int8), {}, r"int4 .*asks for int8: use quant=none"),
        ("4bit", QuantConfig(QuantMode.int4), {}, "asks for int4 .nf4, with double"),
        ("4bit", QuantConfig(QuantMode.int4, "fp4", False), {}, "asks for int4 .fp4"),
        ("8bit", QuantConfig(QuantMode.int4), {}, "stored in int8, the run asks for int4"),
        ("4bit", None, {"enabled": False}, "frozen.*lora=r16"),
        ("8bit", None, {"enabled": False}, "frozen.*lora=r16"),
        ("4bit", None, {"init": "pissa"}, r"lora\.init=pissa needs them unquantized"),
        ("8bit", None, {"init": "olora"}, r"lora\.init=olora needs them unquantized"),
    ],
)
def test_what_contradicts_the_checkpoint_is_refused_in_the_plan(stored, bits, quant, lora, said):
    with pytest.raises(UserError, match=said):
        planned(run_config(stored / bits, quant, **lora))


def test_asking_for_what_the_checkpoint_has_is_no_contradiction(stored):
    same = QuantConfig(QuantMode.int4, "nf4", double_quant=False)
    assert "int4" in planned(run_config(stored / "4bit", same))
    assert "int8" in planned(run_config(stored / "8bit", QuantConfig(QuantMode.int8)))


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "mxfp4", "compressed-tensors", None])
def test_other_formats_are_refused_with_what_can_be_trained(tiny_model, tmp_path, method):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    file = folder / "config.json"
    settings = {"quant_method": method, "bits": 4} if method else {"bits": 4}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": settings}))
    with pytest.raises(UserError, match="only bitsandbytes' 4 and 8 bits"):
        planned(run_config(folder))
    asked = Spelling(model="--base-model ")  # as qc predict names it
    source = model_source(run_config(folder).model, CACHE, spelling=asked)
    with pytest.raises(UserError, match=f"^--base-model {folder}: its weights are stored in"):
        stored_quantization(source)


def test_weights_stored_in_8_bits_are_loaded_for_each_job(stored):
    """bitsandbytes moves them at their first use, as it does with those of quant=8bit."""
    kept = KeptBaseModel()
    config = run_config(stored / "8bit")
    source = model_source(config.model, CACHE)
    first, second = kept.load(source, config), kept.load(source, config)
    layer = "model.layers.0.mlp.up_proj"
    assert first.get_submodule(layer).weight is not second.get_submodule(layer).weight


def test_stored_weights_are_prepared_for_training_and_multiplied_in_the_runs_format(stored):
    import torch

    from qc_experiments.models.lora import add_adapter

    config = run_config(stored / "4bit")
    model = load_base_model(model_source(config.model, CACHE), config.model, config.quant)
    assert model.get_submodule("model.layers.0.mlp.up_proj").compute_dtype == torch.float32
    adapted = add_adapter(model, config.lora, gradient_checkpointing=True)
    assert adapted.get_base_model().is_gradient_checkpointing
