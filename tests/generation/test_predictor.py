"""From what a model writes to a prediction: candidates, the choice among them, one repair."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from qc_experiments.config.schema import Choose, EvaluationConfig, Wrap
from qc_experiments.data.encode import Encoder
from qc_experiments.data.table import Row
from qc_experiments.data.template import Template
from qc_experiments.databases.engine import Execution, Limits
from qc_experiments.databases.locate import Databases
from qc_experiments.evaluation.metrics import assess, figures, with_recall
from qc_experiments.generation import predictor as predicting
from qc_experiments.generation.choosing import Predicted, first_valid, majority
from qc_experiments.generation.decoding import Answer
from qc_experiments.generation.predictor import Predictor
from qc_experiments.judging.judge import Judge
from qc_experiments.judging.verdict import Tried, result_hash

FAILS = Tried("no such column: x", "no_such_column", None)


def runs(result: str) -> Tried:
    return Tried(None, None, result)


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ({"a": runs("1"), "b": runs("2")}, "a"),
        ({"a": FAILS, "b": runs("2"), "c": runs("3")}, "b"),
        ({"a": FAILS, "b": FAILS}, "a"),
    ],
)
def test_the_first_that_runs(found, chosen):
    assert first_valid(list(found), found) == chosen


@pytest.mark.parametrize(
    ("queries", "found", "chosen"),
    [
        ("abc", {"a": runs("1"), "b": runs("2"), "c": runs("2")}, "b"),
        ("abc", {"a": runs("1"), "b": runs("2"), "c": runs("3")}, "a"),
        ("aabbb", {"a": runs("1"), "b": runs("2")}, "b"),
        ("abb", {"a": runs("1"), "b": FAILS}, "a"),
        ("ab", {"a": FAILS, "b": FAILS}, "a"),
    ],
)
def test_the_majority_by_result(queries, found, chosen):
    assert majority(list(queries), found) == chosen


@pytest.mark.parametrize(
    ("left", "right", "alike"),
    [
        (2, 2.0, True),
        (0.1 + 0.2, 0.3, True),
        (2.0000000001, 2, True),
        (1234566.9999999995, 1234567.0, True),
        (2459000.5, 2459004.5, False),
        (3_000_000, 3_000_001, False),
        (3_000_000.0, 3_000_000, True),
        (2, "2", False),
        (float("nan"), float("nan"), True),
        (float("inf"), 1e300, False),
    ],
)
def test_results_vote_together_only_if_they_are_the_same(left, right, alike):
    hashes = {result_hash(Execution([(cell, "x")], ("a", "b"))) for cell in (left, right)}
    assert len(hashes) == (1 if alike else 2)


@pytest.fixture
def databases(tmp_path: Path) -> Databases:
    (tmp_path / "shop").mkdir()
    with closing(sqlite3.connect(tmp_path / "shop" / "shop.sqlite")) as connection:
        connection.executescript("CREATE TABLE item (name TEXT); INSERT INTO item VALUES ('pen');")
    return Databases(str(tmp_path))


@pytest.fixture
def judge(databases: Databases) -> Iterator[Judge]:
    with Judge(databases, Limits(), cache=None, processes=1) as made:
        yield made


ROWS = [
    Row(2, "Names?", "SELECT name FROM item", "CREATE TABLE item (name TEXT);", "shop"),
    Row(3, "How many?", "SELECT count(*) FROM item", "CREATE TABLE item (name TEXT);", "shop"),
]


@pytest.fixture
def written(monkeypatch, request):
    """What the model writes, prompt by prompt; a language model that knows SQL is not at hand here."""
    asked: list[str] = []
    answers: dict[str, list[str]] = {}
    surest = getattr(request, "param", -0.5)

    def write(model, prompts, settings, on_answer, checks):
        texts = [settings.tokenizer.decode(prompt) for prompt in prompts]
        asked.extend(texts)
        found = []
        for text in texts:
            if on_answer is not None:
                on_answer(1)
            key = max((key for key in answers if key in text), key=len)
            some = answers[key][: settings.decoding.candidates]
            found.append([Answer((1,), sql, surest - at) for at, sql in enumerate(some)])
        return found

    monkeypatch.setattr(predicting, "write_answers", write)
    return asked, answers


def predictor(tokenizer, judge: Judge, window: int | None = None, **settings) -> Predictor:
    encoder = Encoder(tokenizer, Template("{context}\n{question}\n{query}", "test"), Wrap.plain)
    return Predictor(encoder, EvaluationConfig(**settings), window, judge)


def test_execution_chooses_among_candidates(tokenizer, judge, written):
    _, answers = written
    answers["Names?"] = [
        "SELECT x FROM item",
        "SELECT 'ink'",
        "SELECT name FROM item",
        "SELECT 'pen'",
    ]
    answers["How many?"] = ["SELECT 2", "SELECT 1", "SELECT 1", "SELECT 3"]
    chosen = {}
    for choose in Choose:
        settings = {"candidates": 4, "temperature": 0.7, "choose": choose}
        predicted = predictor(tokenizer, judge, **settings).predict(None, ROWS)
        chosen[choose] = [one.sql for one in predicted]
        assert all(one.after_repair is None for one in predicted)
    assert chosen[Choose.first] == ["SELECT x FROM item", "SELECT 2"]
    assert chosen[Choose.first_valid] == ["SELECT 'ink'", "SELECT 2"]
    assert chosen[Choose.majority] == ["SELECT name FROM item", "SELECT 1"]


@pytest.mark.parametrize(("dialect", "taken"), [("sqlite", 1), ("duckdb", 0)])
def test_without_a_database_only_sqlite_is_tried(tokenizer, written, dialect, taken):
    _, answers = written
    answers["Names?"] = ["SELECT name FROM item WHERE name ILIKE 'p%'", "SELECT name FROM item"]
    with Judge(dialect, Limits(), cache=None, processes=1) as judge:
        assert judge.dialect(ROWS[0]) == dialect
        asked = predictor(tokenizer, judge, num_beams=2, candidates=2, choose=Choose.first_valid)
        assert asked.predict(None, ROWS[:1])[0].sql == answers["Names?"][taken]


def test_confidence_is_the_answers_probability_or_how_many_candidates_return_its_rows(
    tokenizer, judge, written
):
    _, answers = written
    answers["Names?"] = ["SELECT x FROM item", "SELECT name FROM item", "SELECT 'pen'", "SELECT 1"]
    answers["How many?"] = ["SELECT x", "SELECT y", "SELECT x", "SELECT z"]
    found = {}
    for choose in Choose:
        settings = {"candidates": 4, "temperature": 0.7, "choose": choose}
        predicted = predictor(tokenizer, judge, **settings).predict(None, ROWS)
        found[choose] = [one.confidence for one in predicted]
    likely = [float(f"{math.exp(-0.5 - place):.6g}") for place in range(4)]
    assert found[Choose.first] == [likely[0], likely[0]]
    assert found[Choose.first_valid] == [likely[1], likely[0]]  # of the candidate that was taken
    assert found[Choose.majority] == [0.5, 0.0]  # two of four; none where all fail


@pytest.mark.parametrize("written", [math.nan], indirect=True)
def test_a_model_that_computes_no_probability_is_sure_of_nothing(tokenizer, judge, written):
    _, answers = written
    answers["Names?"] = answers["How many?"] = ["SELECT name FROM item"]
    predicted = predictor(tokenizer, judge).predict(None, ROWS)
    assert [one.confidence for one in predicted] == [0.0, 0.0]


def test_an_unknown_confidence_is_never_enough():
    assert Predicted("SELECT 1", confidence=0.59).is_unsure(0.6)
    assert not Predicted("SELECT 1", confidence=0.6).is_unsure(0.6)
    assert Predicted("SELECT 1").is_unsure(0.0)
    assert not Predicted("SELECT 1").is_unsure(None)


def test_recall_says_what_the_best_choice_among_candidates_could_reach(tokenizer, judge, written):
    _, answers = written
    answers["Names?"] = ["SELECT x FROM item", "SELECT name FROM item"]
    answers["How many?"] = ["SELECT 7", "SELECT 8"]
    predicted = predictor(tokenizer, judge, candidates=2, temperature=0.7).predict(None, ROWS)
    judged = assess(ROWS, [one.sql for one in predicted], judge)
    assert figures(judged)["candidate_recall"] is None  # where nobody asks for candidates
    found = figures(with_recall(judged, [one.candidates for one in predicted], judge))
    assert found["execution_accuracy"] == 0
    assert found["candidate_recall"] == 0.5


def test_what_fails_is_asked_for_once_more_with_the_databases_error(tokenizer, judge, written):
    asked, answers = written
    answers["Names?"] = ["SELECT nam FROM item"]
    answers["How many?"] = ["SELECT 7"]
    answers["no such column: nam"] = ["SELECT name FROM item"]
    predicted = predictor(tokenizer, judge, repair=1).predict(None, ROWS)
    assert [one.sql for one in predicted] == ["SELECT nam FROM item", "SELECT 7"]
    assert [one.after_repair for one in predicted] == ["SELECT name FROM item", "SELECT 7"]
    assert len(asked) == 3  # only what fails is asked for again
    assert "Names? (The query `SELECT nam FROM item` fails: no such column: nam." in asked[2]
    judged = assess(
        ROWS,
        [one.sql for one in predicted],
        judge,
        repaired=[one.after_repair or "" for one in predicted],
    )
    found = figures(judged)
    assert found["execution_accuracy"] == 0
    assert found["repaired_execution_accuracy"] == 0.5


def test_a_prompt_beyond_the_models_window_is_not_asked_and_so_wrong(tokenizer, judge, written):
    asked, answers = written
    answers["How many?"] = ["SELECT 1"]
    long = Row(2, "Names, " * 50, "SELECT name FROM item", ROWS[0].context, "shop")
    found = predictor(tokenizer, judge, window=80, max_new_tokens=32)
    predicted = found.predict(None, [long, ROWS[1]])
    assert [one.sql for one in predicted] == ["", "SELECT 1"]
    assert predicted[0].confidence == 0.0
    assert len(asked) == 1
