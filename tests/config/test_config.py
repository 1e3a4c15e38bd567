"""Every YAML of conf/, every way to get the command line wrong, and what tells runs apart."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qc_experiments.cli.hydra_arguments import parse_arguments
from qc_experiments.cli.train import main
from qc_experiments.config.compose import (
    composed,
    explain,
    open_schema,
    register_schema,
    to_run_config,
)
from qc_experiments.config.determining import ADDED_LATER, AS_BY_DEFAULT, EFFECTS, hashed
from qc_experiments.config.keys import GROUPS, SECTION, kinds_of_keys
from qc_experiments.config.schema import (
    ColumnsConfig,
    DataConfig,
    DType,
    EvaluationConfig,
    LoraConfig,
    LossOn,
    OnInvalid,
    PackAttention,
    PathsConfig,
    PlanConfig,
    QuantMode,
    Rerun,
    RunConfig,
    SchemaFormat,
    SplitBy,
    Strategy,
    SweepConfig,
    TrackingConfig,
    TrainerConfig,
    Wrap,
    plain,
)
from qc_experiments.errors import UserError
from qc_experiments.records.folder import Identity
from qc_experiments.runs.identity import identify
from qc_experiments.training.inputs import load_data

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
HEAVY = {"torch", "transformers", "peft", "wandb", "datasets", "accelerate", "bitsandbytes"}


@pytest.fixture(scope="module", autouse=True)
def _schema() -> None:
    register_schema()


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def compose(*overrides: str) -> RunConfig:
    """What `qc train` with these overrides hands to the run."""
    with hydra.initialize_config_module("qc_experiments.conf", version_base="1.3"):
        return to_run_config(hydra.compose("config", list(overrides)))


# --- every YAML ---


def option_files() -> list[Path]:
    found = sorted(CONF.glob("*/*.yaml"))
    assert {path.parent.name for path in found} == set(GROUPS)
    return found


OPTIONS = option_files()
OPTION_IDS = [f"{path.parent.name}={path.stem}" for path in OPTIONS]


def settings_of(path: Path) -> dict[str, Any]:
    """The keys that an option file sets, in dotted form; Hydra's own left out."""
    tree = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    whole = "@package _global_" in path.read_text(encoding="utf-8").partition("\n")[0]
    found: dict[str, Any] = {}

    def walk(value: Any, key: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, f"{key}.{name}" if key else name)
        else:
            found[key] = value

    walk(tree or {}, "" if whole else path.parent.name)
    group = path.parent.name
    return {
        k: v
        for k, v in found.items()
        if k.split(".")[0] not in ("defaults", "hydra") and k != f"{group}.defaults"
    }


