"""The W&B run that a training leaves behind, read back by W&B itself."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from helpers.runs import Run
from helpers.wandb_files import inspect, offline_run

from qc_experiments.config.schema import TrackingConfig, WandbMode
from qc_experiments.errors import UserError
from qc_experiments.tracking.tracker import TrackedRun
from qc_experiments.tracking.wandb import WandbTracker, check_wandb, switched_off, wandb_mode


@pytest.fixture
def tracked(train) -> Run:
    return train("tracking=wandb", "tracking.tags=[demo]", "tracking.group=mine", "lora.r=2")


def test_the_offline_run_holds_config_history_and_summary(tracked):
    path = offline_run(tracked)
    found = json.loads(inspect(path, "--summary"))
    assert found["config"]["lora"]["r"] == 2
    assert found["config"]["trainer"]["gradient_accumulation_steps"] == 1
    text = json.dumps(found)
    for key in ("eval_loss", "execution_accuracy", "base_eval_loss", "examples_per_second"):
        assert key in text
    records = [json.loads(line) for line in inspect(path).splitlines()]
    steps = [record for record in records if record.get("type") == "history"]
    assert len(steps) >= 3
    whole = json.dumps(records)
    assert "table-file" in whole  # the predictions
    assert f"{tracked.metrics[0]['loss']}"[:8] in whole
    assert list((path.parent / "files" / "media" / "table").glob("predictions*"))


def test_each_job_of_a_sweep_is_a_run_of_its_own(train, tmp_path):
    import wandb

    one = train("tracking=wandb", "lora.r=2", output=tmp_path)
    two = train("tracking=wandb", "lora.r=3", output=tmp_path)
    assert wandb.run is None
    assert offline_run(one).name != offline_run(two).name
    assert json.loads(inspect(offline_run(two), "--summary"))["config"]["lora"]["r"] == 3


def test_nothing_is_written_outside_the_runs_folder(tracked, tmp_path):
    outside = [p for p in tmp_path.rglob("wandb") if tracked.folder not in p.parents]
    assert outside == []


def test_without_a_login_the_mode_is_offline(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb_mode(WandbMode.auto) == "offline"
    assert wandb_mode(WandbMode.online) == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode(WandbMode.auto) == "disabled"
    assert wandb_mode(WandbMode.offline) == "offline"


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("tracking.project=team/text2sql", ["tracking.entity=team tracking.project=text2sql"]),
        ("tracking.project=a/b/c", ["tracking.project=a/b/c: must be a name without any of"]),
        ("tracking.project=100%", ["tracking.project=100%", "without any of"]),
        ("tracking.project=a:b", ["tracking.project=a:b", "without any of"]),
        ("tracking.project=", ["tracking.project=", "must be"]),
        (f"tracking.project={'p' * 129}", ["tracking.project=", "1 to 128 characters"]),
        ("tracking.entity=team/x", ["tracking.entity=team/x", "without any of"]),
        (f"tracking.group={'g' * 129}", ["tracking.group=", "1 to 128 characters"]),
        (f"tracking.tags=[ok,{'t' * 65}]", ["tracking.tags=t", "1 to 64 characters"]),
        ("tracking.tags=['']", ["tracking.tags=", "1 to 64 characters"]),
        ("tracking.mode=dryrun", ["tracking.mode", "dryrun", "offline"]),
    ],
)
def test_what_wandb_would_refuse_is_refused_before_anything_is_computed(
    refused, tmp_path, setting, parts
):
    from qc_experiments.cli.plan import main as plan
    from qc_experiments.cli.train import main

    for start in (main, plan):
        line = refused(start, ["tracking=wandb", setting, f"paths.output={tmp_path / 'out'}"])
        for part in parts:
            assert part in line
    assert not (tmp_path / "out").exists()


def test_whoever_tracks_nothing_may_call_it_anything():
    TrackingConfig(name="none", project="a/b", tags=["t" * 99])
    assert TrackingConfig(project="p" * 128, tags=["t" * 64], entity="team", group="größe, (1)/2")


@pytest.mark.parametrize(
    ("variables", "parts"),
    [
        ({"WANDB_MODE": "bogus"}, ["WANDB_MODE=bogus", "'offline'"]),
        ({"WANDB_MODE": ""}, ["WANDB_MODE=", "'offline'"]),
        ({"WANDB_TAGS": "ok," + "t" * 65}, ["WANDB_TAGS", "64 characters"]),
        ({"WANDB_BASE_URL": "s3cret"}, ["WANDB_BASE_URL", "valid URL"]),
        ({"WANDB_INIT_TIMEOUT": "s3cret"}, ["WANDB_INIT_TIMEOUT", "valid number"]),
    ],
)
def test_a_variable_that_wandb_would_refuse_is_named(
    refused, tmp_path, tiny_model, monkeypatch, variables, parts
):
    from qc_experiments.cli.train import main

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    given = ["model=hub", f"model.name_or_path={tiny_model}", f"paths.output={tmp_path / 'out'}"]
    line = refused(main, ["data=demo", *given])
    for part in parts:
        assert part in line
    assert "s3cret" not in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("logged", "was_offline", "resume", "sent"),
    [
        ([], False, None, []),  # whatever W&B has of an earlier attempt
        ([(1, {"loss": 2.0})], False, "allow", []),
        ([(1, {"loss": 2.0})], True, "allow", [({"loss": 2.0}, 1)]),
    ],
)
def test_online_a_run_goes_on_with_what_it_has_logged_and_no_other(
    monkeypatch, tmp_path, logged, was_offline, resume, sent
):
    given, found = {}, []
    log = SimpleNamespace(log=lambda figures, step: found.append((figures, step)))
    monkeypatch.setattr("wandb.init", lambda **options: given.update(options) or log)
    monkeypatch.setenv("WANDB_DATA_DIR", "")
    offline = tmp_path / "wandb" / "offline-run-1-id"
    if was_offline:
        offline.mkdir(parents=True)
    config = TrackingConfig(mode=WandbMode.online)
    WandbTracker(TrackedRun(config, tmp_path, "id", "name", {}, logged))
    assert (given["mode"], given["resume"], found) == ("online", resume, sent)
    assert not offline.exists()


def test_online_without_a_login_is_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match="wandb login"):
        check_wandb(TrackingConfig(mode=WandbMode.online))
    check_wandb(TrackingConfig(mode=WandbMode.offline))
    check_wandb(TrackingConfig(mode=WandbMode.online, name="none"))


def test_hugging_faces_variable_switches_tracking_off(train, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_DISABLED", "true")
    run = train("tracking=wandb", "trainer.max_steps=1", "evaluation.base=false")
    assert not (run.folder / "wandb").exists()
    assert "WANDB_DISABLED is set" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "off"), [("true", True), ("1", True), ("YES", True), ("false", False), ("", False)]
)
def test_the_variable_has_hugging_faces_values(monkeypatch, value, off):
    monkeypatch.setenv("WANDB_DISABLED", value)
    assert switched_off() is off


def test_the_modes_that_wandb_once_had_mean_what_they_meant(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert wandb_mode(WandbMode.auto) == "offline"
