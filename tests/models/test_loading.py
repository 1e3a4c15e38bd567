"""Models, tokenizers and adapters that do not fit, are broken or hostile: refused in one line, by name."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_model import byte_tokenizer, save_small_model
from safetensors.torch import load_file, save_file

from qc_experiments.cli import predict
from qc_experiments.config.schema import ModelConfig, QuantConfig, QuantMode, RunConfig, Wrap
from qc_experiments.data.encode import Encoder
from qc_experiments.data.template import Template
from qc_experiments.errors import UserError
from qc_experiments.models.base import load_base_model, load_tokenizer, model_source, model_window
from qc_experiments.models.fingerprint import base_model_fingerprint
from qc_experiments.models.lora import load_adapter
from qc_experiments.models.saved import SavedPrompting
from qc_experiments.training.plan import check_adapter_files

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n"
WEIGHTS = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
Harm = Callable[[Path], Any]


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def weights(change: Callable[[dict[str, Any]], dict[str, Any]], name: str = WEIGHTS) -> Harm:
    def harm(folder: Path) -> None:
        changed = {
            key: value.contiguous() for key, value in change(load_file(folder / name)).items()
        }
        save_file(changed, folder / name, metadata={"format": "pt"})

    return harm


def setting(name: str, **values: Any) -> Harm:
    def harm(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return harm


def content(name: str, text: str | bytes) -> Harm:
    return lambda folder: (folder / name).write_bytes(
        text.encode() if isinstance(text, str) else text
    )


def half(name: str) -> Harm:
    def harm(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])

    return harm


def gone(*names: str) -> Harm:
    return lambda folder: [(folder / name).unlink() for name in names]


def a_folder(name: str) -> Harm:
    return lambda folder: ((folder / name).unlink(), (folder / name).mkdir())


def pickled(name: str, to: str) -> Harm:
    def harm(folder: Path) -> None:
        torch.save(load_file(folder / name), folder / to)
        (folder / name).unlink()

    return harm


def sharded(folder: Path) -> None:
    stored = load_file(folder / WEIGHTS)
    names, where = sorted(stored), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: stored[name] for name in part}, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / WEIGHTS).unlink()


def both(*harms: Harm) -> Harm:
    return lambda folder: [harm(folder) for harm in harms]


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: Any) -> Path:
    return save_small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture
def model(small_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_model, tmp_path / "base")


@pytest.fixture(scope="module")
def saved_adapter(small_model: Path, tmp_path_factory: Any) -> Path:
    """An adapter as a run saves it, on the tiny model."""
    import peft

    folder = tmp_path_factory.mktemp("run") / "adapter"
    config = ModelConfig(name_or_path=str(small_model))
    source = model_source(config, folder)
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False
    )
    base = load_base_model(source, config, QuantConfig())
    peft.get_peft_model(base, settings).save_pretrained(folder)
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    template = Template("{context}\n{question}\n{query}", "template")
    run = RunConfig(model=config)
    prompting = SavedPrompting.of(
        run, Encoder(tokenizer, template, Wrap.plain), base_model_fingerprint(source)
    )
    SavedPrompting(prompting.template, Wrap.plain, 2, config, QuantConfig(), prompting.base).save(
        folder
    )
    return folder


@pytest.fixture
def adapter(saved_adapter: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved_adapter, tmp_path / "adapter")


@pytest.fixture
def ask(tmp_path: Path):
    """Ask a saved adapter one question: ``ask(folder, "--base-model", place)``."""
    database = tmp_path / "x.sqlite"
    import sqlite3

    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE boats (id INTEGER)")
    connection.close()

    def start(folder: Path, *options: str) -> None:
        asked = ["--adapter", str(folder), "--db", str(database), "--question", "How many?"]
        predict.main([*asked, *options])

    return start


def load(folder: Path | str, quant: QuantMode = QuantMode.none, **settings: Any) -> Any:
    """All that training and predicting load of a base model."""
    config = ModelConfig(name_or_path=str(folder), **settings)
    source = model_source(config, Path("none"))
    model_window(source)
    load_tokenizer(source, None)
    return load_base_model(source, config, QuantConfig(mode=quant))


MISFITS = {
    "under a prefix": (
        weights(lambda s: {f"module.{k}": v for k, v in s.items()}),
        r"21 missing \(lm_head.*20 unexpected.*under module\.\*",
    ),
    "lacks a layer's attention": (
        weights(lambda s: {k: v for k, v in s.items() if "layers.1.self_attn" not in k}),
        r"4 missing \(model\.layers\.1\.self_attn\.k_proj\.weight",
    ),
    "too many layers asked for": (
        setting("config.json", num_hidden_layers=3),
        r"9 missing \(model\.layers\.2\.",
    ),
    "too few layers asked for": (
        setting("config.json", num_hidden_layers=1),
        r"9 unexpected \(model\.layers\.1\.",
    ),
    "no head, and it is not tied": (
        setting("config.json", tie_word_embeddings=False),
        r"1 missing \(lm_head\.weight\)",
    ),
    "neither of the tied": (
        weights(lambda s: {k: v for k, v in s.items() if "embed" not in k}),
        r"2 missing \(lm_head\.weight, model\.embed_tokens\.weight\)",
    ),
    "another vocabulary": (
        setting("config.json", vocab_size=1000),
        r"1 of another shape \(model\.embed_tokens\.weight \(stored \(257, 64\)",
    ),
    "another architecture": (
        setting("config.json", model_type="qwen2"),
        r"6 missing \(model\.layers\.0\.self_attn\.k_proj\.bias",
    ),
    "a classifier": (
        weights(lambda s: s | {"score.weight": torch.zeros(2, 64)}),
        r"1 unexpected \(score\.weight\)",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_weights_that_do_not_fit_are_refused_by_name(model, name):
    harm, said = MISFITS[name]
    harm(model)
    with pytest.raises(UserError, match=said) as refusal:
        load(model)
    assert str(refusal.value).startswith(f"model.name_or_path={model}: ")


@pytest.mark.parametrize("quant", [QuantMode.int4, QuantMode.int8])
def test_quantized_weights_that_are_missing_are_refused_by_name(model, quant):
    MISFITS["lacks a layer's attention"][0](model)
    with pytest.raises(UserError, match=r"4 missing \(model\.layers\.1\.self_attn"):
        load(model, quant)


@pytest.mark.parametrize(
    ("kind", "quant", "lost"),
    [
        ("4bit", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "self_attn.q_proj"),
        ("8bit", {"load_in_8bit": True}, "mlp.up_proj"),
    ],
)
def test_a_base_that_is_stored_quantized_lacks_nothing_unless_it_does(
    small_model, tmp_path, kind, quant, lost
):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = BitsAndBytesConfig(**quant)
    whole = AutoModelForCausalLM.from_pretrained(small_model, quantization_config=settings)
    whole.save_pretrained(tmp_path / kind)
    byte_tokenizer().save_pretrained(tmp_path / kind)
    load(tmp_path / kind)
    weights(lambda s: {k: v for k, v in s.items() if f"layers.1.{lost}" not in k})(tmp_path / kind)
    with pytest.raises(UserError, match=rf"1 missing \(model\.layers\.1\.{lost}\.weight\);"):
        load(tmp_path / kind)


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: None,
        sharded,
        weights(lambda s: {k.removeprefix("model."): v for k, v in s.items()}),
        weights(lambda s: s | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8)}),
        weights(lambda s: s | {"lm_head.weight": s["model.embed_tokens.weight"].clone()}),
    ],
    ids=["as it was", "in shards", "the backbone alone", "an old buffer", "a tied head stored too"],
)
def test_weights_that_fit_are_loaded(model, small_model, harm):
    expected = load(small_model).state_dict()
    harm(model)
    found = load(model).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def cached_by_the_hub(folder: Path, name: str, cache: Path, monkeypatch: Any) -> None:
    """Put a model where the hub's client keeps those that it has fetched."""
    from transformers.utils import hub

    place = cache / ("models--" + name.replace("/", "--"))
    commit = "a" * 40
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(folder, place / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(cache))


