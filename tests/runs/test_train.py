"""One run from CSV to adapter, with a tiny random model: what it leaves behind, and that it is true."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from helpers.runs import (
    ROOT,
    TINY_TRAINING,
    Run,
    adapter_weights,
    determined,
    losses_by_plain_peft,
    run_folders,
)
from helpers.slow import then_slow

from qc_experiments.cli import evaluate as evaluation_command
from qc_experiments.cli import predict
from qc_experiments.cli.train import main
from qc_experiments.config.metrics import RESULT
from qc_experiments.config.schema import Rerun, RunConfig, SweepConfig
from qc_experiments.errors import UserError
from qc_experiments.evaluation.metrics import VERDICT_COLUMNS
from qc_experiments.records.folder import Identity, RunFolder
from qc_experiments.records.results import read_environment
from qc_experiments.runs import earlier
from qc_experiments.runs.summary import PREDICTION_COLUMNS
from qc_experiments.system.files import csv_text
from qc_experiments.training.optimizers import check_optimizer

DEMO = ROOT / "qc_experiments" / "demo"


def test_a_run_leaves_everything_behind(train):
    run = train()
    result = run.result
    assert tuple(result) == tuple(RESULT)
    assert result["status"] == "finished"
    assert result["steps"] == 3
    assert result["examples"] == 16
    assert result["execution_count"] == 4
    assert result["eval_loss"] < result["base_eval_loss"]
    assert result["parameters_trainable"] < result["parameters_total"]
    for name in ("config.yaml", "environment.json", "metrics.jsonl", "train.log", "summary.txt"):
        assert (run.folder / name).stat().st_size > 0
    assert [line["step"] for line in run.metrics] == [1, 2, 3]
    assert all(math.isfinite(line["loss"]) for line in run.metrics)
    rows = run.rows()
    assert tuple(rows[0]) == (*PREDICTION_COLUMNS, "confidence", *VERDICT_COLUMNS)
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    report = json.loads((run.folder / "report.json").read_text())
    assert report["figures"]["execution_accuracy"]["count"] == 4
    assert report["confidence"]["count"] == 4
    assert "confidence, " not in (run.folder / "summary.txt").read_text()  # four say nothing
    for name in ("accuracy.png", "confidence.png"):
        assert (run.folder / name).read_bytes().startswith(b"\x89PNG")
    assert len(rows) == 4
    assert {row["correct"] for row in rows} <= {"0", "1"}
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0] or (
        environment["packages"]["torch"] == torch.__version__
    )
    hidden = {path.name for path in run.folder.iterdir() if path.name.startswith(".")}
    assert hidden <= {".lock"}


def test_the_adapter_loads_with_plain_peft_and_is_what_was_measured(train, tiny_model):
    run = train("trainer.max_steps=6")
    loss, base_loss = losses_by_plain_peft(run, tiny_model)
    assert loss == pytest.approx(run.result["eval_loss"], rel=1e-5)
    assert base_loss == pytest.approx(run.result["base_eval_loss"], rel=1e-5)
    assert run.result["eval_loss"] < run.result["base_eval_loss"] - 0.01


def test_the_adapter_and_not_the_base_answers_the_questions(train, tiny_model):
    """What stands in predictions.csv is what plain transformers and PEFT write with the adapter."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from qc_experiments.data.template import read_template
    from qc_experiments.sql.extraction import extract_sql

    run = train("trainer.max_steps=30", "trainer.learning_rate=1e-2")
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "adapter")
    model = PeftModel.from_pretrained(base, str(run.folder / "adapter")).eval()
    template = read_template(run.folder / "adapter" / "template.txt")

    def answers() -> list[str]:
        written = []
        for row in run.rows():
            prompt = tokenizer(
                template.prompt(row["context"], row["question"]), return_tensors="pt"
            )
            output = model.generate(**prompt, max_new_tokens=8, do_sample=False)
            text = output[0, prompt.input_ids.shape[1] :]
            written.append(extract_sql(tokenizer.decode(text, skip_special_tokens=True)))
        return written

    assert [row["prediction"] for row in run.rows()] == answers()
    with model.disable_adapter():
        assert [row["prediction"] for row in run.rows("base_predictions.csv")] == answers()
    assert [row["prediction"] for row in run.rows()] != [
        row["prediction"] for row in run.rows("base_predictions.csv")
    ]


