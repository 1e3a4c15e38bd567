"""Shared prefixes: the answers are those of transformers' generate, whatever is shared."""

from __future__ import annotations

import gc
import random
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, StoppingCriteriaList

from qc_experiments.generation import token_tree
from qc_experiments.generation.decoding import (
    AnswerSettings,
    Decoding,
    Hypothesis,
    Writer,
)
from qc_experiments.generation.generate import _rows_at_once
from qc_experiments.generation.prefixes import agrees, cannot_share_prefixes, group_prompts
from qc_experiments.generation.searches import drawn_tokens
from qc_experiments.generation.token_tree import TokenTree
from qc_experiments.generation.tree_decoding import tree_decode
from qc_experiments.sql.extraction import answer_complete

VOCABULARY = 61
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "bos_token_id": 1,
    "eos_token_id": None,
}
FAMILIES = {
    "llama": lambda: transformers.LlamaConfig(**GROUPED),
    "llama-eager": lambda: transformers.LlamaConfig(**GROUPED, attn_implementation="eager"),
    "qwen2": lambda: transformers.Qwen2Config(**GROUPED),
    "gemma3": lambda: transformers.Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=100),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**SIZES),
    "gpt2": lambda: transformers.GPT2Config(**GPT2),
}


def random_model(config, size=4.0):
    """A model of random weights, larger than usual, so that it does not repeat one token."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(size)
    return model


@pytest.fixture(scope="module")
def llama():
    return random_model(FAMILIES["llama"]())


class Letters:
    """A tokenizer with a character for each token, at times a semicolon or a backtick."""

    pad_token_id = 0

    def decode(self, ids, skip_special_tokens=False):
        return "".join({0: ";", 1: "`"}.get(number % 9, chr(65 + number)) for number in ids)

    def batch_decode(self, rows, skip_special_tokens=False):
        return [self.decode([int(number) for number in row]) for row in rows]


def some_prompts():
    """Two long prefixes with questions, prompts that share nothing, a repeated one, short ones."""
    dice = random.Random(1)

    def tokens(count):
        return [dice.randrange(3, VOCABULARY) for _ in range(count)]

    one, other = tokens(20), tokens(33)
    prompts = [one + tokens(dice.randrange(1, 7)) for _ in range(6)]
    prompts += [other + tokens(dice.randrange(1, 7)) for _ in range(4)]
    prompts += [prompts[0], one, one[:9], tokens(1), tokens(17), prompts[2] + tokens(3)]
    dice.shuffle(prompts)
    return prompts


PROMPTS = some_prompts()


def decode(model, prompts=PROMPTS, **options):
    """Candidates' tokens for each prompt."""
    given = {name: options.pop(name) for name in ("complete", "on_answer") if name in options}
    answers = tree_decode(model, prompts, settings(**options), **given)
    return [[list(answer.tokens) for answer in candidates] for candidates in answers]


def settings(**options):
    given = {"tokenizer": Letters(), "stop_ids": [], "max_new_tokens": 12, "batch_size": 4}
    return AnswerSettings(**given | options)


class StopsWhen(transformers.StoppingCriteria):
    def __init__(self, complete, start):
        self.complete, self.start = complete, start

    def __call__(self, ids, scores, **_):
        texts = Letters().batch_decode(ids[:, self.start :])
        return torch.tensor([self.complete(text) for text in texts])


def generate(model, prompts=PROMPTS, *, new=12, stop_ids=(), complete=None, beams=1, candidates=1):
    """What transformers writes, prompt by prompt: candidates' tokens for each."""
    found = []
    for prompt in prompts:
        criteria = StoppingCriteriaList()
        if complete is not None:
            criteria.append(StopsWhen(complete, len(prompt)))
        output = model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=new,
            do_sample=False,
            num_beams=beams,
            num_return_sequences=candidates,
            eos_token_id=list(stop_ids) or None,
            pad_token_id=0,
            stopping_criteria=criteria,
        )
        found.append(output[:, len(prompt) :].tolist())
    return found


