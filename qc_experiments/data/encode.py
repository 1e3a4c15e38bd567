"""Turn rows into tokens: prompt and completion apart, one end token, labels where they belong.

Prompt and completion are tokenized apart, so that the prompt's tokens are the same in training and
in inference; the completion ends with the one token at which generation stops, and that token
carries a label, so that the model learns to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qc_experiments.config.schema import LossOn, OnInvalid, Wrap
from qc_experiments.data.table import Decision, Row, name_rows
from qc_experiments.data.template import Template
from qc_experiments.errors import UserError

IGNORED = -100
"""Label of a token that is not trained on, as in torch's cross entropy."""

_SENTINEL = "SELECT 42"

_FIXED_DATE = "{%- macro strftime_now(form) -%}26 Jul 2024{%- endmacro -%}"
"""What templates are given as today; Llama's own falls back to this day where it is told no date."""


@dataclass(frozen=True)
class Example:
    """A row in tokens: what the model is given, and what it shall write, the end token included."""

    row: Row
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    loss_on: LossOn = LossOn.completion

    def __len__(self) -> int:
        """Tokens of the whole row."""
        return len(self.prompt_ids) + len(self.completion_ids)

    @property
    def input_ids(self) -> list[int]:
        """Tokens of the whole row."""
        return [*self.prompt_ids, *self.completion_ids]

    @property
    def labels(self) -> list[int]:
        """As long as `input_ids`: the token at its own place, or `IGNORED`."""
        if self.loss_on is LossOn.full:
            return self.input_ids
        return [IGNORED] * len(self.prompt_ids) + list(self.completion_ids)


class Encoder:
    """Tokenizes prompts and completions for one tokenizer, template and wrap."""

    def __init__(self, tokenizer: Any, template: Template, wrap: Wrap) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.wrap = wrap
        if tokenizer.eos_token_id is None:
            raise UserError(
                "the model's tokenizer has no end token (eos_token): choose another model"
            )
        self.end_ids = [int(tokenizer.eos_token_id)]
        if wrap is Wrap.chat:
            if not tokenizer.chat_template:
                raise UserError(
                    "data.wrap=chat: the model's tokenizer has no chat template; use data.wrap=plain"
                )
            # In the tokenizer itself, so that it is saved and exported with the adapter or model.
            tokenizer.chat_template = _undated(tokenizer.chat_template)
            self.end_ids = self._end_of_turn()

    @property
    def stop_ids(self) -> list[int]:
        """Tokens at which generation stops: the trained end, and the tokenizer's end token."""
        return sorted({self.end_ids[-1], int(self.tokenizer.eos_token_id)})

    def prompts(self, rows: Sequence[Row]) -> list[list[int]]:
        """Tokens of the rows' prompts; their queries are not looked at."""
        prompt = self.template.prompt
        texts = [prompt(row.context, row.question, row.evidence or "") for row in rows]
        if not texts:
            return []
        if self.wrap is Wrap.chat:
            return self._ids([self.as_chat(text) for text in texts])
        encoded: list[list[int]] = self.tokenizer(texts).input_ids
        eos = self.tokenizer.eos_token_id
        # Some tokenizers close every text with the end token; a prompt has not ended.
        return [ids[:-1] if len(ids) > 1 and ids[-1] == eos else ids for ids in encoded]

    def completions(self, queries: Sequence[str]) -> list[list[int]]:
        """Tokens of completions, the end token included."""
        if not queries:
            return []
        texts = [self.template.completion(query) for query in queries]
        if self.wrap is Wrap.chat:
            texts = [text.lstrip() for text in texts]
        return [[*ids, *self.end_ids] for ids in self._ids(texts, split_special_tokens=True)]

    def examples(self, rows: Sequence[Row], loss_on: LossOn = LossOn.completion) -> list[Example]:
        """Rows in tokens, in their order."""
        prompts = self.prompts(rows)
        completions = self.completions([row.query for row in rows])
        return [
            Example(row, tuple(prompt), tuple(completion), loss_on)
            for row, prompt, completion in zip(rows, prompts, completions, strict=True)
        ]

    def _ids(self, texts: list[str], *, split_special_tokens: bool = False) -> list[list[int]]:
        # Split, a query that spells out a special token stays text: only ends end a completion.
        return self.tokenizer(
            texts, add_special_tokens=False, split_special_tokens=split_special_tokens
        ).input_ids

    def as_chat(self, prompt: str, answer: str | None = None) -> str:
        """The prompt as a turn of the chat template, with the answer or the beginning of its turn."""
        turns = [{"role": "user", "content": prompt}]
        if answer is not None:
            turns.append({"role": "assistant", "content": answer})
        try:
            return self.tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=answer is None,
                enable_thinking=False,  # Qwen3 and its like: answer at once; others ignore it
            )
        except Exception as error:  # a template is code, and raises what it likes
            raise UserError(
                f"the chat template of the tokenizer cannot be applied: {type(error).__name__}: {error}"
            ) from error

    def _end_of_turn(self) -> list[int]:
        """What the chat template writes after an answer, up to its first special token."""
        after = self.as_chat("question", _SENTINEL).rpartition(_SENTINEL)[2]
        ids = self._ids([after])[0]
        added = self.tokenizer.added_tokens_decoder
        # Gemma's <end_of_turn> is special but has no role that all_special_ids knows.
        special = {*self.tokenizer.all_special_ids, *(i for i, t in added.items() if t.special)}
        for place, token in enumerate(ids):
            if token in special:
                return ids[: place + 1]
        return [int(self.tokenizer.eos_token_id)]


def _undated(chat_template: Any) -> Any:
    """The same text on any day: else a run that goes on after midnight would see other tokens.

    A tokenizer has one template, or several by name; those that ask for no date stay as they are.
    """
    if isinstance(chat_template, dict):
        return {name: _undated(text) for name, text in chat_template.items()}
    if "strftime_now" not in chat_template or chat_template.startswith(_FIXED_DATE):
        return chat_template
    return _FIXED_DATE + chat_template


def fitting(
    examples: Sequence[Example], longest: int, limit_key: str, too_long: OnInvalid, source: str
) -> tuple[list[Example], list[Decision]]:
    """Keep the examples of at most ``longest`` tokens; never cut one, since the query stands last."""
    kept = [example for example in examples if len(example) <= longest]
    dropped = [example for example in examples if len(example) > longest]
    if not dropped:
        return kept, []
    rows = list(dict.fromkeys(example.row.number for example in dropped))
    most = max(len(example) for example in dropped)
    what = f"longer than {limit_key}={longest} tokens (the longest has {most})"
    if too_long is OnInvalid.error or not kept:
        all_rows = "" if kept else "no row is left: "
        raise UserError(f"{source}: {all_rows}{name_rows(rows)} {what}: raise {limit_key}")
    return kept, [Decision(f"{what}; left out", tuple(rows))]
