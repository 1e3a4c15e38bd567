"""qc export: what is written answers as the run's own model does, or that is said."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.runs import ROOT
from helpers.slow import then_slow
from transformers import AutoModelForCausalLM, AutoTokenizer

from qc_experiments.cli import export as command
from qc_experiments.cli import predict
from qc_experiments.config.schema import LoraConfig, RunConfig, Wrap
from qc_experiments.data.encode import Encoder
from qc_experiments.data.template import Template
from qc_experiments.errors import UserError
from qc_experiments.export import hub
from qc_experiments.export.card import CardFacts, model_card
from qc_experiments.export.exact_prompt import ExactPrompt
from qc_experiments.export.run_files import read_run
from qc_experiments.models import base
from qc_experiments.models.saved import load_saved
from qc_experiments.system.files import csv_text, write_whole
from qc_experiments.system.locking import waiting_for


def exported(run, tmp_path, *options, name="exported"):
    target = tmp_path / name
    command.main([str(run.folder), "--to", str(target), *options])
    return target


@pytest.fixture(
    params=then_slow(
        ("quant=4bit",),
        ("lora.use_dora=true",),
        ("lora.use_rslora=true",),
        ("lora.init=pissa",),
        ("lora.target_modules=[q_proj,embed_tokens]",),
        ("lora=none", "trainer.learning_rate=1e-2"),
    ),
    ids=lambda given: given[0],
)
def variant(request, train):
    return train(*request.param, "trainer.learning_rate=3e-2")


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].float()


def test_every_way_to_train_is_merged_as_it_was_trained(variant, tmp_path):
    folder = exported(variant, tmp_path, "--type", "float32", "--check", "4")
    tokenizer, own, _ = load_saved(
        next(variant.folder / n for n in ("adapter", "model") if (variant.folder / n).exists()),
        tmp_path / "cache",
    )
    ids = tokenizer("Schema:\nCREATE TABLE a (b INTEGER)\nQuestion: How many?\nSQL:").input_ids
    found = logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), ids)
    wanted = logits(own, ids)
    rounded = "int4" in (folder / "README.md").read_text()
    assert float((found - wanted).abs().max()) < (2.0 if rounded else 0.02)


@pytest.mark.parametrize("lora", ["lora.r=2", "lora=none"])
def test_a_base_model_that_decodes_in_its_own_way_is_exported(train, tmp_path, tiny_model, lora):
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    own = {
        "do_sample": True,
        "temperature": 0.7,
        "min_p": 0.1,
        "typical_p": 0.9,
        "num_beams": 4,
        "num_return_sequences": 3,
        "length_penalty": 0.6,
        "early_stopping": True,
        "no_repeat_ngram_size": 3,
        "output_scores": True,
    }
    (folder / "generation_config.json").write_text(json.dumps(own))
    run = train(f"model.name_or_path={folder}", lora)
    folder = exported(run, tmp_path, "--check", "0")
    for saved in (folder, *run.folder.glob("model")):
        written = json.loads((saved / "generation_config.json").read_text())
        assert not own.keys() & {key for key, value in written.items() if value}


@pytest.mark.slow
def test_shares_of_other_questions_than_those_judged_have_no_count(train, tmp_path):
    with (ROOT / "qc_experiments" / "demo" / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:4]
    rows[0]["query"] = "SELECT nothing FROM nowhere"
    cells = [list(row.values()) for row in rows]
    write_whole(tmp_path / "held_out.csv", csv_text(list(rows[0]), cells))
    run = train(f"data.validation={tmp_path / 'held_out.csv'}")
    assert run.result["execution_count"] == 3
    card = (run.folder / "adapter" / "README.md").read_text(encoding="utf-8")
    lines = {line.split(" | ")[0].strip("| "): line for line in card.splitlines()}
    assert "(0 of 3; 0.0 to" in lines["execution accuracy"]
    assert " of " not in lines["exact match"] + lines["valid SQL"]
    folder = exported(run, tmp_path, "--check", "4")
    assert re.search(r"\d answers? of 3 written differently", (folder / "README.md").read_text())


def test_a_merged_model_is_asked_as_an_adapter_is(train, tmp_path, capsys):
    run = train()
    folder = exported(run, tmp_path, "--type", "float32", "--check", "4")
    out = capsys.readouterr().out
    assert re.search(
        r"on 4 held-out questions, greedy: .* in float32, .* by the export in float32, asked through tr",
        out,
    )
    assert "round differently" not in out
    assert "0 answers of 4 written differently" in out
    (tmp_path / "questions.csv").write_text(
        'question,context\nHow many?,"CREATE TABLE a (b INTEGER)"\n', encoding="utf-8"
    )
    answers = []
    for place in (run.folder / "adapter", folder):
        given = ["--input", str(tmp_path / "questions.csv"), "--output", str(tmp_path / "out.csv")]
        predict.main(["--adapter", str(place), *given, "--decoding", "greedy"])
        answers.append((tmp_path / "out.csv").read_text())
    assert answers[0] == answers[1]


def test_the_card_tells_figures_prompt_and_check(train, tmp_path):
    run = train("evaluation.limit=8")
    folder = exported(run, tmp_path, "--check", "8")
    card = (folder / "README.md").read_text(encoding="utf-8")
    prompt = (folder / "prompt.txt").read_text(encoding="utf-8")
    assert f"```text\n{prompt}\n```" in card
    correct, count = run.result["execution_correct"], run.result["execution_count"]
    assert f"({correct} of {count};" in card
    assert count == 8
    assert "\nOn 8 questions of validation.csv, answered greedily" in card
    assert re.search(
        r"\n- execution accuracy on 8 held-out questions, greedy: .* by the run's own", card
    )
    assert "McNemar's exact p" in card
    assert run.result["config_hash"][:12] in card
    assert str(tmp_path) not in card  # a card is for others
    told = json.loads((folder / "export.json").read_text())
    assert told["config_hash"] == run.result["config_hash"]


def test_a_run_has_its_card_from_the_start(train):
    run = train()
    card = (run.folder / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "More Information Needed" not in card
    assert "\nOn 4 questions of validation.csv, answered greedily" in card
    assert "PeftModel.from_pretrained" in card
    whole = train("lora=none")
    assert "all weights trained" in (whole.folder / "model" / "README.md").read_text()


def test_a_base_model_that_was_rounded_is_said_to_be(tokenizer):
    config = RunConfig(model=replace(RunConfig().model, name_or_path="packaged:qwen2.5-coder-0.5b"))
    prompt = ExactPrompt(
        Encoder(tokenizer, Template("{context} {question} {query}", "t"), Wrap.plain)
    )
    card = model_card(CardFacts("run", config, {}, {}, prompt), "adapter")
    assert "base_model: Qwen/Qwen2.5-Coder-0.5B-Instruct\nlicense: apache-2.0" in card
    assert "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf" in card
    assert "rounded to few bits" in card


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        (LoraConfig(r=4), " --enable-lora --max-lora-rank 8 --lora-modules sql=.`, then"),
        (LoraConfig(init="pissa"), " --max-lora-rank 32 "),
        (LoraConfig(r=65), " --max-lora-rank 128 "),
        (
            LoraConfig(use_dora=True),
            "vLLM takes no adapter of DoRA. `qc export` makes a whole model",
        ),
    ],
)
def test_the_card_tells_vllm_the_rank_that_was_saved(tokenizer, lora, said):
    template = Template("{context} {question} {query}", "t")
    prompt = ExactPrompt(Encoder(tokenizer, template, Wrap.plain))
    facts = CardFacts("run", replace(RunConfig(), lora=lora), {}, {}, prompt)
    card = model_card(facts, "adapter")
    assert said in card
    assert ("vllm serve" in card) is not lora.use_dora


@pytest.mark.parametrize(
    ("hint", "said"), [("", "Ollama, whose system message is"), ("{evidence}", "whole text above")]
)
def test_the_card_says_what_ollamas_prompt_is(tokenizer, hint, said):
    template = Template(f"{{context}} {hint} {{question}} {{query}}", "t")
    prompt = ExactPrompt(Encoder(tokenizer, template, Wrap.plain))
    config = RunConfig(model=replace(RunConfig().model, name_or_path="owner/model"))
    card = model_card(CardFacts("run", config, {}, {}, prompt), "gguf")
    assert said in card
    assert "The base model was read" not in card
    assert "n_ctx=1152)" in card


def test_the_card_says_of_which_shares_it_has_the_count(tokenizer):
    prompt = ExactPrompt(
        Encoder(tokenizer, Template("{context} {question} {query}", "t"), Wrap.plain)
    )
    result = {"execution_accuracy": 0.5, "execution_count": 4, "exact_match": 0.2}
    result |= {"repaired_execution_accuracy": 0.75, "candidate_recall": 0.75}
    counted, plain = (
        model_card(CardFacts("run", RunConfig(), facts, {}, prompt), "adapter")
        for facts in (result, {"exact_match": 0.2})
    )
    assert "| execution accuracy after one repair | 75.0 % (3 of 4; " in counted
    assert "(recall@k) | 75.0 % (3 of 4; " in counted
    assert "| exact match | 20.0 % |" in counted
    assert "a share with a count is of these questions" in counted
    assert "Wilson" not in plain


def test_an_exported_adapter_names_its_base_model_not_a_path(train, tmp_path):
    run = train()
    folder = exported(run, tmp_path, "--format", "adapter", "--check", "2")
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "tiny-llama"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "The base model was read from `tiny-llama`; where others can get it is not known" in card


def test_a_merged_model_ends_where_it_was_trained_to_and_needs_no_gpu(train, tmp_path, monkeypatch):
    run = train()
    monkeypatch.delattr(base, "training_device")
    folder = exported(run, tmp_path, "--check", "0")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    ends = settings["eos_token_id"]
    assert tokenizer.eos_token_id in (ends if isinstance(ends, list) else [ends])


def test_gguf_answers_in_llama_cpp(train, tmp_path, capsys):
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    run = train("model.dtype=float32")
    folder = exported(run, tmp_path, "--format", "gguf", "--type", "f32", "--check", "4")
    assert "0 answers of 4 written differently" in capsys.readouterr().out
    assert (folder / "Modelfile").read_text().startswith("FROM ./model.gguf\nTEMPLATE ")


def test_an_export_that_is_worse_beyond_chance_ends_with_1(train, tmp_path, monkeypatch, capsys):
    """The merged weights are spoilt on their way, as a wrong converter would."""
    from qc_experiments.evaluation.statistics import Paired
    from qc_experiments.export import export

    run = train("model.dtype=float32")
    real = export.compare_engines

    def much_worse(*arguments):
        return replace(real(*arguments), table=Paired(20, 30, 1, 49), different=100)

    monkeypatch.setattr(export, "compare_engines", much_worse)
    monkeypatch.setattr(hub, "check_push", lambda name: None)
    monkeypatch.delattr(hub, "push")
    with pytest.raises(SystemExit) as ended:
        exported(run, tmp_path, "--check", "4", "--push", "me/model")
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "the export is worse than the run's own model: -29.0 points" in said
    assert "at most (float32 and bfloat16 round differently)" in said
    assert "--push me/model: not done, as the export is worse; " in said
    assert f"hf upload --private me/model {tmp_path / 'exported'}\n" in said


BAD = {
    "no run": (["missing", "--to", "x"], "no such folder"),
    "a file in the way": (["RUN", "--to", "RUN"], "is there already"),
    "an unknown type": (["RUN", "--to", "x", "--type", "q3_k"], "the types are bfloat16, float32"),
    "a type of another format": (
        ["RUN", "--to", "x", "--format", "gguf", "--type", "bfloat16"],
        "the types are q8_0, f32",
    ),
    "a count below 0": (["RUN", "--to", "x", "--check", "-1"], "must be at least 0"),
}


def test_what_cannot_be_is_one_line(train, tmp_path, monkeypatch, capsys):
    run = train()
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    for name, (arguments, said) in BAD.items():
        with pytest.raises(SystemExit) as ended:
            command.main([str(run.folder) if one == "RUN" else one for one in arguments])
        assert ended.value.code == 2, name
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
        assert not (tmp_path / "x").exists()


def no_room(*_: object, **__: object) -> None:
    raise MemoryError


def test_memory_that_runs_out_is_told_with_what_the_command_can_change(
    train, tmp_path, monkeypatch, refused
):
    run = train()
    monkeypatch.setattr(base, "_loaded", no_room)
    said = refused(exported, run, tmp_path, "--check", "0")
    assert said.endswith("take a machine with more, or --format adapter")
    with pytest.raises(UserError, match=r"computed: take a machine with more$"):
        load_saved(run.folder / "adapter", tmp_path / "cache")


def test_a_base_model_that_is_gone_or_changed_is_one_line(train, tmp_path, tiny_model, capsys):
    moved = tmp_path / "base"
    shutil.copytree(tiny_model, moved)
    run = train(f"model.name_or_path={moved}")
    shutil.rmtree(moved)
    with pytest.raises(SystemExit):
        exported(run, tmp_path, "--check", "0")
    assert "--base-model" in capsys.readouterr().err
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    with pytest.raises(SystemExit):
        exported(run, tmp_path, "--check", "0", "--base-model", str(other))
    assert "is not the model on which" in capsys.readouterr().err
    assert not (tmp_path / "exported").exists()
    exported(run, tmp_path, "--check", "0", "--base-model", str(tiny_model))


@pytest.mark.slow
def test_fewer_held_out_questions_than_the_check_asks_for_are_said(train, tmp_path, capsys):
    run = train()
    exported(run, tmp_path, "--check", "4", name="enough")
    assert "--check" not in capsys.readouterr().err
    exported(run, tmp_path, "--check", "5", name="fewer")
    said = "warning: --check 5: the run has 4 held-out questions, all of which are asked\n"
    assert said in capsys.readouterr().err


def test_an_adapter_is_copied_without_its_base_model_and_what_a_kill_left_goes(
    train, tmp_path, tiny_model
):
    moved = tmp_path / "base"
    shutil.copytree(tiny_model, moved)
    run = train(f"model.name_or_path={moved}")
    shutil.rmtree(moved)
    for name in ("killed", "at_work"):
        (tmp_path / f".exporting-{name}").mkdir()
    with waiting_for(tmp_path / ".exporting-at_work"):
        folder = exported(run, tmp_path, "--format", "adapter", "--check", "0")
    assert (folder / "adapter_model.safetensors").exists()
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "base"
    assert [path.name for path in tmp_path.glob(".exporting*")] == [".exporting-at_work"]


def test_questions_that_are_gone_or_others_leave_nothing_half_written(train, tmp_path, capsys):
    rows = tmp_path / "rows.csv"
    lines = [f'How many {n}?,SELECT {n},"CREATE TABLE a (b INTEGER)"' for n in range(40)]
    lines, more = lines[:20], lines[20:]
    rows.write_text("\n".join(["question,query,context", *lines]), encoding="utf-8")
    run = train("data=csv", f"data.train={rows}")
    rows.write_text("\n".join(["question,query,context", *lines, *more]), encoding="utf-8")
    with pytest.raises(SystemExit):
        exported(run, tmp_path)
    assert "no longer gives the rows that the run was trained on" in capsys.readouterr().err
    rows.unlink()
    with pytest.raises(SystemExit):
        exported(run, tmp_path)
    assert "--check 0" in capsys.readouterr().err
    assert not [
        name for name in os.listdir(tmp_path) if name.startswith((".exporting", "exported"))
    ]
    exported(run, tmp_path, "--check", "0")


def test_a_run_is_known_by_its_name_wherever_one_stands(train, monkeypatch):
    run = train()
    for place, given in ((".", "."), (".", "adapter"), ("adapter", "."), ("adapter", "..")):
        monkeypatch.chdir(run.folder / place)
        assert read_run(Path(given)).folder == run.folder


def test_an_unfinished_run_is_not_exported(train, tmp_path, capsys):
    run = train()
    (run.folder / "result.json").unlink()
    with pytest.raises(SystemExit):
        exported(run, tmp_path)
    assert "has not finished" in capsys.readouterr().err


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(train, tmp_path, capsys):
    run = train()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        for kind in ("merged", "gguf"):
            with pytest.raises(SystemExit) as ended:
                exported(run, tmp_path, "--format", kind, "--check", "0")
            assert ended.value.code == 2
            assert "cannot be written" in capsys.readouterr().err
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [
        name for name in os.listdir(tmp_path) if name.startswith((".exporting", "exported"))
    ]
