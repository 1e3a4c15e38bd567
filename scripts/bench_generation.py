"""Time the writing of answers: ``python scripts/bench_generation.py --spider DIR [--adapter DIR]``.

Whole databases of Spider's dev set are asked, greedily, in padded batches by transformers'
``generate`` and with shared prefixes by `tree_decode`, in turns. Answers that differ are looked at:
where two tokens have the same logit but for rounding (a tie), either way of computing may take
either. Without an adapter the embedded base model answers, which often rambles to the longest.

``--beams 4`` needs no Spider: the demo's held-out questions about one database are answered by beam
search, by ``generate`` with the common prefix in its cache, and by `tree_decode`.
"""

from __future__ import annotations

import argparse
import copy
import csv
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache, StoppingCriteriaList

from qc_experiments.config.schema import DataConfig, PathsConfig, Wrap
from qc_experiments.data.encode import Encoder
from qc_experiments.data.table import Row
from qc_experiments.data.template import read_template
from qc_experiments.generation.decoding import Answer, AnswerSettings, Decoding
from qc_experiments.generation.generate import StopWhenComplete, generate_answers
from qc_experiments.generation.prefixes import cannot_share_prefixes
from qc_experiments.generation.tree_decoding import tree_decode
from qc_experiments.models.loss import evaluating
from qc_experiments.models.packaged import embedded_model
from qc_experiments.models.saved import load_saved
from qc_experiments.packing.prefix_tree import common_prefix
from qc_experiments.sql.extraction import answer_complete
from qc_experiments.system.paths import resolve_path

TIE = 1e-3
"""Logits this close together are a tie."""