def test_a_model_of_the_hub_is_checked_alike(model, tmp_path, monkeypatch, small_model):
    cached_by_the_hub(model, "own/whole", tmp_path / "hub", monkeypatch)
    load("own/whole")
    weights_of = [
        base_model_fingerprint(model_source(ModelConfig(name_or_path=str(name)), tmp_path))
        for name in ("own/whole", small_model)
    ]
    assert weights_of[0] == weights_of[1] is not None
    MISFITS["lacks a layer's attention"][0](model)
    cached_by_the_hub(model, "own/half", tmp_path / "hub", monkeypatch)
    with pytest.raises(UserError, match=r"own/half: .* 4 missing \(model\.layers\.1"):
        load("own/half")
    pickled(WEIGHTS, "pytorch_model.bin")(model)
    cached_by_the_hub(model, "own/pickle", tmp_path / "hub", monkeypatch)
    with pytest.raises(UserError, match=r"own/pickle: .* model\.allow_pickle=true"):
        load("own/pickle")


BROKEN_MODELS = {
    "a pointer of Git LFS": (content(WEIGHTS, LFS), f"{WEIGHTS}: is a Git LFS pointer"),
    "half downloaded": (half(WEIGHTS), f"{WEIGHTS}: is no whole safetensors file"),
    "empty": (content(WEIGHTS, ""), f"{WEIGHTS}: is empty"),
    "garbage": (content(WEIGHTS, "garbage " * 9), f"{WEIGHTS}: is no whole safetensors file"),
    "a folder of its name": (a_folder(WEIGHTS), f"{WEIGHTS}: cannot be read"),
    "no weights": (gone(WEIGHTS), "has no weights"),
    "a shard is missing": (
        both(sharded, gone("model-00002-of-00002.safetensors")),
        "lacks model-00002-of-00002",
    ),
    "a shard is cut off": (
        both(sharded, half("model-00001-of-00002.safetensors")),
        "model-00001-of-00002.safetensors: is no whole",
    ),
    "an index of nothing": (
        both(sharded, content("model.safetensors.index.json", '{"weight_map": 5}')),
        "index.json: has no weight_map",
    ),
    "config is no JSON": (content("config.json", "{"), r"config\.json: is not valid JSON"),
    "config is a list": (content("config.json", "[]"), r"config\.json: holds list"),
    "config of another type": (setting("config.json", hidden_size="x"), "hidden_size"),
    "config that contradicts itself": (setting("config.json", num_attention_heads=7), "heads"),
    "config of an unknown model": (setting("config.json", model_type="nope"), "`nope`"),
    "tokenizer is garbage": (content("tokenizer.json", "x"), r"tokenizer\.json: is not valid JSON"),
    "tokenizer is cut off": (half("tokenizer.json"), r"tokenizer\.json: is not valid JSON"),
    "tokenizer of no kind": (setting("tokenizer.json", model={"type": "?"}), "tokenizer cannot be"),
    "an adapter beside it": (
        content("adapter_config.json", '{"peft_type": "LORA", "base_model_name_or_path": "a/b"}'),
        "holds an adapter",
    ),
    "attention of the hub": (setting("config.json", attn_implementation="own/code"), "own/code"),
}


