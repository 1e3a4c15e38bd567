"""data.train=[a.csv,b.csv] with weights, and data.also_evaluate: the mixture, and what training costs."""

from __future__ import annotations

import csv

import pytest

from qc_experiments.cli import plan as planning
from qc_experiments.config.compose import composed, register_schema, to_run_config
from qc_experiments.errors import UserError
from qc_experiments.training.inputs import load_data

SCHEMA = "CREATE TABLE t (a INTEGER)"


HEADER = ("question", "query", "context")


def write(path, rows, header=HEADER):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def files(tmp_path):
    mine = [(f"How many {n}?", f"SELECT {n} FROM t", SCHEMA) for n in range(20)]
    more = [(f"Which {n}?", f"SELECT a FROM t WHERE a = {n}", SCHEMA) for n in range(10)]
    other = [(f"What is {n} plus {n}?", str(2 * n)) for n in range(6)]
    return (
        write(tmp_path / "mine.csv", mine),
        write(tmp_path / "more.csv", more),
        write(tmp_path / "other.csv", other, ("question", "query")),
    )


def config(*overrides):
    register_schema()
    return to_run_config(composed(overrides, None))


def loaded(*overrides):
    return load_data(config("data=csv", *overrides))


def asked(rows):
    return [row.question for row in rows]


def test_the_rows_of_all_files_are_trained_on_and_the_first_is_measured(files):
    mine, more, _ = files
    data = loaded(f"data.train=[{mine},{more}]")
    assert len(data.validation) == 2
    assert all(question.startswith("How many") for question in asked(data.validation))
    assert len(data.train) == 28
    assert set(asked(data.train)).isdisjoint(asked(data.validation))


def test_a_schema_that_is_held_out_is_kept_out_of_every_file(tmp_path):
    """It was drawn from the first file alone, and its rows in the others were trained on."""
    header = ("question", "query", "context", "db_id")
    names = ("pets", "cars", "buses")

    def rows(word, names, ids=True):
        return [
            (f"{word} {n}?", f"SELECT {n} FROM {name}", f"CREATE TABLE {name} (a)", name)[: 3 + ids]
            for name in names
            for n in range(4)
        ]

    one = write(tmp_path / "one.csv", rows("How many", names), header)
    two = write(tmp_path / "two.csv", rows("Which", (*names, "ships")), header)
    plain = write(tmp_path / "plain.csv", rows("What", names, ids=False))
    files = f"data.train=[{one},{two},{plain}]"
    data = loaded(files, "data.split_by=schema")
    held_out = {row.context for row in data.validation}
    assert len(held_out) == 1
    assert {row.context for row in data.train}.isdisjoint(held_out)
    assert len(data.train) == 8 + 12 + 8
    assert [line.partition(" (data.split_by")[0] for line in data.decisions] == [
        f"{file}: 4 rows about held-out schemas" for file in (two, plain)
    ]
    assert len(loaded(files).train) == 12 + 16 + 12 - 1


def test_rows_asked_in_training_are_told_of_where_the_run_has_them(files):
    mine, _, _ = files
    given = (f"data.train={mine}", f"data.validation={mine}")
    (line,) = loaded(*given).decisions
    assert f"{mine}: 20 rows held out but asked in training as well" in line
    few = ("data.limit=3", "evaluation.limit=3", "data.split_seed=1")
    assert loaded(*given, *few).decisions == ()


def test_weights_say_how_often_rows_are_seen(files):
    mine, more, _ = files
    given = (f"data.train=[{mine},{more}]", f"data.validation={more}", "data.weights=[0.25,2.5]")
    data = loaded(*given)
    of_mine = [question for question in asked(data.train) if question.startswith("How many")]
    of_more = [question for question in asked(data.train) if question.startswith("Which")]
    assert len(of_mine) == len(set(of_mine)) == 5
    assert {of_more.count(f"Which {n}?") for n in range(10)} == {2, 3}
    assert len(of_more) == 25
    assert loaded(*given).train_hash == data.train_hash
    assert loaded(*given, "data.split_seed=1").train_hash != data.train_hash


def test_one_file_in_a_list_is_that_file(files):
    mine, *_ = files
    assert loaded(f"data.train=[{mine}]").train_hash == loaded(f"data.train={mine}").train_hash


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("data.weights=[1]", "names 1 weight for 2 files"),
        ("data.weights=[1,0]", r"data.weights\[1\]=0: must be above 0"),
        ("data.weights=[1,nan]", r"data.weights\[1\]=nan: must be above 0"),
        ("data.weights=[1,0.01]", "0.01 of the 10 rows of .*more.csv is none"),
        ("data.train=[]", "must be a file, or a list of files"),
        ("data.train=[1,2]", "must be a file, or a list of files"),
        ("data.train=[missing.csv]", "missing.csv"),
    ],
)
def test_a_mixture_that_cannot_be_is_one_line(files, given, said):
    mine, more, _ = files
    with pytest.raises(UserError, match=said):
        loaded(f"data.train=[{mine},{more}]", given)


