"""The base model is measured once for all runs in which it is the same."""

from __future__ import annotations

import pytest
from helpers.runs import Run
from helpers.slow import then_slow

KEPT = "4 answers are kept from before"
FIGURES = ("base_eval_loss", "base_execution_accuracy", "base_exact_match", "base_valid_sql")


def base_of(run: Run) -> list[object]:
    questions = [
        {key: cell for key, cell in row.items() if key != "seconds"}
        for row in run.rows("base_predictions.csv")
    ]
    return [*(run.result[key] for key in FIGURES), questions]


@pytest.fixture
def first(train) -> Run:
    return train()


@pytest.mark.parametrize(
    "change",
    then_slow(
        ("lora.r=2", "lora.alpha=8", "lora.dropout=0.1"),
        ("seed=7", "trainer.learning_rate=1e-4"),
        ("collator=shared_schema", "data.limit=8"),
    ),
)
def test_a_run_that_differs_in_training_takes_the_base_models_answers(
    train, first, change, tmp_path, capsys
):
    capsys.readouterr()
    second = train(*change)
    assert KEPT in capsys.readouterr().out
    alone = train(*change, output=tmp_path / "alone")
    assert KEPT not in capsys.readouterr().out
    assert base_of(second) == base_of(alone) == base_of(first)


@pytest.mark.parametrize(
    "change",
    then_slow(
        "evaluation.max_new_tokens=9",
        "evaluation.limit=5",
        "data.wrap=chat",
        "quant=4bit",
        "lora.target_modules=attention",
    ),
)
def test_another_question_is_asked_anew(train, first, change, capsys):
    capsys.readouterr()
    train(change)
    assert "answers are kept from before" not in capsys.readouterr().out


@pytest.mark.slow
def test_an_emptied_or_torn_file_costs_no_more_than_time(train, first, tmp_path, capsys):
    [kept] = (first.folder.parent / ".base_model").iterdir()
    kept.write_bytes(kept.read_bytes()[:-30])
    second = train("lora.r=2")
    kept.write_bytes(b"")
    third = train("lora.r=3")
    assert base_of(first) == base_of(second) == base_of(third)


def test_answers_that_were_chosen_by_running_them_are_of_their_databases(train, tmp_path, capsys):
    """Without databases nothing can be repaired: what was measured so says nothing of a repair."""
    train("evaluation.repair=1", "data.databases=null")
    capsys.readouterr()
    train("evaluation.repair=1")
    assert "answers are kept from before" not in capsys.readouterr().out