def value_of(config: RunConfig, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return plain(value)


OPEN = {
    "data=csv": "data.train",
    "model=gguf": "model.name_or_path",
    "model=hub": "model.name_or_path",
}
"""The key that an option leaves to the user."""


@pytest.mark.parametrize("path", OPTIONS, ids=OPTION_IDS)
def test_every_option_composes_with_the_defaults_and_means_what_it_says(path):
    option = f"{path.parent.name}={path.stem}"
    given = [f"{OPEN[option]}=given"] if option in OPEN else []
    config = compose(option, *given)
    for key, value in settings_of(path).items():
        if not (isinstance(value, str) and "${" in value):
            assert value_of(config, key) == value, key


@pytest.mark.parametrize("path", OPTIONS, ids=OPTION_IDS)
def test_no_option_repeats_a_default_of_the_schema(path):
    """A default stands in the schema alone; a preset may take back what another option has set."""
    defaults = RunConfig()
    elsewhere = {key for other in OPTIONS if other != path for key in settings_of(other)}
    repeated = [k for k, v in settings_of(path).items() if value_of(defaults, k) == v]
    taken_back = elsewhere if path.parent.name == "experiment" else set()
    assert set(repeated) <= taken_back


@pytest.mark.parametrize("path", OPTIONS, ids=OPTION_IDS)
def test_every_option_says_in_its_first_lines_what_it_is(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    words = [line for line in lines[:2] if line.startswith("# ") and "@package" not in line]
    assert words, "an option file begins with a comment"


@pytest.mark.parametrize("option", OPEN)
def test_an_option_that_leaves_a_key_to_the_user_asks_for_it(option):
    with pytest.raises(UserError) as caught:
        compose(option)
    assert OPEN[option] in str(caught.value)


PRESETS = [path.stem for path in OPTIONS if path.parent.name == "experiment"]
SWEEPS = [path for path in OPTIONS if path.parent.name == "sweep"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_takes_other_data_and_another_collator(preset):
    config = compose(f"experiment={preset}", "data=csv", "data.train=mine.csv", "collator=default")
    assert (config.data.train, config.data.databases) == ("mine.csv", None)
    assert config.collator.name == "default"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_job_of_a_sweep_is_a_run_of_its_own(path):
    params = OmegaConf.to_container(OmegaConf.load(path), resolve=False)["hydra"]["sweeper"][
        "params"
    ]
    parser = OverridesParser.create()
    parsed = [parser.parse_override(f"{key}={value}") for key, value in params.items()]
    assert all(override.is_sweep_override() for override in parsed)
    values = [
        [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]
        for override in parsed
    ]
    jobs = [compose(f"sweep={path.stem}", *job) for job in itertools.product(*values)]
    assert len(jobs) > 1
    assert all(one != other for one, other in itertools.combinations(jobs, 2))


# --- how groups, presets and keys go together ---


@pytest.mark.parametrize(
    "overrides", list(itertools.permutations(["lora=r16", "lora.r=24", "lora.use_dora=true"]))
)
def test_a_key_changes_one_value_of_its_group_in_any_order(overrides):
    lora, preset = compose(*overrides).lora, compose("lora=r16").lora
    assert (lora.r, lora.alpha, lora.use_dora) == (24, 48, True)
    assert (lora.dropout, lora.target_modules) == (preset.dropout, preset.target_modules)


@pytest.mark.parametrize("option", ["r8", "r16", "r32", "r64", "dora"])
def test_alpha_follows_the_rank_unless_given(option):
    lora = compose(f"lora={option}", "lora.r=5").lora
    assert (lora.r, lora.alpha) == (5, 10)
    lora = compose("lora.alpha=7", "lora.r=5", f"lora={option}").lora
    assert (lora.r, lora.alpha) == (5, 7)


def test_the_command_line_wins_over_a_preset_and_a_preset_over_the_defaults():
    default, preset = compose(), compose("experiment=quickstart")
    assert preset.trainer.learning_rate != default.trainer.learning_rate
    for overrides in itertools.permutations(
        ["experiment=quickstart", "trainer.learning_rate=7e-5", "lora=r32"]
    ):
        config = compose(*overrides)
        assert (config.trainer.learning_rate, config.lora.r) == (7e-5, 32)
        assert config.trainer.num_train_epochs == preset.trainer.num_train_epochs


def test_a_collator_brings_its_loss_unless_given():
    for collator in ("seq2seq", "default"):
        assert compose(f"collator={collator}").data.loss_on is LossOn.completion
        assert compose("data.loss_on=full", f"collator={collator}").data.loss_on is LossOn.full
    assert compose("collator=language_modeling").data.loss_on is LossOn.full


def test_the_wrap_follows_the_model_unless_given():
    assert compose("model=smollm2-135m").data.wrap is Wrap.plain
    assert compose("model=qwen3-0.6b").data.wrap is Wrap.chat
    assert compose("data.wrap=plain", "model=qwen3-0.6b").data.wrap is Wrap.plain
    assert compose("model=hub", "model.name_or_path=a/b", "model.wrap=chat").data.wrap is Wrap.chat


def test_the_folder_of_spider_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("QC_SPIDER", "/data/spider")
    data = compose("data=spider").data
    assert (data.train, data.databases) == ("/data/spider/train.csv", "/data/spider/database")


@pytest.mark.parametrize(
    ("overrides", "devices", "micro", "rows"),
    [
        ((), 1, 8, 8),
        (("trainer.per_device_train_batch_size=2",), 1, 2, 2),
        (("trainer.per_device_train_batch_size=2",), 4, 2, 8),
        (("trainer.gradient_accumulation_steps=3",), 2, 8, 48),
        (("trainer.effective_batch_size=32",), 1, 32, 32),
        (("trainer.effective_batch_size=32", "trainer.gradient_accumulation_steps=4"), 1, 8, 32),
        (("trainer.effective_batch_size=32", "trainer.gradient_accumulation_steps=4"), 2, 4, 32),
        (("trainer.effective_batch_size=6", "trainer.per_device_train_batch_size=3"), 2, 3, 6),
    ],
)
def test_rows_of_one_step(monkeypatch, overrides, devices, micro, rows):
    monkeypatch.setenv("WORLD_SIZE", str(devices))
    free = ("trainer.per_device_train_batch_size=null", "trainer.gradient_accumulation_steps=1")
    given = {text.partition("=")[0] for text in overrides}
    config = compose(*overrides, *(text for text in free if text.partition("=")[0] not in given))
    assert config.trainer.micro_batch_size() == micro
    assert config.trainer.rows_per_step() == rows


# --- what is refused, in one line, before anything is written ---


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The one line with which `qc train` refuses; a missing CSV sees to it that nothing trains."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def start(*arguments: str, train: str | None = "absent.csv", code: int = 2) -> str:
        given = ["paths.output=out", "tracking=none"]
        if not any(argument.startswith("data=") for argument in arguments):
            given.append("data=csv")
        if train is not None:
            given.append(f"data.train={train}")
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, *given])
        assert stopped.value.code == code
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in captured.out
        assert list(folder.iterdir()) == []
        return lines[0]

    return start


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (("lora.rr=4",), ["lora.rr", "did you mean lora.r?", "alpha"]),
        (("+lora.rr=4",), ["lora.rr", "did you mean lora.r?"]),
        (("++lora.rr=4",), ["lora.rr", "did you mean lora.r?"]),
        (("~lora.rr",), ["lora.rr", "did you mean lora.r?"]),
        (("trainer.learning_rat=1",), ["did you mean trainer.learning_rate?"]),
        (("learning_rate=1",), ["did you mean trainer.learning_rate?"]),
        (("+max_length=9",), ["did you mean data.max_length?"]),
        (("data.columns.questoin=x",), ["did you mean data.columns.question?"]),
        (("evaluation.max_new_token=9",), ["did you mean evaluation.max_new_tokens?"]),
        (("Lora=r16",), ["did you mean lora?"]),
        (("seeed=1",), ["did you mean seed?"]),
        (("trainer.seed=1",), ["did you mean seed?"]),
        (("trainer.r=8",), ["did you mean lora.r?"]),
        (("foo=1",), ["unknown key foo", "trainer", "lora", "quant"]),
        (("lora.r.x=1",), ["unknown key lora.r.x"]),
        (("lora.r=8", "lora.rr=4", "seed=1"), ["lora.rr"]),
        (("-m", "foo=1,2"), ["unknown key foo"]),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(refusal, overrides, parts):
    line = refusal(*overrides)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("lora.r=abc", "lora.r=abc: must be a whole number"),
        ("lora.r=null", "lora.r=null: must be a whole number"),
        ("evaluation.limit=1.5", "evaluation.limit=1.5: must be a whole number"),
        ("trainer.num_train_epochs=two", "trainer.num_train_epochs=two: must be a number"),
        ("lora.use_dora=maybe", "lora.use_dora=maybe: must be true or false"),
        ("trainer.eval_strategy=x", "trainer.eval_strategy=x: must be one of never, steps, epoch"),
        ("trainer.learning_rate=0", "trainer.learning_rate=0.0: must be above 0 and below 1"),
        ("data.template=null", "data.template=null: must be a text"),
        ("data.wrap=null", "data.wrap=null: must be one of plain, chat"),
        ("quant.quant_type=null", "quant.quant_type=null: must be one of nf4, fp4"),
        ("evaluation.timeout=0", "evaluation.timeout=0.0: must be above 0, at most 86400 s"),
    ],
)
def test_a_value_of_another_kind_is_told_what_the_key_takes(refusal, override, line):
    assert refusal(override) == f"error: {line}"


