"""An answer's log-probability is what the model gives its tokens, by whatever search they were found."""

from __future__ import annotations

import pytest
import torch
from helpers.small_model import TOKENS, byte_tokenizer, save_small_model
from transformers import AutoModelForCausalLM

from qc_experiments.generation import generate, searches
from qc_experiments.generation.decoding import AnswerSettings, Decoding
from qc_experiments.generation.generate import generate_answers, log_probability, write_answers
from qc_experiments.sql.prefix_check import schema_check

SCHEMA = "CREATE TABLE pet (id INT, name TEXT); CREATE TABLE toy (pet_id INT, price INT);"
PROMPTS = [list(byte_tokenizer()(f"{SCHEMA} {'so ' * n}question: ").input_ids) for n in range(4)]
DECODINGS = {
    "greedy": {},
    "beams": {"num_beams": 3, "candidates": 3},
    "samples": {"temperature": 0.7, "top_p": 0.8, "candidates": 2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return AutoModelForCausalLM.from_pretrained(save_small_model(tmp_path_factory.mktemp("small")))


def settings(length: int = 24, **decoding) -> AnswerSettings:
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token  # as for models that have none
    return AnswerSettings(tokenizer, [TOKENS - 1], length, 4, Decoding(**decoding))


def by_definition(model, prompt, tokens) -> float:
    """Each token's log-softmax after all before it, one plain forward for each."""
    total, read = 0.0, list(prompt)
    with torch.no_grad():
        for token in tokens:
            logits = model(input_ids=torch.tensor([read])).logits[0, -1].double()
            total += float(logits.log_softmax(-1)[token])
            read.append(token)
    return total


@pytest.mark.parametrize("checked", [False, True], ids=["free", "under the schema"])
@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS)
def test_the_sum_over_tokens_is_exact(model, monkeypatch, decoding, checked):
    monkeypatch.setattr(searches, "TRIES", TOKENS)
    monkeypatch.setattr(generate, "TRIES", TOKENS)
    check = schema_check(SCHEMA, "sqlite")
    checks = [check] * len(PROMPTS) if checked else None
    found = write_answers(model, PROMPTS, settings(**decoding), checks=checks)
    for prompt, answers in zip(PROMPTS, found, strict=True):
        for one in answers:
            expected = by_definition(model, prompt, one.tokens)
            assert one.log_probability == pytest.approx(expected, abs=2e-4)
            assert log_probability(model, prompt, one.tokens) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("decoding", [{}, {"num_beams": 3, "candidates": 3}], ids=["one", "beams"])
def test_where_prefixes_are_not_shared_an_answer_has_the_same_tokens(model, decoding):
    """So that its probability is that of the same answer: without what fills up a padded batch."""
    by_tree = write_answers(model, PROMPTS, settings(**decoding))
    padded = generate_answers(model, PROMPTS, settings(**decoding))
    for ours, theirs in zip(by_tree, padded, strict=True):
        assert [one.tokens for one in theirs] == [one.tokens for one in ours]
        assert all(one.log_probability is None for one in theirs)


def test_an_answer_ends_where_it_is_complete_or_at_a_stop_token():
    ids = list(byte_tokenizer()("SELECT 1").input_ids)
    whole = list(byte_tokenizer()("SELECT 1;").input_ids)
    for pad_token in (byte_tokenizer().eos_token, "~"):
        given = settings()
        given.tokenizer.pad_token = pad_token
        stop, pad = TOKENS - 1, given.tokenizer.pad_token_id
        assert generate._own_tokens([*ids, stop, pad, pad], given) == (*ids, stop)
        assert generate._own_tokens([*whole, pad, pad], given) == tuple(whole)
        assert generate._own_tokens(ids, given) == tuple(ids)
