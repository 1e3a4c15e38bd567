"""What `qc plan` says of memory: true of the model, and with advice that helps."""

from __future__ import annotations

import re

import pytest
from helpers.families import FAMILIES
from transformers import AutoModelForCausalLM, BloomConfig, GPT2Config
from transformers.models.mamba import MambaConfig

from qc_experiments.config.compose import composed, register_schema, to_run_config
from qc_experiments.errors import UserError
from qc_experiments.models.base import load_base_model
from qc_experiments.models.device import GPU
from qc_experiments.models.lora import add_adapter
from qc_experiments.runs.train import plan_of
from qc_experiments.training.device_plan import CARDS, device_of
from qc_experiments.training.inputs import load_data
from qc_experiments.training.memory_plan import (
    ModelShape,
    formats_of,
    memory_line,
    memory_plan,
    time_line,
)


@pytest.fixture
def planned(tiny_model):
    """``planned("lora.r=8") -> (config, plan)``, of the tiny model and the demo data."""
    register_schema()

    def make(*settings: str):
        given = ["model=hub", f"model.name_or_path={tiny_model}", "tracking=none", *settings]
        config = to_run_config(composed(given, None))
        return config, plan_of(config, load_data(config))

    return make


def line(config, plan) -> str:
    [found] = [one for one in plan.lines(config) if one.startswith("Memory")]
    return found


@pytest.mark.parametrize("settings", [(), ("lora.target_modules=attention", "lora.r=4")])
def test_weights_are_counted_as_the_model_has_them(planned, settings):
    config, plan = planned(*settings)
    model = load_base_model(plan.source, config.model, config.quant)
    assert plan.shape.parameters == model.num_parameters()
    model = add_adapter(model, config.lora, gradient_checkpointing=False)
    assert plan.shape.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_all_weights_are_trained_without_lora(planned):
    _, plan = planned("lora=none")
    assert plan.shape.trained == plan.shape.parameters


def test_it_says_what_is_needed_and_what_there_is(planned):
    config, plan = planned("plan.device=h100")
    assert re.search(
        r"^Memory  about \d\.\d GB \(.*libraries 1\.2.*\); H100 has 80\.0$", line(config, plan)
    )
    config, plan = planned()
    assert "this CPU has" in line(config, plan)


@pytest.mark.parametrize(
    "settings",
    [
        ("collator.max_tokens=16384", "trainer.per_device_train_batch_size=256"),
        ("collator=seq2seq", "trainer.per_device_train_batch_size=512", "model.dtype=float32"),
        (
            "evaluation.batch_size=4096",
            "evaluation.candidates=64",
            "evaluation.temperature=1",
            "collator.max_tokens=512",
        ),
    ],
)
def test_the_first_advice_makes_it_fit(planned, settings):
    config, plan = planned(*settings, "plan.device=80GB")
    needed = plan.memory(config)
    changes = needed.of_pass
    if needed.answers > needed.of_pass + needed.logits:
        changes = needed.answers - needed.of_pass - needed.logits
    card = f"plan.device={(needed.total - 0.4 * changes) / 1e9:.3f}GB"
    config, plan = planned(*settings, card)
    told = line(config, plan)
    assert "more than a card of" in told
    advice = re.search(r"try (\S+?),? ", told)[1]
    names = {one.partition("=")[0] for one in settings}
    assert advice.partition("=")[0] in names
    kept = [one for one in settings if one.partition("=")[0] != advice.partition("=")[0]]
    config, plan = planned(*kept, advice, card)
    assert "more than" not in line(config, plan)


def test_packs_of_a_card_are_as_large_as_its_memory_allows(planned):
    sizes = []
    for card in ("2GB", "3.5GB", "h200"):
        config, plan = planned(f"plan.device={card}", "model.dtype=float32")
        sizes.append(plan.pass_tokens(config))
        assert sizes[-1] % 128 == 0
        [packs] = [one for one in plan.lines(config) if one.startswith("Packs")]
        assert f"at most {sizes[-1]} at once" in packs
    assert sizes == sorted(sizes)
    assert sizes[-1] == 16384
    config, plan = planned("plan.device=h200", "collator.max_tokens=512")
    assert plan.pass_tokens(config) == 512


def test_quantized_weights_and_checkpointing_need_less(planned):
    def total(*settings: str) -> float:
        config, plan = planned("plan.device=24GB", *settings)
        return plan.memory(config).total

    whole = total()
    assert total("quant=4bit") < total("quant=8bit") < whole
    assert total("trainer.gradient_checkpointing=true") < whole < total("lora=none")


@pytest.mark.parametrize("asked", ["24gb", "24 GB", "23.7GiB", "CPU", *CARDS])
def test_devices_are_known_by_size_or_name(asked):
    device = device_of(asked)
    assert device.kind == ("cpu" if asked == "CPU" else GPU)
    assert device.memory > 1e9


@pytest.mark.parametrize("asked", ["", "24", "h1000", "-3GB", "24TB"])
def test_another_device_is_refused_in_one_line(asked):
    with pytest.raises(UserError, match=r"plan\.device=.*such as 24GB"):
        device_of(asked)


def test_a_run_is_the_same_run_whatever_device_it_was_planned_for(planned):
    from qc_experiments.config.determining import hashed

    assert hashed(planned("plan.device=h100")[0]) == hashed(planned()[0])


def test_a_run_is_not_planned_for_another_device_than_it_is_computed_on(train, refused, tmp_path):
    line = refused(lambda: train("plan.device=h100"))
    assert "plan.device=h100: is for qc plan" in line
    assert not (tmp_path / "outputs").exists()


def test_the_time_on_a_card_is_an_estimate_and_longer_for_more(planned):
    def told(*settings: str) -> str:
        config, plan = planned(*settings)
        return " ".join(one for one in plan.lines(config) if one.startswith("Time"))

    assert "an estimate" in told("plan.device=h100")
    assert told() == told("plan.device=24GB") == ""  # whose speed is not known
    config, plan = planned("plan.device=t4")
    card = plan.device
    lines = [time_line(plan.shape, card, config, tokens) for tokens in (1e9, 1e12)]
    assert lines[0] != lines[1]


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=64),
        BloomConfig(n_layer=1, n_head=2, hidden_size=16, vocab_size=64),
        MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1),
        *FAMILIES.values(),
    ],
    ids=lambda config: config.model_type,
)
def test_any_model_has_a_shape_or_none(config):
    register_schema()
    run = to_run_config(composed(["lora=none"], None))
    model = AutoModelForCausalLM.from_config(config)
    shape = ModelShape.of(model, {}, run)
    if config.model_type == "mamba":
        assert shape is None
        return
    assert shape.parameters == model.num_parameters()
    assert 0 < shape.keys <= shape.queries
    assert memory_plan(shape, formats_of(run, "cpu"), run, 100, 2, 100).total > 1e9


def test_memory_line_is_told_before_a_run_that_does_not_fit(planned):
    config, plan = planned("lora=none", "plan.device=1GB")
    told = memory_line(plan.memory(config), plan.device, config, 1024)
    assert "lora=r16" in told
