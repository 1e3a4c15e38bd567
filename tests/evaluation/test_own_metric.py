"""A metric of a user's own, from a module and an option file outside the package."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.runs import ROOT, TINY_TRAINING, Run, run_folders

from qc_experiments.cli.compare import main as compare_main
from qc_experiments.cli.plan import main as plan
from qc_experiments.comparison.study import compare
from qc_experiments.comparison.views.page import page_data
from qc_experiments.comparison.views.wandb import build_report, build_workspace, choose

MODULE = """
from qc_experiments.config.metrics import Metric


def words(judged):
    return [set(one.prediction.split()) == set(one.row.query.split()) for one in judged]


def length(judged):
    return [float(len(one.prediction)) for one in judged]


same_words = Metric("same_words", "the gold's words", words)
characters = Metric("characters", "length", length, higher_is_better=False, share=False, unit="characters")
too_few = Metric("too_few", "too few", lambda judged: [True])
above_one = Metric("above_one", "above one", lambda judged: 1.5)
broken = Metric("broken", "broken", lambda judged: judged[0].nothing)
taken = Metric("exact_match", "taken", words)
spaced = Metric("two words", "spaced", words)
loss = Metric("loss", "a loss", words)
base = Metric("base_same_words", "base", words)
again = Metric("same_words_again", "the gold's words", words)
ours = Metric("ours", "exact match", words)
no_metric = words


def left(judged):
    raise SystemExit(3)


ends = Metric("ends", "ends", left)
unknown = Metric("unknown", "unknown", lambda judged: [None] * len(judged))


def of_numpy(judged):
    import numpy as np
    return [np.bool_(True)] * len(judged)


numpy = Metric("numpy", "NumPy's", of_numpy)
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a user's module and option file."""
    (tmp_path / "my_metrics.py").write_text(MODULE)
    (tmp_path / "evaluation").mkdir()
    names = "[my_metrics.same_words, my_metrics.characters]"
    (tmp_path / "evaluation" / "own.yaml").write_text(f"metrics: {names}\n")
    return tmp_path


