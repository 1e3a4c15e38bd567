"""evaluation.constrain=schema: whatever a model would write, what it writes can become a valid query."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import torch
from helpers.small_model import TOKENS, byte_tokenizer, save_small_model
from transformers import AutoModelForCausalLM

from qc_experiments.generation import generate, searches
from qc_experiments.generation.decoding import AnswerSettings, Decoding
from qc_experiments.generation.generate import CheckedTokens, generate_answers
from qc_experiments.sql.prefix_check import schema_check
from qc_experiments.sql.scopes import Outlook

SCHEMA = "CREATE TABLE pet (id INT, name TEXT); CREATE TABLE toy (pet_id INT, price INT);"
LENGTH = 40


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return AutoModelForCausalLM.from_pretrained(save_small_model(tmp_path_factory.mktemp("small")))


@pytest.fixture
def every_token(monkeypatch):
    """Random weights put no letter of SELECT among the likeliest: all tokens are looked at."""
    monkeypatch.setattr(searches, "TRIES", TOKENS)
    monkeypatch.setattr(generate, "TRIES", TOKENS)


def settings(**decoding) -> AnswerSettings:
    return AnswerSettings(byte_tokenizer(), [TOKENS - 1], LENGTH, 4, Decoding(**decoding))


def prompts(count: int) -> list[list[int]]:
    return [list(byte_tokenizer()(f"{SCHEMA} question {n}: ").input_ids) for n in range(count)]


def write_answers(*given, **named) -> list[list[str]]:
    return [[one.text for one in answers] for answers in generate.write_answers(*given, **named)]


@pytest.mark.parametrize(
    "decoding",
    [
        {},
        {"num_beams": 3, "candidates": 3},
        {"temperature": 1.0, "candidates": 3, "seed": 1},
    ],
    ids=["greedy", "beams", "samples"],
)
def test_a_model_of_random_weights_writes_sql_under_the_schema(model, every_token, decoding):
    check = schema_check(SCHEMA, "sqlite")
    assert check is not None
    asked = prompts(5)
    bound = write_answers(model, asked, settings(**decoding), checks=[check] * len(asked))
    lost = [
        text for answers in bound for text in answers if check.outlook(text) is Outlook.IMPOSSIBLE
    ]
    # Letters drawn at random at times make a word that nothing can follow; there is no way back.
    assert len(lost) <= (3 if "temperature" in decoding else 0), lost


def test_generate_of_transformers_is_held_to_it_too(model, every_token):
    check = schema_check(SCHEMA, "sqlite")
    assert check is not None
    asked = prompts(3)
    for decoding in ({}, {"num_beams": 2, "candidates": 2}):
        found = generate_answers(model, asked, settings(**decoding), checks=[check, None, check])
        for one in (*found[0], *found[2]):
            assert check.outlook(one.text) is not Outlook.IMPOSSIBLE, one
        assert found[1] == generate_answers(model, asked, settings(**decoding))[1]


def test_generate_of_transformers_is_held_to_the_same():
    """What may not follow is refused, what is not looked at as well, and what is doubtful costs."""

    class NeverAHardlyB:
        def outlook(self, text: str, *, ended: bool = False) -> Outlook:
            hardly = Outlook.DOUBTFUL if "b" in text else Outlook.POSSIBLE
            return Outlook.IMPOSSIBLE if "a" in text else hardly

    a, b, c, d = byte_tokenizer()("abcd").input_ids
    scores = torch.full((1, TOKENS), -20.0)
    scores[0, [a, b, c, d]] = torch.tensor([-1.0, -2.0, -3.0, -4.0])

    def held(*before: int, **decoding) -> torch.Tensor:
        written = torch.tensor([before], dtype=torch.long)
        checked = CheckedTokens(settings(**decoding), 0, [NeverAHardlyB()])
        return checked(written, scores.clone())[0]

    def only(costs: dict[int, float]) -> torch.Tensor:
        row = torch.full((TOKENS,), -torch.inf)
        for token, cost in costs.items():
            row[token] = scores[0, token] + cost
        return row

    assert torch.equal(held(), only({b: searches.DOUBT, c: 0, d: 0}))
    assert torch.equal(held(b), only({b: 0, c: 0}))  # it is doubtful already
    assert torch.equal(held(a), scores[0])  # there is no way back
    sampled = held(temperature=1.0)
    assert int(sampled.isfinite().sum()) == generate.SAMPLED
    assert sampled[[a, b, c]].tolist() == [-torch.inf, -2.0, -3.0]


def test_answers_that_can_all_become_valid_are_not_changed(model):
    """The check only takes away: where the model's own tokens pass, they are written."""

    class PassesAll:
        def outlook(self, text: str, *, ended: bool = False) -> Outlook:
            return Outlook.POSSIBLE

    asked = prompts(3)
    for decoding in ({}, {"num_beams": 3}, {"temperature": 0.8, "candidates": 2}):
        free = write_answers(model, asked, settings(**decoding))
        assert write_answers(model, asked, settings(**decoding), checks=[PassesAll()] * 3) == free


def test_an_answer_ends_only_where_a_query_is_whole(model, every_token):
    """Every step's likeliest token is the end: it is taken as soon as it may be."""
    check = schema_check(SCHEMA, "sqlite")
    ending = AutoModelForCausalLM.from_pretrained(model.name_or_path)
    head = torch.nn.Linear(64, TOKENS, bias=True)
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[TOKENS - 1] = 1e3
    ending.lm_head = head
    asked = prompts(3)
    for (text,) in write_answers(ending, asked, settings(), checks=[check] * 3):
        if len(text) < LENGTH:
            with closing(sqlite3.connect(":memory:")) as connection:
                connection.executescript(SCHEMA)
                assert connection.execute(f"EXPLAIN {text}"), text
