"""Gold queries that fail are said before anything is trained, and what could not be measured is refused."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from helpers.runs import TINY_TRAINING

from qc_experiments.cli import train as command_line
from qc_experiments.judging import gold

SCHEMA = "CREATE TABLE boats (id INTEGER PRIMARY KEY, len REAL);"
GOOD = "SELECT count(*) FROM boats WHERE len > {}"
ABSENT = "SELECT nope FROM boats WHERE id > {}"
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT {} UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
BY_ACCURACY = (
    "trainer.metric_for_best_model=execution_accuracy",
    "trainer.eval_strategy=steps",
    "trainer.eval_steps=1",
)


@pytest.fixture
def databases(tmp_path) -> Path:
    path = tmp_path / "dbs" / "harbour" / "harbour.sqlite"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(f"{SCHEMA} INSERT INTO boats VALUES (1, 3.5), (2, 7);")
    return tmp_path / "dbs"


def table(path: Path, queries: list[str], context: str = SCHEMA) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "query", "context", "db_id"])
        for number, query in enumerate(queries):
            asked = f"How many boats are longer than {number} metres?"
            writer.writerow([asked, query.format(number), context, "harbour"])
    return path


@pytest.fixture
def settings(tiny_model, databases, tmp_path):
    """The settings of a run on held-out queries: ``settings(queries, *overrides) -> overrides``."""

    def give(queries: list[str], *overrides: str, context: str = SCHEMA) -> list[str]:
        train = table(tmp_path / "train.csv", [GOOD] * 20)
        held_out = table(tmp_path / "held_out.csv", queries, context)
        return [
            "model=hub",
            f"model.name_or_path={tiny_model}",
            "tracking=none",
            "data=csv",
            f"data.train={train}",
            f"data.validation={held_out}",
            f"data.databases={databases}",
            f"paths.output={tmp_path / 'outputs'}",
            f"paths.cache={tmp_path / 'cache'}",
            *(one for one in TINY_TRAINING if "evaluation.limit" not in one),
            "evaluation.limit=null",
            *overrides,
        ]

    return give


@pytest.mark.parametrize(
    ("start", "chosen_by"),
    [
        (command_line.plan, BY_ACCURACY),
        (command_line.main, BY_ACCURACY),
        (command_line.main, ("objective=execution_accuracy",)),
    ],
)
def test_what_no_gold_lets_measure_is_refused_before_anything_is_written(
    settings, refused, tmp_path, start, chosen_by
):
    line = refused(start, settings([ABSENT] * 12, *chosen_by))
    assert chosen_by[0] in line
    assert str(tmp_path / "held_out.csv") in line
    assert "all 12 gold queries fail" in line
    assert (
        "rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more: no_such_column: no such column: nope"
        in line
    )
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("query", "error_class"),
    [
        ("SELECT count(*) FROM absent WHERE {}", "no_such_table"),
        ("DELETE FROM boats WHERE id = {}", "forbidden"),
        (ENDLESS, "timeout"),
        ("SELECT {} FROM", "syntax"),
    ],
)
def test_whatever_a_gold_fails_of_is_said(settings, refused, query, error_class):
    limits = "evaluation.timeout=0.2"
    line = refused(command_line.plan, settings([query] * 2, *BY_ACCURACY, limits))
    assert f"rows 2, 3: {error_class}: " in line or f"row 2: {error_class}: " in line


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "has no tables"), (b"words " * 99, "file is not a database"), (None, "malformed")],
)
def test_what_is_no_database_is_refused_by_its_name(settings, refused, databases, content, problem):
    path = databases / "harbour" / "harbour.sqlite"
    path.write_bytes(path.read_bytes()[:4096] if content is None else content)
    line = refused(command_line.plan, settings([GOOD] * 3))
    assert str(path) in line
    assert problem in line
    assert "gold" not in line


def test_the_rows_asked_during_training_must_not_all_fail(settings, refused):
    queries = [GOOD] + [ABSENT] * 9
    chosen = settings(queries, *BY_ACCURACY, "evaluation.during_training=1", "evaluation.seed=0")
    assert "all 1 gold queries fail of the rows asked in training" in refused(
        command_line.plan, chosen
    )
    command_line.plan(settings(queries, "objective=execution_accuracy"))  # asked on all rows


def test_valid_sql_needs_a_context_that_is_a_schema(settings, refused):
    chosen = ("trainer.metric_for_best_model=valid_sql", *BY_ACCURACY[1:], "data.databases=null")
    line = refused(command_line.plan, settings([GOOD] * 2, *chosen, context="boats(id, len)"))
    assert "trainer.metric_for_best_model=valid_sql cannot be measured" in line
    assert "rows 2, 3: the context is not a schema" in line
    command_line.plan(settings([GOOD] * 2, *chosen))


def test_without_databases_execution_accuracy_is_refused_as_ever(settings, refused):
    chosen = (*BY_ACCURACY, "data.databases=null")
    assert "needs data.databases" in refused(command_line.plan, settings([GOOD] * 2, *chosen))


def test_golds_that_fail_are_named_and_the_table_says_over_how_many_it_is(
    settings, tmp_path, capsys
):
    chosen = settings(
        [GOOD, ABSENT, GOOD, "SELECT 1 FROM absent WHERE {}"], "evaluation.base=false"
    )
    command_line.plan(chosen)
    planned = capsys.readouterr().err
    command_line.main(chosen)
    told = capsys.readouterr()
    line = (
        f"warning: {tmp_path / 'held_out.csv'}: 2 of 4 gold queries fail, so that execution accuracy is "
        "taken over the other 2 (row 3: no_such_column: no such column: nope; row 5: no_such_table: "
        "no such table: absent)"
    )
    assert line in planned.splitlines()
    assert line in told.err.splitlines()
    assert "2 of 4 (2 golds fail)" in " ".join(told.out.split())


def test_where_all_golds_fail_the_table_says_that_nothing_was_judged(settings, capsys):
    command_line.main(settings([ABSENT] * 3, "evaluation.base=false"))
    told = capsys.readouterr()
    assert (
        "3 of 3 gold queries fail, so that execution accuracy is not measured (rows 2, 3, 4:"
        in told.err
    )
    shown = " ".join(told.out.split())
    assert "execution accuracy not measured" in shown
    assert "questions judged 0 of 3 (3 golds fail)" in shown


def test_golds_run_once_for_all_jobs(settings, monkeypatch, capsys):
    asked: list[str] = []
    run_gold = gold.run_gold

    def counted(pool, database, sql, limits):
        asked.append(sql)
        return run_gold(pool, database, sql, limits)

    monkeypatch.setattr(gold, "run_gold", counted)
    command_line.main(settings([GOOD] * 6, "evaluation.base=false"))
    assert len(asked) == 6, "tried before the training, not run again to judge"
    command_line.plan(settings([GOOD] * 6, "lora.r=8"))
    assert len(asked) == 6
    assert "gold queries" not in capsys.readouterr().err