@pytest.mark.parametrize("name", BROKEN_MODELS)
def test_a_broken_model_is_told_in_one_line(model, name):
    harm, said = BROKEN_MODELS[name]
    harm(model)
    with pytest.raises(UserError, match=said) as refusal:
        load(model)
    assert str(model) in str(refusal.value)


def test_a_broken_model_ends_the_plan_and_the_training_with_exit_code_2(model, train, refused):
    from qc_experiments.cli.plan import main as plan

    half(WEIGHTS)(model)
    place = f"model.name_or_path={model}"
    assert "is no whole safetensors file" in refused(train, place)
    overrides = ["model=hub", place, "tracking=none", f"paths.output={model.parent / 'out'}"]
    assert "is no whole safetensors file" in refused(plan, overrides)
    assert not (model.parent / "out").exists()


def test_weights_that_are_a_pickle_are_read_only_if_that_is_allowed(model, small_model, tmp_path):
    pickled(WEIGHTS, "pytorch_model.bin")(model)
    with pytest.raises(
        UserError, match=r"pytorch_model\.bin\) are a pickle.*model\.allow_pickle=true"
    ):
        load(model)
    found, expected = load(model, allow_pickle=True), load(small_model)
    assert all(map(torch.equal, found.parameters(), expected.parameters()))
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(UserError, match="holds something else than weights"):
        load(model, allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def without_lora_b(stored: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in stored.items() if "lora_B" not in name}


def other_layers(stored: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("layers.1", "layers.7"): value for name, value in stored.items()}


ADAPTER_MISFITS = {
    "under a prefix": (
        weights(lambda s: {f"module.{k}": v for k, v in s.items()}, ADAPTER),
        "28 missing .*28 unexpected",
    ),
    "other layers": (
        weights(other_layers, ADAPTER),
        r"14 missing \(model\.layers\.1\.mlp.*14 unexpected \(model\.layers\.7",
    ),
    "without B": (
        weights(without_lora_b, ADAPTER),
        r"14 missing \(model\.layers\.0\.mlp\.down_proj\.lora_B\.weight",
    ),
    "fewer targets": (setting("adapter_config.json", target_modules=["q_proj"]), "24 unexpected"),
    "another rank": (setting("adapter_config.json", r=2), "size mismatch.*lora_A"),
    "a rank of its own": (
        setting("adapter_config.json", rank_pattern={"q_proj": 3}),
        "size mismatch",
    ),
    "DoRA": (setting("adapter_config.json", use_dora=True), "14 missing .*lora_magnitude_vector"),
    "no such targets": (setting("adapter_config.json", target_modules=["nope"]), "nope"),
}


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("name", ADAPTER_MISFITS)
def test_an_adapter_that_does_not_fit_is_refused_by_name(adapter, small_model, name, trainable):
    harm, said = ADAPTER_MISFITS[name]
    harm(adapter)
    check_adapter_files(adapter, "here", allow_pickle=False)
    with pytest.raises(UserError, match=f"^here: .*{said}"):
        load_adapter(load(small_model), adapter, "here", trainable=trainable)


@pytest.mark.parametrize("trainable", [True, False])
def test_an_adapter_is_loaded_as_peft_does(saved_adapter, small_model, trainable):
    import peft

    expected = peft.PeftModel.from_pretrained(
        load(small_model), str(saved_adapter), is_trainable=trainable
    )
    found = load_adapter(load(small_model), saved_adapter, "here", trainable=trainable)
    assert type(found) is type(expected)
    for (name, one), (other, two) in zip(
        found.named_parameters(), expected.named_parameters(), strict=True
    ):
        assert (name, one.requires_grad) == (other, two.requires_grad)
        assert torch.equal(one, two)


BASE = {"name_or_path": "somewhere/else"}
BROKEN_ADAPTERS = {
    "weights are garbage": (content(ADAPTER, "garbage" * 9), f"{ADAPTER}: is no whole"),
    "weights are cut off": (half(ADAPTER), f"{ADAPTER}: is no whole"),
    "weights are a pointer": (content(ADAPTER, LFS), f"{ADAPTER}: is a Git LFS pointer"),
    "weights are empty": (content(ADAPTER, ""), f"{ADAPTER}: is empty"),
    "weights are a folder": (a_folder(ADAPTER), f"{ADAPTER}: cannot be read"),
    "no weights": (gone(ADAPTER), "has no weights"),
    "weights are a pickle": (pickled(ADAPTER, "adapter_model.bin"), "pickle.*--allow-pickle"),
    "no settings": (gone("adapter_config.json"), r"holds no adapter_config\.json"),
    "settings are garbage": (content("adapter_config.json", "x"), r"config\.json: is not valid"),
    "settings are a list": (content("adapter_config.json", "[]"), r"config\.json: holds list"),
    "settings without end": (content("adapter_config.json", "[" * 99999), "is not valid JSON"),
    "settings are binary": (content("adapter_config.json", b"\xff\x00"), "is not valid JSON"),
    "rank is a word": (setting("adapter_config.json", r="x"), 'r="x" must be'),
    "rank beyond all memory": (setting("adapter_config.json", r=10**11), "out of memory"),
    "rank is zero": (setting("adapter_config.json", r=0), "r=0 must be"),
    "alpha is no number": (
        setting("adapter_config.json", lora_alpha=float("nan")),
        "lora_alpha=NaN",
    ),
    "not LoRA": (setting("adapter_config.json", peft_type="IA3"), "IA3 adapter, not LoRA"),
    "a setting of tomorrow": (
        setting("adapter_config.json", use_foo=True),
        "does not know use_foo",
    ),
    "code by megatron": (
        setting("adapter_config.json", megatron_config={"a": 1}, megatron_core="evil"),
        "megatron_config must be null",
    ),
    "tokenizer is garbage": (content("tokenizer.json", "x"), r"tokenizer\.json: is not valid"),
    "tokenizer is a pointer": (content("tokenizer.json", LFS), r"tokenizer\.json: is a Git LFS"),
    "tokenizer of no kind": (setting("tokenizer.json", model={"type": "?"}), "tokenizer cannot be"),
    "no tokenizer": (gone("tokenizer.json", "tokenizer_config.json"), "has no tokenizer"),
    "settings of the tokenizer": (content("tokenizer_config.json", "[]"), "holds list"),
    "an end token of no kind": (setting("tokenizer_config.json", eos_token=5), "eos_token"),
    "chat template refuses": (
        both(
            setting("prompting.json", wrap="chat"),
            content("chat_template.jinja", "{{ raise_exception('no') }}"),
        ),
        "chat template .*TemplateError: no",
    ),
    "chat template is broken": (
        both(setting("prompting.json", wrap="chat"), content("chat_template.jinja", "{% for %}")),
        "chat template .*TemplateSyntaxError",
    ),
    "no prompting": (gone("prompting.json"), r"has no prompting\.json"),
    "prompting is garbage": (content("prompting.json", "{"), r"prompting\.json: is not valid"),
    "prompting is a list": (content("prompting.json", "[]"), r"prompting\.json: holds list"),
    "unknown wrap": (setting("prompting.json", wrap="?"), r'wrap="\?" must be one of plain, chat'),
    "unknown key": (setting("prompting.json", foo=1), "unknown key foo"),
    "negative answers": (setting("prompting.json", max_new_tokens=-4), "max_new_tokens=-4"),
    "wordy answers": (setting("prompting.json", max_new_tokens="4"), 'max_new_tokens="4"'),
    "true answers": (setting("prompting.json", max_new_tokens=True), "max_new_tokens=true"),
    "model is a list": (setting("prompting.json", model=[]), "model must be an object"),
    "model has an unknown key": (setting("prompting.json", model=BASE | {"a": 1}), r"model\.a: "),
    "model without a name": (setting("prompting.json", model={}), r"model\.name_or_path: "),
    "model out of the environment": (
        setting("prompting.json", model={"name_or_path": "${oc.env:HOME}"}),
        r"\$\{\.\.\.\}",
    ),
    "unknown number of bits": (setting("prompting.json", quant={"mode": "int3"}), r"quant\.mode: "),
    "unknown initialisation": (setting("prompting.json", lora={"init": "?"}), r"\.json: lora"),
    "base of another type": (setting("prompting.json", base=5), "base must be null"),
    "dialect is no text": (setting("prompting.json", dialect=5), "dialect=5 must be a text"),
    "template is gone": (gone("template.txt"), r"template\.txt: "),
}


@pytest.mark.parametrize("name", BROKEN_ADAPTERS)
def test_a_broken_adapter_is_told_in_one_line(adapter, ask, refused, name):
    import re

    harm, said = BROKEN_ADAPTERS[name]
    harm(adapter)
    assert re.search(said, refused(ask, adapter))


def test_a_broken_adapter_ends_the_plan_of_a_training(adapter, refused, small_model, tmp_path):
    from qc_experiments.cli.plan import main as plan

    overrides = ["model=hub", f"model.name_or_path={small_model}", f"model.adapter={adapter}"]
    overrides += ["lora.r=4", "lora.alpha=8", "tracking=none", f"paths.output={tmp_path / 'out'}"]
    for name in ("weights are cut off", "rank is a word", "a setting of tomorrow"):
        shutil.copytree(adapter, tmp_path / name)
        harm, said = BROKEN_ADAPTERS[name]
        harm(tmp_path / name)
        moved = [one.replace(str(adapter), f"'{tmp_path / name}'") for one in overrides]
        assert said in refused(plan, moved)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_with_more_tokens_than_the_model_is_told(adapter, ask, refused):
    larger = byte_tokenizer()
    larger.add_tokens(["How many"])
    larger.save_pretrained(adapter)
    assert "has a token 257, the model knows 257" in refused(ask, adapter)


def runs_code(folder: Path, ran: Path, **settings: Any) -> None:
    """Give a model code of its own, which leaves a file behind."""
    auto_map = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    setting("config.json", auto_map=auto_map, **settings)(folder)
    code = f"open({str(ran)!r}, 'w')\nfrom transformers import LlamaConfig as C, LlamaForCausalLM as M\n"
    (folder / "evil.py").write_text(code)


@pytest.mark.parametrize("model_type", ["evil", "llama"])
def test_an_adapter_cannot_allow_code(adapter, model, ask, refused, tmp_path, model_type):
    runs_code(model, tmp_path / "ran", model_type=model_type)
    place = {"name_or_path": str(model), "trust_remote_code": True, "allow_pickle": True}
    setting("prompting.json", model=place, base=None)(adapter)
    assert "--trust-remote-code" in refused(ask, adapter)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_cannot_run_code(adapter, ask, refused, tmp_path):
    auto_map = {"AutoTokenizer": ["evil.T", None]}
    setting("tokenizer_config.json", auto_map=auto_map, tokenizer_class="T")(adapter)
    (adapter / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass T: pass\n")
    assert "--trust-remote-code" in refused(ask, adapter)
    assert not (tmp_path / "ran").exists()


def test_an_adapter_cannot_choose_attention_of_the_hub(adapter, ask, refused, small_model):
    place = {"name_or_path": str(small_model), "attn_implementation": "own/code"}
    setting("prompting.json", model=place)(adapter)
    assert "--trust-remote-code" in refused(ask, adapter)


def test_an_adapter_that_is_a_pickle_runs_nothing(adapter, ask, refused, tmp_path, capsys):
    place = json.loads((adapter / "prompting.json").read_text())["model"]
    setting("prompting.json", model=place | {"allow_pickle": True})(adapter)
    pickled(ADAPTER, "adapter_model.bin")(adapter)
    assert "--allow-pickle" in refused(ask, adapter)
    ask(adapter, "--allow-pickle")
    capsys.readouterr()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    assert "something else than weights" in refused(ask, adapter, "--allow-pickle")
    assert not (tmp_path / "ran").exists()


def test_a_base_model_that_has_moved_is_found_where_it_is_now(
    adapter, model, ask, refused, small_model, tmp_path, capsys
):
    ask(adapter)
    expected = capsys.readouterr()
    place = json.loads((adapter / "prompting.json").read_text())["model"]
    setting("prompting.json", model=place | {"name_or_path": "/was/here"})(adapter)
    assert "base model /was/here: no such folder" in (said := refused(ask, adapter))
    assert "--base-model" in said
    sharded(model)  # the same weights in other files, and a config that was saved again
    setting("config.json", transformers_version="4.0", _name_or_path="x", new_default=1)(model)
    ask(adapter, "--base-model", str(model))
    found = capsys.readouterr()
    assert (found.out, found.err) == (expected.out, expected.err)
    assert "--base-model /not/here" in refused(ask, adapter, "--base-model", "/not/here")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            weights(lambda s: s | {k: v * 1.001 for k, v in s.items() if "1.mlp.up" in k}),
            "its weights",
        ),
        (
            setting("config.json", rms_norm_eps=0.1),
            "config.json has rms_norm_eps=0.1, then it was 1e-06",
        ),
    ],
)
def test_another_base_model_is_refused(adapter, model, ask, refused, harm, said):
    harm(model)
    assert said in refused(ask, adapter, "--base-model", str(model))