WHOLE = {"data": {"train": "x.csv"}, "model": {"name_or_path": "tiny"}}
KINDS = {key: kind for key, kind in kinds_of_keys().items() if not key.startswith("plan.")}
LISTED = [key for key, kind in KINDS.items() if kind.startswith("list[")]
NEVER_NULL = [key for key, kind in KINDS.items() if kind != SECTION and "None" not in kind]


@pytest.mark.parametrize(
    "override",
    [f"{key}={value}" for key in LISTED for value in ("2", "one")]
    + [f"{key}=null" for key in NEVER_NULL]
    + ["data.weights=[one]", "data.template=[a.txt]", "data.wrap=[chat]"],
)
def test_whatever_type_is_wanted_it_is_said_in_our_words(override):
    key = override.partition("=")[0]
    given = OmegaConf.from_dotlist([override])
    with pytest.raises((OmegaConfBaseException, UserError)) as caught:
        to_run_config(OmegaConf.merge(open_schema(RunConfig), WHOLE, given))
    line = explain(caught.value)
    assert line is not None
    assert ": must be " in line
    assert not re.search("ListConfig|Optional|Dict|convert", line)
    if key in LISTED:
        assert f"must be a list, as in {key}=[" in line


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (("lora=r17",), ["lora=r17", "did you mean r16?", "dora", "none", "r64"]),
        (("model=codellama",), ["did you mean codellama-7b?"]),
        (("data=my.csv",), ["data=my.csv", "demo", "spider"]),
        (("trainer=nope",), ["trainer=nope", "text_to_sql"]),
        (("experiment=quickstar",), ["did you mean quickstart?"]),
        (("-m", "sweep=nope"), ["sweep=nope", "learning_rate"]),
        (("sweep=seeds",), ["sweep=seeds", "-m"]),
        (("quant=3bit",), ["quant=3bit", "4bit", "8bit"]),
        (("-m", "lora=r8,r99"), ["lora=r99", "r64"]),
    ],
)
def test_an_unknown_option_is_answered_with_the_options(refusal, overrides, parts):
    line = refusal(*overrides)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("override", "group"),
    [
        ("quantization=4bit", "quant"),
        ("+quantization=4bit", "quant"),
        ("quantization.mode=int4", "quant.mode"),
        ("dataset=csv", "data"),
        ("training=default", "trainer"),
        ("peft=r16", "lora"),
        ("eval=quick", "evaluation"),
        ("wandb=none", "tracking"),
        ("preset=quickstart", "experiment"),
    ],
)
def test_a_group_under_another_name_is_answered_with_ours(refusal, override, group):
    line = refusal(override)
    assert override in line
    assert f"{group}?" in line or f"called {group}," in line


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("lora", ["lora", "key=value"]),
        ("lora:r16", ["lora:r16", "key=value"]),
        ("lora==r16", ["lora==r16", "key=value"]),
        ("=r16", ["=r16"]),
        ("data.train=a b,c.csv", ["data.train"]),
        ("lora.r=8,16", ["lora.r", "--multirun"]),
        ("lora=r8,r16", ["lora", "--multirun"]),
        ("lora=null", ["lora"]),
        ("experiment=null", []),
        ("+lora.r=4", ["lora.r=4"]),
        ("~lora.r", ["lora.r"]),
        ("+experiment=quickstart", ["experiment"]),
        ("lora@other=r16", ["lora@other"]),
        ("data.columns=x", ["data.columns", "question", "db_id"]),
        ("lora.r=${nowhere}", ["lora.r", "nowhere"]),
        ("hydra.nothing=1", ["hydra.nothing"]),
    ],
)
def test_an_override_that_hydra_cannot_use_is_refused(refusal, override, parts):
    line = refusal(override, train=None if override.startswith("data.train") else "absent.csv")
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("lora.r=abc", ["lora.r", "abc"]),
        ("lora.r=1.5", ["lora.r", "1.5"]),
        ("lora.r=null", ["lora.r"]),
        ("lora.r=", ["lora.r"]),
        ("seed=true", ["seed", "True"]),
        ("lora.dropout=much", ["lora.dropout", "much"]),
        ("trainer.load_best_model_at_end=maybe", ["trainer.load_best_model_at_end", "maybe"]),
        ("tracking.tags=one", ["tracking.tags"]),
        ("data.wrap=html", ["data.wrap", "html", "plain", "chat"]),
        ("quant.mode=int3", ["quant.mode", "int3", "int8", "int4"]),
        ("objective=accuracy", ["objective", "accuracy", "execution_accuracy"]),
        ("trainer.eval_strategy=no", ["trainer.eval_strategy", "never", "epoch"]),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_key(refusal, override, parts):
    line = refusal(override)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    "override",
    [
        "seed=-1",
        "lora.r=0",
        "lora.alpha=0",
        "lora.dropout=1",
        "lora.dropout=-0.1",
        "lora.dropout=nan",
        "lora.init=random",
        "lora.target_modules=q_proj",
        "lora.target_modules=[]",
        "lora.target_modules=[1]",
        "quant.quant_type=int4",
        "collator.pad_to_multiple_of=0",
        "data.validation_fraction=0",
        "data.validation_fraction=1",
        "data.limit=0",
        "data.max_length=7",
        "trainer.learning_rate=0",
        "trainer.learning_rate=nan",
        "trainer.num_train_epochs=0",
        "trainer.num_train_epochs=inf",
        "trainer.num_train_epochs=1e308",
        "trainer.max_steps=-1",
        "trainer.warmup_steps=-1",
        "trainer.warmup_steps=inf",
        "trainer.weight_decay=-1",
        "trainer.adam_beta2=1",
        "trainer.max_grad_norm=-1",
        "trainer.lr_scheduler_type=cos",
        "trainer.per_device_train_batch_size=0",
        "trainer.gradient_accumulation_steps=0",
        "trainer.effective_batch_size=0",
        "trainer.save_total_limit=0",
        "trainer.early_stopping_patience=0",
        "trainer.logging_steps=0",
        "trainer.dataloader_num_workers=-1",
        "evaluation.limit=0",
        "evaluation.during_training=0",
        "evaluation.batch_size=0",
        "evaluation.max_new_tokens=0",
        "evaluation.timeout=0",
        "evaluation.seed=20000000000000000000",
        "data.split_seed=-1",
        "data.schema.seed=4294967296",
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_allowed(refusal, override):
    line = refusal(override)
    assert line.startswith(f"error: {override.partition('=')[0]}=")
    assert ": must be " in line


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            ("collator=language_modeling", "data.loss_on=completion"),
            ["data.loss_on", "collator=language_modeling"],
        ),
        (("data.columns.query=question",), ["data.columns.question", "data.columns.query"]),
        (("quant=4bit", "lora=none"), ["lora=none", "quant"]),
        (("quant=8bit", "lora=none"), ["lora=none", "quant"]),
        (("model.adapter=folder", "lora=none"), ["lora=none", "model.adapter"]),
        (("quant=4bit", "lora.init=pissa"), ["lora.init=pissa", "quant=none"]),
        (
            ("objective=execution_accuracy", "data.databases=null"),
            ["objective=execution_accuracy", "data.databases"],
        ),
        (
            ("trainer.metric_for_best_model=execution_accuracy", "data.databases=null"),
            ["trainer.metric_for_best_model=execution_accuracy", "data.databases"],
        ),
        (("trainer.eval_strategy=steps",), ["trainer.eval_strategy=steps", "trainer.eval_steps"]),
        (
            ("trainer.save_strategy=steps", "trainer.load_best_model_at_end=false"),
            ["trainer.save_strategy=steps", "trainer.save_steps"],
        ),
        (
            ("trainer.eval_strategy=never",),
            ["trainer.load_best_model_at_end", "trainer.eval_strategy"],
        ),
        (
            ("trainer.save_strategy=never",),
            ["trainer.load_best_model_at_end", "trainer.save_strategy"],
        ),
        (
            (
                "trainer.eval_strategy=steps",
                "trainer.eval_steps=4",
                "trainer.save_strategy=steps",
                "trainer.save_steps=6",
            ),
            ["trainer.load_best_model_at_end", "trainer.save_steps", "trainer.eval_steps"],
        ),
        (
            (
                "trainer.early_stopping_patience=2",
                "trainer.eval_strategy=never",
                "trainer.load_best_model_at_end=false",
            ),
            ["trainer.early_stopping_patience", "trainer.eval_strategy"],
        ),
        (
            ("trainer.effective_batch_size=7",),
            ["trainer.effective_batch_size=7", "trainer.per_device_train_batch_size"],
        ),
        (
            (
                "trainer.effective_batch_size=7",
                "trainer.per_device_train_batch_size=null",
                "trainer.gradient_accumulation_steps=4",
            ),
            ["trainer.effective_batch_size=7", "trainer.gradient_accumulation_steps"],
        ),
    ],
)
def test_a_contradiction_is_refused_with_the_keys(refusal, overrides, parts):
    line = refusal(*overrides)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("without", "with_it"),
    [
        ("trainer.eval_steps=3", ["trainer.eval_strategy=steps"]),
        ("trainer.save_steps=3", ["trainer.save_strategy=steps"]),
        ("data.split_by=schema", ["data.validation=null"]),
        ("data.validation_fraction=0.3", ["data.validation=null"]),
        ("quant.quant_type=fp4", ["quant=4bit"]),
    ],
)
def test_what_has_no_effect_is_told(without, with_it, caplog):
    given = [without, "trainer.load_best_model_at_end=false"]
    to_run_config(composed(given, None), given)
    assert f"{without.partition('=')[0]} has no effect: it goes with" in caplog.text
    caplog.clear()
    to_run_config(composed([*given, *with_it], None), [*given, *with_it])
    assert caplog.text == ""


