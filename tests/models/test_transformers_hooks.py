"""Each private thing of the libraries that we rely on, by name: fails where a new version has lost one."""

from __future__ import annotations

import inspect
from pathlib import Path

import peft
import pytest
import torch
from helpers.families import FAMILIES, adapted, made
from transformers import PreTrainedModel, Trainer

import qc_experiments
from qc_experiments.models import transformers_hooks as hooks

OF_THE_TRAINER = {
    "_get_train_sampler": ["self", "train_dataset"],
    "_get_grad_norm": ["self", "model", "grad_norm"],
    "_get_output_dir": ["self", "trial"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "_load_best_model": ["self"],
}


@pytest.mark.parametrize("name", OF_THE_TRAINER)
def test_the_trainer_has_the_private_method(name):
    assert list(inspect.signature(getattr(Trainer, name)).parameters) == OF_THE_TRAINER[name]


@pytest.mark.parametrize(
    "name",
    [
        "_tr_loss",
        "_globalstep_last_logged",
        "loss_is_scaled_for_ga",
        "model_accepts_loss_kwargs",
        "self._save_checkpoint(",
        "self._get_grad_norm(",
        "self._get_train_sampler",
        "self._get_output_dir(",
    ],
)
def test_the_trainer_uses_the_private_name(name):
    assert name in Path(str(inspect.getsourcefile(Trainer))).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["_supports_attention_backend", "_is_stateful"])
def test_models_have_the_private_flag(name):
    assert isinstance(getattr(PreTrainedModel, name), bool)


def test_an_adapter_beside_a_model_leaves_its_private_flag():
    source = inspect.getsource(PreTrainedModel.load_adapter)
    assert "_hf_peft_config_loaded = True" in source


def test_attention_is_asked_of_our_function_and_then_of_the_kernel_from_before():
    model = made(FAMILIES["llama"])
    asked = []

    def attend(query, key, value, layer):
        asked.append((query.shape, key.shape, layer.window, layer.number))
        return torch.zeros_like(query)

    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad(), hooks.attending(model, attend):
        assert hooks.attention_kernel(model.config) == hooks.PACKED
        model(ids)
    assert [shapes[:2] for shapes in asked] == [((1, 4, 3, 16), (1, 2, 3, 16))] * 3
    assert len({layer for *_, layer in asked}) == 3
    assert hooks.attention_kernel(model.config) == "sdpa"
    assert not hasattr(model.config, hooks.HOLDER)


def test_layers_of_peft_say_what_they_compute():
    model = adapted(made(FAMILIES["llama"]), lora_dropout=0.5)
    layers = [m for m in model.modules() if isinstance(m, peft.tuners.lora.layer.Linear)]
    assert len(layers) == 3 * 7
    found = hooks.plain_lora(layers[0])
    assert found is not None
    assert (found.a.shape, found.b.shape, found.scaling) == ((4, 64), (64, 4), 2.0)
    assert found.dropout == 0.5
    assert hooks.plain_lora(layers[0].eval()).dropout == 0
    with model.disable_adapter():
        assert hooks.plain_lora(layers[0]) is None
    dora = adapted(made(FAMILIES["llama"]), use_dora=True)
    assert not any(hooks.plain_lora(m) for m in dora.modules() if hasattr(m, "lora_A"))


def test_llamas_own_layers_are_known_by_their_code():
    llama, gemma = made(FAMILIES["llama"]), made(FAMILIES["gemma"])
    assert sum(map(hooks.has_llamas_mlp, llama.modules())) == 3
    assert sum(map(hooks.has_llamas_norm, llama.modules())) == 7
    assert not any(map(hooks.has_llamas_mlp, gemma.modules()))
    assert not any(map(hooks.has_llamas_norm, gemma.modules()))


def test_nothing_else_in_the_package_touches_them():
    private = [
        *OF_THE_TRAINER,
        "_tr_loss",
        "_globalstep_last_logged",
        "_attn_implementation",
        "_supports_attention_backend",
        "_is_stateful",
        "_hf_peft_config_loaded",
        "lora_variant",
    ]
    for path in Path(qc_experiments.__file__).parent.rglob("*.py"):
        if path.name != "transformers_hooks.py":
            text = path.read_text(encoding="utf-8")
            assert [name for name in private if f".{name}" in text or f'"{name}"' in text] == [], (
                path
            )