def test_a_base_model_that_was_changed_where_it_lies_is_refused(
    adapter, model, ask, refused, capsys
):
    place = json.loads((adapter / "prompting.json").read_text())["model"]
    setting("prompting.json", model=place | {"name_or_path": str(model)})(adapter)
    ask(adapter)
    capsys.readouterr()
    weights(lambda s: {k: v + 1e-4 for k, v in s.items()})(model)
    assert "is not the model on which" in refused(ask, adapter)


def test_an_adapter_of_before_still_loads_and_says_what_it_lacks(adapter, ask, capsys):
    old = json.loads((adapter / "prompting.json").read_text())
    del old["base"], old["lora"], old["model"]["allow_pickle"]
    (adapter / "prompting.json").write_text(json.dumps(old))
    ask(adapter)
    assert "does not say which weights its base model had" in capsys.readouterr().err


def test_a_run_writes_down_which_base_model_it_had(train, tiny_model, tmp_path):
    run = train(
        "trainer.max_steps=1", "data.limit=4", "evaluation.limit=1", "evaluation.base=false"
    )
    saved = SavedPrompting.load(run.folder / "adapter")
    source = model_source(ModelConfig(name_or_path=str(tiny_model)), tmp_path)
    assert saved.base == base_model_fingerprint(source) is not None