def test_the_order_of_overrides_does_not_change_what_is_refused(refusal):
    overrides = ("quant=4bit", "lora=none", "lora.r=8", "seed=3")
    assert (
        len(
            {
                refusal(*order)
                for order in (overrides, overrides[::-1], (*overrides[2:], *overrides[:2]))
            }
        )
        == 1
    )


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (("data=csv",), ["data.train is not set", "data.train="]),
        (("data=csv", "data.train=absent.csv"), ["data.train=absent.csv", "no such file"]),
        (("data=csv", "data.train=."), ["is a folder"]),
        (("data=demo", "data.validation=absent.csv"), ["data.validation=absent.csv"]),
        (("data=demo", "data.databases=absent"), ["data.databases=absent"]),
        (("data=demo", "data.template=absent.txt"), ["data.template=absent.txt"]),
        (("data=demo", "data.train=mine.csv"), ["data.train=mine.csv", "data=csv"]),
        (
            ("data=demo", "model=hub", "model.name_or_path=./absent"),
            ["model.name_or_path=./absent"],
        ),
        (("data=demo", "model=gguf", "model.name_or_path=x.gguf"), ["model.name_or_path=x.gguf"]),
    ],
)
def test_what_is_not_there_is_refused_by_its_key(refusal, overrides, parts):
    line = refusal(*overrides, train=None)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), ["the demo", "half an hour", "data=csv data.train=my.csv", "qc data check"]),
        (("lora=r8",), ["the demo", "data=csv data.train=my.csv"]),
        (("data=demo",), []),
        (("experiment=quickstart",), []),
    ],
)
def test_whoever_names_no_data_is_told_what_is_trained_on(
    tmp_path, monkeypatch, capsys, arguments, said
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qc_experiments.runs.train.run", lambda config: {"eval_loss": None})
    main(arguments)
    first = capsys.readouterr().out.splitlines()[:2]
    for part in said:
        assert part in " ".join(first)
    assert bool(first) == bool(said)


def test_a_folder_for_options_that_is_not_there_is_refused(refusal):
    assert "--config-dir nowhere" in refusal("--config-dir", "nowhere")
    assert "--config-dir nowhere" in refusal("--config-dir=nowhere")
    assert "-m runs and --cfg shows" in refusal("-m", "lora.r=2,3", "--cfg", "job")


def test_the_help_page_is_shown_whatever_is_swept():
    parsed = parse_arguments(["-m", "lora.r=2,3", "--help"])
    assert (parsed.overrides, parsed.informs) == ((), True)


REST = ("data=csv", "data.train=absent.csv", "tracking=none", "paths.output=out")


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", *REST, "lora.r=0,-1"),
        (*REST, "lora.r=0,-1", "--multirun"),
        (*REST, "-m", "lora.r=0,-1"),
    ],
    ids=["flag first", "flag last", "flag in between"],
)
def test_a_failing_job_of_a_sweep_does_not_end_the_others(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    assert "lora.r=0: must be at least 1" in captured.err
    assert "lora.r=-1: must be at least 1" in captured.err
    assert "2 jobs failed" in captured.err
    assert "Traceback" not in captured.err
    assert stopped.value.code == 1


# --- a user's own options ---


@pytest.fixture
def own_options(tmp_path: Path) -> Path:
    (tmp_path / "own" / "lora").mkdir(parents=True)
    (tmp_path / "own" / "lora" / "mine.yaml").write_text("r: 12\nalpha: 6\ndropout: 0.25\n")
    (tmp_path / "own" / "lora" / "wrong.yaml").write_text("rank: 12\n")
    return tmp_path / "own"


def test_an_option_of_the_users_is_listed_beside_ours(refusal, own_options):
    line = refusal("--config-dir", str(own_options), "lora=mien")
    assert "did you mean mine?" in line
    assert "r16" in line


def test_a_wrong_key_in_an_option_of_the_users_is_refused(refusal, own_options):
    line = refusal("--config-dir", str(own_options), "lora=wrong")
    assert "lora.rank" in line
    assert "alpha" in line


# --- in a process of its own ---


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("command", "folder", "overrides", "part"),
    [
        (("train.py",), ROOT, ("lora.rr=4",), "did you mean lora.r?"),
        (("train.py",), ROOT, ("quant=4bit", "lora=none"), "lora=none contradicts quant"),
        (("-m", "qc_experiments", "train"), None, ("lora=r17",), "did you mean r16?"),
    ],
)
def test_a_mistake_ends_in_one_line_and_code_2(tmp_path, command, folder, overrides, part):
    done = python(*command, *overrides, f"paths.output={tmp_path / 'out'}", cwd=folder or tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert part in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("relative", [False, True])
def test_own_options_work_from_another_folder(tmp_path, own_options, relative):
    folder = "own" if relative else str(own_options)
    done = python(
        "-m", "qc_experiments", "train", "--config-dir", folder, "lora=mine", "--cfg", "job",
        cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    printed = OmegaConf.create(done.stdout)
    assert set(printed) == {field.name for field in fields(RunConfig)}
    assert (printed.lora.r, printed.lora.alpha, printed.lora.dropout) == (12, 6, 0.25)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("train", "--cfg", "job"), 0),
        (("train", "--help"), 0),
        (("train", "lora.r=0"), 2),
        (("train", "data=csv", "data.train=absent.csv"), 2),
        (("data", "check", "absent.csv"), 2),
        ((), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_nothing_heavy_is_imported_before_it_is_needed(tmp_path, arguments, code):
    done = python("-X", "importtime", "-m", "qc_experiments", *arguments, cwd=tmp_path)
    assert done.returncode == code
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "qc_experiments" in imported
    assert not imported & HEAVY
    assert list(tmp_path.iterdir()) == []


def test_help_lists_every_group_and_option():
    done = python("-m", "qc_experiments", "train", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for path in OPTIONS:
        [line] = [ln for ln in done.stdout.splitlines() if ln.startswith(f"{path.parent.name}:")]
        assert path.stem in line.partition(":")[2].replace(",", " ").split()


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_qc_alone_lists_the_commands(arguments):
    done = python("-m", "qc_experiments", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("train", "plan", "predict", "data"):
        assert f"\n  {command} " in done.stdout


def test_an_unknown_command_is_answered_with_the_nearest():
    done = python("-m", "qc_experiments", "traim", "lora=r16")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: no command traim (did you mean train?); qc alone lists them"
    ]


# --- the name and the hash of a run ---


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the files of a run."""
    folder = tmp_path / "project"
    for name in ("shop", "clinic"):
        path = folder / "databases" / name / f"{name}.sqlite"
        path.parent.mkdir(parents=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1);")
    header = "question,query,context,db_id\n"
    rows = [f"q{n},SELECT {n} FROM t,CREATE TABLE t (a),shop\n" for n in range(6)]
    (folder / "train.csv").write_text(header + "".join(rows[:4]))
    (folder / "validation.csv").write_text(header + "".join(rows[4:]))
    (folder / "template.txt").write_text("{context}\n{question}\n{query}")
    return folder


def config_of(project: Path) -> RunConfig:
    return RunConfig(
        data=DataConfig(
            train=str(project / "train.csv"),
            validation=str(project / "validation.csv"),
            template=str(project / "template.txt"),
            databases=str(project / "databases"),
        ),
        trainer=TrainerConfig(load_best_model_at_end=False),
    )


def identity(config: RunConfig, fingerprint: str = "tiny@1") -> Identity:
    return identify(config, load_data(config), "Tiny-1B", fingerprint)


def with_key(config: Any, key: str, value: Any) -> Any:
    """A config with one dotted key changed."""
    name, _, rest = key.partition(".")
    inner = with_key(getattr(config, name), rest, value) if rest else value
    return replace(config, **{name: inner})


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """The keys of nested dicts in dotted form."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    return {
        key: leaf
        for name, inner in value.items()
        for key, leaf in leaves(inner, f"{prefix}.{name}" if prefix else name).items()
    }


DETERMINING = {
    "model.revision": "v2",
    "model.gguf_file": "q4.gguf",
    "model.dtype": DType.float16,
    "model.pad_token": "<unk>",
    "model.wrap": Wrap.chat,
    "model.attn_implementation": "eager",
    "model.trust_remote_code": True,
    "data.validation_fraction": 0.2,
    "data.split_by": SplitBy.schema,
    "data.split_seed": 1,
    "data.limit": 3,
    "data.max_length": 512,
    "data.too_long": OnInvalid.error,
    "data.on_invalid": OnInvalid.drop,
    "data.loss_on": LossOn.full,
    "data.wrap": Wrap.chat,
    "data.columns.question": None,
    "data.columns.query": None,
    "data.columns.context": None,
    "data.columns.db_id": None,
    "collator.name": "default",
    "collator.pad_to_multiple_of": 8,
    "collator.max_tokens": 512,
    "collator.max_group": 4,
    "lora.enabled": False,
    "lora.r": 8,
    "lora.alpha": 16.0,
    "lora.dropout": 0.1,
    "lora.target_modules": "attention",
    "lora.use_rslora": True,
    "lora.use_dora": True,
    "lora.init": "gaussian",
    "quant.mode": QuantMode.int4,
    "quant.quant_type": "fp4",
    "quant.double_quant": False,
    "trainer.learning_rate": 1e-4,
    "trainer.per_device_train_batch_size": 4,
    "trainer.gradient_accumulation_steps": 2,
    "trainer.effective_batch_size": 16,
    "trainer.max_steps": 3,
    "trainer.num_train_epochs": 1.0,
    "trainer.lr_scheduler_type": "cosine",
    "trainer.warmup_steps": 0.1,
    "trainer.weight_decay": 0.1,
    "trainer.adam_beta2": 0.95,
    "trainer.max_grad_norm": 0.5,
    "trainer.optim": "sgd",
    "trainer.gradient_checkpointing": True,
    "trainer.eval_strategy": Strategy.never,
    "trainer.eval_steps": 5,
    "trainer.save_strategy": Strategy.never,
    "trainer.save_steps": 5,
    "trainer.load_best_model_at_end": True,
    "trainer.metric_for_best_model": "exact_match",
    "trainer.early_stopping_patience": 2,
    "evaluation.limit": 1,
    "evaluation.seed": 1,
    "evaluation.during_training": 8,
    "evaluation.base": False,
    "evaluation.max_new_tokens": 32,
    "evaluation.temperature": 0.5,
    "evaluation.top_p": None,
    "evaluation.num_beams": 2,
    "evaluation.candidates": None,
    "evaluation.choose": None,
    "evaluation.constrain": "schema",
    "data.schema_format": SchemaFormat.compact,
    "data.linking": 100,
    "data.columns.evidence": None,
    "data.schema.types": False,
    "data.schema.keys": False,
    "data.schema.comments": False,
    "data.schema.values": 1,
    "data.schema.longest_value": 9,
    "data.schema.private": ["name"],
    "data.schema.seed": 1,
    "trainer.full_determinism": True,
    "evaluation.endpoint": "http://localhost:8000/v1",
    "evaluation.endpoint_model": None,
    "evaluation.repair": 1,
    "evaluation.fuzz": 2,
    "evaluation.timeout": 1.0,
    "seed": 1,
}
"""Another value for each key that may change a run's metrics; None where none fits the CSV."""
BY_CONTENT = {
    "model.name_or_path",
    "model.adapter",
    "data.name",
    "data.train",
    "data.weights",
    "data.also_evaluate",
    "data.validation",
    "data.template",
    "data.databases",
}
"""Keys that count by what they lead to."""


def test_each_key_either_determines_the_result_or_is_known_not_to():
    by_own_content = {key for key in BY_CONTENT if key.startswith("data.")}
    new = {key for key in DETERMINING if {key, key.rpartition(".")[0]} & ADDED_LATER}
    hashed_keys = set(DETERMINING) - new | BY_CONTENT - by_own_content | AS_BY_DEFAULT
    assert set(leaves(hashed(RunConfig()))) == hashed_keys
    free = set(leaves(plain(RunConfig()))) - set(DETERMINING) - BY_CONTENT
    assert {
        key for key in free if key.partition(".")[0] not in ("paths", "tracking", "sweep", "plan")
    } == {
        "objective",
        "evaluation.batch_size",
        "evaluation.endpoint_key_env",
        "evaluation.metrics",
        "evaluation.rows",
        "evaluation.show",
        "model.allow_pickle",
        "data.engine",
        "collator.attention",
        "trainer.save_total_limit",
        "trainer.logging_steps",
        "trainer.dataloader_num_workers",
    }


@pytest.mark.parametrize("key", [key for key, value in DETERMINING.items() if value is not None])
def test_a_key_that_may_change_the_metrics_changes_the_hash(project, key):
    config = config_of(project)
    changed = with_key(config, key, DETERMINING[key])
    assert changed != config
    assert identity(changed).config_hash != identity(config).config_hash
    assert identity(changed).name != identity(config).name


def test_the_name_says_what_the_run_is_and_ends_with_its_hash(project):
    found = identity(
        replace(config_of(project), lora=LoraConfig(r=24, alpha=6, dropout=0.25), seed=7)
    )
    name, _, tail = found.name.rpartition("-")
    assert tail == found.config_hash[:8]
    for part in (
        "tiny-1b",
        "data",
        "shared_schema",
        "r24",
        "a6",
        "d0.25",
        "lr0.0005",
        "b8x1",
        "s7",
    ):
        assert f"_{part}_" in f"_{name}_", part
    assert len(found.config_hash) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"lora": LoraConfig(target_modules=["q_proj", "a/b c*"] * 40)},
        {"data": DataConfig(name="../../über alles/" * 20)},
    ],
)
def test_the_name_is_one_that_any_file_system_takes(project, change):
    config = config_of(project)
    if "data" in change:
        change = {"data": replace(config.data, name=change["data"].name)}
    name = identity(replace(config, **change)).name
    assert Path(name).name == name
    assert len(name.encode()) < 255
    assert not set(name) & set(' /\\:*?"<>|')


