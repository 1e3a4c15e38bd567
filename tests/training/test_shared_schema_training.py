"""Packed rows train as padded ones do: the same loss and gradients, in every family of models."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.examples import example
from helpers.families import FAMILIES, TINY, adapted, loss_and_gradients, made, some_rows
from helpers.runs import CACHE, adapter_weights, determined
from helpers.slow import then_slow
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.gemma2 import Gemma2Config
from transformers.models.mamba import MambaConfig

from qc_experiments.config.schema import LossOn, PackAttention, RunConfig
from qc_experiments.data.encode import Example
from qc_experiments.errors import UserError
from qc_experiments.models import loss as label_loss
from qc_experiments.models.loss import pad_batch, summed_loss
from qc_experiments.models.packaged import embedded_model
from qc_experiments.packing import agreement, attention
from qc_experiments.packing import loss as packing_loss
from qc_experiments.packing.agreement import PackAgreement, cannot_pack, gradient_difference
from qc_experiments.packing.loss import backward_pack, pack_loss
from qc_experiments.packing.prefix_tree import pack_rows
from qc_experiments.training import trainer
from qc_experiments.training.pack_choice import PackChoice, choose


def packed(
    model: Any, rows: list[Example], max_tokens: int, tolerance: float
) -> tuple[float, torch.Tensor]:
    def run() -> float:
        total = 0.0
        for pack in pack_rows(rows, max_tokens):
            loss = float(backward_pack(model, pack))
            assert float(pack_loss(model, pack)) == pytest.approx(loss, rel=tolerance)
            total += loss
        return total

    return loss_and_gradients(model, run)


def assert_alike(model: Any, rows: list[Example], max_tokens: int, tolerance: float) -> None:
    batch = pad_batch(rows)
    loss, gradients = loss_and_gradients(model, lambda: summed_loss(model, batch))
    found, own = packed(model, rows, max_tokens, tolerance)
    assert found == pytest.approx(loss, rel=tolerance)
    assert float((own - gradients).norm() / gradients.norm()) < tolerance


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_the_gradients_of_padded_rows(family):
    model = adapted(made(FAMILIES[family]))
    assert cannot_pack(model) is None
    assert_alike(model, some_rows(1), 250, 1e-5)
    assert model.config._attn_implementation == "sdpa"  # as before, for whatever comes next


@pytest.mark.parametrize("seed", range(12))
def test_random_trees_and_splits_have_the_gradients_of_padded_rows(seed, monkeypatch):
    if seed % 2:  # logits of three labels at once
        monkeypatch.setattr(label_loss, "LOGITS_AT_ONCE", 3 * TINY["vocab_size"])
    draw = random.Random(seed)
    model = adapted(made(FAMILIES["llama"]))
    rows = some_rows(seed, count=draw.randint(1, 14), full=seed % 3 == 0)
    assert_alike(model, rows, draw.choice([1, 60, 150, 400, 5000]), 1e-5)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"use_rslora": True}, {"bias": "all"}])
def test_variants_of_lora_have_the_gradients_of_padded_rows(options):
    assert_alike(adapted(made(FAMILIES["qwen2"]), **options), some_rows(2), 250, 1e-5)


def test_all_weights_have_the_gradients_of_padded_rows():
    assert_alike(made(FAMILIES["llama"]), some_rows(3), 250, 1e-5)


def test_checkpointed_layers_attend_within_the_pack_again():
    model = adapted(made(FAMILIES["llama"]))
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    assert_alike(model, some_rows(4), 250, 1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma3: sliding windows shorter than the rows"])
@pytest.mark.parametrize("max_tokens", [40, 250, 5000])
def test_a_mask_of_the_whole_pass_gives_the_same(family, max_tokens):
    model = adapted(made(FAMILIES[family]))
    rows = some_rows(8)
    packs = pack_rows(rows, max_tokens)
    assert gradient_difference(model, rows, packs, attention=PackAttention.mask) < 1e-5
    assert gradient_difference(model, rows, packs) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_tokens", [60, 5000])
def test_attention_as_products_has_the_gradients_of_padded_rows(family, max_tokens, monkeypatch):
    monkeypatch.setattr(packing_loss, "FOLDED", (torch.float32,))  # exact there, but slower
    monkeypatch.setattr(attention, "CUT_TOKENS", 16)
    assert_alike(adapted(made(FAMILIES[family])), some_rows(9), max_tokens, 1e-5)


def test_in_bfloat16_attention_keeps_no_scores_for_the_backward_pass():
    model = adapted(made(FAMILIES["llama"]).to(torch.bfloat16))
    long = [example([5] * 10 + [7 + n] * 290, [9]) for n in range(2)]
    [pack] = pack_rows(long, 5000)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        backward_pack(model, pack)
    assert max(kept) < 600 * 256  # a node's scores would be 4 heads x 290 x 300


def test_bfloat16_agrees_within_its_rounding():
    model = adapted(made(FAMILIES["llama"]).to(torch.bfloat16)).to(torch.bfloat16)
    assert_alike(model, some_rows(5), 250, 0.1)


def test_eager_models_are_packed_and_stay_eager():
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(FAMILIES["qwen2"], attn_implementation="eager").float()
    model = adapted(base)
    assert_alike(model, some_rows(6), 250, 1e-5)
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Gemma2Config(**TINY, head_dim=16), "caps the scores"),
        (MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1), "interface|recurrent"),
    ],
)
def test_models_with_other_attention_are_refused_by_name(config, reason):
    import re

    found = cannot_pack(AutoModelForCausalLM.from_config(config))
    assert found is not None
    assert re.search(reason, found)


def test_a_difference_would_be_noticed():
    """The check that a run makes at its first step tells packed rows from rows that see each other."""
    model = adapted(made(FAMILIES["llama"]))
    rows = some_rows(7, count=4)
    packs = pack_rows(rows, 1000)
    assert gradient_difference(model, rows, packs) < 1e-5
    shifted = [replace(p, position_ids=list(range(len(p)))) for p in packs]
    assert gradient_difference(model, rows, shifted) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("loss_on", LossOn)
def test_rounding_to_bfloat16_is_told_from_packs_that_are_wrong(loss_on):
    tokenizer = AutoTokenizer.from_pretrained(embedded_model(CACHE))
    model = AutoModelForCausalLM.from_pretrained(embedded_model(CACHE), dtype="bfloat16")
    model = adapted(model, init_lora_weights=True)  # as at the beginning of a run
    schema = "CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, country TEXT, age INTEGER);\n"
    asked = {
        "How many singers are there?": "SELECT count(*) FROM singer",
        "Which singers are from France?": "SELECT name FROM singer WHERE country = 'France'",
        "How old is the oldest?": "SELECT max(age) FROM singer",
    }
    rows = [
        example(tokenizer(schema + one).input_ids, tokenizer(sql).input_ids, loss_on)
        for one, sql in asked.items()
    ]
    packs = pack_rows(rows, 1000)
    places = [replace(p, position_ids=list(range(len(p)))) for p in packs]
    seen = [replace(p, nodes=[replace(n, exit=len(p)) for n in p.nodes]) for p in packs]
    assert gradient_difference(model, rows, packs) < agreement.COARSE_GRADIENTS
    assert gradient_difference(model, rows, places) > agreement.COARSE_GRADIENTS
    assert gradient_difference(model, rows, seen) > agreement.COARSE_GRADIENTS


SETTINGS = ("trainer.max_steps=2", "collator.max_group=4", "data.limit=8")


@pytest.mark.parametrize("micro", then_slow(4, 2, 8))
def test_shared_schema_and_seq2seq_train_alike(train, tmp_path, micro):
    """One effective batch of all rows, so that both see the same rows; cut up however it may be."""
    settings = (
        *SETTINGS,
        f"trainer.per_device_train_batch_size={micro}",
        f"trainer.gradient_accumulation_steps={8 // micro}",
    )
    packed_run = train("collator=shared_schema", *settings, output=tmp_path / "packed")
    padded_run = train("collator=seq2seq", *settings, output=tmp_path / "padded")
    for one, other in zip(packed_run.metrics, padded_run.metrics, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
    found = packed_run.result["eval_loss"]
    assert found == pytest.approx(padded_run.result["eval_loss"], rel=1e-5)


@pytest.mark.parametrize(
    "options",
    then_slow(
        ("quant=4bit",),
        ("lora=dora",),
        ("data.loss_on=full",),
        ("data.loss_on=full", "model.dtype=bfloat16"),
    ),
    ids=" ".join,
)
def test_shared_schema_trains_with(train, tmp_path, options):
    settings = (*SETTINGS, "trainer.per_device_train_batch_size=8", *options)
    packed_run = train("collator=shared_schema", *settings, output=tmp_path / "packed")
    padded_run = train("collator=seq2seq", *settings, output=tmp_path / "padded")
    assert "padded rows" not in (packed_run.folder / "train.log").read_text()
    for one, other in zip(packed_run.metrics, padded_run.metrics, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_packs_that_would_be_wrong_are_noticed_and_the_run_goes_on_padded(
    train, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(agreement, "AGREEMENT", -1.0)  # nothing agrees so well
    settings = (*SETTINGS, "trainer.per_device_train_batch_size=8")
    packed_run = train("collator=shared_schema", *settings, output=tmp_path / "packed")
    assert "goes on with padded rows" in capsys.readouterr().err
    padded_run = train("collator=seq2seq", *settings, output=tmp_path / "padded")
    for one, other in zip(packed_run.metrics, padded_run.metrics, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("before", "asked", "then"),
    [
        (None, "auto", "blocks"),
        ("padded", "nothing", "padded"),
        ("mask", "mask", "mask"),
        ("flex", "auto", "blocks"),  # which is told
    ],
)
def test_a_run_that_goes_on_computes_rows_as_before(monkeypatch, caplog, before, asked, then):
    seen = []

    def found(model: Any, rows: Any, attention: PackAttention, agreement: Any) -> PackChoice:
        seen.append(attention.value)
        auto = attention is PackAttention.auto
        return PackChoice(PackAttention.blocks if auto else attention)

    monkeypatch.setattr(trainer, "choose", found)
    job = SimpleNamespace(config=RunConfig(), precision=nullcontext, agreement=None)
    started: Any = SimpleNamespace(
        pack_attention=before, packed_difference=0.5, model=None, _job=job
    )
    assert trainer.TextToSqlTrainer._choose_packs(started, []).name == then
    assert (*seen, "nothing")[0] == asked
    assert ("attend by blocks from here on, by flex before" in caplog.text) is (before == "flex")


def test_a_training_interrupted_in_the_middle_of_an_epoch_goes_on_with_its_plan(
    train, tmp_path, monkeypatch
):
    settings = (
        "collator=shared_schema",
        "data.limit=16",
        "trainer.max_steps=6",
        "trainer.per_device_train_batch_size=4",
        "trainer.save_strategy=steps",
        "trainer.save_steps=1",
    )
    whole = train(*settings, output=tmp_path / "whole")
    kept = trainer.TextToSqlTrainer.training_step
    calls = []

    def failing(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return kept(self, *arguments, **options)

    monkeypatch.setattr(trainer.TextToSqlTrainer, "training_step", failing)
    with pytest.raises(SystemExit):
        train(*settings, output=tmp_path / "cut")
    monkeypatch.setattr(trainer.TextToSqlTrainer, "training_step", kept)
    cut = train(*settings, output=tmp_path / "cut")
    assert determined(cut.result) == determined(whole.result)
    one, other = adapter_weights(whole.folder), adapter_weights(cut.folder)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_plan_says_what_packing_saves(train, capsys):
    run = train("collator=shared_schema", "trainer.per_device_train_batch_size=16")
    said = capsys.readouterr().out
    assert "times fewer" in said
    assert json.loads((run.folder / "result.json").read_text())["status"] == "finished"


def test_a_template_that_prevents_sharing_is_said_so(train, capsys, tmp_path: Path):
    template = tmp_path / "question_first.txt"
    template.write_text("Question: {question}\nSchema: {context}\nSQL: {query}")
    train("collator=shared_schema", f"data.template={template}")
    said = capsys.readouterr()
    assert "put {context} before {question}" in said.err
    assert "times fewer" in said.err


def test_the_check_of_the_first_step_computes_few_tokens_and_finds_a_model_that_disagrees():
    """It is to cost no more than a few steps, whatever the rows' length."""
    model = adapted(made(FAMILIES["llama"]))
    computed = []

    def count(module, arguments, options):
        computed.append(options["input_ids"].numel())

    hook = model.get_base_model().register_forward_pre_hook(count, with_kwargs=True)
    long = [
        example([number % 200 + 5 for number in range(900)] + [7 + row] * 40, [5, 6, 7] * 20)
        for row in range(8)
    ]
    check = PackAgreement()
    assert check.difference(model, long, gradients=True).is_rounding
    assert 0 < sum(computed) < 400
    again = len(computed)
    assert check.difference(model, long, gradients=True).is_rounding
    assert len(computed) == again  # once for each kind of model
    hook.remove()

    def from_zero(module, inputs, options):
        positions = options["position_ids"]
        counted = torch.arange(positions.shape[1]).expand_as(positions)
        return inputs, {**options, "position_ids": counted}

    # A model that counts positions itself, whatever it is told.
    rotary = model.get_base_model().model.rotary_emb
    rotary.register_forward_pre_hook(from_zero, with_kwargs=True)
    assert not PackAgreement().difference(model, long, gradients=True).is_rounding


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_tokens", then_slow(60, 5000))
def test_flex_attention_sees_what_blocks_and_a_mask_see(family, max_tokens):
    """Forwards, which is all that torch computes by it on a CPU; windows, trunks and padding included."""
    model = adapted(made(FAMILIES[family])).eval()
    rows = some_rows(11)
    for pack in pack_rows(rows, max_tokens):
        expected = float(pack_loss(model, pack))
        for other in (PackAttention.mask, PackAttention.flex):
            assert float(pack_loss(model, pack, other)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_weights_in_float32_that_are_multiplied_in_bfloat16_are_packed(train):
    run = train("lora=none", "model.dtype=bfloat16", "collator=shared_schema", *SETTINGS)
    assert run.result["pack_attention"] == "blocks"
    assert 1e-4 < run.result["packed_difference"] < 0.1  # the rounding of bfloat16


def test_a_run_that_asks_for_flex_on_a_cpu_is_told_in_one_line(train, refused, tmp_path):
    line = refused(lambda: train("collator=shared_schema", "collator.attention=flex", *SETTINGS))
    assert "collator.attention=flex" in line
    assert "take collator.attention=blocks" in line
    assert not (tmp_path / "outputs").exists()


def test_flex_is_not_taken_for_a_model_that_drops_attention():
    model = adapted(made(FAMILIES["llama"]))
    model.config.attention_dropout = 0.1
    with pytest.raises(
        UserError, match=r"attention=flex: .*attention_dropout=0\.1.*take collator.attention=blocks"
    ):
        choose(model, some_rows(1), PackAttention.flex, PackAgreement())
    assert choose(model, some_rows(1), PackAttention.auto, PackAgreement()).name == "blocks"


def test_the_result_says_how_rows_were_computed_and_how_far_they_were_from_padded_ones(train):
    run = train("collator=shared_schema", *SETTINGS)
    assert run.result["pack_attention"] == "blocks"
    assert 0 <= run.result["packed_difference"] < 1e-3