def is_padded(answers, found):
    """Whether what transformers wrote is what we found, and padding after it."""
    pairs = [
        (answer, own)
        for candidates, ours in zip(answers, found, strict=True)
        for answer, own in zip(candidates, ours, strict=True)
    ]
    return all(
        answer[: len(own)] == own and len(set(answer[len(own) :])) <= 1 for answer, own in pairs
    )


@pytest.mark.parametrize("family", list(FAMILIES))
def test_greedy_answers_are_generates(family):
    model = random_model(FAMILIES[family]())
    assert cannot_share_prefixes(model, 64) is None
    expected = generate(model)
    assert decode(model) == expected
    assert len({tuple(answer) for (answer,) in expected}) > 8


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_answers_do_not_depend_on_the_batch_size(llama, batch_size):
    assert decode(llama, batch_size=batch_size) == generate(llama)


def test_answers_do_not_depend_on_the_order_and_the_other_prompts(llama):
    expected = decode(llama)
    assert decode(llama, PROMPTS[::-1]) == expected[::-1]
    assert [decode(llama, [prompt])[0] for prompt in PROMPTS] == expected
    assert decode(llama, []) == []


@pytest.mark.parametrize("new", [1, 2, 25])
def test_answers_end_at_the_longest(llama, new):
    answers = decode(llama, max_new_tokens=new)
    assert answers == generate(llama, new=new)
    assert {len(answer) for (answer,) in answers} == {new}


def test_answers_end_at_stop_tokens(llama):
    often = Counter(token for (answer,) in generate(llama) for token in answer).most_common(3)
    stop_ids = [token for token, _ in often]
    answers = decode(llama, stop_ids=stop_ids)
    assert answers == generate(llama, stop_ids=stop_ids)
    assert sum(answer[-1] in stop_ids for (answer,) in answers) > 4


def test_answers_end_when_complete(llama):
    def complete(text):
        return ";" in text and len(text) > 4

    answers = decode(llama, complete=complete, max_new_tokens=25)
    assert answers == generate(llama, complete=complete, new=25)
    assert any(len(answer) < 25 for (answer,) in answers)


def test_completeness_is_seen_at_the_token_that_a_look_at_each_would_find():
    class Pieces(Letters):
        words = ("SELECT", " 1", ";", "`", "```", "'", " ", "WITH x (", ") AS", "\n", "\0", "so:")

        def decode(self, ids, skip_special_tokens=False):
            return "".join(self.words[number] for number in ids)

    dice = random.Random(0)
    lengths = Counter()
    for _ in range(3000):
        tokens = [dice.randrange(len(Pieces.words)) for _ in range(12)]
        writer = Writer(AnswerSettings(Pieces(), [], 12, 1), answer_complete)
        hypothesis = Hypothesis()
        for count in range(1, 13):
            hypothesis = writer.extend(hypothesis, tokens[count - 1], 0.0)
            complete = answer_complete(Pieces().decode(tokens[:count]))
            assert hypothesis.ended == (count == 12 or complete)
            if hypothesis.ended:
                break
        lengths[len(hypothesis.tokens)] += 1
    assert len(lengths) > 6


def test_each_token_of_a_prefix_is_computed_once(llama, monkeypatch):
    fed = []
    forward = llama.forward

    def counting(*args, **options):
        fed.append(options["input_ids"].shape[1])
        return forward(*args, **options)

    monkeypatch.setattr(llama, "forward", counting)
    dice = random.Random(2)
    prefix = [dice.randrange(3, VOCABULARY) for _ in range(50)]
    decode(llama, [[*prefix, 3, token] for token in range(5, 15)], max_new_tokens=1, batch_size=10)
    assert fed == [51, 10]


