"""The loss: only where a label stands, and the same however rows are batched."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from qc_experiments.collators.standard import CollatorInput, build_collator
from qc_experiments.config.plugins import COLLATORS
from qc_experiments.config.schema import CollatorConfig, LossOn, Wrap
from qc_experiments.data.encode import IGNORED, Encoder
from qc_experiments.data.table import Row
from qc_experiments.data.template import Template
from qc_experiments.evaluation import loss as evaluation_loss
from qc_experiments.evaluation.loss import validation_loss
from qc_experiments.models import loss as label_loss
from qc_experiments.models.loss import pad_batch, summed_loss

ROWS = [
    Row(2, "How many books are there?", "SELECT count(*) FROM book", "CREATE TABLE book (id INT);"),
    Row(3, "List all titles.", "SELECT title FROM book", "CREATE TABLE book (id INT, title TEXT);"),
    Row(
        4, "Who?", "SELECT name FROM member WHERE city = 'Ulm'", "CREATE TABLE member (name TEXT);"
    ),
]


@pytest.fixture(scope="module")
def examples(tokenizer):
    template = Template("{context}\n{question}\nSQL: {query}", "test")
    return Encoder(tokenizer, template, Wrap.plain).examples(ROWS)


@pytest.fixture(scope="module")
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def test_the_summed_loss_is_the_models_own(model, tokenizer, examples):
    batch = pad_batch(examples, tokenizer.pad_token_id)
    labels = int((batch["labels"][:, 1:] != IGNORED).sum())
    ours = summed_loss(model, batch)
    theirs = model(**batch).loss * labels
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_the_loss_works_for_models_that_cannot_choose_logits(model, tokenizer, examples):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, input_ids, attention_mask, use_cache):
            return self.inner(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache
            )

    batch = pad_batch(examples, tokenizer.pad_token_id)
    one, other = summed_loss(model, batch), summed_loss(Plain(), batch)
    assert float(one) == pytest.approx(float(other), rel=1e-5)


def test_the_validation_loss_does_not_depend_on_the_batch_size(model, tokenizer, examples):
    found = [validation_loss(model, examples, tokenizer.pad_token_id, n) for n in (1, 2, 3)]
    assert len({count for _, count in found}) == 1
    assert found[0][1] == sum(len(example.completion_ids) for example in examples)
    for total, _ in found[1:]:
        assert total == pytest.approx(found[0][0], rel=1e-5)


PADDING = [name for name in COLLATORS if name != "shared_schema"]


def collator(tokenizer, examples, **settings):
    return build_collator(CollatorInput(CollatorConfig(**settings), tokenizer, examples, 4, 0))


def test_packs_label_the_end_token_of_each_row(tokenizer, examples):
    packs = collator(tokenizer, examples, name="shared_schema")(examples)["packs"]
    ends = sum(
        weight
        for pack in packs
        for _, target, weight in pack.labels.T.tolist()
        if target == tokenizer.eos_token_id
    )
    assert ends == len(examples)


@pytest.mark.parametrize("name", PADDING)
def test_every_padding_collator_labels_the_end_token_and_never_padding(tokenizer, examples, name):
    assert tokenizer.pad_token_id == tokenizer.eos_token_id  # the hard case
    loss_on = LossOn.full if name == "language_modeling" else LossOn.completion
    batch = collator(tokenizer, examples, name=name, pad_to_multiple_of=8)(examples)
    assert batch["input_ids"].shape[1] % 8 == 0
    for place, example in enumerate(examples):
        labels, length = batch["labels"][place], len(example)
        assert int(labels[length - 1]) == tokenizer.eos_token_id
        assert labels[length:].eq(IGNORED).all()
        assert batch["attention_mask"][place].sum() == length
        prompt = labels[: len(example.prompt_ids)]
        assert prompt.eq(IGNORED).all() == (loss_on is LossOn.completion)


def test_default_pads_to_the_longest_kept_row_and_seq2seq_to_that_of_the_batch(tokenizer, examples):
    longest = max(len(example) for example in examples)
    short = min(examples, key=len)
    for name, width in (("default", longest), ("seq2seq", len(short))):
        batch = collator(tokenizer, examples, name=name)([short])
        assert batch["input_ids"].shape == (1, width)


def test_logits_are_computed_some_at_a_time_with_the_same_gradients(tiny_model, monkeypatch):
    """Whole texts have a label at nearly every token: their logits must not all be there at once."""
    for tied in (True, False):
        model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).train()
        if not tied:
            head = model.get_output_embeddings()
            head.weight = torch.nn.Parameter(head.weight.detach().clone())
        sizes = []
        model.get_output_embeddings().register_forward_hook(
            lambda module, inputs, output, sizes=sizes: sizes.append(output.numel())
        )
        ids = torch.randint(5, 200, (3, 40), generator=torch.Generator().manual_seed(0))
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
        vocabulary = model.config.vocab_size
        found = []
        for most in (2**30, 10 * vocabulary):
            monkeypatch.setattr(label_loss, "LOGITS_AT_ONCE", most)
            sizes.clear()
            model.zero_grad()
            loss = summed_loss(model, batch)
            (loss * 0.5).backward()
            gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
            found.append((float(loss.detach()), gradients, max(sizes)))
        (whole, expected, _), (parts, gradients, largest) = found
        assert largest == 10 * vocabulary
        assert parts == pytest.approx(whole, rel=1e-6)
        assert float((gradients - expected).norm() / expected.norm()) < 1e-5


def test_the_packed_validation_loss_is_the_padded_one(model, tokenizer, monkeypatch):
    template = Template("{context}\n{question}\nSQL: {query}", "test")
    context = "CREATE TABLE book (id INT, title TEXT, pages INT);"
    rows = [Row(n, f"How many books have {n} pages?", f"SELECT {n}", context) for n in range(12)]
    examples = Encoder(tokenizer, template, Wrap.plain).examples(rows)
    packed = validation_loss(model, examples, tokenizer.pad_token_id, 4)
    monkeypatch.setattr(evaluation_loss, "cannot_pack", lambda model: "for this test")
    padded = validation_loss(model, examples, tokenizer.pad_token_id, 4)
    assert packed[1] == padded[1]
    assert packed[0] == pytest.approx(padded[0], rel=1e-5)
    assert packed[0] != padded[0]  # rounded elsewhere: it did go another way