def test_the_same_files_elsewhere_are_the_same_run(project, tmp_path):
    config = config_of(project)
    moved = shutil.copytree(project, tmp_path / "else" / "where")
    (moved / "train.csv").rename(moved / "renamed.csv")
    there = with_key(config_of(moved), "data.train", str(moved / "renamed.csv"))
    assert identity(there) == identity(config)


def test_the_same_rows_under_other_column_names_are_the_same_rows(project):
    before = load_data(config_of(project))
    for name in ("train.csv", "validation.csv"):
        path = project / name
        path.write_text(path.read_text().replace("question,query", "Frage,SQL"))
    columns = ColumnsConfig(question="Frage", query="SQL")
    after = load_data(with_key(config_of(project), "data.columns", columns))
    assert (after.train_hash, after.evaluation_hash) == (before.train_hash, before.evaluation_hash)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("paths", PathsConfig(output="elsewhere", cache="/tmp/cache")),
        ("tracking", TrackingConfig(name="none", project="x", tags=["y"], notes="z")),
        ("objective", "exact_match"),
        ("collator.attention", PackAttention.mask),
        ("evaluation.batch_size", 4),
        ("sweep", SweepConfig(halving=2, rerun=Rerun.changed)),
        ("plan", PlanConfig(device="h100")),
        ("trainer.save_total_limit", None),
        ("trainer.logging_steps", 1),
        ("trainer.dataloader_num_workers", 2),
    ],
)
def test_paths_tracking_and_logging_do_not_make_another_run(project, key, value):
    config = config_of(project)
    changed = with_key(config, key, value)
    assert changed != config
    assert identity(changed) == identity(config)