def test_forwards_of_few_tokens_change_nothing(llama, monkeypatch):
    expected = decode(llama, batch_size=16)
    monkeypatch.setattr(token_tree, "FORWARD_TOKENS", 5)
    assert decode(llama, batch_size=16) == expected


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
def test_a_tree_holds_its_texts_whatever_happens_to_it(llama, seed):
    dice = random.Random(seed)
    tree, texts, prefixes = TokenTree(llama, 7, 13), {}, []

    def tokens(least, most):
        return [dice.randrange(VOCABULARY) for _ in range(dice.randint(least, most))]

    def check(branches, logits):
        for branch, found in zip(branches, logits, strict=True):
            expected = llama(torch.tensor([texts[branch]])).logits[0, -1]
            assert torch.allclose(found, expected, atol=1e-3)

    def extend(head, prefix, count):
        own = [tokens(1, 9) for _ in range(count)]
        branches, logits = tree.extend(prefix, own)
        texts.update({b: [*head, *text] for b, text in zip(branches, own, strict=True)})
        check(branches, logits)

    for _ in range(40):
        room = 7 - len(texts)
        if dice.random() < 0.3:
            head = tokens(0, 20)
            prefixes = [*prefixes[-2:], (head, tree.prefill(head))]
        if dice.random() < 0.5 and room and prefixes:
            extend(*dice.choice(prefixes), dice.randint(1, room))
        elif dice.random() < 0.5 and room and texts:
            parent = dice.choice(list(texts))
            texts[tree.fork(parent)] = texts[parent]
        for branch in list(texts):
            if dice.random() < 0.2 or len(texts[branch]) - branch.prefix_length > 12:
                tree.release(branch)
                del texts[branch]
        if texts:
            branches = dice.sample(list(texts), len(texts))
            new = [dice.randrange(VOCABULARY) for _ in branches]
            logits = tree.step(branches, new)
            texts |= {b: [*texts[b], token] for b, token in zip(branches, new, strict=True)}
            check(branches, logits)


def test_models_that_cannot_choose_logits_and_models_in_training(llama):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.config = llama, llama.config

        def get_input_embeddings(self):
            return self.inner.get_input_embeddings()

        def forward(self, input_ids, position_ids=None, **options):
            return self.inner(input_ids=input_ids, position_ids=position_ids, **options)

    model = Plain().train()
    assert cannot_share_prefixes(model, 64) is None
    assert decode(model) == decode(llama)
    assert model.training
    model.eval()


def test_memory_is_free_as_soon_as_the_answers_are_there(llama):
    # Of 64 long prompts it is gigabytes; left to the collector of cycles, a test set's batches add up.
    gc.collect()
    gc.disable()
    try:
        decode(llama)
        held = [one for one in gc.get_objects() if isinstance(one, DynamicCache)]
    finally:
        gc.enable()
    assert held == []


def test_progress_counts_every_prompt(llama):
    done = []
    decode(llama, on_answer=done.append)
    assert sum(done) == len(PROMPTS)


def test_the_log_probability_is_the_models(llama):
    for decoding in (Decoding(), Decoding(2, 0.7, 0.9), Decoding(2, num_beams=3)):
        answers = tree_decode(llama, PROMPTS, settings(decoding=decoding))
        for prompt, candidates in zip(PROMPTS, answers, strict=True):
            assert len(candidates) == decoding.candidates
            for answer in candidates:
                with torch.no_grad():
                    logits = llama(torch.tensor([prompt + list(answer.tokens)])).logits[0]
                scores = logits.log_softmax(dim=-1)[len(prompt) - 1 : -1]
                expected = scores.gather(1, torch.tensor(answer.tokens)[:, None]).sum()
                assert answer.log_probability == pytest.approx(float(expected), abs=1e-3)
                assert answer.text == Letters().decode(answer.tokens)


SAMPLED = Decoding(candidates=3, temperature=1.3, top_p=0.9, seed=5)


