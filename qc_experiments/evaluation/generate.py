"""Let a model write SQL: greedy, batched, from the same prompts as in training."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

SQL_START = re.compile(
    r"""(?:SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|PRAGMA|EXPLAIN|VALUES)\b
      | WITH\s+(?:RECURSIVE\s+)?["`\[]?\w+["`\]]?\s*(?:\([^)]*\)\s*)?AS\b""",
    re.IGNORECASE | re.VERBOSE,
)
FENCE = re.compile(
    r"`{3,}(?:sql(?:ite)?\b[ \t]*\n?|[a-zA-Z0-9]*[ \t]*\n)?(.*?)(?:`{3,}|\Z)",
    re.DOTALL | re.IGNORECASE,
)
FENCE_MARK = re.compile(r"`{3,}")
QUOTED = re.compile(r"""'(?:[^']|'')*(?:'|\Z)|"(?:[^"]|"")*(?:"|\Z)""")


def generate_texts(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    tokenizer: Any,
    stop_ids: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> list[str]:
    """Continue prompts greedily.

    Args:
        model: a causal language model; left in the mode it was in.
        prompts: tokens of each prompt.
        tokenizer: that of the model, with a pad token.
        stop_ids: tokens at which an answer ends.
        max_new_tokens: longest answer in tokens.
        batch_size: prompts computed at once; sorted by length, so that little is padded.
        on_batch: called after each batch with the number of prompts it held, for progress.

    Returns:
        The text of each answer, without special tokens, in the order of the prompts.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    pad_id = tokenizer.pad_token_id
    answers = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    try:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            length = max(len(prompts[index]) for index in chosen)
            padding = [length - len(prompts[index]) for index in chosen]
            ids = [[pad_id] * n + list(prompts[i]) for n, i in zip(padding, chosen, strict=True)]
            mask = [[0] * n + [1] * (length - n) for n in padding]
            with torch.no_grad():
                output = model.generate(
                    input_ids=torch.tensor(ids, device=device),
                    attention_mask=torch.tensor(mask, device=device),
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    num_beams=1,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    repetition_penalty=None,
                    eos_token_id=list(stop_ids),
                    pad_token_id=pad_id,
                    use_cache=True,
                    stopping_criteria=StoppingCriteriaList([StopWhenComplete(tokenizer, length)]),
                )
            texts = tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
            for index, text in zip(chosen, texts, strict=True):
                answers[index] = text
            if on_batch is not None:
                on_batch(len(chosen))
    finally:
        model.train(was_training)
    return answers


def extract_sql(text: str, after_query: str = "") -> str:
    """The SQL of an answer, without what models write around it.

    An answer that begins with SQL is read up to the end of its first statement. Otherwise the
    content of the first code fence counts, or the whole text where there is none. Nothing inside
    the SQL is touched.

    Args:
        text: what the model wrote.
        after_query: the template's literal text behind ``{query}``, at which the answer ends.
    """
    sql = _without_nul(text).strip()
    if not SQL_START.match(sql):
        fence = FENCE.search(sql)
        sql = fence.group(1).strip() if fence else sql
    closing = after_query.strip()
    if closing:
        # Blank out what is quoted, so that a closing text inside a string does not count.
        bare = QUOTED.sub(lambda match: "\0" * len(match.group()), sql)
        if closing in bare:
            sql = sql[: bare.index(closing)]
    return first_statement(sql).strip()


def answer_complete(text: str) -> bool:
    """Whether whatever the model may still write cannot change what `extract_sql` returns."""
    sql = _without_nul(text).lstrip()
    if SQL_START.match(sql):
        return first_statement(sql) != sql
    return len(FENCE_MARK.findall(sql)) >= 2


def _without_nul(text: str) -> str:
    return text.replace("\0", "")  # no database takes it, and sqlite3 raises on it


def first_statement(sql: str) -> str:
    """What stands before the first semicolon that ends a statement (not one inside a string)."""
    place = sql.find(";")
    while place != -1:
        if sqlite3.complete_statement(sql[: place + 1]):
            return sql[:place]
        place = sql.find(";", place + 1)
    return sql


class StopWhenComplete(StoppingCriteria):
    """Ends an answer once its SQL is complete, where a model would ramble on.

    Args:
        tokenizer: that of the model.
        prompt_length: tokens before the answers.
    """

    def __init__(self, tokenizer: Any, prompt_length: int) -> None:
        self._tokenizer = tokenizer
        self._prompt_length = prompt_length

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Whether each row, [rows], is complete."""
        texts = self._tokenizer.batch_decode(
            input_ids[:, self._prompt_length :], skip_special_tokens=True
        )
        done = [answer_complete(text) for text in texts]
        return torch.tensor(done, device=input_ids.device)
