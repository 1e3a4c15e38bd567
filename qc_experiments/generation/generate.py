"""Let a model write SQL, from the same prompts as in training: what they share is computed once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from qc_experiments.config.evaluation import EvaluationConfig
from qc_experiments.generation.decoding import TRIES, Answer, AnswerSettings
from qc_experiments.generation.prefixes import cannot_share_prefixes
from qc_experiments.generation.searches import DOUBT
from qc_experiments.generation.tree_decoding import tree_decode
from qc_experiments.models.base import attention_widths
from qc_experiments.models.device import GPU
from qc_experiments.models.loss import evaluating, label_loss
from qc_experiments.sql.extraction import answer_complete
from qc_experiments.sql.prefix_check import PrefixCheck
from qc_experiments.sql.scopes import Outlook

log = logging.getLogger(__name__)

SHARED_BATCH = 4
"""Answers with a shared prefix take so little memory that as many times more are written at once."""
GPU_ROWS = 256
"""So many at least are written at once on a GPU, where a step of few takes as long."""
GPU_SHARE = 0.5
"""Of a GPU's free memory that their keys and values may take."""


def write_answers(
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: AnswerSettings,
    on_answer: Callable[[int], None] | None = None,
    checks: Sequence[PrefixCheck | None] | None = None,
) -> list[list[Answer]]:
    """Answer prompts; the tokens that prompts share are computed once, where the model allows it.

    Args:
        model: a causal language model; left in the mode it was in.
        prompts: tokens of each prompt.
        settings: how; where prompts share, `SHARED_BATCH` times as many answers are written at once.
        on_answer: called with the number of prompts just answered, for progress.
        checks: for each prompt what its answers must be able to become, or None.

    Returns:
        For each prompt its candidates, the likeliest first with beams.
    """
    if not prompts:
        return []
    longest = max(map(len, prompts)) + settings.max_new_tokens
    reason = cannot_share_prefixes(model, longest)
    if reason is not None:
        log.info("Each prompt is computed whole: %s", reason)
        return generate_answers(model, prompts, settings, on_answer, checks)
    settings = replace(settings, batch_size=_rows_at_once(model, longest, settings.batch_size))
    return tree_decode(model, prompts, settings, answer_complete, on_answer, checks)


def log_probability(model: Any, prompt: Sequence[int], tokens: Sequence[int]) -> float:
    """Of an answer's tokens after a prompt, summed, in nats, by one forward over both.

    For answers of `generate_answers`, whose logits transformers would keep all at once or not at all.
    """
    if not tokens:
        return 0.0
    given = torch.tensor([[*prompt, *tokens]], device=next(model.parameters()).device)
    last = given.shape[1] - 1  # what predicts is a token before what is predicted
    places = torch.arange(last - len(tokens), last, device=given.device)
    inputs = {"input_ids": given, "attention_mask": torch.ones_like(given)}
    with evaluating(model):
        return -float(label_loss(model, inputs, places, given[0, places + 1]))


def _rows_at_once(model: Any, longest: int, batch_size: int) -> int:
    """Answers that are written at once; ``longest`` is the most tokens of one with its prompt."""
    rows = SHARED_BATCH * batch_size
    if model.device.type != GPU:
        return rows
    config = model.config.get_text_config()
    _, keys = attention_widths(config)
    numbers = 2 * config.num_hidden_layers * keys * longest
    free, _ = torch.cuda.mem_get_info(model.device)
    most = int(GPU_SHARE * free / (numbers * model.dtype.itemsize))
    if batch_size >= EvaluationConfig.batch_size:  # fewer are asked for to save memory
        rows = max(rows, GPU_ROWS)
    return max(1, min(rows, most))


def generate_answers(
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: AnswerSettings,
    on_answer: Callable[[int], None] | None = None,
    checks: Sequence[PrefixCheck | None] | None = None,
) -> list[list[Answer]]:
    """As `write_answers`, with transformers' ``generate`` in padded batches: for any model.

    Their log-probabilities are not computed.
    """
    sampling, seed = settings.decoding.temperature > 0, settings.decoding.seed
    answers: list[list[Answer]] = [[] for _ in prompts]
    # By length, so that little is padded.
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]), reverse=True)
    with evaluating(model), torch.random.fork_rng(enabled=sampling):  # a training's own go on
        if sampling:
            torch.manual_seed(seed)
        for start in range(0, len(order), settings.batch_size):
            numbers = order[start : start + settings.batch_size]
            batch = [prompts[number] for number in numbers]
            own = [checks[number] for number in numbers] if checks else None
            written = iter(_generate_batch(model, batch, settings, own))
            for number in numbers:
                answers[number] = [next(written) for _ in range(settings.decoding.candidates)]
            if on_answer is not None:
                on_answer(len(numbers))
    return answers


