"""experiment=auto chooses what is left open, says why, and leaves what was set."""

from __future__ import annotations

import re

import pytest
import yaml

from qc_experiments.cli import plan as planning
from qc_experiments.cli import train as training
from qc_experiments.training.device_plan import Device

SCHEMA = "CREATE TABLE t (a INTEGER)"


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    lines = [f"How many {n}?,SELECT {n} FROM t,{SCHEMA}" for n in range(30)]
    path.write_text("\n".join(["question,query,context", *lines]), encoding="utf-8")
    return path


@pytest.fixture
def given(rows, tiny_model, tmp_path):
    return [
        *("data=csv", f"data.train={rows}", "model=hub", f"model.name_or_path={tiny_model}"),
        *("experiment=auto", "tracking=none", f"paths.output={tmp_path / 'outputs'}"),
    ]


def chosen(out):
    return dict(re.findall(r"^Chosen  (\S+)=(\S+): ", out, re.MULTILINE))


def test_it_says_what_it_chooses_and_why(given, capsys):
    planning.main(given)
    out = capsys.readouterr().out
    found = chosen(out)
    assert found["trainer.per_device_train_batch_size"] == "8"
    assert found["trainer.num_train_epochs"] == "5.0"
    assert found["trainer.learning_rate"] == "0.001"
    assert int(found["data.max_length"]) % 64 == 0
    assert re.search(r"data.max_length=\d+: the longest row has \d+ tokens", out)
    assert "(5.0 epochs), learning rate 0.001" in out


def test_what_was_set_stays(given, capsys):
    planning.main([*given, "trainer.learning_rate=3e-3", "trainer.num_train_epochs=1"])
    out = capsys.readouterr().out
    assert chosen(out).keys().isdisjoint({"trainer.learning_rate", "trainer.num_train_epochs"})
    assert "(1.0 epochs), learning rate 0.003" in out


def test_what_was_set_to_its_default_stays_too(given, capsys):
    set_so = ("trainer.learning_rate=5e-4", "trainer.num_train_epochs=3", "data.max_length=1024")
    planning.main([*given, *set_so])
    out = capsys.readouterr().out
    assert chosen(out).keys().isdisjoint(one.partition("=")[0] for one in set_so)
    assert "(3.0 epochs), learning rate 0.0005" in out


def test_what_does_not_fit_a_card_is_made_smaller(given, capsys):
    planning.main([*given, "plan.device=1300MB", "collator.max_tokens=16384"])
    found = chosen(capsys.readouterr().out)
    assert found.get("quant.mode") == "int4"


@pytest.mark.parametrize("own", ["quant=none", "quant.mode=none", "lora.r=8"])
def test_memory_takes_nothing_that_was_set(given, capsys, own):
    planning.main([*given, "plan.device=1300MB", "collator.max_tokens=16384", own])
    found = chosen(capsys.readouterr().out)
    assert ("quant.mode" in found) is (own == "lora.r=8")
    assert found["trainer.gradient_checkpointing"] == "True"


def test_what_an_option_file_of_ones_own_sets_stays(given, tmp_path, capsys, monkeypatch):
    place = tmp_path / "conf" / "collator" / "mine.yaml"
    place.parent.mkdir(parents=True)
    place.write_text("name: shared_schema\nmax_tokens: 4096\n")
    small = Device("a machine", "cpu", 1e9)
    monkeypatch.setattr("qc_experiments.training.plan.device_of", lambda asked: small)
    planning.main(["--config-dir", str(tmp_path / "conf"), *given, "collator=mine"])
    found = chosen(capsys.readouterr().out)
    assert "collator.max_tokens" not in found
    assert found["trainer.gradient_checkpointing"] == "True"


def test_rows_of_a_step_are_of_all_accumulation_steps(given, capsys):
    planning.main([*given, "trainer.gradient_accumulation_steps=3"])
    out = capsys.readouterr().out
    assert chosen(out)["trainer.per_device_train_batch_size"] == "2"
    assert "6 rows of a step, for 27 rows" in out


def test_it_is_saved_as_a_preset_that_means_the_same(given, tmp_path, capsys):
    planning.main([*given, f"plan.save={tmp_path / 'conf/experiment/mine.yaml'}"])
    first = capsys.readouterr().out
    saved = yaml.safe_load((tmp_path / "conf/experiment/mine.yaml").read_text())
    assert saved["trainer"]["learning_rate"] == 1e-3
    own = ["--config-dir", str(tmp_path / "conf"), *given]
    planning.main([one.replace("experiment=auto", "experiment=mine") for one in own])
    second = capsys.readouterr().out
    folder = re.compile(r"^Run     (.*)$", re.MULTILINE)
    assert folder.findall(first) == folder.findall(second)


def test_a_run_is_the_one_that_was_planned(given, tmp_path, capsys):
    short = ["trainer.max_steps=1", "evaluation.limit=2", "evaluation.max_new_tokens=4"]
    planning.main([*given, *short])
    planned = re.search(r"^Run     (.*)$", capsys.readouterr().out, re.MULTILINE)[1]
    training.main([*given, *short])
    assert planned in capsys.readouterr().out


@pytest.mark.parametrize("spelled", ["plan.auto=True", "++plan.auto=true"])
def test_a_sweep_is_refused_however_it_is_asked_for(refused, tmp_path, spelled):
    typed = ["-m", spelled, "seed=1,2", f"paths.output={tmp_path / 'out'}"]
    assert "chooses for one run" in refused(training.main, typed)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["-m", "lora.r=4,8"], "chooses for one run"),
        (["plan.save=x.yaml"], "is for qc plan"),
    ],
)
def test_what_it_is_not_for(given, refused, extra, said):
    assert said in refused(training.main, [*given, *extra])
