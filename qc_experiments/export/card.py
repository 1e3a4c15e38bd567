"""The model card beside whatever a run saves: what it is, how good, on what trained, and how it is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Any

from qc_experiments.config.metrics import (
    BIRD,
    EXECUTION,
    METRICS,
    RECALL,
    REPAIRED,
    TEST_SUITE,
    Metric,
)
from qc_experiments.config.schema import (
    LORA_VARIANTS,
    LoraConfig,
    QuantMode,
    RunConfig,
    Wrap,
    saved_rank,
)
from qc_experiments.evaluation.statistics import wilson
from qc_experiments.export.exact_prompt import ExactPrompt
from qc_experiments.system.words import noun_for

FORMATS = {
    "adapter": "peft",
    "model": "transformers",
    "merged": "transformers",
    "gguf": "llama.cpp",
}
"""What a folder can be, and the library that loads it. ``model`` is what full fine-tuning saves."""
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What its ``--max-lora-rank`` may be."""
COUNTED = (EXECUTION, REPAIRED, BIRD, TEST_SUITE, RECALL)
"""Shares of the questions that ``execution_count`` counts: those whose gold runs."""


@dataclass(frozen=True)
class CardFacts:
    """What a card tells of.

    Attributes:
        name: of the run.
        config: its settings.
        result: the content of its ``result.json``.
        environment: the content of its ``environment.json``.
        prompt: how it is asked.
    """

    name: str
    config: RunConfig
    result: Mapping[str, Any]
    environment: Mapping[str, Any]
    prompt: ExactPrompt


def base_name(config: RunConfig) -> tuple[str, str | None]:
    """Where the base model can be had, and its licence; None where that is not known."""
    from qc_experiments.models.packaged import packaged_model

    name = config.model.name_or_path
    packaged = packaged_model(name)
    if packaged is not None:
        return packaged.hub_id, packaged.licence
    return _path_name(config) or name, None


def _path_name(config: RunConfig) -> str | None:
    """What a base model's file or folder is called, without the folders of the machine; None for a hub's."""
    from qc_experiments.models.base import HUB_ID

    path = Path(config.model.name_or_path).expanduser()
    return path.name if path.exists() or not HUB_ID.fullmatch(str(path)) else None