def test_it_is_measured_recorded_shown_and_can_be_the_objective(own, tiny_model, capsys):
    output = own / "outputs"
    arguments = [
        *("--config-dir", str(own), "evaluation=own", "objective=characters"),
        *("model=hub", f"model.name_or_path={tiny_model}", f"paths.output={output}"),
        *TINY_TRAINING,
        *("trainer.eval_strategy=steps", "trainer.eval_steps=3", "evaluation.during_training=2"),
        "trainer.metric_for_best_model=same_words",
    ]
    environment = {**os.environ, "PYTHONPATH": str(own), "WANDB_MODE": "offline"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        env=environment,
        cwd=own,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = run_folders(output)
    run = Run(folder)
    length = sum(len(row["prediction"]) for row in run.rows()) / 4
    assert run.result["characters"] == run.result["objective"] == pytest.approx(length)
    assert run.result["same_words"] == 0.0
    assert run.result["base_characters"] is not None
    assert any({"eval_same_words", "eval_characters"} <= set(line) for line in run.metrics)
    report = json.loads((folder / "report.json").read_text())
    assert report["figures"]["same_words"]["hits"] == 0
    assert report["figures"]["characters"]["count"] == 4
    assert report["metrics"]["characters"]["title"] == "length"
    assert "the gold's words" in (folder / "summary.txt").read_text()

    # What compares it knows the run's folder alone, not the module.
    compare_main([str(output), "--objective", "characters"])
    assert "Ranked by length" in capsys.readouterr().out
    with (output / "compare.csv").open(encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file)
    assert float(row["characters"]) == pytest.approx(length)
    study = compare([output], "characters")
    assert not study.objective.higher_is_better
    page = page_data(study)
    assert page["metrics"]["characters"]["unit"] == "characters"
    assert page["runs"][0]["f"]["characters"] == pytest.approx(length, rel=1e-5)
    shown = choose(study, entity="me")
    assert "length" in build_report(shown).blocks[0].text
    assert "summary:characters" in build_workspace(shown).runset_settings.pinned_columns


def test_predictions_of_any_system_are_measured_by_it(own):
    databases = ROOT / "qc_experiments" / "demo" / "databases"
    with (own / "p.csv").open("w", newline="") as file:
        query = "SELECT 1"
        csv.writer(file).writerows(
            [["db_id", "question", "query", "prediction"], ["library", "?", query, query]]
        )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "qc_experiments", "evaluate", str(own / "p.csv")),
            *("--databases", str(databases), "--output", str(own / "judged")),
            *("--metric", "my_metrics.same_words", "--metric", "my_metrics.characters"),
            *("--metric", "my_metrics.unknown", "--metric", "my_metrics.numpy"),
            *("--metric", "my_metrics.ends"),
        ],
        env={**os.environ, "PYTHONPATH": str(own), "HOME": str(own)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    shown = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "the gold's words 100.0 % 1 of 1 20.7 to 100.0 %" in shown
    assert "length 8.0000 1" in shown
    assert "NumPy's 100.0 % 1 of 1 20.7 to 100.0 %" in shown
    assert {"unknown not measured", "ends not measured"} <= set(shown)
    assert "ends was not measured (SystemExit: 3)" in done.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "my_metrics.same_word",
            "cannot be imported: module my_metrics has no attribute 'same_word'",
        ),
        ("my_metrics.same_word", "(did you mean same_words?)"),
        ("no_such_module.metric", "cannot be imported"),
        ("no_such_module.metric", "is its folder on PYTHONPATH?"),
        ("my_metrics", "must be a dotted name such as my_module.my_metric"),
        ("leaves.metric", "cannot be imported (SystemExit: 1)"),
        ("needs_more.metric", "No module named 'absent_library')"),
        ("my_metrics.no_metric", "is function, not a"),
        ("my_metrics.taken", "must be a name that nothing else has"),
        ("my_metrics.spaced", "its key 'two words' is no identifier"),
        ("my_metrics.loss", "is logged as eval_loss, as eval_loss is"),
        ("my_metrics.same_words,my_metrics.base", "result.json holds another base_same_words"),
        ("my_metrics.base,my_metrics.same_words", "result.json holds another base_same_words"),
        ("my_metrics.ours", "has the title 'exact match', as exact_match has"),
        (
            "my_metrics.same_words,my_metrics.again",
            'has the title "the gold\'s words", as same_words has',
        ),
        ("my_metrics.same_words,my_metrics.same_words", "is named twice"),
        ("my_metrics.ends", "(SystemExit: 3)"),
        ("my_metrics.broken", "has no attribute 'nothing'"),
        ("my_metrics.too_few", "gave 1 outcomes of"),
        ("my_metrics.above_one", "not a share from 0 to 1"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_training(
    own, tiny_model, monkeypatch, refused, name, said
):
    monkeypatch.syspath_prepend(str(own))
    (own / "leaves.py").write_text("raise SystemExit(1)")
    (own / "needs_more.py").write_text("import absent_library")
    line = refused(
        plan,
        [
            *("model=hub", f"model.name_or_path={tiny_model}", "tracking=none"),
            *(f"paths.output={own / 'outputs'}", *TINY_TRAINING, f"evaluation.metrics=[{name}]"),
        ],
    )
    assert "evaluation.metrics" in line
    assert said in line
    assert "on PYTHONPATH" not in line or name.startswith("no_such_module")
    assert not (own / "outputs").exists()


def test_jobs_that_a_sweep_would_refuse_are_named(own, tiny_model, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(own))
    (own / "my_collator.py").write_text("one = 1")
    with pytest.raises(SystemExit):
        plan(
            [
                *("-m", "model=hub", f"model.name_or_path={tiny_model}", "tracking=none"),
                *(f"paths.output={own / 'outputs'}", *TINY_TRAINING),
                "evaluation.metrics=[my_metrics.same_words],[my_metrics.broken]",
                "collator.name=seq2seq,my_collator.one",
            ]
        )
    said = capsys.readouterr()
    assert "3 jobs of 4 will be refused" in said.err
    assert (
        said.out.count("it is 1, not a function") + said.err.count("it is 1, not a function") == 2
    )
