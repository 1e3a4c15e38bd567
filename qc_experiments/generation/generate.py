"""Let a model write SQL, from the same prompts as in training: what they share is computed once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from qc_experiments.generation.decoding import Decoding
from qc_experiments.generation.tree_decoding import shares_prefixes, tree_decode
from qc_experiments.sql.extraction import answer_complete

log = logging.getLogger(__name__)

SHARED_BATCH = 4
"""Answers with a shared prefix take so little memory that as many times more are written at once."""


def write_answers(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    tokenizer: Any,
    stop_ids: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
    decoding: Decoding,
    on_answer: Callable[[int], None] | None = None,
) -> list[list[str]]:
    """Answer prompts; the tokens that prompts share are computed once, where the model allows it.

    Args:
        model: a causal language model; left in the mode it was in.
        prompts: tokens of each prompt.
        tokenizer: that of the model, with a pad token.
        stop_ids: tokens at which an answer ends.
        max_new_tokens: longest answer in tokens.
        batch_size: prompts computed at once; `SHARED_BATCH` times as many answers where they share.
        decoding: how answers are searched for.
        on_answer: called with the number of prompts just answered, for progress.

    Returns:
        For each prompt the texts of its candidates, without special tokens, the likeliest first
        with beams.
    """
    if not prompts:
        return []
    longest = max(len(prompt) for prompt in prompts) + max_new_tokens
    reason = shares_prefixes(model, longest)
    if reason is not None:
        log.info("Each prompt is computed whole: %s", reason)
        return generate_texts(
            model,
            prompts,
            tokenizer=tokenizer,
            stop_ids=stop_ids,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            decoding=decoding,
            on_batch=on_answer,
        )
    answers = tree_decode(
        model,
        prompts,
        tokenizer=tokenizer,
        stop_ids=stop_ids,
        max_new_tokens=max_new_tokens,
        batch_size=SHARED_BATCH * batch_size,
        decoding=decoding,
        complete=answer_complete,
        on_answer=on_answer,
    )
    return [[answer.text for answer in candidates] for candidates in answers]


def generate_texts(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    tokenizer: Any,
    stop_ids: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
    decoding: Decoding,
    on_batch: Callable[[int], None] | None = None,
) -> list[list[str]]:
    """Continue prompts with transformers' ``generate``, in padded batches: for any model.

    Args:
        model: a causal language model; left in the mode it was in.
        prompts: tokens of each prompt.
        tokenizer: that of the model, with a pad token.
        stop_ids: tokens at which an answer ends.
        max_new_tokens: longest answer in tokens.
        batch_size: prompts computed at once; sorted by length, so that little is padded.
        decoding: how answers are searched for.
        on_batch: called after each batch with the number of prompts it held, for progress.

    Returns:
        For each prompt the texts of its candidates, without special tokens.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    pad_id = tokenizer.pad_token_id
    answers: list[list[str]] = [[] for _ in prompts]
    sampling = decoding.temperature > 0
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    try:
        with torch.random.fork_rng(enabled=sampling):  # a training's own numbers go on as they were
            if sampling:
                torch.manual_seed(decoding.seed)
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                length = max(len(prompts[index]) for index in chosen)
                padding = [length - len(prompts[index]) for index in chosen]
                ids = [
                    [pad_id] * n + list(prompts[i]) for n, i in zip(padding, chosen, strict=True)
                ]
                mask = [[0] * n + [1] * (length - n) for n in padding]
                with torch.no_grad():
                    output = model.generate(
                        input_ids=torch.tensor(ids, device=device),
                        attention_mask=torch.tensor(mask, device=device),
                        max_new_tokens=max_new_tokens,
                        do_sample=sampling,
                        num_beams=decoding.num_beams,
                        num_return_sequences=decoding.candidates,
                        temperature=decoding.temperature if sampling else None,
                        top_p=decoding.top_p if sampling else None,
                        top_k=0 if sampling else None,
                        repetition_penalty=None,
                        eos_token_id=list(stop_ids),
                        pad_token_id=pad_id,
                        use_cache=True,
                        stopping_criteria=StoppingCriteriaList(
                            [StopWhenComplete(tokenizer, length)]
                        ),
                    )
                texts = tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
                for place, index in enumerate(chosen):
                    first = place * decoding.candidates
                    answers[index] = texts[first : first + decoding.candidates]
                if on_batch is not None:
                    on_batch(len(chosen))
    finally:
        model.train(was_training)
    return answers


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
