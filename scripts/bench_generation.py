"""Time the writing of answers: ``python scripts/bench_generation.py --spider DIR [--adapter DIR]``.

Whole databases of Spider's dev set are asked, greedily, in padded batches by transformers'
``generate`` and with shared prefixes by `tree_decode`, in turns. Answers that differ are looked at:
where two tokens have the same logit but for rounding (a tie), either way of computing may take
either. Without an adapter the embedded base model answers, which often rambles to the longest.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from qc_experiments.config.schema import DataConfig, PathsConfig, Wrap
from qc_experiments.data.encode import Encoder
from qc_experiments.data.template import read_template
from qc_experiments.generation.decoding import Answer, Decoding
from qc_experiments.generation.generate import generate_texts
from qc_experiments.generation.tree_decoding import shares_prefixes, tree_decode
from qc_experiments.models.packaged import embedded_model
from qc_experiments.models.saved import load_saved
from qc_experiments.sql.extraction import answer_complete
from qc_experiments.system.paths import resolve_path

TIE = 1e-3
"""Logits this close together are a tie."""


def main() -> None:
    """Answer in rounds and print questions a second."""
    options = _options()
    torch.set_num_threads(options.threads)
    model, encoder = _model(options.adapter)
    rows = _whole_databases(options.spider / "dev.csv", options.questions, options.seed)
    prompts = encoder.prompts([(row["context"], row["question"]) for row in rows])
    longest = max(map(len, prompts)) + options.max_new_tokens
    reason = shares_prefixes(model, longest)
    if reason is not None:
        raise SystemExit(f"nothing to compare: {reason}")
    databases = len({row["db_id"] for row in rows})
    tokens = sum(map(len, prompts)) / len(prompts)
    print(f"{len(rows)} questions on {databases} databases, {tokens:.0f} tokens each", flush=True)
    common: dict[str, Any] = {
        "tokenizer": encoder.tokenizer,
        "stop_ids": encoder.stop_ids,
        "max_new_tokens": options.max_new_tokens,
        "decoding": Decoding(),
    }

    def padded() -> list[str]:
        texts = generate_texts(model, prompts, batch_size=options.padded, **common)
        return [candidates[0] for candidates in texts]

    def shared() -> list[Answer]:
        answers = tree_decode(
            model, prompts, batch_size=options.shared, complete=answer_complete, **common
        )
        return [candidates[0] for candidates in answers]

    speeds: dict[str, list[float]] = {"padded": [], "shared": []}
    texts: list[str] = []
    answers: list[Answer] = []
    print("round   padded   shared   ratio   (questions/s)")
    for number in range(1, options.rounds + 1):
        texts, speed = _timed(padded)
        speeds["padded"].append(speed)
        answers, speed = _timed(shared)
        speeds["shared"].append(speed)
        _print_speeds(str(number), speeds["padded"][-1], speeds["shared"][-1])
    _print_speeds("median", *(statistics.median(found) for found in speeds.values()))
    written = sum(len(answer.tokens) for answer in answers) / len(answers)
    print(f"batches of {options.padded} and {options.shared}; {written:.0f} tokens an answer")
    _print_differences(model, encoder.tokenizer, prompts, texts, answers)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spider", type=Path, default=Path(os.environ.get("QC_SPIDER", "spider")))
    parser.add_argument("--adapter", type=Path, help="adapter/ of a run; else the embedded model")
    parser.add_argument("--questions", type=int, default=120, help="at least so many (120)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--padded", type=int, default=16, help="batch of generate (16)")
    parser.add_argument("--shared", type=int, default=64, help="batch with shared prefixes (64)")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0, help="of the choice of databases")
    return parser.parse_args()


def _model(adapter: Path | None) -> tuple[Any, Encoder]:
    cache = Path(PathsConfig.cache).expanduser()
    if adapter is not None:
        tokenizer, model, saved = load_saved(adapter, cache)
        return model, Encoder(tokenizer, saved.template, saved.wrap)
    from transformers import AutoTokenizer

    folder = embedded_model(cache)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    template = read_template(resolve_path(DataConfig.template, "data.template"))
    return model, Encoder(AutoTokenizer.from_pretrained(folder), template, Wrap.plain)


def _whole_databases(path: Path, least: int, seed: int) -> list[dict[str, str]]:
    """Rows of databases chosen at random, each with all its questions, as in real use."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["db_id"] for row in rows})
    random.Random(seed).shuffle(names)
    chosen: list[dict[str, str]] = []
    for name in names:
        if len(chosen) < least:
            chosen += [row for row in rows if row["db_id"] == name]
    return chosen


def _timed(answer: Callable[[], list[Any]]) -> tuple[list[Any], float]:
    """Answers, and questions a second."""
    started = time.perf_counter()
    answers = answer()
    return answers, len(answers) / (time.perf_counter() - started)


def _print_speeds(name: str, padded: float, shared: float) -> None:
    print(f"{name:6} {padded:8.3f} {shared:8.3f} {shared / padded:7.2f}", flush=True)


def _print_differences(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    texts: Sequence[str],
    answers: Sequence[Answer],
) -> None:
    """Say how many answers are the same, and by how little the others' first tokens differ."""
    differing = [n for n, answer in enumerate(answers) if answer.text != texts[n]]
    same = len(answers) - len(differing)
    print(f"{same} of {len(answers)} answers identical ({same / len(answers):.1%})")
    for number in differing:
        gap = _gap(model, tokenizer, prompts[number], texts[number], answers[number])
        kind = "a tie" if gap < TIE else "NOT a tie"
        print(f"  prompt {number}: logits {gap:.1e} apart at the first difference, {kind}")


def _gap(model: Any, tokenizer: Any, prompt: Sequence[int], text: str, answer: Answer) -> float:
    """How much more one way's token weighs than the other's, where two answers part.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        prompt: its tokens.
        text: what the padded batch wrote.
        answer: what was written with shared prefixes.

    Returns:
        Difference of the two tokens' logits, computed anew for this text alone.
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