def main() -> None:
    """Answer in rounds and print a table of the seconds."""
    options = _options()
    torch.set_num_threads(options.threads)
    model, encoder = _model(options.adapter)
    if options.beams:
        rows = _one_database(options.questions or 24)
    else:
        rows = _whole_databases(options.spider / "dev.csv", options.questions or 120, options.seed)
    prompts = encoder.prompts(
        [Row(n, row["question"], "", row["context"]) for n, row in enumerate(rows)]
    )
    decoding = Decoding(num_beams=options.beams or 1)
    new = options.max_new_tokens or (48 if options.beams else 128)
    shared = AnswerSettings(encoder.tokenizer, encoder.stop_ids, new, options.shared, decoding)
    reason = cannot_share_prefixes(model, max(map(len, prompts)) + new)
    if reason is not None:
        raise SystemExit(f"nothing to compare: {reason}")
    databases = len({row["db_id"] for row in rows})
    tokens = sum(map(len, prompts)) / len(prompts)
    print(f"{len(rows)} questions on {databases} databases, {tokens:.0f} tokens each", flush=True)

    def by_generate() -> list[str]:
        if options.beams:  # as many texts at once as by the tree
            at_once = replace(shared, batch_size=max(1, options.shared // options.beams))
            return cached_generate(model, prompts, at_once)
        padded = replace(shared, batch_size=options.padded)
        return [candidates[0].text for candidates in generate_answers(model, prompts, padded)]

    def by_tree() -> list[Answer]:
        found = tree_decode(model, prompts, shared, answer_complete)
        return [candidates[0] for candidates in found]

    texts, answers = _rounds(options.rounds, by_generate, by_tree)
    written = sum(len(answer.tokens) for answer in answers) / len(answers)
    print(f"{written:.0f} tokens per answer, at most {new}")
    differing = [n for n, answer in enumerate(answers) if answer.text != texts[n]]
    same = len(answers) - len(differing)
    print(f"{same} of {len(answers)} answers identical ({same / len(answers):.1%})")
    for number in differing:
        if options.beams:
            print(f"  prompt {number}: {texts[number]!r}\n  by the tree: {answers[number].text!r}")
        else:
            gap = _gap(model, encoder.tokenizer, prompts[number], texts[number], answers[number])
            kind = "a tie" if gap < TIE else "NOT a tie"
            print(f"  prompt {number}: logits {gap:.1e} apart at the first difference, {kind}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spider", type=Path, default=Path(os.environ.get("QC_SPIDER", "spider")))
    parser.add_argument("--adapter", type=Path, help="adapter/ of a run; else the embedded model")
    parser.add_argument("--beams", type=int, help="beams of a search on the demo; none: greedily")
    parser.add_argument("--questions", type=int, help="at least so many (120), with beams (24)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--padded", type=int, default=16, help="batch of generate (16)")
    parser.add_argument("--shared", type=int, default=64, help="texts at once that share (64)")
    parser.add_argument("--max-new-tokens", type=int, help="longest answer (128), with beams (48)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0, help="of the choice of databases")
    return parser.parse_args()


def _model(adapter: Path | None) -> tuple[Any, Encoder]:
    cache = Path(PathsConfig().cache).expanduser()
    if adapter is not None:
        tokenizer, model, saved = load_saved(adapter, cache)
        return model, Encoder(tokenizer, saved.template, saved.wrap)
    from transformers import AutoTokenizer

    folder = embedded_model(cache)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    template = read_template(resolve_path(DataConfig().template, "data.template"))
    return model, Encoder(AutoTokenizer.from_pretrained(folder), template, Wrap.plain)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _one_database(most: int) -> list[dict[str, str]]:
    """Held-out rows of the demo about its first database."""
    rows = _rows(resolve_path("pkg://qc_experiments.demo/validation.csv", "data.validation"))
    return [row for row in rows if row["db_id"] == rows[0]["db_id"]][:most]


def _whole_databases(path: Path, least: int, seed: int) -> list[dict[str, str]]:
    """Rows of databases chosen at random, each with all its questions, as in real use."""
    rows = _rows(path)
    names = sorted({row["db_id"] for row in rows})
    random.Random(seed).shuffle(names)
    chosen: list[dict[str, str]] = []
    for name in names:
        if len(chosen) < least:
            chosen += [row for row in rows if row["db_id"] == name]
    return chosen


def cached_generate(
    model: Any, prompts: Sequence[Sequence[int]], settings: AnswerSettings
) -> list[str]:
    """Best answers of transformers' ``generate``, which is given the common prefix in its cache.

    The prefix is computed once and repeated for every prompt and beam. Padding stands between it
    and what is a prompt's own, where the attention mask hides it.

    Args:
        model: a causal language model; left in the mode it was in.
        prompts: tokens of each prompt, all about one database.
        settings: how; ``batch_size`` counts prompts.
    """
    common = min(min(common_prefix(prompts[0], one), len(one) - 1) for one in prompts)
    prefix, tokenizer = list(prompts[0][:common]), settings.tokenizer
    pad, beams = tokenizer.pad_token_id, settings.decoding.num_beams
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]), reverse=True)
    texts: dict[int, str] = {}
    with evaluating(model):
        once = DynamicCache()
        model(torch.tensor([prefix], device=model.device), past_key_values=once, logits_to_keep=1)
        for start in range(0, len(order), settings.batch_size):
            numbers = order[start : start + settings.batch_size]
            length = max(len(prompts[number]) for number in numbers)
            padding = [length - len(prompts[number]) for number in numbers]
            pairs = list(zip(padding, numbers, strict=True))
            ids = [prefix + [pad] * n + list(prompts[number][common:]) for n, number in pairs]
            mask = [[1] * common + [0] * n + [1] * (length - common - n) for n in padding]
            cache = copy.deepcopy(once)
            cache.batch_repeat_interleave(len(numbers) * beams)
            output = model.generate(
                input_ids=torch.tensor(ids, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                past_key_values=cache,
                max_new_tokens=settings.max_new_tokens,
                do_sample=False,
                num_beams=beams,
                repetition_penalty=None,
                eos_token_id=list(settings.stop_ids),
                pad_token_id=pad,
                stopping_criteria=StoppingCriteriaList([StopWhenComplete(tokenizer, length)]),
            )
            written = tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
            texts |= dict(zip(numbers, written, strict=True))
    return [texts[number] for number in range(len(prompts))]


def _rounds(
    rounds: int, by_generate: Callable[[], list[str]], by_tree: Callable[[], list[Answer]]
) -> tuple[list[str], list[Answer]]:
    """Answer both ways in turns, the first of one round second in the next; the last answers."""
    seconds: list[tuple[float, float]] = []
    texts: list[str] = []
    answers: list[Answer] = []
    print("round   generate     tree   ratio   (seconds)")
    for number in range(1, rounds + 1):
        if number % 2:
            texts, by_library = _timed(by_generate)
            answers, own = _timed(by_tree)
        else:
            answers, own = _timed(by_tree)
            texts, by_library = _timed(by_generate)
        seconds.append((by_library, own))
        _print_seconds(str(number), by_library, own)
    _print_seconds("median", *(statistics.median(found) for found in zip(*seconds, strict=True)))
    return texts, answers


def _timed(answer: Callable[[], list[Any]]) -> tuple[list[Any], float]:
    """Answers, and seconds."""
    started = time.perf_counter()
    answers = answer()
    return answers, time.perf_counter() - started


def _print_seconds(name: str, by_generate: float, by_tree: float) -> None:
    ratio = by_generate / by_tree
    print(f"{name:6} {by_generate:9.2f} {by_tree:8.2f} {ratio:7.2f}", flush=True)


def _gap(model: Any, tokenizer: Any, prompt: Sequence[int], text: str, answer: Answer) -> float:
    """How much more one way's token weighs than the other's, where two answers part.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        prompt: its tokens.
        text: what the padded batch wrote.
        answer: what was written with shared prefixes.

    Returns:
        Difference of the two tokens' logits, computed again for this text alone.
    """

    def agrees(tokens: Sequence[int]) -> bool:
        written = tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text.startswith(written.rstrip("\N{REPLACEMENT CHARACTER}"))

    tokens = answer.tokens
    counts = range(len(tokens) + 1)
    parts = next((n for n in counts if not agrees(tokens[:n])), len(tokens))
    common = tokens[: parts - 1]
    with torch.no_grad():
        ids = torch.tensor([[*prompt, *common]], device=model.device)
        logits = model(ids).logits[0, -1].float()
    # Of the tokens with which the padded batch's text goes on, it took the likeliest; where that
    # text ends, an end token.
    end = len(tokenizer.decode(list(common), skip_special_tokens=True)) == len(text)
    for other in logits.argsort(descending=True).tolist():
        ends = other in tokenizer.all_special_ids
        if other != tokens[parts - 1] and ends == end and agrees((*common, other)):
            return abs(float(logits[tokens[parts - 1]] - logits[other]))
    return float("inf")


if __name__ == "__main__":
    main()