def test_candidates_choice_repair_and_perturbed_databases_in_a_run(train, tmp_path):
    settings = (
        "evaluation.candidates=3",
        "evaluation.temperature=0.8",
        "evaluation.choose=majority",
        "evaluation.repair=1",
        "evaluation.fuzz=2",
    )
    one = train(*settings, output=tmp_path / "one")
    other = train(*settings, "evaluation.batch_size=2", output=tmp_path / "two")
    assert one.result["repaired_execution_accuracy"] is not None
    assert one.result["fuzz_accuracy"] is not None
    assert one.result["base_execution_accuracy"] is not None
    first, second = one.rows(), other.rows()
    assert {"repaired_prediction", "repaired_correct"} <= set(first[0])
    # What is sampled depends on the seed and the prompt, not on what is computed beside it.
    assert [row["prediction"] for row in first] == [row["prediction"] for row in second]


def test_a_run_and_an_evaluation_of_its_predictions_agree_and_compare(train, tmp_path):
    run = train()
    arguments = [str(run.folder / "predictions.csv"), "--databases", str(DEMO / "databases")]
    output = tmp_path / "judged"
    evaluation_command.main([*arguments, "--output", str(output), "--against", str(run.folder)])
    report = json.loads((output / "report.json").read_text())
    in_run = json.loads((run.folder / "report.json").read_text())
    assert report["judged_on"] == in_run["judged_on"]
    assert report["figures"] == in_run["figures"]
    assert report["against"]["count"] == 4
    assert report["against"]["difference"] == 0


def test_a_finished_run_started_again_prints_its_result_and_computes_nothing(train, capsys):
    first = train()
    before = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*")}
    capsys.readouterr()
    assert train().folder == first.folder
    assert {p: p.stat().st_mtime_ns for p in first.folder.rglob("*")} == before
    printed = capsys.readouterr().out
    assert "validation loss" in printed
    assert "has finished before" in printed


def test_the_same_command_gives_the_same_figures(train, tmp_path):
    dropout = "lora.dropout=0.1"
    one = train(dropout, output=tmp_path / "one")
    two = train(dropout, output=tmp_path / "two")
    assert determined(one.result) == determined(two.result)
    assert one.metrics == two.metrics
    left, right = adapter_weights(one.folder), adapter_weights(two.folder)
    assert all(torch.equal(left[name], right[name]) for name in left)
    other = train(dropout, "seed=7", output=tmp_path / "three")
    assert other.result["eval_loss"] != one.result["eval_loss"]


