"""A tokenizer in a GGUF file cuts text as it does in training: asked in llama.cpp."""

from __future__ import annotations

import json

import pytest
from helpers.small_model import END, byte_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.llama import LlamaConfig

from qc_experiments.errors import UserError
from qc_experiments.export.gguf_file import About, write_gguf
from qc_experiments.export.gguf_vocabulary import CUTS

TEXTS = (
    "How many customers are there in 2023?",
    "SELECT count(*), name FROM t1 WHERE x >= 10.55 AND y LIKE '%a_b%'\n\n  GROUP BY 1;",
    "  two blanks,\ta tab\r\nand don't WE'LL they've",
    "größe, naïve, Zürich, 数据库, данные, 🙂 x²",
    "<|im_start|>user\nspelled out<|im_end|>",
    "1234567890 12345 999",
    "",
)
CORPUS = [f"{text} {n} shops sell {n * 7} things in the city" for n in range(300) for text in TEXTS]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
}


def byte_level(described, words):
    """The embedded model's words, cut in one of llama.cpp's ways."""
    whole = json.loads(words.backend_tokenizer.to_str())
    steps = []
    for one in described:
        if one == "Digits":
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        elif one.startswith("ByteLevel"):
            steps.append(pre_tokenizers.ByteLevel(False, use_regex=one.endswith("cuts")))
        else:
            from tokenizers import Regex

            steps.append(pre_tokenizers.Split(Regex(one), "isolated"))
    found = Tokenizer.from_str(json.dumps(whole))
    found.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=found, eos_token="<|im_end|>")


def sentencepiece(*, prepends):
    """As Llama 2 (with a blank before every text) and Gemma (without) have them."""
    found = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    steps = [normalizers.Replace(" ", "▁")]
    found.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), *steps] if prepends else steps
    )
    found.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    found.train_from_iterator((text.replace(" ", "▁") for text in CORPUS), trainer)
    whole = json.loads(found.to_str())
    whole["added_tokens"] = [t for t in whole["added_tokens"] if not t["content"].startswith("<0x")]
    found = Tokenizer.from_str(json.dumps(whole))
    return PreTrainedTokenizerFast(
        tokenizer_object=found, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def written(tokenizer, tmp_path):
    config = LlamaConfig(vocab_size=len(tokenizer) + 3, **SIZES)
    path = tmp_path / "words.gguf"
    write_gguf(
        AutoModelForCausalLM.from_config(config), tokenizer, path, "f32", About("t", False, None)
    )
    return path


def check_same(tokenizer, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    llama = llama_cpp.Llama(str(written(tokenizer, tmp_path)), vocab_only=True, verbose=False)
    for text in TEXTS:
        wanted = tokenizer(text, add_special_tokens=False).input_ids
        assert llama.tokenize(text.encode(), add_bos=False, special=True) == wanted, text


@pytest.mark.parametrize("described", CUTS, ids=CUTS.values())
def test_text_is_cut_as_in_training(described, tokenizer, tmp_path):
    check_same(byte_level(described, tokenizer), tmp_path)


@pytest.mark.parametrize("prepends", [True, False])
def test_a_sentencepiece_vocabulary_is_cut_as_in_training(prepends, tmp_path):
    check_same(sentencepiece(prepends=prepends), tmp_path)


def test_an_unknown_way_to_cut_is_refused(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UserError, match="cuts text is not known"):
        written(tokenizer, tmp_path)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path):
    tokenizer = byte_tokenizer()
    config = LlamaConfig(vocab_size=len(tokenizer) - 1, **SIZES)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UserError, match="the tokenizer has 257 tokens"):
        write_gguf(model, tokenizer, tmp_path / "m.gguf", "f32", About("t", False, None))
    assert END in tokenizer.get_vocab()