def model_card(facts: CardFacts, kind: str, about: Sequence[str] = ()) -> str:
    """The text of ``README.md``.

    Args:
        facts: of the run.
        kind: one of `FORMATS`.
        about: lines on the export: its type, and what came of judging it again.
    """
    base, licence = base_name(facts.config)
    head = ["---", f"base_model: {base}"]
    if licence is not None:
        head.append(f"license: {licence.lower()}")
    head += [
        f"library_name: {FORMATS[kind]}",
        "pipeline_tag: text-generation",
        "tags: [text-to-sql, nl2sql, qc_experiments]",
        "---",
    ]
    what = {
        "adapter": f"A LoRA adapter of {base}",
        "model": f"{base}, all weights trained",
        "merged": f"{base} with a trained adapter folded in",
        "gguf": f"{base} with what was trained, as a GGUF file",
    }[kind]
    sections = [
        "\n".join(head),
        f"# {facts.name}\n\n{what}: turns a question and a database's schema into SQL. Licence of the base "
        f"model: {licence or 'see there'}.{_base_weights(facts.config)}",
        "## How good it is\n\n" + _figures(facts),
        *(["## The export\n\n" + "\n".join(f"- {line}" for line in about)] if about else []),
        "## How it is asked\n\n" + _prompt(facts),
        "## Use\n\n" + _usage(kind, facts),
        "## Training\n\n" + _training(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _base_weights(config: RunConfig) -> str:
    """Which weights these were, where the base model came out of packages in few bits or from a path."""
    from qc_experiments.models.packaged import packaged_model

    packaged = packaged_model(config.model.name_or_path)
    if packaged is None:
        name = _path_name(config)
        unknown = (
            f" The base model was read from `{name}`; where others can get it is not known here."
        )
        return unknown if name else ""
    return (
        f" It was trained on the weights of `{packaged.file_name}` (sha256 {packaged.sha256[:16]}...), which "
        "are those of that model rounded to few bits: the figures are of these, not of the full weights."
    )


def _figures(facts: CardFacts) -> str:
    result = facts.result
    based = any(result.get(f"base_{metric.key}") is not None for metric in METRICS)
    lines = ["| | base model | trained |" if based else "| | trained |"]
    lines.append("| --- | --- | --- |" if based else "| --- | --- |")
    for metric in METRICS:
        value = result.get(metric.key)
        if value is None:
            continue
        base = result.get(f"base_{metric.key}")
        cells = [metric.long_title, *([_cell(metric, base, result)] if based else [])]
        lines.append(f"| {' | '.join([*cells, _cell(metric, value, result)])} |")
    count = result.get("execution_count")
    validation = PurePath(str(facts.environment.get("data", {}).get("validation", ""))).name
    on = f"the held-out rows of {validation}"
    counted = ""
    if count:
        on = f"{count} {noun_for(count, 'question')} of {validation}"
        counted = (
            "; a share with a count is of these questions and has its 95 % interval (Wilson), another may be "
            "of other held-out rows"
        )
    hashed = str(result.get("evaluation_hash") or "")[:12]
    lines += [
        "",
        f"On {on}, answered greedily unless the settings below say otherwise{counted}. "
        f"Questions, golds, databases and judge: {hashed}.",
    ]
    return "\n".join(lines)


def _cell(metric: Metric, value: float | None, result: Mapping[str, Any]) -> str:
    count = result.get("execution_count")
    if value is None:
        return ""
    if metric not in COUNTED or not count:
        return metric.shown(value)
    hits = round(value * count)
    low, high = wilson(hits, count)
    return f"{metric.shown(value)} ({hits} of {count}; {100 * low:.1f} to {100 * high:.1f})"


def _prompt(facts: CardFacts) -> str:
    prompt = facts.prompt
    encoder = prompt.encoder
    end = encoder.tokenizer.convert_ids_to_tokens(encoder.end_ids[-1])
    begins = ""
    if prompt.adds_bos:
        begins = f" The tokenizer puts `{encoder.tokenizer.bos_token}` before it by itself."
    text = (
        "Exactly so, with the fields filled in and nothing after the last character, not even a blank: the "
        f"blank belongs to the answer's first token.{begins} The answer ends with `{end}`.\n\n"
        f"{_fenced(prompt.text)}"
    )
    if encoder.wrap is Wrap.chat:
        text += (
            "\n\nThat is the model's chat template with one message of a user, which is\n\n"
            + _fenced(prompt.message)
        )
    return text


def _fenced(text: str) -> str:
    """Text in a block of its own, whatever it holds."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _usage(kind: str, facts: CardFacts) -> str:
    """How a folder is loaded by the engines that can, with the run's own prompt."""
    base, _ = base_name(facts.config)
    chat = facts.prompt.encoder.wrap is Wrap.chat
    most = facts.config.evaluation.max_new_tokens
    name = f"usage_{'merged' if kind == 'model' else kind}.md"  # both are whole models
    template = (files("qc_experiments.export") / name).read_text(encoding="utf-8")
    values = {
        "BASE": base,
        "VLLM": _vllm(base, facts.config.lora),
        "MOST": str(most),
        "CONTEXT": str(facts.config.data.max_length + most),
        "PATH": "chat/completions" if chat else "completions",
        "ASKED": '"messages": [{"role": "user", "content": "..."}]' if chat else '"prompt": "..."',
        "WHAT": "the message above" if chat else "the text above",
        "OLLAMA": "whose prompt is the whole text above, since a chat has no place for the hint"
        if facts.prompt.takes_evidence
        else "whose system message is the schema and whose prompt is the question",
    }
    for key, value in values.items():
        template = template.replace(f"@{key}@", value)
    return template.strip()


def _vllm(base: str, lora: LoraConfig) -> str:
    """How vLLM takes an adapter, which has to be told of a rank above 16."""
    if lora.use_dora:
        return "vLLM takes no adapter of DoRA."
    rank = saved_rank(lora)
    most = next((one for one in VLLM_RANKS if one >= rank), rank)
    return (
        f"With vLLM: `vllm serve {base} --generation-config vllm --enable-lora --max-lora-rank {most} "
        '--lora-modules sql=.`, then as `"model": "sql"`.'
    )


def _training(facts: CardFacts) -> str:
    config, environment = facts.config, facts.environment
    lora, trainer, data = config.lora, config.trainer, environment.get("data", {})
    used = [title for key, (title, _) in LORA_VARIANTS.items() if getattr(lora, key)]
    method = "all weights"
    if lora.enabled:
        targets = lora.target_modules
        targets = targets if isinstance(targets, str) else ", ".join(targets)
        method = (
            f"{used[0] if used else 'LoRA'}, rank {lora.r}, alpha {lora.alpha:g}, dropout "
            f"{lora.dropout:g}, {targets}"
        )
    weights = (
        config.quant.mode.value if config.quant.mode is not QuantMode.none else "not quantized"
    )
    steps = facts.result.get("steps")
    rows = {
        "method": f"{method}; base weights {weights}",
        "data": f"{_files(data.get('train'))}, {facts.result.get('examples')} rows, hash "
        f"{str(data.get('train_hash'))[:12]}; template hash {str(data.get('template_hash'))[:12]}",
        "steps": f"{steps} of {trainer.rows_per_step()} rows, learning rate {trainer.learning_rate:g} "
        f"({trainer.lr_scheduler_type}), seed {config.seed}",
        "collator": config.collator.name,
        "versions": ", ".join(
            f"{name} {version}"
            for name, version in environment.get("packages", {}).items()
            if version and name in ("qc_experiments", "torch", "transformers", "peft")
        ),
        "settings": f"hash {str(facts.result.get('config_hash'))[:12]}",
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in rows.items())])


def _files(source: object) -> str:
    """The names of files, without the folders of the machine that they lay on."""
    return " and ".join(PurePath(one).name for one in str(source).split(" and "))


def about_json(facts: CardFacts, kind: str, **more: Any) -> str:
    """The same for programs: ``export.json``."""
    told = {
        "run": facts.name,
        "format": kind,
        "config_hash": facts.result.get("config_hash"),
        "evaluation_hash": facts.result.get("evaluation_hash"),
        **more,
    }
    return json.dumps(told, indent=2) + "\n"
