"""What people type after `qc train`: it means what was typed, or is answered with how it is written."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from qc_experiments.cli import plan as plan_command
from qc_experiments.cli import train as command_line
from qc_experiments.cli.hydra_arguments import parse_arguments
from qc_experiments.config.compose import composed, register_schema
from qc_experiments.config.keys import shown
from qc_experiments.config.overrides import literal
from qc_experiments.errors import UserError
from qc_experiments.sweeps.preview import plan_sweep
from qc_experiments.system.console import set_up_logging


@pytest.fixture(scope="module", autouse=True)
def _schema() -> None:
    register_schema()
    set_up_logging()


def values(*arguments: str) -> dict[str, Any]:
    """What the composed config has for each key that was given."""
    parsed = parse_arguments(arguments).checked()
    config = composed(parsed.overrides, parsed.config_dir)
    keys = [one.partition("=")[0].lstrip("+") for one in parsed.overrides]
    return {key: OmegaConf.select(config, key) for key in keys}


def sweep(*arguments: str) -> tuple[str, ...]:
    return parse_arguments(("-m", *arguments)).checked().overrides


def refusal(*arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_arguments(arguments).checked()
    return str(caught.value)


TEXTS = (
    "~/x.csv",
    "a=b.csv",
    "a#b.csv",
    "it's.csv",
    "a(1).csv",
    "größe.csv",
    "数据.csv",
    "my file.csv",
    "{a}",
    "[a]",
    "[a].csv",
    "C:\\x\\y.csv",
    "~\\",
    'x\\"y~',
    "a;b&c!d",
    "100% (new) or 'so'.csv",
    "postgresql://h/{db_id}",
    "postgresql://u:p%40w@h:5432/{db_id}?sslmode=require&x=#1",
    "007",
    "2024_01",
    "12e4567",
    "1_000",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_value_of_a_key_that_takes_text_is_what_was_typed(text):
    keys = ("data.train", "data.databases", "paths.output", "tracking.group", "model.revision")
    keys = keys[1:] if text == "[a]" else keys  # a list of one file
    assert values(*(f"{key}={text}" for key in keys)) == dict.fromkeys(keys, text)


def test_a_variable_of_the_environment_is_still_put_in(monkeypatch):
    monkeypatch.setenv("PW", "se cret")
    text = "data.databases=postgresql://u:${oc.env:PW}@h/{db_id}"
    assert values(text) == {"data.databases": "postgresql://u:se cret@h/{db_id}"}


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12))
def test_any_text_comes_back_from_what_is_shown(text):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    [typed] = shlex.split(shown(literal("data.train", text)))
    assert OverridesParser.create().parse_override(typed).value() == text


def test_what_a_sweep_varies_may_hold_such_signs():
    assert sweep("data.train=~/a.csv,größe.csv") == ('data.train="~/a.csv","größe.csv"',)
    assert values("lora.target_modules=[größe,q_proj]") == {
        "lora.target_modules": ["größe", "q_proj"]
    }


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("lora=glob(r8*)", "lora=r8"),
        ("lora=glob(r?2)", "lora=r32"),
        ("lora=glob([r*,d*],exclude=r6*)", "lora=dora,r16,r32,r8,rslora"),
    ],
)
def test_glob_chooses_among_options(pattern, expected):
    assert sweep(pattern) == (expected,)


WRITTEN = {
    # What was typed, and what is to be typed; each is tried.
    ("lora.r=8,",): "lora.r=8",
    ("lora.r=,8",): "lora.r=8",
    ("lora.r=8,", "16"): "-m lora.r=8,16",
    ("lora.r=8", ",", "16"): "-m lora.r=8,16",
    ("lora.r=8,", "16,", "32", "seed=1"): "-m lora.r=8,16,32",
    ("data.train=[a.csv,", "b.csv]"): "'data.train=[a.csv,b.csv]'",
    ("data.train=[a.csv,", "b.csv", ",", "c.csv]"): "'data.train=[a.csv,b.csv,c.csv]'",
    ("lora.r=8", ",16"): "-m lora.r=8,16",
    ("lora.r=8", "16"): "-m lora.r=8,16",
    ("lora.r=8,,16",): "-m lora.r=8,16",
    ("lora.r=8,16",): "-m lora.r=8,16",
    ("-m", "lora.r=8,", "16"): "lora.r=8,16",
    ("lora.r", "=", "8"): "lora.r=8",
    ("lora.r", "8"): "lora.r=8",
    ("lora.r=", "8"): "lora.r=8",
    ("lora.r:8",): "lora.r=8",
    ("lora.r==8",): "lora.r=8",
    ("lora", "r16"): "lora=r16",
    ("lora.r=8:32",): "-m 'lora.r=range(8,33,8)'",
    ("lora.r=8-32",): "-m 'lora.r=range(8,33,8)'",
    ("lora.r=1:9:4",): "-m 'lora.r=range(1,10,4)'",
    ("lora.dropout=0.1:0.2",): "-m lora.dropout=0.1,0.2",
    ("lora.r=[8,16]",): "-m lora.r=8,16",
    ("-m", "lora.r=[8,16]"): "-m lora.r=8,16",
    ("lora.r=range(8,32,8)",): "-m 'lora.r=range(8,32,8)'",
    ("lora=glob(r*)",): "-m lora=r16,r32,r64,r8,rslora",
    ("data.train=my", "file.csv"): "'data.train=\"my file.csv\"'",
    ("data.train=a,b.csv",): "'data.train=\"a,b.csv\"'",
    ("my.csv",): "data=csv data.train=my.csv",
    ("my (1).csv",): "data=csv 'data.train=\"my (1).csv\"'",
    ("data=my.csv",): "data=csv data.train=my.csv",
    ("data=größe.csv",): "data=csv data.train='größe.csv'",
    ("model=owner/name",): "model=hub model.name_or_path=owner/name",
    ("--data", "my.csv"): "data=csv data.train=my.csv",
    ("--model", "gpt2"): "model=hub model.name_or_path=gpt2",
    ("--lora", "r8"): "lora=r8",
    ("--learning-rate=1e-3",): "trainer.learning_rate=1e-3",
    ("--lr", "1e-3"): "trainer.learning_rate=1e-3",
    ("--output_dir", "out"): "paths.output=out",
}


@pytest.mark.parametrize("typed", WRITTEN, ids=" ".join)
def test_what_cannot_be_meant_is_answered_with_what_is_to_be_typed(typed):
    line = refusal(*typed)
    written = WRITTEN[typed]
    assert re.search(rf"(^| ){re.escape(written)}($|[;,])", line), line
    assert "\n" not in line
    assert "expecting" not in line
    flags = [one for one in typed if one == "-m"]
    parse_arguments((*flags, *shlex.split(written))).checked()


def test_a_shell_reads_what_is_shown_as_we_do():
    hints = [shown(literal("data.train", text)) for text in TEXTS]
    hints += [written for written in WRITTEN.values() if "..." not in written]
    command = f"printf '%s\\0' {' '.join(hints)}"
    said = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=30)
    assert said.stdout.decode().split("\0")[:-1] == shlex.split(" ".join(hints))


@pytest.mark.parametrize(
    ("typed", "part"),
    [
        (("--rn",), "qc train --help"),
        (("-x",), "qc train --help"),
        (("--hlep",), "did you mean --help?"),
        (("--dry-run",), "qc plan"),
        (("--epochs",), "trainer.num_train_epochs=..."),
        (("lora.r",), "lora.r=..."),
        (("lora.r=,",), "nothing but commas"),
        (("-m", "lora=glob(x*)"), "matches no option; lora can be"),
        (("-m", "lora.r=glob(*)"), "glob chooses among the options of a group"),
        (("seed=1#2",), "seed takes a whole number"),
        (("tracking.tags=[a", "b]"), "'tracking.tags=[a b]'"),
        (
            ("experiment=quickstart", "seed=2", "experiment=debug"),
            "experiment=quickstart experiment=debug: only the last would count",
        ),
    ],
)
def test_a_mistake_is_answered_in_one_line(typed, part):
    line = refusal(*typed)
    assert part in line
    assert "--run" not in line


def test_an_unknown_flag_trains_nothing(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--rn: no such flag" in refused(command_line.main, ["--rn"])
    assert "--rn: no such flag" in refused(plan_command.main, ["--rn", "lora=r8"])
    assert list(tmp_path.iterdir()) == []


def test_home_is_found_after_an_equals_sign(refused, tmp_path, monkeypatch, capsys):
    """Shells leave ~ there as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "lora").mkdir(parents=True)
    (tmp_path / "conf" / "lora" / "größe.yaml").write_text("r: 12\n")
    (tmp_path / "my (1).csv").write_text("question;query;context\nq;s;c\n")
    line = refused(
        command_line.main,
        ["--config-dir=~/conf", "lora=größe", "data=csv", "data.train=~/my (1).csv"],
    )
    assert f"{tmp_path}/my (1).csv: is separated by semicolons" in line
    arguments = ["-m", "data=csv", "data.train=~/no.csv", "paths.output=~/runs", "lora.r=2,3"]
    with pytest.raises(SystemExit):
        command_line.main([*arguments, "tracking=none"])
    assert "~/no.csv: no such file" in capsys.readouterr().err
    assert not Path("~").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"conf", "my (1).csv", "runs"}


@pytest.mark.parametrize("typed", [["-m", "lora=glob(r8*)"], ["-m", "lora.r=range(8,32,8)"]])
def test_a_plan_takes_what_a_sweep_takes(typed, capsys):
    arguments = [*typed, "data=csv", "data.train=~/größe.csv"]
    with pytest.raises(SystemExit):
        plan_command.main(arguments)
    assert "will be refused: data.train=~/größe.csv: no such file" in capsys.readouterr().out


def test_models_are_not_chosen_by_losses_that_do_not_compare_without_a_word(capsys):
    sweep = ["-m", "model=smollm2-135m,qwen3-0.6b", "sweep.halving=2"]
    parsed = parse_arguments(sweep).checked()
    assert plan_sweep(parsed.overrides, None) is not None
    assert "compares between models of one tokenizer alone" in capsys.readouterr().err
    of_one_model = ["-m", "model=smollm2-135m", "sweep.halving=2", "lora.r=2,4"]
    for other in ([*sweep, "objective=execution_accuracy"], of_one_model):
        parsed = parse_arguments(other).checked()
        assert plan_sweep(parsed.overrides, None) is not None
        assert "tokenizer" not in capsys.readouterr().err