def _edit(name: str, old: str, new: str) -> Any:
    def change(project: Path) -> None:
        path = project / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def _add_to_database(project: Path) -> None:
    with closing(sqlite3.connect(project / "databases" / "shop" / "shop.sqlite")) as connection:
        connection.execute("INSERT INTO t VALUES (2)")
        connection.commit()


@pytest.mark.parametrize(
    "change",
    [
        _edit("train.csv", "q0,", "Q0,"),
        _edit("train.csv", "SELECT 0", "SELECT  0"),
        _edit("train.csv", "(a)", "(b)"),
        _edit("train.csv", "shop", "clinic"),
        _edit("train.csv", "q0,SELECT 0 FROM t,CREATE TABLE t (a),shop\n", ""),
        _edit("validation.csv", "q4,", "Q4,"),
        _edit("validation.csv", "SELECT 5", "SELECT 6"),
        _edit("validation.csv", "shop", "clinic"),
        _edit("template.txt", "{question}", "Q: {question}"),
        _edit("template.txt", "{query}", "{query};"),
        _add_to_database,
    ],
    ids=[
        "question",
        "query",
        "context",
        "db_id",
        "one row less",
        "held-out question",
        "held-out query",
        "held-out database",
        "template",
        "template's end",
        "database",
    ],
)
def test_other_content_is_another_run(project, change):
    before = identity(config_of(project))
    change(project)
    after = identity(config_of(project))
    assert after.config_hash != before.config_hash
    assert after.name != before.name


