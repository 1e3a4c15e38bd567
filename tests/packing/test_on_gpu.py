"""Packs, LoRA's layers and answers on a real GPU, against the same on its CPU. Run by `make gpu`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.examples import example
from helpers.families import FAMILIES, adapted, made, some_rows

from qc_experiments.config.schema import PackAttention
from qc_experiments.generation.decoding import AnswerSettings, Decoding
from qc_experiments.generation.tree_decoding import tree_decode
from qc_experiments.models.cpu_layers import lean_layers
from qc_experiments.models.loss import evaluating, pad_batch, summed_loss
from qc_experiments.packing.agreement import gradient_difference
from qc_experiments.packing.loss import pack_loss
from qc_experiments.packing.pack_tensors import PackTensors
from qc_experiments.packing.prefix_tree import pack_rows

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
]


@pytest.mark.parametrize(
    "attention", [PackAttention.blocks, PackAttention.mask, PackAttention.flex]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_packs_have_the_gradients_of_padded_rows(family, attention):
    model = adapted(made(FAMILIES[family])).to(DEVICE)
    rows = some_rows(12)
    for most in (60, 5000):
        away = gradient_difference(model, rows, pack_rows(rows, most), attention=attention)
        assert away < 1e-3


@pytest.mark.parametrize("attention", [PackAttention.blocks, PackAttention.flex])
def test_a_long_pack_of_several_passes_has_the_loss_of_a_cpu(attention):
    model = adapted(made(FAMILIES["llama"]))
    rows = [example([5] * 700 + [7 + n] * 90, [9, 8, n]) for n in range(24)]
    packs = pack_rows(rows, 1024)
    expected = sum(float(pack_loss(model, pack)) for pack in packs)
    model.to(DEVICE)
    found = sum(float(pack_loss(model, pack, attention)) for pack in packs)
    assert found == pytest.approx(expected, rel=1e-4)


def test_tensors_of_a_pack_go_over_from_pinned_memory():
    [pack] = pack_rows(some_rows(3), 5000)
    pinned = PackTensors.of(pack).pin_memory()
    assert pinned.tokens.is_pinned()
    moved = pinned.to(DEVICE, non_blocking=True)
    assert moved.labels.is_cuda
    assert torch.equal(moved.tokens.cpu(), pinned.tokens)


def test_lean_layers_measure_what_pefts_do():
    plain, lean = (adapted(made(FAMILIES["qwen2"])).to(DEVICE) for _ in range(2))
    lean.load_state_dict(plain.state_dict())
    assert lean_layers(lean)
    batch = {key: value.to(DEVICE) for key, value in pad_batch(some_rows(4)).items()}
    for mixed in (False, True):
        mixing = torch.autocast(DEVICE, torch.bfloat16, enabled=mixed)
        with mixing, evaluating(plain), evaluating(lean):
            one, other = float(summed_loss(plain, batch)), float(summed_loss(lean, batch))
        assert other == pytest.approx(one, rel=1e-2 if mixed else 1e-5)


def test_answers_are_those_of_a_cpu_in_float32():
    from transformers import AutoTokenizer

    from qc_experiments.config.schema import PathsConfig
    from qc_experiments.models.packaged import embedded_model

    tokenizer = AutoTokenizer.from_pretrained(
        embedded_model(Path(PathsConfig().cache).expanduser())
    )
    config = FAMILIES["llama"]
    model = made(config).eval()
    settings = AnswerSettings(tokenizer, frozenset((0,)), 12, 4, Decoding(1, 0.0, 1.0, 1, 0))
    prompts = [[5] * 40 + [6 + n] * 9 for n in range(6)]

    def answered() -> list[list[str]]:
        found = tree_decode(model, prompts, settings, lambda text: False, None, None)
        return [[one.text for one in candidates] for candidates in found]

    expected = answered()
    model.to(DEVICE)
    assert answered() == expected