def test_accumulated_micro_batches_give_the_gradients_of_one_batch(train, tmp_path):
    whole = train(
        "trainer.per_device_train_batch_size=8",
        "trainer.max_steps=2",
        output=tmp_path / "whole",
    )
    parts = train(
        "trainer.per_device_train_batch_size=2",
        "trainer.gradient_accumulation_steps=4",
        "trainer.max_steps=2",
        output=tmp_path / "parts",
    )
    for one, other in zip(whole.metrics, parts.metrics, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
    left, right = adapter_weights(whole.folder), adapter_weights(parts.folder)
    for name in left:
        assert torch.allclose(left[name], right[name], atol=2e-4), name


def test_an_effective_batch_held_fixed_sets_the_micro_batch(train, capsys):
    train(
        "trainer.per_device_train_batch_size=null",
        "trainer.effective_batch_size=8",
        "trainer.gradient_accumulation_steps=4",
        "trainer.max_steps=1",
    )
    assert "2 rows x 4 accumulation steps x 1 device = 8 rows per step" in capsys.readouterr().out


def test_default_and_seq2seq_train_alike(train, tmp_path):
    seq2seq = train("collator=seq2seq", output=tmp_path / "seq2seq")
    default = train("collator=default", output=tmp_path / "default")
    for one, other in zip(seq2seq.metrics, default.metrics, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert seq2seq.result["label_tokens"] == default.result["label_tokens"]
    assert seq2seq.result["eval_loss"] == pytest.approx(default.result["eval_loss"], rel=1e-4)


@pytest.mark.slow
def test_language_modeling_and_seq2seq_on_the_whole_text_train_alike(train, tmp_path):
    whole = train("collator=language_modeling", output=tmp_path / "lm")
    same = train("collator=seq2seq", "data.loss_on=full", output=tmp_path / "seq2seq")
    completion = train("collator=seq2seq", output=tmp_path / "completion")
    for one, other in zip(whole.metrics, same.metrics, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert whole.result["label_tokens"] > 3 * completion.result["label_tokens"]
    # The base model's validation loss is on the SQL only, whatever a run trains on.
    assert whole.result["base_eval_loss"] == completion.result["base_eval_loss"]


@pytest.mark.parametrize("mode", ["4bit", "8bit"])
def test_quantized_base_weights_are_trained_on_the_cpu(train, mode):
    run = train(f"quant={mode}", "lora.dropout=0", "trainer.max_steps=6")
    assert run.result["eval_loss"] < run.result["base_eval_loss"]
    trained = [w for name, w in adapter_weights(run.folder).items() if "lora_B" in name]
    assert any(float(weight.abs().max()) > 0 for weight in trained)


def test_the_base_weights_really_are_stored_in_4_bits(tiny_model, tmp_path):
    import bitsandbytes

    from qc_experiments.config.schema import ModelConfig, QuantConfig, QuantMode
    from qc_experiments.models.base import load_base_model, model_source

    config = ModelConfig(name_or_path=str(tiny_model))
    source = model_source(config, tmp_path)
    model = load_base_model(source, config, QuantConfig(mode=QuantMode.int4))
    layers = [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 14
    assert {layer.weight.quant_state.quant_type for layer in layers} == {"nf4"}


def test_4_bit_layers_give_the_same_gradients_after_an_evaluation_as_before(
    tiny_model, tokenizer, tmp_path
):
    from qc_experiments.config.schema import LoraConfig, ModelConfig, QuantConfig, QuantMode
    from qc_experiments.models.base import load_base_model, model_source
    from qc_experiments.models.lora import add_adapter
    from qc_experiments.models.loss import summed_loss

    config = ModelConfig(name_or_path=str(tiny_model))
    quant = QuantConfig(mode=QuantMode.int4)
    torch.manual_seed(0)
    model = load_base_model(model_source(config, tmp_path), config, quant)
    model = add_adapter(model, LoraConfig(r=2, dropout=0), gradient_checkpointing=False)
    ids = tokenizer("SELECT name FROM book", return_tensors="pt").input_ids
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}

    def gradients() -> list[torch.Tensor]:
        model.train()
        model.zero_grad()
        summed_loss(model, batch).backward()
        return [p.grad.clone() for n, p in model.named_parameters() if "lora_B" in n]

    before = gradients()
    model.eval()
    with torch.no_grad():
        model(ids)
    after = gradients()
    assert len(before) == 14
    assert all(float(one.abs().max()) > 0 for one in before)
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)


def test_full_fine_tuning_saves_a_model_that_predicts(train, capsys):
    run = train("lora=none", "trainer.learning_rate=1e-3")
    assert run.result["parameters_trainable"] == run.result["parameters_total"]
    assert run.result["eval_loss"] < run.result["base_eval_loss"]
    assert (run.folder / "model" / "model.safetensors").is_file()
    modes = {path.stat().st_mode for path in (run.folder / "model").iterdir()}
    assert len(modes) == 1  # whoever serves a model reads its weights as well
    capsys.readouterr()
    database = str(DEMO / "databases" / "shop" / "shop.sqlite")
    predict.main(
        ["--adapter", str(run.folder / "model"), "--db", database, "--question", "How many?"]
    )
    assert len(capsys.readouterr().out.splitlines()) >= 1


@pytest.mark.parametrize(
    "init", then_slow("pissa", "olora", "pissa_niter_16", "gaussian", "orthogonal")
)
def test_every_initialisation_saves_an_adapter_for_the_unchanged_base(train, tiny_model, init):
    run = train(f"lora.init={init}", "trainer.learning_rate=1e-3")
    loss, _ = losses_by_plain_peft(run, tiny_model)
    assert loss == pytest.approx(run.result["eval_loss"], rel=1e-4)


@pytest.mark.parametrize(
    "option", then_slow("lora=dora", "lora=rslora", "lora.target_modules=attention")
)
def test_lora_variants_train(train, option):
    run = train(option, "lora.r=4")
    assert run.result["eval_loss"] < run.result["base_eval_loss"]
    config = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())
    assert config["use_dora"] == (option == "lora=dora")
    assert config["use_rslora"] == (option == "lora=rslora")
    if "attention" in option:
        assert sorted(config["target_modules"]) == ["k_proj", "o_proj", "q_proj", "v_proj"]


def test_gradient_checkpointing_changes_no_figure(train, tmp_path):
    plain = train(output=tmp_path / "plain")
    saving = train("trainer.gradient_checkpointing=true", output=tmp_path / "saving")
    assert plain.result["eval_loss"] == pytest.approx(saving.result["eval_loss"], rel=1e-5)


def test_training_continues_from_a_saved_adapter(train, refused, tiny_model, tmp_path):
    first = train(output=tmp_path / "first")
    adapter = f"model.adapter={first.folder / 'adapter'}"
    second = train(adapter, output=tmp_path / "second")
    assert second.metrics[0]["loss"] < first.metrics[0]["loss"]
    assert second.result["eval_loss"] < first.result["eval_loss"]
    # The base model, not the adapter that it starts from, is what the gain is measured against.
    assert second.result["base_eval_loss"] == first.result["base_eval_loss"]
    note = "base model: without the adapter that the run goes on from"
    assert note in (second.folder / "summary.txt").read_text()
    assert note not in (first.folder / "summary.txt").read_text()
    line = refused(train, adapter, "lora.r=8")
    assert "r=4" in line
    assert "lora.r=4" in line


def test_without_training_the_model_is_measured_as_it_is(train, capsys):
    run = train("trainer.max_steps=0")
    printed = capsys.readouterr().out
    assert "nothing is trained" in printed
    assert "Trains " not in printed
    assert run.result["steps"] == 0
    assert run.result["eval_loss"] == run.result["base_eval_loss"]
    assert run.result["examples_per_second"] is None
    assert not (run.folder / "adapter").exists()
    head = (run.folder / "summary.txt").read_text().splitlines()[2]
    assert head.rstrip().endswith("  not trained")
    assert "adapter" not in (run.folder / "summary.txt").read_text()


@pytest.mark.parametrize("option", ["lora=none", "lora.init=olora"])
def test_whatever_is_not_trained_is_not_called_trained(train, option):
    run = train("trainer.max_steps=0", option, "evaluation.limit=1", "evaluation.base=false")
    text = (run.folder / "summary.txt").read_text().replace(str(run.folder), "")
    assert "not trained" in text
    assert "adapter" not in text
    assert "fine-tuned" not in text


def test_an_adapter_that_is_not_trained_further_is_called_so(train, tmp_path, capsys):
    first = train("trainer.max_steps=1", "data.limit=4", output=tmp_path / "first")
    adapter = first.folder / "adapter"
    # A warm-up, which begins with a learning rate of 0, would have left the only step without effect.
    assert all(w.any() for name, w in adapter_weights(first.folder).items() if "lora_B" in name)
    capsys.readouterr()
    run = train(f"model.adapter={adapter}", "trainer.max_steps=0", output=tmp_path / "second")
    assert run.result["eval_loss"] == pytest.approx(first.result["eval_loss"], rel=1e-5)
    assert "adapter as loaded" in (run.folder / "summary.txt").read_text()
    assert f"of {adapter} as it is" in capsys.readouterr().out


def test_without_databases_exact_match_and_validity_are_measured(train):
    run = train("data.databases=null")
    assert run.result["execution_accuracy"] is None
    assert run.result["execution_count"] is None
    assert run.result["exact_match"] is not None
    assert run.result["valid_sql"] is not None
    assert {row["correct"] for row in run.rows()} == {""}


def test_without_databases_the_sql_of_another_engine_is_not_held_to_sqlites(train, refused):
    """It was tried in SQLite, which knows no ILIKE, and counted as not valid."""
    given = ("data.databases=null", "data.engine=postgresql")
    run = train(*given)
    assert run.result["valid_sql"] is None
    assert run.result["exact_match"] is not None
    chosen = ("trainer.eval_strategy=epoch", "trainer.metric_for_best_model=valid_sql")
    assert "all 4 rows have no database" in refused(train, *given, *chosen)


@pytest.mark.parametrize("metric", then_slow("execution_accuracy", "eval_loss"))
def test_the_best_checkpoint_becomes_the_adapter(train, metric):
    run = train(
        "collator=seq2seq",  # whose order of rows gets worse at once
        "trainer.max_steps=6",
        "trainer.learning_rate=3e-1",
        "trainer.lr_scheduler_type=constant",
        "trainer.warmup_steps=0",
        "trainer.eval_strategy=steps",
        "trainer.eval_steps=1",
        "trainer.save_strategy=steps",
        "trainer.save_steps=1",
        "trainer.load_best_model_at_end=true",
        f"trainer.metric_for_best_model={metric}",
        "evaluation.during_training=2",
    )
    losses = [line["eval_loss"] for line in run.metrics if "eval_loss" in line]
    assert len(losses) == 6
    if metric == "eval_loss":
        assert min(losses) < losses[-1]
        assert run.result["eval_loss"] == pytest.approx(min(losses), rel=1e-6)
    else:
        found = [line for line in run.metrics if "eval_execution_accuracy" in line]
        assert len(found) == 6


def test_early_stopping_ends_the_training(train):
    run = train(
        "trainer.max_steps=20",
        "trainer.learning_rate=3e-1",
        "trainer.lr_scheduler_type=constant",
        "trainer.eval_strategy=steps",
        "trainer.eval_steps=1",
        "trainer.save_strategy=steps",
        "trainer.save_steps=1",
        "trainer.load_best_model_at_end=true",
        "trainer.early_stopping_patience=2",
    )
    assert run.result["steps"] < 20


def test_an_interrupted_training_goes_on_from_its_checkpoint(train, monkeypatch, capsys):
    from qc_experiments.training.callbacks import ReportCallback

    settings = ("trainer.save_strategy=steps", "trainer.save_steps=2", "trainer.max_steps=5")
    original = ReportCallback.on_log

    def interrupt(self, args, state, control, **rest):
        original(self, args, state, control, **rest)
        if state.global_step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(ReportCallback, "on_log", interrupt)
    with pytest.raises(SystemExit) as stopped:
        train(*settings)
    assert stopped.value.code == 130
    monkeypatch.setattr(ReportCallback, "on_log", original)
    capsys.readouterr()
    run = train(*settings)
    assert run.result["status"] == "finished"
    assert [line["step"] for line in run.metrics] == [1, 2, 3, 4, 5]
    printed = capsys.readouterr().out
    assert "step    3/5" in printed  # the checkpoint is that of step 2
    assert "step    2/5" not in printed


def test_a_failing_run_says_so_and_can_be_started_again(train, monkeypatch, tmp_path):
    from qc_experiments.evaluation.evaluator import Evaluator

    original = Evaluator.measure

    def broken(self, *arguments):
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr(Evaluator, "measure", broken)
    with pytest.raises(RuntimeError, match="on fire"):
        train()
    run = Run(run_folders(tmp_path / "outputs")[0])
    assert run.result["status"] == "failed"
    assert "on fire" in run.result["error"]
    assert "Traceback" in (run.folder / "train.log").read_text()
    monkeypatch.setattr(Evaluator, "measure", original)
    assert train().result["status"] == "finished"


def test_a_sweep_runs_every_job_and_names_those_that_fail(
    tiny_model, tmp_path, monkeypatch, capsys
):
    # Modules of the folder at hand are not those of the sweep, whose jobs run in another process.
    place = tmp_path / "place"
    (place / "qc_experiments" / "demo").mkdir(parents=True)  # as in a folder of checkouts
    (place / "csv.py").write_text("raise RuntimeError('another csv')")
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "-m",
                "model=hub",
                f"model.name_or_path={tiny_model}",
                "tracking=none",
                f"paths.output={tmp_path}",
                *(o for o in TINY_TRAINING if not o.startswith("lora.r=")),
                "lora.r=2,4",
                "lora.target_modules=all-linear,[no_such_layer]",
            ]
        )
    assert stopped.value.code == 1
    finished = [Run(folder) for folder in run_folders(tmp_path)]
    # What the plan refuses leaves no folder behind.
    assert [run.result["status"] for run in finished] == ["finished", "finished"]
    err = capsys.readouterr().err
    assert "2 jobs failed" in err
    assert "no_such_layer" in err
    assert "Traceback" not in err


