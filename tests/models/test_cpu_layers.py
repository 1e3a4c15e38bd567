"""Fewer passes over memory, the same numbers."""

from __future__ import annotations

import pytest
import torch
from helpers.families import FAMILIES, adapted, loss_and_gradients, made, some_rows

from qc_experiments.models.cpu_layers import LeanGatedMlp, LeanLoraLinear, LeanRmsNorm, lean_layers
from qc_experiments.models.loss import summed_loss
from qc_experiments.packing.agreement import padded


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma"])
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"lora_bias": True}])
def test_lean_layers_have_the_loss_and_gradients_of_pefts(family, options):
    model = adapted(made(FAMILIES[family]), **options)
    batch = padded(some_rows(1), torch.device("cpu"))
    loss, gradients = loss_and_gradients(model, lambda: summed_loss(model, batch))
    assert lean_layers(model) == 3 * 7
    found, own = loss_and_gradients(model, lambda: summed_loss(model, batch))
    assert found == pytest.approx(loss, rel=1e-6)
    assert float((own - gradients).norm() / gradients.norm()) < 1e-5


def test_layers_that_are_not_plain_are_left_to_peft():
    rows = padded(some_rows(2), torch.device("cpu"))
    for options in ({"use_dora": True}, {"lora_dropout": 0.5}):
        model = adapted(made(FAMILIES["llama"]), **options)
        model.train()
        torch.manual_seed(1)
        expected = loss_and_gradients(model, lambda m=model: summed_loss(m, rows))
        lean_layers(model)
        torch.manual_seed(1)
        found = loss_and_gradients(model, lambda m=model: summed_loss(m, rows))
        assert found[0] == pytest.approx(expected[0], rel=1e-6), options
        away = float((found[1] - expected[1]).norm() / expected[1].norm())
        assert away < 1e-5, options


def test_the_adapter_can_be_disabled_and_saved_as_before(tmp_path):
    from peft import PeftModel

    model = adapted(made(FAMILIES["llama"]))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = model(ids).logits
        with model.disable_adapter():
            base = model(ids).logits
    lean_layers(model)
    assert any(isinstance(module, LeanLoraLinear) for module in model.modules())
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, before, atol=1e-5)
        with model.disable_adapter():
            assert torch.equal(model(ids).logits, base)
    model.save_pretrained(str(tmp_path))
    again = PeftModel.from_pretrained(made(FAMILIES["llama"]), str(tmp_path))
    with torch.no_grad():
        assert torch.allclose(again(ids).logits, before, atol=1e-5)


def test_mlps_and_norms_of_other_code_are_left_alone():
    """Gemma's norm adds one to its weight and its MLP is no SiLU: neither may become Llama's."""
    model = adapted(made(FAMILIES["gemma"]))
    lean_layers(model)
    assert not any(isinstance(m, LeanRmsNorm | LeanGatedMlp) for m in model.modules())
    llama = adapted(made(FAMILIES["llama"]))
    lean_layers(llama)
    assert sum(isinstance(m, LeanGatedMlp) for m in llama.modules()) == 3
    assert sum(isinstance(m, LeanRmsNorm) for m in llama.modules()) == 7


def test_trained_norms_are_left_to_autograd():
    model = adapted(made(FAMILIES["llama"]))
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.requires_grad_()
    rows = padded(some_rows(3), torch.device("cpu"))
    expected = loss_and_gradients(model, lambda: summed_loss(model, rows))
    lean_layers(model)
    found = loss_and_gradients(model, lambda: summed_loss(model, rows))
    assert float((found[1] - expected[1]).norm() / expected[1].norm()) < 1e-5
