"""`qc compare`: what is read, ranked, pooled, tested and written, on run folders made by hand."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest
from helpers.runs import child
from helpers.written_runs import add_rows, lock, write_run

from qc_experiments.cli.compare import main
from qc_experiments.comparison.significance import against_best, holm, mcnemar_p, pair_bits
from qc_experiments.comparison.study import compare
from qc_experiments.comparison.views.page import embedded, page_data, page_html
from qc_experiments.comparison.views.table import comparison_table, shortened
from qc_experiments.evaluation.statistics import Paired, paired, wilson


def names(runs: Any) -> list[str]:
    return [run.name for run in runs]


# ---- tests of difference ---------------------------------------------------------------------


def test_holm_by_hand():
    # Sorted: .01 x 4 = .04, .02 x 3 = .06, .03 x 2 = .06, .04 x 1 = .04, raised to .06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    # .005 x 3 = .015; .03 x 2 = .06; .5 stays.
    assert holm([0.5, 0.005, 0.03]) == pytest.approx([0.5, 0.015, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_bits_are_paired_as_the_statistics_pair_outcomes():
    first, second = "110010-01", "101-11001"
    known = {"1": True, "0": False, "-": None}
    expected = paired([known[bit] for bit in first], [known[bit] for bit in second])
    assert pair_bits(first, second) == expected
    assert mcnemar_p(expected) == expected.p_value()
    assert mcnemar_p(Paired(0, 9, 1, 3)) == pytest.approx(22 / 1024)
    with pytest.raises(ValueError, match="zip"):
        pair_bits("11", "1")


def test_better_needs_a_test_and_its_correction(tmp_path):
    # 8 questions only the leader gets: p = 2 / 2^8 = .0078; alone it is better, among 20 others not.
    leader, other = "1" * 20, "1" * 12 + "0" * 8
    write_run(tmp_path / "few" / "leader", leader, lora__r=8)
    write_run(tmp_path / "few" / "other", other, lora__r=16)
    (group,) = compare([tmp_path / "few"]).groups
    found = group.against[group.runs[1].folder]
    assert (found.verdict, found.p, found.p_holm) == ("better", 2 / 256, 2 / 256)
    assert found.table.difference() == pytest.approx(0.4)
    write_run(tmp_path / "many" / "leader", leader, lora__r=8)
    for number in range(20):
        write_run(tmp_path / "many" / f"other{number}", other, lora__r=16 + number)
    (group,) = compare([tmp_path / "many"]).groups
    verdicts = {one.verdict for one in group.against.values()}
    assert verdicts == {"not distinguishable"}
    text = comparison_table([tmp_path / "many"], width=140)
    assert "not distinguishable from 20 of 20 other runs" in text
    assert " better" not in text
    assert f"The leader's folder: {tmp_path / 'many' / 'leader'}\n" in text
    assert "better than 1 of 1 other run (" in comparison_table([tmp_path / "few"], width=140)


def test_other_questions_are_not_tested(tmp_path):
    first = write_run(tmp_path / "a", "1" * 10)
    second = write_run(tmp_path / "b", "0" * 10, question="Another {}?")
    runs = {run.name: run for run in compare([first, second]).runs}
    assert against_best(runs["a"], [runs["b"]]) == {}
    assert "is not tested" in comparison_table([tmp_path])


# ---- groups and seeds ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unlike",
    [
        {"result": {"evaluation_hash": "f" * 64}},
        {"evaluation__num_beams": 4},
        {"evaluation__max_new_tokens": 32},
        {"evaluation__temperature": 0.7},
    ],
)
def test_unlike_runs_are_not_ranked_together(tmp_path, unlike):
    write_run(tmp_path / "a", "1110000000", lora__r=8)
    write_run(tmp_path / "b", "1100000000", lora__r=16)
    write_run(tmp_path / "c", "1111111111", **unlike)
    study = compare([tmp_path])
    assert [names(group.runs) for group in study.groups] == [["a", "b"], ["c"]]
    assert study.groups[0].apart == ""
    assert study.groups[1].apart
    assert len({group.name for group in study.groups}) == 2
    assert all(tmp_path / "c" not in group.against for group in study.groups)
    text = comparison_table([tmp_path])
    assert "Group 2" in text
    assert "Shown apart from group 1, not ranked with it" in text


@pytest.mark.parametrize(
    "like",
    [
        {"evaluation__timeout": 9.0},
        {"evaluation__base": False},
        {"evaluation__batch_size": 2},
        {"trainer__logging_steps": 9},
        {"paths__output": "elsewhere"},
    ],
)
def test_settings_that_do_not_change_the_verdicts_do_not_part_runs(tmp_path, like):
    write_run(tmp_path / "a", lora__r=8)
    write_run(tmp_path / "b", lora__r=16, **like)
    assert len(compare([tmp_path]).groups) == 1


def test_losses_compare_for_one_model_and_the_same_labels_only(tmp_path):
    write_run(tmp_path / "a", model__name_or_path="one")
    write_run(tmp_path / "b", model__name_or_path="two")
    assert len(compare([tmp_path]).groups) == 1
    assert len(compare([tmp_path], "eval_loss").groups) == 2


def test_answers_on_perturbed_copies_compare_for_the_same_copies_only(tmp_path):
    write_run(tmp_path / "a", evaluation__seed=1)
    write_run(tmp_path / "b", evaluation__seed=2)
    assert len(compare([tmp_path]).groups) == 1
    assert len(compare([tmp_path], "fuzz_accuracy").groups) == 2


def test_rates_over_other_questions_are_told_of(tmp_path):
    write_run(tmp_path / "a", "1100110011", lora__r=8)
    write_run(tmp_path / "b", "110011001-", lora__r=16)
    (group,) = compare([tmp_path]).groups
    assert any("taken over 9 to 10 questions" in line for line in group.warnings)


@pytest.mark.parametrize(
    "other", [{"model__name_or_path": "other"}, {"data__wrap": "chat"}], ids=["model", "labels"]
)
def test_equal_runs_are_not_ordered_by_losses_that_do_not_compare(tmp_path, other):
    bits = "1100"
    write_run(tmp_path / "a", bits, result={"eval_loss": 0.9}, **other)
    write_run(tmp_path / "b", bits, result={"eval_loss": 0.1}, lora__r=8)
    write_run(tmp_path / "c", "1110", result={"eval_loss": 2.0}, lora__r=9)
    [group] = compare([tmp_path]).groups
    assert names(group.runs) == ["c", "a", "b"]
    said = "losses of different models or labels do not compare"
    assert said in comparison_table([tmp_path])
    like = tmp_path / "like"
    write_run(like / "a", bits, result={"eval_loss": 0.9}, **other)
    write_run(like / "b", bits, result={"eval_loss": 0.1}, lora__r=8, **other)
    assert names(compare([like]).groups[0].runs) == ["b", "a"]
    assert said not in comparison_table([like])


def test_what_is_not_distinguishable_is_not_said_to_be_below_a_p(tmp_path):
    for name, rank in (("a", 4), ("b", 8)):
        write_run(tmp_path / name, "1100", lora__r=rank)
    text = " ".join(comparison_table([tmp_path]).split())
    assert "not distinguishable from 1 of 1 other run" in text
    assert "a difference is claimed below p = 0.05 only" in text


def test_runs_that_do_not_say_what_they_were_judged_on_are_not_ranked(tmp_path):
    folder = write_run(tmp_path / "a", result={"evaluation_hash": None})
    (folder / "environment.json").unlink()
    write_run(tmp_path / "b")
    study = compare([tmp_path])
    assert [group.ranked for group in study.groups] == [True, False]
    assert study.groups[1].best is None
    assert "Not ranked: it is not recorded on what these runs were measured." in comparison_table(
        [tmp_path]
    )


def test_swept_keys_are_those_that_differ_and_matter(tmp_path):
    write_run(tmp_path / "a", lora__r=8, trainer__logging_steps=1, tracking__group="x", seed=1)
    write_run(tmp_path / "b", lora__r=16, lora__dropout=0.1, data__train="other/place.csv", seed=2)
    (group,) = compare([tmp_path]).groups
    assert group.swept == ("lora.r", "lora.dropout", "seed")


def test_the_effective_batch_is_shown_where_accumulation_is_swept(tmp_path):
    for steps in (1, 4):
        given = {"trainer__gradient_accumulation_steps": steps}
        write_run(tmp_path / "free" / str(steps), trainer__per_device_train_batch_size=4, **given)
        fixed = {
            "trainer__per_device_train_batch_size": None,
            "trainer__effective_batch_size": 16,
        }
        write_run(tmp_path / "fixed" / str(steps), **fixed, **given)
    keys = (
        "trainer.gradient_accumulation_steps",
        "trainer.per_device_train_batch_size",
        "trainer.effective_batch_size",
    )
    for folder, swept, shown in (
        ("free", {keys[0], keys[2]}, {(1, 4, 4), (4, 4, 16)}),
        ("fixed", {keys[0], keys[1]}, {(1, 16, 16), (4, 4, 16)}),
    ):
        [group] = compare([tmp_path / folder]).groups
        assert set(group.swept) == swept
        found = {tuple(one.facts[key] for key in keys) for one in group.configurations}
        assert found == shown
    environment = json.loads((tmp_path / "free" / "4" / "environment.json").read_text())
    environment["hardware"] = {"processes": 2}
    (tmp_path / "free" / "4" / "environment.json").write_text(json.dumps(environment))
    [group] = compare([tmp_path / "free"]).groups
    assert {one.facts[keys[2]] for one in group.configurations} == {4, 32}


def test_other_data_templates_and_code_are_columns_with_a_warning(tmp_path):
    write_run(tmp_path / "a")
    other = {"data_hash": "9" * 64, "template_hash": "8" * 64, "code_commit": "7" * 40 + "+changes"}
    write_run(tmp_path / "b", result=other)
    (group,) = compare([tmp_path]).groups
    assert group.swept == ("training data", "template", "code")
    text = comparison_table([tmp_path], width=200)
    for line in (
        "2 different training data",
        "2 different templates",
        "2 different versions of code",
    ):
        assert line in text
    assert "1 of 2 runs used code with uncommitted changes" in text
    assert "77777777+changes" in text


def test_seeds_of_one_configuration_are_pooled(tmp_path):
    write_run(tmp_path / "a1", "1111100000", lora__r=8, seed=1)
    write_run(tmp_path / "a2", "1111111000", lora__r=8, seed=2)
    write_run(tmp_path / "a3", "1111111100", lora__r=8, seed=3)
    write_run(tmp_path / "b1", "1111111110", lora__r=16, seed=1)
    write_run(tmp_path / "b2", "0000000000", lora__r=16, seed=2)
    (group,) = compare([tmp_path]).groups
    first, second = group.configurations
    assert names(first.runs) == ["a3", "a2", "a1"]
    assert first.mean("execution_accuracy") == pytest.approx(2 / 3)
    assert first.spread("execution_accuracy") == (0.5, 0.8)
    assert first.interval() == wilson(7, 10)
    assert second.mean("execution_accuracy") == pytest.approx(0.45)
    assert group.best is not None
    assert group.best.name == "a3"  # of the configuration that stands first, though b1 is better
    assert group.against.keys() == {run.folder for run in group.runs if run is not group.best}
    text = comparison_table([tmp_path], width=140)
    (row,) = [line for line in text.splitlines() if line.startswith(" 1 ")]
    assert row.split()[-2:] == ["leader", "a3"]
    assert "66.7 (50.0-80.0)" in text
    assert "seeds" in text


def test_a_copy_of_a_run_counts_once(tmp_path):
    write_run(tmp_path / "a")
    for name in ("a", "copy"):
        shutil.copytree(tmp_path / "a", tmp_path / f"whole_{name}")
    for name in ("predictions.csv", "metrics.jsonl", "report.json"):
        shutil.copytree(tmp_path / "a", tmp_path / f"0 without {name}")
        (tmp_path / f"0 without {name}" / name).unlink()
    (group,) = compare([tmp_path]).groups
    assert names(group.runs) == ["a"]  # one of which all files are there
    (line,) = [one for one in group.warnings if one.startswith("Copies")]
    for name in ("whole_a", "whole_copy", "0 without predictions.csv", "0 without report.json"):
        assert f"{name} (as a)" in line


def test_runs_of_other_code_are_no_copies_where_there_is_no_git(tmp_path):
    for name, mark in (("old", "a1"), ("new", "b2"), ("again", "b2")):
        folder = write_run(tmp_path / name, result={"config_hash": "h", "code_commit": None})
        written = json.loads((folder / "environment.json").read_text())
        written |= {"code_commit": None, "code_mark": mark * 8}
        (folder / "environment.json").write_text(json.dumps(written))
    (group,) = compare([tmp_path]).groups
    assert len(group.runs) == 2
    assert group.swept == ("code",)
    (line,) = [one for one in group.warnings if one.startswith("Copies")]
    assert "new (as again)" in line
    assert "old" not in line


def test_a_run_said_in_other_words_is_no_second_seed(tmp_path):
    figures = {"loss": 0.5}
    same = {"trainer__effective_batch_size": 16, "trainer__gradient_accumulation_steps": 4}
    write_run(tmp_path / "a", result=figures, trainer__per_device_train_batch_size=4, **same)
    write_run(tmp_path / "b", result=figures, trainer__per_device_train_batch_size=None, **same)
    # Equal words for another model, as other answers show.
    write_run(tmp_path / "c", "0000000001", trainer__per_device_train_batch_size=4, **same)
    write_run(tmp_path / "d", "0000000011", trainer__per_device_train_batch_size=4, **same, seed=7)
    (group,) = compare([tmp_path]).groups
    assert sorted(names(group.runs)) == ["a", "c", "d"]
    # Nor are they seeds of one configuration.
    assert [len(one.runs) for one in group.configurations] == [1, 1, 1]
    assert any(line.endswith("not deterministic: a, d, c.") for line in group.warnings)


def test_what_is_switched_off_has_no_values(tmp_path):
    write_run(tmp_path / "a", lora__enabled=False, lora__r=16)
    write_run(tmp_path / "b", "1111111111", lora__r=8)
    (group,) = compare([tmp_path]).groups
    assert [one.facts["lora.r"] for one in group.configurations] == [8, None]
    lines = comparison_table([tmp_path], width=150).splitlines()
    (row,) = [line for line in lines if line.startswith(" 2 ")]
    assert row.split()[:3] == ["2", "false", "-"]
    assert any("lora.enabled" in line for line in lines)


def test_the_leaders_other_seeds_do_not_unseat_it(tmp_path):
    for seed, bits in enumerate(("1111111110", "1111111100")):
        write_run(tmp_path / f"good{seed}", bits, lora__r=8, seed=seed)
        write_run(tmp_path / f"bad{seed}", "1000000000", lora__r=16, seed=seed)
    lines = comparison_table([tmp_path], width=150).splitlines()
    (first,) = [line for line in lines if line.startswith(" 1 ")]
    assert first.split()[-2:] == ["leader", "good0"]


def test_a_file_in_place_of_a_folder(tmp_path, capsys):
    (tmp_path / "README.md").write_text("")
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "README.md")])
    assert stopped.value.code == 2
    assert "README.md: is no folder" in capsys.readouterr().err


def test_runs_that_differ_in_the_middle_of_a_path_look_different(tmp_path):
    start, end = "/home/somebody/outputs/sweep/smollm2-135m-r=8-", "-lr=0.0002-seed=42/adapter"
    for number in (1, 2):
        adapter = f"{start}{number}{'0' * 30}{end}"
        write_run(tmp_path / f"smollm2-135m-r=8-{number}000abcd", model__adapter=adapter)
    text = comparison_table([tmp_path], width=80)
    cells = [line.split() for line in text.splitlines() if line.startswith((" 1 ", " 2 "))]
    assert [one[-1] for one in cells] == ["smoll…8-1000abcd", "smoll…8-2000abcd"]
    assert cells[0][1] != cells[1][1]
    assert cells[0][1].endswith("seed=42/adapter")
    same = shortened(["x" * 100, "y" * 5, "x" * 100])
    assert same == [f"{'x' * 13}…{'x' * 26}", "yyyyy", same[0]]


def test_a_narrow_terminal_keeps_what_was_set(tmp_path):
    write_run(tmp_path / "a", lora__r=8, lora__alpha=16.0, trainer__gradient_accumulation_steps=4)
    write_run(tmp_path / "b", lora__r=16, lora__alpha=32.0, seed=7)
    narrow, wide = (comparison_table([tmp_path], width=width) for width in (100, 200))
    assert max(len(line) for line in wide.splitlines()[:9]) <= 200
    for name in ("alpha", "accumulation_", "seed"):
        assert name in narrow
        assert name in wide
    assert "No room in this terminal for p (Holm), training s, trainable, memory" in narrow
    assert "1.00 GiB" in wide
    assert "No room" not in wide


def test_the_objective_ranks(tmp_path, refused):
    write_run(tmp_path / "a", "1111100000", lora__r=8, result={"eval_loss": 0.9, "valid_sql": 0.2})
    write_run(tmp_path / "b", "1111000000", lora__r=16, result={"eval_loss": 0.1, "valid_sql": 0.8})
    assert names(compare([tmp_path]).groups[0].runs) == ["a", "b"]
    assert names(compare([tmp_path], "eval_loss").groups[0].runs) == ["b", "a"]
    assert names(compare([tmp_path], "valid_sql").groups[0].runs) == ["b", "a"]
    assert "--objective speed: must be one of" in refused(
        main, [str(tmp_path), "--objective", "speed"]
    )


def test_a_figure_that_was_not_measured_ranks_nothing(tmp_path):
    write_run(tmp_path / "a", lora__r=8)
    write_run(tmp_path / "b", lora__r=16)
    (group,) = compare([tmp_path], "fuzz_accuracy").groups
    assert group.best is None
    assert group.against == {}
    text = comparison_table([tmp_path], "fuzz_accuracy")
    assert "Not ranked: execution accuracy on all perturbed databases was not measured." in text
    assert "leader\n" not in text


def test_without_databases_the_loss_ranks(tmp_path):
    write_run(tmp_path / "a", None, lora__r=8, result={"eval_loss": 0.9})
    write_run(tmp_path / "b", None, lora__r=16, result={"eval_loss": 0.1})
    study = compare([tmp_path])
    assert study.objective.key == "eval_loss"
    assert names(study.groups[0].runs) == ["b", "a"]
    assert "not measured" in comparison_table([tmp_path])


# ---- whatever state runs are in --------------------------------------------------------------


def test_runs_at_work_failed_and_interrupted(tmp_path):
    write_run(tmp_path / "done")
    lock(write_run(tmp_path / "at_work", status=None, lora__r=64), os.getpid())
    write_run(
        tmp_path / "failed",
        status="failed",
        error="OutOfMemoryError:\n \x1b[2J CUDA [bold]no[/bold]",
    )
    write_run(tmp_path / "stopped", status="interrupted", error="KeyboardInterrupt")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock(write_run(tmp_path / "killed", status=None), ended.pid)
    write_run(tmp_path / "left", status=None)
    (tmp_path / "left" / ".lock").write_text("")
    for name, loss in (("a_rests", 1.5), ("b_rests", 0.25)):
        rests = {"steps": 3, "objective": loss, "eval_loss": loss, "execution_accuracy": None}
        write_run(tmp_path / name, status="paused", result=rests)
    study = compare([tmp_path])
    assert {run.name: run.status for run in study.runs} == {
        "done": "finished",
        "at_work": "running",
        "failed": "failed",
        "stopped": "interrupted",
        "killed": "interrupted",
        "left": "interrupted",
        "a_rests": "paused",
        "b_rests": "paused",
    }
    assert study.counted() == "8 runs: 1 finished, 1 running, 2 paused, 1 failed, 3 interrupted"
    text = comparison_table([tmp_path])
    above, below = text.split("Not finished")
    assert r"OutOfMemoryError: \x1b[2J CUDA [bold]no[/bold]" in below
    assert "OutOfMemoryError" not in above
    assert f"process {ended.pid} ended without a result" in below
    assert below.index("0.2500") < below.index("1.5000")  # the loss orders what is paused
    (group,) = study.groups
    assert group.swept == ("lora.r",)


def test_without_a_lock_the_files_age_tells(tmp_path):
    write_run(tmp_path / "young", status=None)
    old = write_run(tmp_path / "old", status=None)
    for path in old.iterdir():
        os.utime(path, (1e9, 1e9))
    lock(write_run(tmp_path / "far", status=None), 1, "another-host")
    found = {run.name: run.status for run in compare([tmp_path]).runs}
    assert found == {"young": "running", "old": "interrupted", "far": "running"}


@pytest.mark.parametrize(
    "name", ["config.yaml", "result.json", "metrics.jsonl", "predictions.csv", "report.json"]
)
@pytest.mark.parametrize("content", [b"", b'{"a": [1,', b"\xff\xfe\x00", b"[1, 2]", None])
def test_half_written_and_missing_files_are_no_error(tmp_path, name, content):
    write_run(tmp_path / "whole", "1110000000")
    path = write_run(tmp_path / "broken", lora__r=64) / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    main([str(tmp_path)])
    assert (tmp_path / "compare.html").is_file()


def test_a_config_whose_sections_refer_to_each_other_is_read(tmp_path):
    folder = write_run(tmp_path / "a")
    (folder / "config.yaml").write_text(
        "lora: {r: &rank 8}\ntrainer:\n  max_steps: *rank\nseed: 3\n"
    )
    (run,) = compare([folder]).runs
    found = [run.config[key] for key in ("lora.r", "trainer.max_steps", "seed")]
    assert found == [8, 8, 3]


def test_a_half_written_last_line_of_metrics_is_left_out(tmp_path):
    folder = write_run(tmp_path / "a", status=None)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    (run,) = compare([folder]).runs
    assert run.curves.training == ((1, 2.0), (2, 1.0), (3, 0.66667), (4, 0.5))
    assert run.curves.held_out == ((4, 0.7),)


def test_figures_that_are_no_numbers_do_not_break_the_page(tmp_path):
    write_run(tmp_path / "a", result={"eval_loss": float("nan")})
    (tmp_path / "a" / "metrics.jsonl").write_text(
        '{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1}\n'
    )
    assert "NaN" not in embedded(page_data(compare([tmp_path])))


def test_folders_at_any_depth_up_to_three(tmp_path, refused):
    write_run(tmp_path / "sweep" / "part" / "run")
    write_run(tmp_path / "run")
    (tmp_path / "run" / "wandb" / "files").mkdir(parents=True)
    (tmp_path / "run" / "wandb" / "files" / "config.yaml").write_text("a: 1")
    runs = compare([tmp_path, tmp_path / "run"]).runs
    assert sorted(names(runs)) == ["part/run", f"{tmp_path.name}/run"]
    write_run(tmp_path / "deep" / "1" / "2" / "3" / "run")
    line = refused(main, [str(tmp_path / "deep")])
    assert str(tmp_path / "deep") in line
    assert "holds no run" in line


def test_nothing_found_is_one_line(tmp_path, refused):
    assert f"{tmp_path}: holds no run" in refused(main, [str(tmp_path)])
    assert "no such folder" in refused(main, [str(tmp_path / "absent")])
    write_run(tmp_path / "a")
    (tmp_path / "file").write_text("")
    line = refused(main, [str(tmp_path), "--output", str(tmp_path / "file")])
    assert "is a file" in line


# ---- files -----------------------------------------------------------------------------------


def test_compare_csv_has_every_run_every_swept_key_and_every_figure(tmp_path, capsys):
    write_run(tmp_path / "runs" / "a", "1111111111" * 2, lora__r=8)
    write_run(tmp_path / "runs" / "b", "1100000000" * 2, lora__r=16, result={"exact_match": 0.25})
    write_run(tmp_path / "runs" / "c", status="failed", error="ValueError: no", lora__r=32)
    main([str(tmp_path / "runs"), "--output", str(tmp_path / "out")])
    assert f"Files in {tmp_path / 'out'}: compare.csv, compare.html" in capsys.readouterr().out
    with (tmp_path / "out" / "compare.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["a", "b", "c"]
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert [row["lora.r"] for row in rows] == ["8", "16", "32"]
    assert [row["status"] for row in rows] == ["finished", "finished", "failed"]
    assert [row["execution_accuracy"] for row in rows] == ["1.0", "0.2", ""]
    assert [row["leader_is"] for row in rows] == ["leader", "better", ""]
    assert float(rows[1]["leader_difference"]) == pytest.approx(0.8)
    assert float(rows[1]["mcnemar_p_holm"]) == pytest.approx(2 / 2**16)
    assert rows[1]["exact_match"] == "0.25"
    assert rows[2]["error"] == "ValueError: no"
    assert {"seconds_training", "peak_memory_bytes", "eval_loss", "seed"} <= set(rows[0])


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path):
    write_run(tmp_path / "a")
    command = (
        f"{sys.executable} -m qc_experiments compare {tmp_path} | true; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=100)
    assert done.stderr == ""
    assert done.stdout.strip() in ("141", "0")  # 0 where it was all written before the reader left


def test_a_single_run_is_not_written_into(tmp_path):
    folder = write_run(tmp_path / "a")
    before = sorted(path.name for path in folder.iterdir())
    main([str(folder)])
    assert sorted(path.name for path in folder.iterdir()) == before
    assert (tmp_path / "compare.html").is_file()


def test_no_text_can_become_markup(tmp_path):
    attack = "</script><img src=x onerror=alert(1)>\u2028<!--&amp; {}"
    write_run(tmp_path / "a", question=attack)
    write_run(tmp_path / "b", question=attack, lora__r=8)
    page = page_html(compare([tmp_path]))
    assert "<img" not in page
    assert page.count("</script>") == 2
    start = page.index('id="data">') + len('id="data">')
    data = page[start : page.index("</script>", start)]
    assert not set(data) & set("<>&\u2028\u2029")
    assert json.loads(data)["groups"][0]["questions"][0][2] == attack.format(0)


def test_the_page_asks_nothing_of_the_network(tmp_path):
    write_run(tmp_path / "a")
    page = page_html(compare([tmp_path]))
    assert "https://" not in page
    assert (
        page.count("http://") == page.count('"http://www.w3.org/2000/svg"') == 1
    )  # a name, no address
    assert "innerHTML" not in page
    assert "default-src 'none'" in page


def test_sql_of_the_best_runs_only(tmp_path, monkeypatch):
    monkeypatch.setattr("qc_experiments.comparison.views.page.WITH_TEXTS", 2)
    for number in range(4):
        write_run(
            tmp_path / f"r{number}", "1" * number + "0" * (10 - number) or "0", lora__r=4 + number
        )
    data = page_data(compare([tmp_path]))
    best = {data["runs"][int(place)]["name"] for place in data["groups"][0]["answers"]}
    assert best == {"r3", "r2"}
    assert [run["bits"] for run in data["runs"] if run["name"] == "r1"] == ["1000000000"]


def test_the_page_has_what_wrong_answers_return_of_the_best_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("qc_experiments.comparison.views.page.WITH_ROWS", 1)
    attack = "</script><img src=x onerror=alert(1)>"
    kept = json.dumps([[1, None, attack], [9007199254740993, "a\nb", 0.5], "7 rows in all"])
    write_run(tmp_path / "best", "1100", lora__r=8)
    write_run(tmp_path / "next", "1000", lora__r=16)
    for name in ("best", "next"):
        add_rows(tmp_path / name, {3: (kept, "[]"), 4: ("not our JSON", "")})
    page = page_html(compare([tmp_path]))
    assert "<img" not in page
    data = page_data(compare([tmp_path]))
    found = data["groups"][0]
    best = found["answers"][str([run["name"] for run in data["runs"]].index("best"))]
    texts = [[found["texts"][place] for place in answer[2:]] for answer in best]
    lines = [f"1 | NULL | {attack}", r"9007199254740993 | a\nb | 0.5", "7 rows in all"]
    assert texts == [[], [], ["\n".join(lines), "(no rows)"], ["not our JSON", ""]]
    (other,) = (answers for answers in found["answers"].values() if answers is not best)
    assert {len(answer) for answer in other} == {2}
    assert (found["with_rows"], found["without_rows"]) == (1, 1)


def test_the_command_loads_no_torch(tmp_path):
    write_run(tmp_path / "a")
    code = (
        "import sys; from qc_experiments.__main__ import main; "
        f"sys.argv = ['qc', 'compare', {str(tmp_path)!r}]; main(); "
        "assert not {'torch', 'transformers', 'sqlglot'} & set(sys.modules), 'heavy'"
    )
    done = child("-c", code)
    assert done.returncode == 0, done.stderr


def test_a_real_run_compares(train, capsys):
    run = train("data.name=a")
    capsys.readouterr()
    main([str(run.folder.parent)])
    out = capsys.readouterr().out
    assert "1 run: 1 finished" in out
    assert "is the only finished run" in out
    (found,) = compare([run.folder.parent]).runs
    assert found.evaluation_hash == run.result["evaluation_hash"]
    assert found.outcomes is not None
    assert len(found.outcomes.bits) == len(run.rows()) == 4
    assert len(found.curves.training) == 3
    assert found.by_database


def test_the_comparison_says_in_a_line_whether_there_is_a_winner(tmp_path):
    write_run(tmp_path / "runs" / "best", "1" * 30 + "0" * 10, lora__r=8)
    write_run(tmp_path / "runs" / "next", "1" * 26 + "0" * 14, lora__r=16)
    text = comparison_table([tmp_path / "runs"], width=200)
    assert (
        "No winner: 40 questions cannot tell the next one and the leader apart: +10.0 points (95 % interval "
    ) in text
    assert (
        "4 won, 0 lost, Holm-corrected p = 0.125; a difference of 10 points would need about"
        in text
    )
    write_run(tmp_path / "runs" / "worst", "0" * 40, lora__r=32)
    shutil.rmtree(tmp_path / "runs" / "next")
    text = comparison_table([tmp_path / "runs"], width=200)
    assert "The leader is better than the next one: +75.0 points" in text


def test_seeds_of_the_leader_are_not_the_next_one(tmp_path):
    for seed, bits in ((1, "1" * 30 + "0" * 10), (2, "1" * 29 + "0" * 11)):
        write_run(tmp_path / "runs" / f"s{seed}", bits, seed=seed)
    assert "the next one" not in comparison_table([tmp_path / "runs"], width=200)
    write_run(tmp_path / "runs" / "other", "1" * 20 + "0" * 20, lora__r=32)
    assert "The leader is better than the next one: +25.0 points" in comparison_table(
        [tmp_path / "runs"], width=200
    )