def test_a_figure_that_is_no_number_is_null_and_the_run_has_finished(tmp_path, caplog):
    folder = RunFolder(tmp_path, Identity("run", "h" * 64))
    folder.result({"status": "finished", "config_hash": "h" * 64, "eval_loss": math.nan})
    assert folder.finished()["eval_loss"] is None
    assert "eval_loss is nan: it stands as null in result.json" in caplog.text


def test_rows_that_do_not_fit_are_counted_never_cut(train, refused, capsys):
    run = train("data.max_length=150")
    longest = [line for line in capsys.readouterr().err.splitlines() if "longer than" in line]
    assert len(longest) == 1
    assert run.result["examples"] < 16
    assert "max_length=150" in (run.folder / "train.log").read_text() or longest
    assert "data.max_length" in refused(train, "data.max_length=150", "data.too_long=error")
    assert "no row is left" in refused(train, "data.max_length=20")


def test_a_max_length_beyond_the_models_window_is_refused(train, refused):
    assert "window of 2048" in refused(train, "data.max_length=4096")


def test_an_output_folder_that_cannot_be_used_is_refused(train, refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "paths.output" in refused(lambda: train(output=tmp_path / "file" / "below"))
    sweep = lambda: train("-m", "seed=1,2", output=tmp_path / "file" / "below")  # noqa: E731
    assert "paths.output" in refused(sweep)
    run = train(output=tmp_path / "ours")
    for path in run.folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (run.folder / "letter.txt").write_text("dear diary")
    assert "holds something else" in refused(lambda: train(output=tmp_path / "ours"))
    assert [path.name for path in run.folder.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("missing", ["config.json", "tokenizer", "weights"])
def test_an_incomplete_model_folder_is_refused(tiny_model, tmp_path, refused, missing):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    for path in list(folder.iterdir()):
        if missing in path.name or (missing == "weights" and path.suffix == ".safetensors"):
            path.unlink()
    output = tmp_path / "outputs"
    line = refused(main, ["model=hub", f"model.name_or_path={folder}", f"paths.output={output}"])
    assert missing in line
    assert str(folder) in line
    assert not output.exists()


def test_a_model_that_is_not_there_is_refused(tmp_path, refused):
    output = f"paths.output={tmp_path / 'outputs'}"
    assert "no such folder" in refused(main, ["model=hub", "model.name_or_path=/no/where", output])
    # A hub id without a hub: the real loading code runs and fails.
    line = refused(main, ["model=qwen2.5-coder-0.5b", output])
    assert "Qwen/Qwen2.5-Coder-0.5B-Instruct" in line
    assert not (tmp_path / "outputs").exists()


def test_predictions_from_the_saved_adapter_alone(train, tmp_path, capsys, refused):
    run = train()
    adapter = str(run.folder / "adapter")
    database = str(DEMO / "databases" / "library" / "library.sqlite")
    questions = tmp_path / "questions.csv"
    with questions.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "question"])
        writer.writerows([[1, "How many books?"], [2, "Which, if any, are new?"]])
    output = tmp_path / "answers.csv"
    predict.main(
        ["--adapter", adapter, "--db", database, "--input", str(questions), "--output", str(output)]
    )
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["1", "2"]
    assert list(rows[0]) == ["id", "question", "prediction", "confidence"]
    # The run's own held-out rows, asked again, are answered as the run answered them.
    predict.main(
        [
            "--adapter",
            adapter,
            "--input",
            str(run.folder / "predictions.csv"),
            "--output",
            str(output),
            "--decoding",
            "greedy",
        ]
    )
    with output.open(newline="") as file:
        again = [row["prediction"] for row in csv.DictReader(file)]
    assert again == [row["prediction"] for row in run.rows()]
    renamed = tmp_path / "renamed.csv"
    renamed.write_text(questions.read_text().replace("id,question", "id,frage"))
    asked = ["--adapter", adapter, "--db", database, "--input", str(renamed)]
    assert "--question-column" in refused(predict.main, [*asked, "--output", str(output)])
    renamed.write_text("frage,frage\nHow many books?,How many clinics?\n")
    twice = [*asked, "--output", str(output), "--question-column", "frage"]
    assert "frage twice" in refused(predict.main, twice)
    renamed.write_text(questions.read_text().replace("id,question", "id,frage"))
    predict.main([*asked, "--output", str(output), "--question-column", "frage"])
    with output.open(newline="") as file:
        assert [row["frage"] for row in csv.DictReader(file)] == [row["question"] for row in rows]
    capsys.readouterr()
    for bad in (
        ["--adapter", str(tmp_path / "nothing"), "--db", database, "--question", "x"],
        ["--adapter", str(tmp_path), "--db", database, "--question", "x"],
        ["--adapter", adapter, "--question", "x"],
        ["--adapter", adapter, "--db", str(tmp_path / "no.sqlite"), "--question", "x"],
        ["--adapter", adapter, "--db", str(questions), "--question", "x"],
        ["--adapter", adapter, "--input", str(questions), "--output", str(output)],
        ["--adapter", adapter, "--db", database, "--input", str(questions)],
    ):
        assert refused(predict.main, bad)


