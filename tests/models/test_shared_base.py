"""The base model that a sweep keeps: each job gets it as if it had loaded it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from qc_experiments.config.schema import LoraConfig, ModelConfig, QuantConfig, QuantMode, RunConfig
from qc_experiments.models.base import KeptBaseModel, load_base_model, model_source
from qc_experiments.models.lora import add_adapter

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def config_of(folder: Path, mode: QuantMode = QuantMode.none, **lora: Any) -> RunConfig:
    return RunConfig(
        model=ModelConfig(name_or_path=str(folder)),
        quant=QuantConfig(mode=mode),
        lora=LoraConfig(**lora),
    )


def fresh(config: RunConfig, folder: Path) -> Any:
    return load_base_model(model_source(config.model, folder), config.model, config.quant)


def described(model: Any) -> list[tuple[str, str, torch.dtype, bool]]:
    modules = [(name, type(module).__name__) for name, module in model.named_modules()]
    weights = [(n, "", p.dtype, p.requires_grad) for n, p in model.named_parameters()]
    return [*((name, kind, torch.float32, True) for name, kind in modules), *weights]


def trained(model: Any, config: RunConfig) -> Any:
    """One step of training that leaves a model as a job leaves it."""
    from qc_experiments.models.cpu_layers import lean_layers

    torch.manual_seed(0)
    model = add_adapter(model, config.lora, gradient_checkpointing=True)
    lean_layers(model)
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    return model(input_ids=IDS).logits.detach()


@pytest.mark.parametrize(
    ("mode", "lora"),
    [
        (QuantMode.none, {}),
        (QuantMode.none, {"use_dora": True}),
        (QuantMode.none, {"init": "pissa"}),
        (QuantMode.none, {"target_modules": "attention"}),
        (QuantMode.int4, {}),
        (QuantMode.int4, {"use_dora": True}),
        (QuantMode.int8, {}),
    ],
)
def test_a_job_finds_the_model_as_if_it_were_the_first(tiny_model, mode, lora):
    config = config_of(tiny_model, mode, **lora)
    source = model_source(config.model, tiny_model)
    expected = fresh(config, tiny_model)
    logits = expected(input_ids=IDS).logits
    after = trained(fresh(config, tiny_model), config)
    kept = KeptBaseModel()
    for _ in range(3):
        model = kept.load(source, config)
        assert described(model) == described(expected)
        assert not model.training
        assert torch.equal(model(input_ids=IDS).logits, logits)
        assert torch.equal(trained(kept.load(source, config), config), after)


def test_the_weights_are_there_once(tiny_model):
    config = config_of(tiny_model)
    source = model_source(config.model, tiny_model)
    kept = KeptBaseModel()
    one, two = kept.load(source, config), kept.load(source, config)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert a.data_ptr() == b.data_ptr()
    assert one.lm_head.weight is one.model.embed_tokens.weight  # tied, as before


def test_full_fine_tuning_gets_weights_of_its_own(tiny_model):
    source = model_source(config_of(tiny_model).model, tiny_model)
    kept = KeptBaseModel()
    plain = kept.load(source, config_of(tiny_model))
    full = kept.load(source, config_of(tiny_model, enabled=False))
    with torch.no_grad():
        full.lm_head.weight.zero_()
    config = config_of(tiny_model)
    expected = fresh(config, tiny_model)(input_ids=IDS).logits
    assert torch.equal(kept.load(source, config)(input_ids=IDS).logits, expected)
    assert torch.equal(plain(input_ids=IDS).logits, expected)


def test_another_model_takes_the_place_of_the_first(tiny_model, tmp_path, tokenizer):
    from transformers import LlamaForCausalLM

    other = tmp_path / "other"
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    model.save_pretrained(other)
    tokenizer.save_pretrained(other)
    kept = KeptBaseModel()
    for folder in (tiny_model, other, tiny_model):
        config = config_of(folder)
        found = kept.load(model_source(config.model, folder), config)
        assert torch.equal(found(input_ids=IDS).logits, fresh(config, folder)(input_ids=IDS).logits)
