"""What `qc plan` says of memory: true of the model, and with advice that helps."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.families import FAMILIES
from helpers.runs import ROOT
from helpers.slow import then_slow
from transformers import AutoModelForCausalLM, BloomConfig, GPT2Config
from transformers.models.mamba import MambaConfig

from qc_experiments.config.compose import composed, register_schema, to_run_config
from qc_experiments.errors import UserError
from qc_experiments.models.base import load_base_model
from qc_experiments.models.device import GPU
from qc_experiments.models.lora import add_adapter
from qc_experiments.runs.train import plan_of
from qc_experiments.training import device_plan
from qc_experiments.training.checkpoints import Checkpoint
from qc_experiments.training.device_plan import CARDS, device_of
from qc_experiments.training.fit import say_how_long
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
    told = line(config, plan)
    assert re.search(
        r"^Memory  about \d\.\d GB \(.*libraries 1\.2.*\): fits, H100 has 80\.0 GB$", told
    )
    total, parts = re.search(r"about (\S+) GB \((.*)\)", told).groups()
    summed = sum(float(part.rpartition(" ")[2]) for part in parts.split(", "))
    assert summed == pytest.approx(float(total), abs=0.2)  # each is rounded, the smallest left out
    config, plan = planned()
    assert re.search(r"fits, this machine has \S+ GB free$", line(config, plan))


def test_a_long_run_in_bfloat16_on_a_cpu_has_to_fit_with_what_it_grows_by(planned):
    settings = ("collator.max_tokens=16384", "trainer.per_device_train_batch_size=256")
    config, plan = planned(*settings, "model.dtype=float32")
    assert plan.memory(config).at_most == plan.memory(config).total
    config, plan = planned(*settings, "model.dtype=bfloat16")
    needed = plan.memory(config)
    assert needed.at_most > needed.total
    machine = replace(plan.device, memory=(needed.total + needed.at_most) / 2)
    told = line(config, replace(plan, device=machine))
    assert f", {needed.at_most / 1e9:.1f} GB after many steps: does not fit" in told
    assert "after many steps" not in line(*planned("plan.device=h100"))


@pytest.mark.parametrize(
    "settings",
    then_slow(
        ("collator.max_tokens=16384", "trainer.per_device_train_batch_size=256"),
        ("collator=seq2seq", "trainer.per_device_train_batch_size=512", "model.dtype=float32"),
        (
            "evaluation.batch_size=4096",
            "evaluation.candidates=64",
            "evaluation.temperature=1",
            "collator.max_tokens=512",
        ),
        (  # both are too much
            "evaluation.batch_size=4096",
            "evaluation.candidates=64",
            "evaluation.temperature=1",
            "trainer.per_device_train_batch_size=256",
            "collator.max_tokens=16384",
        ),
    ),
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
    assert "does not fit, a card of" in told
    advice = re.search(r"; set (.*?); if that is not enough", told)[1].split(" and ")
    changed = {one.partition("=")[0] for one in advice}
    kept = [one for one in settings if one.partition("=")[0] not in changed]
    config, plan = planned(*kept, *advice, card)
    assert "fit, a card of" in line(config, plan)
    assert "not fit" not in line(config, plan)


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


def test_a_base_model_that_is_kept_for_the_next_job_does_not_make_its_passes_smaller(
    planned, monkeypatch
):
    config, plan = planned("plan.device=24GB", "model.dtype=float32")
    monkeypatch.setattr(device_plan, "training_device", lambda: torch.device(GPU))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    sizes = []
    for kept in (0, 0.5e9):
        monkeypatch.setattr(
            torch.cuda, "mem_get_info", lambda device, kept=kept: (3.5e9 - kept, 8e9)
        )
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device, kept=kept: kept)
        sizes.append(replace(plan, device=device_of(None)).pass_tokens(config))
    assert sizes[0] == sizes[1] > 128


def test_quantized_weights_and_checkpointing_need_less(planned):
    def total(*settings: str) -> float:
        config, plan = planned("plan.device=24GB", *settings)
        return plan.memory(config).total

    whole = total()
    assert total("quant=4bit") < total("quant=8bit") < whole
    assert total("trainer.gradient_checkpointing=true") < whole < total("lora=none")


def test_no_advice_is_given_that_cannot_help(planned):
    config, plan = planned("plan.device=1GB")
    told = line(config, plan)
    assert told.endswith(
        "does not fit, a card of 1GB has 1.0 GB, which torch and its libraries take alone"
    )


def test_a_plan_that_nearly_fills_a_card_is_not_called_sure(planned):
    config, plan = planned("plan.device=80GB", "collator.max_tokens=1024")
    total = plan.memory(config).total / 1e9
    config, plan = planned(f"plan.device={1.05 * total:.3f}GB", "collator.max_tokens=1024")
    assert ": may just fit, a card of" in line(config, plan)


def test_a_card_is_planned_for_what_it_can_compute_and_this_machine_cannot(planned):
    for settings in (("lora=none", "model.dtype=float16"), ("collator.attention=flex",)):
        planned(*settings, "plan.device=t4")
        with pytest.raises(UserError, match="GPU"):
            planned(*settings, "plan.device=cpu")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("trainer.max_steps=31", "trainer.warmup_steps=50"), True),
        (("trainer.max_steps=31", "trainer.warmup_steps=31"), True),
        (("trainer.max_steps=31", "trainer.warmup_steps=30"), False),
        (("trainer.max_steps=31", "trainer.lr_scheduler_type=constant"), False),
        (("trainer.max_steps=0", "trainer.warmup_steps=50"), False),
    ],
)
def test_a_learning_rate_that_never_reaches_its_peak_is_told(planned, settings, told):
    config, plan = planned(*settings)
    assert ("never reaches" in (plan.warmup_advice(config) or "")) is told


def test_the_page_names_the_cards_that_are_known():
    page = (ROOT / "docs" / "how-to" / "gpu-and-cluster.md").read_text(encoding="utf-8")
    known = re.search(r"Known by name are (.*?);", page, re.DOTALL)[1]
    assert re.split(r",\s+|\s+and\s+", known) == list(CARDS)


def test_sizes_are_taken_in_their_units():
    sizes = [device_of(size).memory for size in ("24GB", "24000 MB", "0.024TB", "24GiB")]
    assert sizes[0] == sizes[1] == pytest.approx(sizes[2])
    assert sizes[3] == 24 * 2**30


@pytest.mark.parametrize("asked", ["24gb", "24 GB", "23.7GiB", "CPU", *CARDS])
def test_devices_are_known_by_size_or_name(asked):
    device = device_of(asked)
    assert device.kind == ("cpu" if asked == "CPU" else GPU)
    assert device.memory > 1e9


@pytest.mark.parametrize("asked", ["", "24", "h1000", "-3GB", "0GB", "24kB"])
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
    ("done", "pause_at", "ended", "told"),
    [
        (0, None, False, ("the training", 1.0)),
        (0, 1, False, ("the next 1 step", 0.125)),  # a round of a halving
        (2, 4, False, ("the next 2 steps", 0.25)),
        (6, None, False, ("the next 2 steps", 0.25)),
        (6, None, True, None),  # early
        (4, 4, False, None),
    ],
)
def test_the_time_that_is_told_is_of_the_steps_that_are_left(
    planned, caplog, done, pause_at, ended, told
):
    config, plan = planned("trainer.max_steps=8")
    asked: list[float] = []
    job: Any = SimpleNamespace(
        config=config,
        plan=plan,
        pace=SimpleNamespace(
            seconds=lambda model, rows, tokens, precision: asked.append(tokens) or 60
        ),
        precision=None,
        pause_at=pause_at,
        resume_from=Checkpoint(Path(), done, {"ended": ended}) if done else None,
    )
    with caplog.at_level("INFO"):
        say_how_long(None, job)
    if told is None:
        assert not caplog.text
        return
    what, share = told
    assert f"Time    {what} will take about" in caplog.text
    assert asked == [pytest.approx(share * plan.computed_tokens(config) * plan.epochs)]


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
    config, plan = planned("lora=none", "plan.device=1.25GB")
    told = memory_line(plan.memory(config), plan.device, config, 1024)
    assert "lora=r16" in told
