"""Rows in tokens: one end token with a label, the same prompt in training and inference, no cuts."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from qc_experiments.config.schema import LossOn, OnInvalid, Wrap
from qc_experiments.data.encode import IGNORED, Encoder, Example, fitting
from qc_experiments.data.table import Row
from qc_experiments.data.template import Template
from qc_experiments.errors import UserError

TEMPLATE = Template("Schema:\n{context}\nQuestion: {question}\nSQL: {query}\n", "sql.txt")
FENCED = Template("{context}\n{question}\n```sql\n{query}\n```\n", "fenced.txt")
SCHEMA = "CREATE TABLE t (a INTEGER, größe TEXT);"
ROWS = [
    Row(2, "How many?", "SELECT count(*) FROM t", SCHEMA),
    Row(3, "Wie groß ist 'ß🙂'?", "SELECT größe\nFROM t WHERE a = ';'", SCHEMA),
    Row(4, "?", "SELECT 1", "c"),
]

BOS, EOS, END_OF_TURN = "<s>", "</s>", "<end_of_turn>"
TURNS = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}" + "CLOSING"
    "{% endfor %}{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def byte_tokenizer(
    *, starts: bool = False, closes: bool = False, eos: bool = True, chat: str | None = None
) -> Any:
    """A tokenizer of single bytes, of the kind asked for.

    ``starts`` and ``closes`` say whether it puts its begin and end token around every text.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([BOS, EOS])
    made.post_processor = processors.TemplateProcessing(
        single=f"{BOS if starts else ''} $A {EOS if closes else ''}".strip(),
        special_tokens=[(token, made.token_to_id(token)) for token in (BOS, EOS)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=BOS, eos_token=EOS if eos else None
    )
    # As Gemma has it: special, but not among the tokenizer's named special tokens.
    tokenizer.add_tokens([AddedToken(END_OF_TURN, special=True)])
    tokenizer.chat_template = chat
    return tokenizer


@pytest.fixture(params=list(Wrap), ids=lambda wrap: wrap.value)
def encoder(request: pytest.FixtureRequest, tokenizer: Any) -> Encoder:
    return Encoder(tokenizer, TEMPLATE, request.param)


def test_plain_tokens_are_the_template_filled_in_and_one_end_token(tokenizer):
    for row, example in zip(
        ROWS, Encoder(tokenizer, TEMPLATE, Wrap.plain).examples(ROWS), strict=True
    ):
        assert tokenizer.decode(example.input_ids) == (
            f"Schema:\n{row.context}\nQuestion: {row.question}\nSQL: {row.query}<|im_end|>"
        )
        assert example.row is row


def test_chat_tokens_are_the_prompt_as_a_user_turn_and_the_query_as_its_answer(tokenizer):
    for row, example in zip(
        ROWS, Encoder(tokenizer, TEMPLATE, Wrap.chat).examples(ROWS), strict=True
    ):
        turns = [
            {"role": "user", "content": TEMPLATE.prompt(row.context, row.question)},
            {"role": "assistant", "content": row.query},
        ]
        whole = tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\n")
        assert tokenizer.decode(example.input_ids) == whole
        assert tokenizer.decode(example.completion_ids) == f"{row.query}<|im_end|>"


def test_a_row_ends_with_exactly_one_end_token_that_carries_a_label(encoder):
    for example in encoder.examples(ROWS):
        end = encoder.tokenizer.eos_token_id
        assert example.completion_ids.count(end) == 1
        assert example.input_ids[-1] == example.labels[-1] == end


def test_completion_loss_labels_the_sql_and_not_the_prompt(encoder):
    for row, example in zip(ROWS, encoder.examples(ROWS), strict=True):
        labels = example.labels
        assert len(labels) == len(example.input_ids) == len(example)
        assert labels[: len(example.prompt_ids)] == [IGNORED] * len(example.prompt_ids)
        trained = [token for token in labels if token != IGNORED]
        assert encoder.tokenizer.decode(trained).strip() == f"{row.query}<|im_end|>"


def test_full_loss_labels_every_token(encoder):
    for example in encoder.examples(ROWS):
        assert replace(example, loss_on=LossOn.full).labels == example.input_ids


def test_prompt_tokens_are_the_same_in_training_and_in_inference(encoder):
    in_training = [list(example.prompt_ids) for example in encoder.examples(ROWS)]
    alone = [encoder.prompts([row])[0] for row in ROWS]
    assert in_training == alone


@pytest.mark.parametrize("closes", [False, True], ids=["opens", "opens and closes"])
def test_a_prompt_keeps_the_begin_token_but_has_not_ended(closes):
    """Some tokenizers put their end token after every text, which would end the prompt."""
    encoder = Encoder(byte_tokenizer(starts=True, closes=closes), TEMPLATE, Wrap.plain)
    row = ROWS[0]
    [example] = encoder.examples([row])
    assert encoder.tokenizer.decode(example.input_ids) == (
        f"<s>Schema:\n{row.context}\nQuestion: {row.question}\nSQL: {row.query}</s>"
    )


@pytest.mark.parametrize(
    ("closing", "ends"),
    [
        ("</s>\n", "</s>"),
        (" </s>", " </s>"),
        ("<end_of_turn>\n", "<end_of_turn>"),
        ("\n\n", "</s>"),
    ],
    ids=["end token", "blank before it", "a token of its own", "nothing special"],
)
def test_a_chat_answer_ends_as_the_chat_template_ends_a_turn(closing, ends):
    tokenizer = byte_tokenizer(chat=TURNS.replace("CLOSING", closing))
    encoder = Encoder(tokenizer, TEMPLATE, Wrap.chat)
    [example] = encoder.examples(ROWS[:1])
    assert tokenizer.decode(example.completion_ids) == ROWS[0].query + ends
    assert example.completion_ids[-1] in encoder.stop_ids
    assert tokenizer.eos_token_id in encoder.stop_ids


@pytest.mark.parametrize("named", [False, True], ids=["one template", "templates by name"])
def test_a_chat_asks_the_same_on_any_day(named, monkeypatch, tmp_path):
    """Llama's and Granite's templates write today's date, which transformers tells them."""
    from transformers.utils import chat_template_utils

    dated = "{{- strftime_now('%d %b %Y') }}" + TURNS.replace("CLOSING", "</s>")
    tokenizer = byte_tokenizer(chat=dated)
    if named:
        tokenizer.chat_template = {"default": dated, "tool_use": TURNS}
    encoder = Encoder(tokenizer, TEMPLATE, Wrap.chat)
    today = encoder.examples(ROWS)

    class Tomorrow(chat_template_utils.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 2, 3)

    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    chat_template_utils._compile_jinja_template.cache_clear()
    assert encoder.examples(ROWS) == today
    assert "26 Jul 2024<s>user" in tokenizer.decode(today[0].prompt_ids)
    tokenizer.save_pretrained(str(tmp_path))
    saved = type(tokenizer).from_pretrained(str(tmp_path))
    turns = [{"role": "user", "content": TEMPLATE.prompt(ROWS[0].context, ROWS[0].question)}]
    asked = saved.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert asked == tokenizer.decode(today[0].prompt_ids)
    assert Encoder(saved, TEMPLATE, Wrap.chat).examples(ROWS) == today


@pytest.mark.parametrize("wrap", Wrap)
def test_what_the_template_writes_after_the_query_is_learned_before_the_end(tokenizer, wrap):
    [example] = Encoder(tokenizer, FENCED, wrap).examples(ROWS[:1])
    assert tokenizer.decode(example.completion_ids) == f"{ROWS[0].query}\n```<|im_end|>"


def test_a_query_that_spells_out_the_end_token_does_not_end_there(tokenizer):
    row = Row(2, "q", "SELECT '<|im_end|>', 1", "c")
    [example] = Encoder(tokenizer, TEMPLATE, Wrap.plain).examples([row])
    assert example.completion_ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(example.completion_ids) == " SELECT '<|im_end|>', 1<|im_end|>"


def test_no_rows_make_no_tokens(encoder):
    assert (encoder.examples([]), encoder.prompts([]), encoder.completions([])) == ([], [], [])


def test_a_tokenizer_without_an_end_token_is_refused():
    with pytest.raises(UserError, match="no end token"):
        Encoder(byte_tokenizer(eos=False), TEMPLATE, Wrap.plain)


def test_chat_is_refused_without_a_chat_template():
    with pytest.raises(UserError, match=r"data\.wrap=chat.*data\.wrap=plain"):
        Encoder(byte_tokenizer(), TEMPLATE, Wrap.chat)


def examples(*lengths: int) -> list[Example]:
    return [
        Example(Row(n + 2, "q", "s", "c"), tuple(range(length - 2)), (7, 8))
        for n, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("too_long", OnInvalid)
def test_rows_up_to_the_limit_are_kept_whole(too_long):
    rows = examples(4, 10, 9)
    assert fitting(rows, 10, "data.max_length", too_long, "rows.csv") == (rows, [])


def test_longer_rows_are_left_out_counted_and_never_cut():
    rows = examples(4, 11, 10, 30)
    kept, [decision] = fitting(rows, 10, "data.max_length", OnInvalid.drop, "rows.csv")
    assert kept == [rows[0], rows[2]]
    assert decision.rows == (3, 5)
    line = decision.line("rows.csv")
    assert line.startswith("rows.csv: 2 rows longer than data.max_length=10 tokens")
    assert "the longest has 30" in line


@pytest.mark.parametrize(
    ("lengths", "too_long"), [((4, 11, 30), OnInvalid.error), ((12, 11, 30), OnInvalid.drop)]
)
def test_rows_that_do_not_fit_are_refused_where_asked_and_where_none_is_left(lengths, too_long):
    with pytest.raises(UserError) as caught:
        fitting(examples(*lengths), 10, "data.max_length", too_long, "rows.csv")
    line = str(caught.value)
    assert line.startswith("rows.csv: ")
    assert "3, 4" in line
    assert "the longest has 30" in line
    assert "raise data.max_length" in line


def test_no_row_is_ever_cut(tokenizer):
    """Whatever the limit, each row is either there to its end token or named as left out."""
    draw = random.Random(0)
    rows = [
        Row(n, "q" * draw.randint(1, 40), "SELECT " + "a" * draw.randint(1, 40), "c")
        for n in range(2, 60)
    ]
    encoded = Encoder(tokenizer, TEMPLATE, Wrap.plain).examples(rows)
    for longest in (24, 30, 36, 200):
        kept, decisions = fitting(encoded, longest, "data.max_length", OnInvalid.drop, "rows.csv")
        dropped = {number for decision in decisions for number in decision.rows}
        assert {example.row.number for example in kept}.isdisjoint(dropped)
        assert len(kept) + len(dropped) == len(rows)
        assert all(example.row.query in tokenizer.decode(example.input_ids) for example in kept)