def _generate_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: AnswerSettings,
    checks: Sequence[PrefixCheck | None] | None,
) -> list[Answer]:
    """The candidates of the first prompt, then of the second's, and so on."""
    device = next(model.parameters()).device
    tokenizer, decoding = settings.tokenizer, settings.decoding
    sampling = decoding.temperature > 0
    length = max(map(len, prompts))
    padding = [length - len(prompt) for prompt in prompts]
    ids = [[tokenizer.pad_token_id] * n + list(p) for n, p in zip(padding, prompts, strict=True)]
    mask = [[0] * n + [1] * (length - n) for n in padding]
    processors = [CheckedTokens(settings, length, checks)] if checks else []
    output = model.generate(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=torch.tensor(mask, device=device),
        max_new_tokens=settings.max_new_tokens,
        do_sample=sampling,
        num_beams=decoding.num_beams,
        num_return_sequences=decoding.candidates,
        temperature=decoding.temperature if sampling else None,
        top_p=decoding.top_p if sampling else None,
        top_k=0 if sampling else None,
        eos_token_id=list(settings.stop_ids),
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
        logits_processor=LogitsProcessorList(processors),
        stopping_criteria=StoppingCriteriaList([StopWhenComplete(tokenizer, length)]),
    )
    written = output[:, length:]
    texts: list[str] = tokenizer.batch_decode(written, skip_special_tokens=True)
    pairs = zip(written.tolist(), texts, strict=True)
    return [Answer(_own_tokens(ids, settings), text, None) for ids, text in pairs]


def _own_tokens(ids: Sequence[int], settings: AnswerSettings) -> tuple[int, ...]:
    """The tokens that a model has written, of a row that is filled up after them."""
    tokenizer, stops = settings.tokenizer, settings.stop_ids
    end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    own = list(ids[:end])
    while own and own[-1] == tokenizer.pad_token_id:
        own.pop()
    # What was complete before has ended there; the stop token fills up.
    if end < len(ids) and not answer_complete(tokenizer.decode(own, skip_special_tokens=True)):
        own.append(ids[end])
    return tuple(own)


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
        written = input_ids[:, self._prompt_length :]
        texts = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        done = [answer_complete(text) for text in texts]
        return torch.tensor(done, device=input_ids.device)


SAMPLED = 32
"""A sample is drawn from so many tokens that may be written: nearly always it is one of these anyway."""


class CheckedTokens(LogitsProcessor):
    """Keeps texts from being written that can become no valid query.

    Args:
        settings: tokenizer, stop tokens, candidates and beams.
        prompt_length: tokens before the answers.
        checks: for each prompt.
    """

    def __init__(
        self, settings: AnswerSettings, prompt_length: int, checks: Sequence[PrefixCheck | None]
    ) -> None:
        self._settings, self._prompt_length, self._checks = settings, prompt_length, checks

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores [rows, vocabulary] in which tokens are impossible that were refused, or not looked at.

        Where all of those that were looked at are refused, the row stays as it is.
        """
        per_prompt = len(scores) // len(self._checks)
        for row, ids in enumerate(input_ids[:, self._prompt_length :].tolist()):
            check = self._checks[row // per_prompt]
            if check is None:
                continue
            costs = self._costs(check, ids, scores[row])
            if costs:
                kept = list(costs)
                worth = scores[row, kept] + scores.new_tensor(list(costs.values()))
                scores[row] = -torch.inf
                scores[row, kept] = worth
        return scores

    def _costs(self, check: PrefixCheck, ids: list[int], scores: Any) -> dict[int, float]:
        """The likeliest tokens that may follow a text, each with what it costs in log-probability."""
        decode, decoding = self._settings.tokenizer.decode, self._settings.decoding
        sampling = decoding.temperature > 0
        # As many as transformers keeps of a beam search, in case that all stop tokens are among them.
        kept = max(2, 1 + len(self._settings.stop_ids)) * decoding.num_beams
        enough = SAMPLED if sampling else kept
        before = check.outlook(decode(ids, skip_special_tokens=True))
        costs: dict[int, float] = {}
        if before is Outlook.IMPOSSIBLE:  # there is no way back
            return costs
        for token in scores.topk(min(TRIES, len(scores))).indices.tolist():
            text = decode([*ids, token], skip_special_tokens=True)
            outlook = check.outlook(text, ended=token in self._settings.stop_ids)
            if outlook is Outlook.IMPOSSIBLE:
                continue
            doubted = outlook < before and not sampling
            costs[token] = DOUBT if doubted else 0.0
            enough -= not doubted
            if not enough:
                break
        return costs