def test_chat_prompting_trains_and_predicts(train, capsys):
    run = train("model.wrap=chat")
    assert run.result["eval_loss"] < run.result["base_eval_loss"]
    saved = json.loads((run.folder / "adapter" / "prompting.json").read_text())
    assert saved["wrap"] == "chat"


def test_what_a_kill_leaves_of_a_folder_that_is_emptied_is_not_gone_on_from(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run", Identity("run", "h" * 64))
    (folder / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    (folder / "adapter").mkdir()
    folder.write_json("environment.json", {"config_hash": "h" * 64})
    folder.result({"status": "finished", "config_hash": "h" * 64, "seed": 1})

    def killed(self: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.empty()
    monkeypatch.undo()
    assert not (folder / "checkpoints").exists()
    folder.empty()
    assert [path.name for path in folder.path.iterdir()] == []


def test_runs_that_are_not_asked_the_same_questions_are_not_ranked_together(train, tmp_path):
    """As a model's window has it, into which not all of the held-out rows fit."""
    with (ROOT / "qc_experiments" / "demo" / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:4]
    rows[3]["context"] += "\n-- " + "very long " * 2000
    (tmp_path / "held_out.csv").write_text(
        csv_text(list(rows[0]), [list(row.values()) for row in rows])
    )
    some = train(f"data.validation={tmp_path / 'held_out.csv'}", output=tmp_path / "runs")
    rows[3]["context"] = rows[2]["context"]
    (tmp_path / "all.csv").write_text(csv_text(list(rows[0]), [list(row.values()) for row in rows]))
    every = train(f"data.validation={tmp_path / 'all.csv'}", output=tmp_path / "runs")
    assert (some.result["execution_count"], every.result["execution_count"]) == (3, 4)
    assert some.result["evaluation_hash"] != every.result["evaluation_hash"]
    # Written when a run begins, which is all that one has which is at work, paused or failed.
    begun = read_environment(some.folder).evaluation_hash
    assert begun == some.result["evaluation_hash"]


def test_an_optimizer_that_cannot_be_used_is_refused_before_anything_is_computed(
    train, tmp_path, refused
):
    line = refused(train, "trainer.optim=adamw_tourch")
    assert "trainer.optim=adamw_tourch: is no optimizer of transformers" in line
    assert "(did you mean adamw_torch" in line
    for never_switched in ("schedule_free_adamw", "lomo"):
        with pytest.raises(UserError, match="that can be used here"):
            check_optimizer(never_switched)
    line = refused(train, "seed=5000000000")
    assert "seed=5000000000: must be from 0 to 4294967295" in line
    assert not run_folders(tmp_path / "outputs")


def test_a_constant_learning_rate_has_no_warm_up_and_says_so(train, capsys):
    run = train(
        "trainer.lr_scheduler_type=constant", "trainer.warmup_steps=2", "evaluation.base=false"
    )
    assert "warm-up steps 0, constant" in capsys.readouterr().out
    assert {line["learning_rate"] for line in run.metrics if "learning_rate" in line} == {5e-3}


def test_a_run_that_another_process_has_just_made_again_is_not_emptied(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run", Identity("run", "h" * 64))
    made = {"status": "finished", "config_hash": "h" * 64, "seed": 1}
    folder.path.mkdir()
    before = folder.result({**made, "code_commit": "old"})
    config = RunConfig(sweep=SweepConfig(rerun=Rerun.changed))

    @contextmanager
    def by_another_first(path: Path) -> Iterator[None]:
        folder.result({**made, "code_commit": "new"})
        yield

    monkeypatch.setattr(earlier, "code_commit", lambda: "new")
    monkeypatch.setattr(earlier, "locked", by_another_first)
    assert earlier._rerun(config, folder, before, 1.0)
    assert (folder.finished() or {})["code_commit"] == "new"
    monkeypatch.setattr(earlier, "locked", lambda path: nullcontext())
    folder.result({**made, "code_commit": "old"})
    assert earlier._rerun(config, folder, before, 1.0)
    assert folder.finished() is None


@pytest.mark.parametrize("rerun", list(Rerun))
def test_a_run_that_other_code_has_begun_is_told_of_and_begun_again_if_asked(
    tmp_path, monkeypatch, caplog, rerun
):
    folder = RunFolder(tmp_path / "run", Identity("run", "h" * 64))
    (folder / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    folder.write_json("environment.json", {"config_hash": "h" * 64, "code_commit": "old"})
    config = RunConfig(sweep=SweepConfig(rerun=rerun))
    monkeypatch.setattr(earlier, "code_commit", lambda: "new")
    assert earlier.earlier_result(config, folder, 1.0, alone=True) is None
    assert "was begun by other code (old, now new)" in caplog.text
    assert (folder / "checkpoints").exists() is (rerun is Rerun.never)


@pytest.mark.parametrize(
    ("commit", "mark", "told"),
    [
        ("c+changes", "old", "(old, now new)"),  # edited again
        (None, "old", "(unknown, now c+changes)"),
        ("c", "new", None),  # committed since
        ("c+changes", None, None),  # before there were marks
    ],
)
def test_code_is_known_by_what_it_holds_where_that_was_recorded(
    tmp_path, monkeypatch, caplog, commit, mark, told
):
    folder = RunFolder(tmp_path / "run", Identity("run", "h" * 64))
    folder.path.mkdir()
    made = {"config_hash": "h" * 64, "code_commit": commit}
    folder.write_json("environment.json", {**made, "code_mark": mark})
    known = folder.result({**made, "status": "finished"})
    monkeypatch.setattr(earlier, "code_commit", lambda: "c+changes")
    monkeypatch.setattr(earlier, "code_mark", lambda: "new")
    config = RunConfig(sweep=SweepConfig(rerun=Rerun.changed))
    assert earlier._rerun(config, folder, known, 1.0) is (told is not None)
    assert (told or "") in caplog.text
