"""The exact prompt, for whoever asks the model by other means: as text, as a chat template, and for Ollama.

A template may end in ``SQL: {query}``. In training the model saw ``SQL:`` and then `` SELECT``, whose blank
is part of its first token; who cuts the text at ``{query}`` asks with a blank of its own, a token the model
was never trained to go on from. All that is written here ends before the blank.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

from qc_experiments.config.schema import Wrap
from qc_experiments.data.encode import Encoder
from qc_experiments.data.table import Row

CONTEXT, QUESTION, EVIDENCE = "{context}", "{question}", "{evidence}"
MARKS = ("\ue000context\ue000", "\ue000question\ue000", "\ue000evidence\ue000")
"""Stand for the fields while a chat template is applied; no text of people has them."""


@dataclass(frozen=True)
class ExactPrompt:
    """What the model is asked with, field by field.

    Args:
        encoder: of the run.
    """

    encoder: Encoder

    @cached_property
    def message(self) -> str:
        """What a chat's user says: the template up to the blank before ``{query}``."""
        template = self.encoder.template
        return template.prompt(CONTEXT, QUESTION, EVIDENCE)

    @cached_property
    def text(self) -> str:
        """What a model that completes text is given; the beginning that `adds_bos` adds is left out."""
        return _named(self._pieces(*MARKS))

    @cached_property
    def adds_bos(self) -> bool:
        """Whether the tokenizer by itself begins a prompt with a token that the text does not spell."""
        tokenizer = self.encoder.tokenizer
        bos = tokenizer.bos_token_id
        row = Row(1, "question", "", "context", evidence="")
        starts = (tokenizer("question").input_ids[:1], self.encoder.prompts([row])[0][:1])
        return bos is not None and starts == ([bos], [bos])

    @property
    def takes_evidence(self) -> bool:
        """Whether a hint stands in it, for which a chat has no place of its own."""
        return self.encoder.template.takes_evidence

    def filled(self, row: Row) -> str:
        """The text for one question."""
        return self._pieces(row.context, row.question, row.evidence or "")

    def chat_template(self) -> str | None:
        """A Jinja template for chats whose system says the schema and whose user asks; None: the model's own.

        Runs of ``data.wrap=chat`` are asked with the model's own; `message` is what its user says.
        """
        if self.encoder.wrap is Wrap.chat or self.takes_evidence:
            return self.encoder.tokenizer.chat_template or None
        bos = self.encoder.tokenizer.bos_token if self.adds_bos else ""
        return (
            "{%- set said = namespace(system='', user='') -%}"
            "{%- for message in messages -%}"
            "{%- if message['role'] == 'system' -%}{%- set said.system = message['content'] -%}"
            "{%- elif message['role'] == 'user' -%}{%- set said.user = message['content'] -%}{%- endif -%}"
            "{%- endfor -%}" + self._joined(bos or "", "{{- said.system -}}", "{{- said.user -}}")
        )

    def _joined(self, bos: str, system: str, user: str) -> str:
        text = bos + self._pieces(*MARKS)
        for mark in MARKS[:2]:
            text = text.replace(mark, f"\0{mark}\0")
        fields = {MARKS[0]: system, MARKS[1]: user}
        parts = [part for part in text.split("\0") if part]
        return "".join(
            fields.get(part) or "{{- " + json.dumps(part, ensure_ascii=False) + " -}}"
            for part in parts
        )

    def modelfile(self, file_name: str, max_new_tokens: int, context: int) -> str:
        """Ollama's Modelfile: ``ollama create NAME -f Modelfile``; its system is the schema.

        With hints in the template, the whole text is the prompt. Of a prompt that has no room in the
        context with its answer, Ollama would cut the begin without a word.
        """
        if self.takes_evidence:
            template = "{{ .Prompt }}"
        else:
            # Each brace, since one before a field would be read with the field's own two; and before the
            # quotes, whose braces are Go's.
            text = self._pieces(*MARKS).replace("{", '{{ "{" }}')
            text = text.replace('"""', r'{{ "\"\"\"" }}')
            template = text.replace(MARKS[0], "{{ .System }}").replace(MARKS[1], "{{ .Prompt }}")
        lines = [
            f"FROM ./{file_name}",
            f'TEMPLATE """{template}"""',
            "PARAMETER temperature 0",
            f"PARAMETER num_predict {max_new_tokens}",
            f"PARAMETER num_ctx {context}",
        ]
        if after := self.encoder.template.after_query():
            lines.append(f'PARAMETER stop """{after}"""')  # Ollama reads no escapes here
        return "\n".join(lines) + "\n"

    def _pieces(self, context: str, question: str, evidence: str) -> str:
        encoder = self.encoder
        text = encoder.template.prompt(context, question, evidence)
        if encoder.wrap is Wrap.chat:
            text = encoder.as_chat(text)
            bos = encoder.tokenizer.bos_token
            if bos and self.adds_bos:
                text = text.removeprefix(bos)
        return text


def _named(text: str) -> str:
    for mark, field in zip(MARKS, (CONTEXT, QUESTION, EVIDENCE), strict=True):
        text = text.replace(mark, field)
    return text
