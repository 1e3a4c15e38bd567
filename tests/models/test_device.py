"""What is set for a GPU, and that all models of a run are computed in the same number formats."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainingArguments

from qc_experiments.config.compose import composed, register_schema, to_run_config
from qc_experiments.config.schema import DType
from qc_experiments.models import device
from qc_experiments.models.device import Precision, precision_of, prepare, to_train, torch_dtype
from qc_experiments.models.transformers_hooks import with_one_device

CARD, CPU = torch.device("cuda", 0), torch.device("cpu")


def config(*settings: str):
    register_schema()
    return to_run_config(composed(list(settings), None))


@pytest.fixture
def card(monkeypatch):
    """A machine with a GPU, as far as the choice of number formats asks."""
    monkeypatch.setattr(device, "training_device", lambda: CARD)
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return including_emulation or asked[0] == "new"

    def of(age: str) -> None:
        asked[:] = [age]

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    of("new")
    return of


def test_cudnns_attention_is_off_on_a_card_and_the_others_stay():
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        prepare(CPU)
        assert torch.backends.cuda.cudnn_sdp_enabled()
        prepare(CARD)
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
        assert torch.backends.cuda.mem_efficient_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def test_a_process_trains_on_one_of_the_gpus_that_it_sees(tmp_path):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    arguments._n_gpu = 4  # what transformers finds where four are visible
    assert arguments.train_batch_size == 4 * arguments.per_device_train_batch_size
    arguments = with_one_device(arguments)
    assert arguments.n_gpu == 1
    assert arguments.train_batch_size == arguments.per_device_train_batch_size


def test_an_old_card_computes_in_float16_and_a_new_one_in_bfloat16(card):
    assert torch_dtype(DType.auto) is torch.bfloat16
    card("old")  # which says that it has bfloat16, and emulates it
    assert torch_dtype(DType.auto) is torch.float16
    assert precision_of(config().model) == Precision("cuda", torch.float16)


@pytest.mark.parametrize(
    ("settings", "stored", "multiplied"),
    [
        ([], DType.auto, torch.bfloat16),
        (["model.dtype=float16"], DType.float16, torch.float16),
        (["model.dtype=float32"], DType.float32, None),
        (["lora=none"], DType.float32, torch.bfloat16),
        (["lora=none", "model.dtype=float16"], DType.float32, torch.float16),
        (["lora=none", "model.dtype=float32"], DType.float32, None),
        (["lora.init=pissa"], DType.float32, torch.bfloat16),
        (["quant=4bit"], DType.auto, torch.bfloat16),
    ],
)
def test_weights_that_change_are_stored_in_float32_on_a_card(card, settings, stored, multiplied):
    asked = config(*settings)
    assert to_train(asked).dtype is stored
    found = precision_of(asked.model, trained_weights=not asked.lora.enabled)
    assert found == Precision("cuda", multiplied)


def test_trained_weights_are_multiplied_in_bfloat16_on_a_cpu_only_where_it_is_asked_for(
    monkeypatch,
):
    monkeypatch.setattr(device, "training_device", lambda: CPU)
    for settings, multiplied in (([], None), (["model.dtype=bfloat16"], torch.bfloat16)):
        asked = config("lora=none", *settings)
        assert to_train(asked).dtype is DType.float32
        assert precision_of(asked.model, trained_weights=True) == Precision("cpu", multiplied)
        assert precision_of(config(*settings).model) == Precision("cpu", None)


def test_float16_for_trained_weights_is_refused_before_anything_is_written(
    train, refused, tmp_path
):
    line = refused(lambda: train("lora=none", "model.dtype=float16"))
    assert "only a GPU has mixed precision in float16" in line
    assert not (tmp_path / "outputs").exists()


def test_a_precision_is_that_of_products_within_it():
    one = torch.ones(2, 2)
    with Precision("cpu", torch.bfloat16)():
        assert (one @ one).dtype is torch.bfloat16
    with Precision("cpu")():
        assert (one @ one).dtype is torch.float32


@pytest.mark.parametrize(
    "launcher", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM"]
)
def test_launchers_that_divide_the_weights_are_refused_in_one_line(
    launcher, train, refused, monkeypatch
):
    monkeypatch.setenv(launcher, "true")
    line = refused(train)
    assert launcher in line
    assert "torchrun" in line


@pytest.mark.slow
def test_a_deterministic_run_trains_as_any_other_on_a_cpu_and_leaves_nothing_behind(
    train, tmp_path
):
    from helpers.runs import adapter_weights

    settings = ("trainer.max_steps=2", "data.limit=8")
    plain = train(*settings)
    strict = train(*settings, "trainer.full_determinism=true", output=tmp_path / "strict")
    assert torch.are_deterministic_algorithms_enabled()
    again = train(*settings, output=tmp_path / "again")
    assert not torch.are_deterministic_algorithms_enabled()
    weights = adapter_weights(plain.folder)
    for run in (strict, again):
        assert all(torch.equal(weights[k], v) for k, v in adapter_weights(run.folder).items())


def test_head_and_embeddings_get_their_number_format_back():
    from helpers.families import FAMILIES, made

    from qc_experiments.models.lora import as_loaded

    model = made(FAMILIES["llama"])
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    as_loaded([(end, torch.bfloat16) for end in ends])
    assert {end.weight.dtype for end in ends} == {torch.bfloat16}
    assert model.model.layers[0].input_layernorm.weight.dtype is torch.float32