def test_a_database_that_is_not_measured_on_does_not_count(project):
    before = identity(config_of(project))
    (project / "databases" / "clinic" / "clinic.sqlite").write_bytes(b"")
    assert identity(config_of(project)) == before


def test_another_model_or_adapter_is_another_run(project, tmp_path):
    config = config_of(project)
    assert identity(config, "tiny@2").config_hash != identity(config, "tiny@1").config_hash
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    hashes = {identity(config).config_hash}
    for weights in (b"one", b"two"):
        (adapter / "adapter_config.json").write_text("{}")
        (adapter / "adapter_model.safetensors").write_bytes(weights)
        hashes.add(identity(with_key(config, "model.adapter", str(adapter))).config_hash)
    assert len(hashes) == 3
    moved = shutil.copytree(adapter, tmp_path / "moved")
    assert identity(with_key(config, "model.adapter", str(moved))).config_hash in hashes


def test_the_table_of_effects_names_keys_and_sections_alone():
    assert set(EFFECTS) <= set(kinds_of_keys())


def test_a_key_that_came_later_leaves_hashes_as_they_were(project, monkeypatch):
    config = config_of(project)
    with_it, without = identity(config), replace(config, lora=replace(config.lora, r=4))
    monkeypatch.setattr("qc_experiments.config.determining.ADDED_LATER", frozenset({"lora.r"}))
    assert identity(config) != with_it
    assert "r" not in hashed(config)["lora"]
    assert hashed(without)["lora"]["r"] == 4


def test_plain_and_hashed_hold_nothing_but_plain_values():
    for value in leaves(plain(compose("lora.target_modules=[q_proj,v_proj]"))).values():
        assert value is None or isinstance(value, str | int | float | bool | list), value
        assert not is_dataclass(value)
    assert EvaluationConfig().timeout == hashed(RunConfig())["evaluation"]["timeout"]


def test_an_option_file_that_is_no_yaml_is_refused_in_one_line(refused, tmp_path):
    from qc_experiments.cli import plan as plan_command
    from qc_experiments.cli import train as command_line

    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "broken.yaml").write_text("r: [1, 2\n", encoding="utf-8")
    arguments = ["--config-dir", str(tmp_path), "lora=broken"]
    for entry in (command_line.main, plan_command.main):
        assert "broken.yaml" in refused(entry, arguments)