def test_a_demo_in_the_mixture_is_refused_where_the_demo_is_measured(files):
    mine, *_ = files
    with pytest.raises(UserError, match="measured on the demo"):
        load_data(config(f"data.train=[{mine},pkg://qc_experiments.demo/train.csv]"))


def test_a_row_that_is_too_long_is_named_with_its_file(files, tiny_model, tmp_path, capsys):
    mine, more, _ = files
    write(
        more,
        [("Long?", f"SELECT {', '.join(map(str, range(200)))}", SCHEMA)] * 1
        + [("Q", "SELECT 1", SCHEMA)],
    )
    model = ["model=hub", f"model.name_or_path={tiny_model}", "data.max_length=200"]
    planning.main(["data=csv", f"data.train=[{mine},{more}]", *model, "tracking=none"])
    out = capsys.readouterr()
    said = out.out + out.err
    assert f"{more}: 1 row longer than data.max_length=200 tokens" in said
    assert f"Files   18 rows of {mine}, 1 row of {more}" in said


def test_rows_seen_twice_train_the_same_packed_and_padded(train, files):
    mine, more, _ = files
    mixed = [
        *(
            "data=csv",
            f"data.train=[{mine},{more}]",
            "data.weights=[2,1]",
            "data.template=pkg://qc_experiments.data/templates/sql.txt",
        ),
        *(
            "data.limit=null",
            "lora.dropout=0",
            "trainer.max_steps=2",
            "trainer.per_device_train_batch_size=46",
        ),
    ]
    packed = train(*mixed, "collator=shared_schema")
    padded = train(*mixed, "collator=seq2seq")
    assert packed.result["examples"] == 2 * 18 + 10
    assert packed.result["eval_loss"] == pytest.approx(padded.result["eval_loss"], abs=1e-4)


def test_what_training_costs_elsewhere_is_measured_before_and_after(train, files):
    mine, _, other = files
    run = train("data=csv", f"data.train={mine}", f"data.also_evaluate={other}")
    assert run.result["also_loss"] != run.result["base_also_loss"]
    assert 0 < run.result["base_also_loss"] < 20
    assert "loss on data.also_evaluate" in (run.folder / "summary.txt").read_text()
    without = train("data=csv", f"data.train={mine}")
    assert without.result["also_loss"] is None
    assert without.folder != run.folder
    assert without.result["eval_loss"] == run.result["eval_loss"]


def test_rows_left_out_of_what_is_measured_elsewhere_are_told(files):
    mine, _, other = files
    write(other, [("Why?", "42"), ("Who?", ""), ("Why?", "42")], ("question", "query"))
    also = (f"data.also_evaluate={other}", "data.on_invalid=drop")
    data = loaded(f"data.train={mine}", *also)
    assert len(data.also) == 1
    assert f"{other}: 1 row with an empty query left out (row 3)" in data.decisions
    assert f"{other}: 1 row repeating an earlier row, left out (row 4)" in data.decisions


def test_what_is_measured_elsewhere_needs_no_optional_column_that_is_mapped(files):
    mine, _, other = files
    write(
        mine,
        [(f"Which {n}?", f"SELECT {n}", SCHEMA, "a") for n in range(20)],
        (*HEADER, "database"),
    )
    data = loaded(
        f"data.train={mine}", f"data.also_evaluate={other}", "data.columns.db_id=database"
    )
    assert {row.db_id for row in data.train} == {"a"}
    assert len(data.also) == 6


def test_what_is_measured_elsewhere_is_another_run_if_the_file_changes(train, files):
    mine, _, other = files
    given = ("data=csv", f"data.train={mine}", f"data.also_evaluate={other}")
    first = train(*given)
    write(other, [("What is 5 plus 5?", "10")], ("question", "query"))
    second = train(*given)
    assert first.folder != second.folder
    assert first.result["base_also_loss"] != second.result["base_also_loss"]


def test_rows_of_a_database_are_asked_with_the_template(train, files):
    mine, more, _ = files
    run = train("data=csv", f"data.train={mine}", f"data.also_evaluate={more}")
    given = (f"data.validation={more}", "evaluation.limit=null")
    same = train("data=csv", f"data.train={mine}", *given)
    assert run.result["base_also_loss"] == pytest.approx(same.result["base_eval_loss"], abs=1e-6)