def test_samples_do_not_depend_on_the_batch(llama):
    expected = decode(llama, decoding=SAMPLED)
    assert decode(llama, decoding=SAMPLED, batch_size=1) == expected
    assert decode(llama, PROMPTS[::-1], decoding=SAMPLED, batch_size=50) == expected[::-1]
    assert decode(llama, PROMPTS[3:5], decoding=SAMPLED) == expected[3:5]
    assert all(len({tuple(answer) for answer in candidates}) == 3 for candidates in expected)
    other = Decoding(candidates=3, temperature=1.3, top_p=0.9, seed=6)
    assert decode(llama, decoding=other) != expected


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (2.0, 1.0), (1.5, 0.7)])
def test_samples_are_as_frequent_as_they_are_likely(llama, temperature, top_p):
    count, prompt = 4000, PROMPTS[0]
    decoding = Decoding(count, temperature, top_p)
    answers = decode(llama, [prompt], decoding=decoding, max_new_tokens=1)
    found = torch.bincount(
        torch.tensor([token for (token,) in answers[0]]), minlength=VOCABULARY
    ).double()
    with torch.no_grad():
        logits = llama(torch.tensor([prompt])).logits[:, -1]
    warpers = transformers.LogitsProcessorList(
        [transformers.TemperatureLogitsWarper(temperature), transformers.TopPLogitsWarper(top_p)]
    )
    likely = warpers(None, logits)[0].double().softmax(dim=-1)
    assert not found[likely == 0].any()
    expected = count * likely
    counted = expected >= 5
    squares = ((found - expected) ** 2 / expected)[counted].sum()
    freedom = int(counted.sum())
    assert freedom > 5
    assert float(squares) < freedom + 4 * (2 * freedom) ** 0.5


def test_the_nucleus_is_that_of_transformers():
    torch.manual_seed(1)
    logits = torch.randn(200, 500) * torch.linspace(0.1, 6, 200)[:, None]
    for top_p in (0.01, 0.5, 0.95, 0.999):
        kept = transformers.TopPLogitsWarper(top_p)(None, logits).isfinite()
        for draw in (0.0, 0.3, 0.999999):
            chosen = drawn_tokens(logits, 1.0, top_p, torch.full((200,), draw).double())
            assert kept.gather(1, chosen[:, None]).all()
        first, last = kept.double().argmax(dim=-1), 499 - kept.flip(-1).double().argmax(dim=-1)
        draws = torch.zeros(200).double()
        assert (drawn_tokens(logits, 1.0, top_p, draws) == first).all()
        assert (drawn_tokens(logits, 1.0, top_p, draws + 1 - 1e-15) == last).all()


@pytest.mark.parametrize(("beams", "candidates"), [(2, 1), (4, 4), (5, 2)])
@pytest.mark.parametrize("stop_ids", [(), (7,), (9, 18, 27, 36, 45, 54)])
def test_beams_are_generates(llama, beams, candidates, stop_ids):
    found = decode(
        llama, decoding=Decoding(candidates, num_beams=beams), stop_ids=stop_ids, batch_size=9
    )
    expected = generate(llama, stop_ids=stop_ids, beams=beams, candidates=candidates)
    assert is_padded(expected, found)


def test_beams_that_complete_are_generates(llama):
    def complete(text):
        return any(mark in text[2:] for mark in ";`")

    decoding = Decoding(3, num_beams=3)
    found = decode(llama, decoding=decoding, complete=complete, max_new_tokens=20)
    expected = generate(llama, complete=complete, new=20, beams=3, candidates=3)
    assert is_padded(expected, found)
    assert any(len(answer) < 20 for candidates in found for answer in candidates)


def test_an_adapter_is_in_effect(llama):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    base = random_model(FAMILIES["llama"]())
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(base, lora).eval()
    assert cannot_share_prefixes(model, 64) is None
    answers = decode(model)
    assert answers == generate(model)
    assert answers != decode(llama)


@pytest.mark.slow
def test_the_embedded_models_answers_are_generates(tokenizer):
    from helpers.runs import CACHE

    from qc_experiments.models.packaged import embedded_model

    model = AutoModelForCausalLM.from_pretrained(embedded_model(CACHE), dtype=torch.float32).eval()
    schema = "Schema:\nCREATE TABLE singer (id INT, name TEXT, age INT);\nQuestion: "
    questions = ["How many singers are there?", "List the names."]
    prompts = tokenizer([f"{schema}{question}\nSQL:" for question in questions]).input_ids
    stop_ids = [tokenizer.eos_token_id]
    for beams in (1, 3):
        found = decode(
            model,
            prompts,
            tokenizer=tokenizer,
            stop_ids=stop_ids,
            max_new_tokens=8,
            decoding=Decoding(beams, num_beams=beams),
        )
        expected = generate(model, prompts, new=8, stop_ids=stop_ids, beams=beams, candidates=beams)
        assert is_padded(expected, found)


