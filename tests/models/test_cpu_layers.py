"""Fewer passes over memory, the same numbers."""

from __future__ import annotations

import pytest
import torch
from helpers.families import FAMILIES, adapted, loss_and_gradients, made, some_rows

from qc_experiments.models.cpu_layers import LeanGatedMlp, LeanLoraLinear, LeanRmsNorm, lean_layers
from qc_experiments.models.loss import pad_batch, summed_loss
from qc_experiments.models.transformers_hooks import has_llamas_norm


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma"])
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"lora_bias": True}])
def test_lean_layers_have_the_loss_and_gradients_of_pefts(family, options):
    model = adapted(made(FAMILIES[family]), **options)
    batch = pad_batch(some_rows(1))
    _, exact = loss_and_gradients(model.double(), lambda: summed_loss(model, batch))
    loss, gradients = loss_and_gradients(model.float(), lambda: summed_loss(model, batch))
    assert lean_layers(model) == 3 * 7
    found, own = loss_and_gradients(model, lambda: summed_loss(model, batch))
    assert found == pytest.approx(loss, rel=1e-6)
    # How far rounding takes either from the exact gradients depends on the processor.
    error, pefts = ((one - exact).norm() / exact.norm() for one in (own, gradients))
    assert error < 4 * pefts + 1e-6


def test_in_mixed_precision_weights_of_another_format_are_left_to_peft():
    """As on a GPU with weights in float32: their products are cast, and an update added in place is not."""
    model, batch = adapted(made(FAMILIES["llama"])), pad_batch(some_rows(1))
    with torch.autocast("cpu", torch.bfloat16):
        loss, gradients = loss_and_gradients(model, lambda: summed_loss(model, batch))
        lean_layers(model)
        found, own = loss_and_gradients(model, lambda: summed_loss(model, batch))
    assert found == pytest.approx(loss, rel=1e-2)
    assert float((own - gradients).norm() / gradients.norm()) < 0.05


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_with_dropout_loss_and_gradients_are_pefts_bit_by_bit(family, checkpointing):
    """The presets have dropout, and what they have trained must come out again."""
    batch, found = pad_batch(some_rows(2)), []
    for lean in (False, True):
        model = adapted(made(FAMILIES[family]), lora_dropout=0.3)
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if lean:
            lean_layers(model)
        else:  # the norms are computed in another order with or without dropout
            for module in model.modules():
                if has_llamas_norm(module):
                    module.__class__ = type("Norm", (LeanRmsNorm, type(module)), {})
        model.train()
        torch.manual_seed(1)
        found.append(loss_and_gradients(model, lambda m=model: summed_loss(m, batch)))
    (loss, gradients), (own_loss, own_gradients) = found
    assert own_loss == loss
    assert torch.equal(own_gradients, gradients)


def test_of_the_dropout_a_byte_is_kept_for_each_number():
    """PEFT keeps two floats: the noise, and what is left of the input."""
    kept = []
    for lean in (False, True):
        model = adapted(made(FAMILIES["llama"]), lora_dropout=0.3)
        if lean:
            lean_layers(model)
        layer = model.base_model.model.model.layers[0].self_attn.q_proj
        x = torch.randn(1, 50, 64, requires_grad=True)
        sizes = {}

        def pack(tensor, sizes=sizes):
            if not isinstance(tensor, torch.nn.Parameter):
                storage = tensor.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer.train()(x)
        kept.append(sum(sizes.values()) - x.untyped_storage().nbytes())
    numbers = 50 * 64
    assert kept[0] >= 8 * numbers
    assert kept[1] <= numbers + 4 * 50 * 4  # with A's output, of rank 4


def test_layers_that_are_not_plain_are_left_to_peft():
    rows = pad_batch(some_rows(2))
    model = adapted(made(FAMILIES["llama"]), use_dora=True)
    expected = loss_and_gradients(model, lambda: summed_loss(model, rows))
    lean_layers(model)
    found = loss_and_gradients(model, lambda: summed_loss(model, rows))
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert float((found[1] - expected[1]).norm() / expected[1].norm()) < 1e-5


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
    rows = pad_batch(some_rows(3))
    expected = loss_and_gradients(model, lambda: summed_loss(model, rows))
    lean_layers(model)
    found = loss_and_gradients(model, lambda: summed_loss(model, rows))
    assert float((found[1] - expected[1]).norm() / expected[1].norm()) < 1e-5


def in_bfloat16(family: str, **options):
    """The base in bfloat16, the adapter in float32, as PEFT has it by default."""
    return adapted(made(FAMILIES[family]).bfloat16(), **options)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_in_bfloat16_are_float32_numbers_as_near_to_float32s_as_pefts(family, dropout):
    batch = pad_batch(some_rows(1))

    def of(model, lean=True):
        if lean:
            assert lean_layers(model) == 3 * 7
        model.train()
        torch.manual_seed(1)
        return loss_and_gradients(model, lambda: summed_loss(model, batch))

    loss, gradients = of(adapted(made(FAMILIES[family]), lora_dropout=dropout))
    model = in_bfloat16(family, lora_dropout=dropout)
    found, own = of(model)
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    assert found == pytest.approx(loss, rel=0.01)
    away = float((own - gradients).norm() / gradients.norm())
    assert away < (0.15 if dropout else 0.05)
    if not dropout:  # PEFT draws other masks in bfloat16
        _, pefts = of(in_bfloat16(family), lean=False)
        assert away < 1.5 * float((pefts - gradients).norm() / gradients.norm())


def kept_bytes(model) -> int:
    """What a forward pass keeps for the way back, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = (storage.nbytes(), storage)
        return tensor

    batch = pad_batch(some_rows(1, count=30))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        summed_loss(model, batch)
    return sum(size for size, _ in sizes.values())


def test_in_bfloat16_half_as_much_is_kept_as_in_float32():
    models = [adapted(made(FAMILIES["llama"])), in_bfloat16("llama"), in_bfloat16("llama")]
    for model in models[:2]:
        lean_layers(model)
    whole, half, pefts = map(kept_bytes, models)
    assert half < 0.65 * whole
    assert half < 0.5 * pefts
