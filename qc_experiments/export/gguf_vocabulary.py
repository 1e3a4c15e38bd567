"""A tokenizer in a GGUF file: its tokens, merges, and the name by which llama.cpp knows how it cuts text."""

from __future__ import annotations

import json
from typing import Any

from qc_experiments.errors import UserError

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CUTS = {
    (WORDS + r"\p{N}{1,3}" + REST, "ByteLevel"): "llama-bpe",
    (WORDS + r"\p{N}" + REST, "ByteLevel"): "qwen2",
    ("Digits", "ByteLevel cuts"): "smollm",
    ("ByteLevel cuts",): "gpt-2",
}
"""llama.cpp's names of ways to cut text before bytes are merged, by the steps of tokenizer.json."""


def write_vocabulary(writer: Any, tokenizer: Any, rows: int, *, adds_bos: bool) -> None:
    """Write a tokenizer.

    Args:
        writer: of the file.
        tokenizer: a fast one.
        rows: of the model's embedding; those beyond the tokenizer's are filled up.
        adds_bos: whether prompts begin with a token that their text does not spell.

    Raises:
        UserError: for a tokenizer whose kind llama.cpp does not know.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError("--format gguf: the model's tokenizer has no tokenizer.json")
    if len(tokenizer) > rows:
        raise UserError(
            f"--format gguf: the tokenizer has {len(tokenizer)} tokens, the model's embedding {rows} rows"
        )
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    parts = whole["model"]
    if parts["type"] != "BPE":
        raise UserError(f"--format gguf: cannot write a tokenizer of the kind {parts['type']}")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in parts["merges"]]
    if parts.get("byte_fallback"):
        writer.add_tokenizer_model("llama")
        writer.add_token_scores(_scores(tokenizer, merges, rows))
        writer.add_add_space_prefix(_prepends(whole))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_cut(whole))
        writer.add_token_merges(merges)
    tokens, types = _tokens(tokenizer, rows)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_vocab_size(rows)
    for name in ("bos", "eos", "pad", "unk"):
        number = getattr(tokenizer, f"{name}_token_id")
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    writer.add_add_bos_token(adds_bos)
    writer.add_add_eos_token(False)


def _tokens(tokenizer: Any, rows: int) -> tuple[list[str], list[int]]:
    from gguf import TokenType

    added = tokenizer.added_tokens_decoder
    special = set(tokenizer.all_special_ids)
    by_number = {number: token for token, number in tokenizer.get_vocab().items()}
    tokens, types = [], []
    for number in range(rows):
        token = by_number.get(number)
        kind = TokenType.NORMAL
        if token is None:
            token, kind = f"[PAD{number}]", TokenType.UNUSED
        elif number == tokenizer.unk_token_id and number not in added:
            kind = TokenType.UNKNOWN
        elif number in added:
            token = added[number].content
            marked = added[number].special or number in special
            kind = TokenType.CONTROL if marked else TokenType.USER_DEFINED
        elif token.startswith("<0x") and len(token) == 6:
            kind = TokenType.BYTE
        tokens.append(token)
        types.append(kind)
    return tokens, types


def _scores(tokenizer: Any, merges: list[str], rows: int) -> list[float]:
    """What SentencePiece has in place of merges: neighbours are joined first that score best."""
    vocabulary = tokenizer.get_vocab()
    scores = [-1e6] * rows
    for rank, merge in enumerate(merges):
        number = vocabulary.get(merge.replace(" ", "", 1))
        if number is not None and scores[number] == -1e6:
            scores[number] = -float(rank)
    return scores


def _prepends(whole: dict[str, Any]) -> bool:
    """Whether a blank is put before a text."""
    said = json.dumps([whole.get("normalizer"), whole.get("pre_tokenizer")])
    return '"Prepend"' in said or any(
        f'"prepend_scheme": "{kind}"' in said for kind in ("always", "first")
    )


def _cut(whole: dict[str, Any]) -> str:
    step = whole.get("pre_tokenizer") or {}
    steps = step.get("pretokenizers", [step])
    described = []
    for one in steps:
        kind = one.get("type", "none")
        if kind == "Split":
            described.append(one["pattern"].get("Regex", ""))
        elif kind == "ByteLevel":
            described.append("ByteLevel cuts" if one.get("use_regex", True) else kind)
        else:
            described.append(kind)
    name = CUTS.get(tuple(described))
    if name is None:
        raise UserError(
            "--format gguf: llama.cpp's name for the way in which this tokenizer cuts text is not known "
            f"({', '.join(described)}): take --format merged, and llama.cpp's own converter on its folder"
        )
    return name