def test_groups_are_what_shares_a_long_prefix():
    head = [1, 2]
    one, other = [*head, *range(10, 40)], [*head, *range(50, 90)]
    prompts = [[*one, 3], [*other, 4], [*one, 5, 6], [*other, 7], [*head, 8, 9], [*one, 3]]
    groups = {group.members: group.prefix for group in group_prompts(prompts)}
    assert {tuple(sorted(members)): prefix for members, prefix in groups.items()} == {
        (0, 2, 5): len(one),
        (1, 3): len(other),
        (4,): 3,
    }
    assert list(groups.values()) == sorted(groups.values(), reverse=True)


def test_a_prefix_leaves_every_prompt_a_token():
    for prompts in ([[5, 6, 7]] * 3, [[5], [5]], [[5, 6], [5, 6, 7, 8]], PROMPTS, [[4]]):
        groups = group_prompts(prompts)
        assert sorted(n for group in groups for n in group.members) == list(range(len(prompts)))
        for group in groups:
            heads = {tuple(prompts[number][: group.prefix]) for number in group.members}
            assert len(heads) == 1
            assert all(len(prompts[number]) > group.prefix for number in group.members)
    assert group_prompts([]) == []


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (lambda: transformers.MistralConfig(**GROUPED, sliding_window=32), "sliding window of 32"),
        (
            lambda: transformers.Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=32),
            "sliding window of 32",
        ),
        (
            lambda: transformers.MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1),
            "rec",
        ),
        (
            lambda: transformers.Lfm2Config(**GROUPED, layer_types=["conv", "full_attention"]),
            "beside plain attention",
        ),
        (
            lambda: transformers.BloomConfig(vocab_size=50, hidden_size=32, n_layer=2, n_head=4),
            "something else",
        ),
        (
            lambda: transformers.LlamaConfig(
                **GROUPED | {"max_position_embeddings": 48},
                rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
            ),
            "beyond 48 tokens",
        ),
    ],
)
def test_models_that_cannot_share_are_told(config, reason):
    assert reason in (cannot_share_prefixes(random_model(config()), 64) or "")


def test_other_attention_kernels_are_told(llama, monkeypatch):
    monkeypatch.setattr(llama.config, "_attn_implementation_internal", "flash_attention_2")
    assert "flash_attention_2" in (cannot_share_prefixes(llama, 64) or "")


def test_the_self_check_finds_a_model_that_ignores_the_mask(llama):
    class Deaf(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.config = llama, llama.config

        def get_input_embeddings(self):
            return self.inner.get_input_embeddings()

        def forward(self, attention_mask=None, **options):
            return self.inner(**options)

    assert not agrees(Deaf())


def test_decoding_refuses_contradictions():
    for values in (
        {"candidates": 0},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"num_beams": 2, "temperature": 1.0},
        {"candidates": 2},
        {"candidates": 3, "num_beams": 2},
    ):
        with pytest.raises(ValueError, match=r"must be|contradicts|need"):
            Decoding(**values)


@pytest.mark.parametrize(
    ("free", "rows"),
    [(80e9, 256), (1e9, 127), (1e5, 1)],  # as many as fit into half of what is free
)
def test_a_gpu_writes_as_many_answers_at_once_as_its_memory_holds(free, rows, monkeypatch):
    config = LlamaConfig(
        hidden_size=512, num_attention_heads=8, num_key_value_heads=4, num_hidden_layers=4
    )
    model = SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16, config=config)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80e9))
    # 2 x 4 layers x 4 heads of 64 numbers x 960 tokens x 2 bytes = 3.9 MB a text
    assert _rows_at_once(model, 960, 16) == rows
    assert _rows_at_once(model, 960, 4) == min(rows, 16)  # a smaller one is obeyed
    model.device = torch.device("cpu")
    assert _rows_at_once(model, 960, 16) == 64
