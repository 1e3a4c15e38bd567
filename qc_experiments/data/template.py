"""The prompt template: a text file with ``{context}``, ``{question}`` and, last, ``{query}``.

``{evidence}`` may stand in it as well: a hint that comes with the question, such as what a word means.

Literal braces are written ``{{`` and ``}}``. What stands before ``{query}`` is the prompt, in
training and in inference alike; what stands after it closes the completion.
"""

from __future__ import annotations

import io
import string
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qc_experiments.errors import UserError
from qc_experiments.system.paths import hash_bytes, open_file, readable

FIELDS = ("context", "question", "query")
OPTIONAL = ("evidence",)


@dataclass(frozen=True)
class Template:
    """A checked prompt template: the file's text, and where it came from, for messages."""

    text: str
    source: str

    def __post_init__(self) -> None:
        """Check that each field occurs as it must."""
        found = [name for name, _ in self._pieces if name is not None]
        for name in found:
            if name not in (*FIELDS, *OPTIONAL):
                raise UserError(
                    f"{self.source}: unknown field {{{name}}}; a template has {{context}}, "
                    "{question} and {query}, and may have {evidence}; write literal braces as {{ and }}"
                )
        for name in (*FIELDS, *OPTIONAL):
            if found.count(name) != 1 and (name in FIELDS or name in found):
                problem = (
                    "occurs more than once: keep one"
                    if name in found
                    else "is missing: a template has {context}, {question} and, last, {query}: write it in"
                )
                raise UserError(f"{self.source}: the field {{{name}}} {problem}")
        if found[-1] != "query":
            raise UserError(
                f"{self.source}: {{query}} must be the last field: the model writes what follows "
                "the prompt"
            )

    @cached_property
    def _pieces(self) -> list[tuple[str | None, str]]:
        """Pairs (field, literal text after it); the first has no field."""
        pieces: list[tuple[str | None, str]] = [(None, "")]
        try:
            for literal, name, spec, conversion in string.Formatter().parse(self.text):
                field, text = pieces[-1]
                pieces[-1] = (field, text + literal)
                if name is not None:
                    if spec or conversion:
                        raise UserError(f"{self.source}: {{{name}...}}: a field is a name alone")
                    pieces.append((name, ""))
        except ValueError as error:
            raise UserError(
                f"{self.source}: {error}; write literal braces as {{{{ and }}}}"
            ) from None
        return pieces

    @property
    def takes_evidence(self) -> bool:
        """Whether a hint of the question stands in the prompt."""
        return any(name == "evidence" for name, _ in self._pieces)

    def prompt(self, context: str, question: str, evidence: str = "") -> str:
        """The text that the model is given: everything before ``{query}``.

        Blanks just before ``{query}`` belong to the completion (see `completion`): a prompt that
        ends in a blank would be tokenized unlike the text in which the model learned to go on.
        """
        values = {None: "", "context": context, "question": question, "evidence": evidence}
        head = "".join(values[name] + text for name, text in self._pieces[:-1])
        return head[: len(head) - len(self._blanks_before_query)]

    def completion(self, query: str) -> str:
        """The text that the model is to write: blanks before ``{query}``, the query, what follows."""
        return self._blanks_before_query + query + self.after_query()

    @property
    def _blanks_before_query(self) -> str:
        literal = self._pieces[-2][1]
        return literal[len(literal.rstrip(" \t")) :]

    def after_query(self) -> str:
        """The literal text after ``{query}`` without blanks at its end; often empty."""
        return self._pieces[-1][1].rstrip()

    def context_first(self) -> bool:
        """Whether all prompts about a schema begin alike: the context stands before the question."""
        fields = [name for name, _ in self._pieces]
        return fields.index("context") < fields.index("question")

    def content_hash(self) -> str:
        """SHA-256 of the text."""
        return hash_bytes(self.text.encode())


def read_template(path: Path) -> Template:
    """Read and check a template file."""
    try:
        with readable(path), io.TextIOWrapper(open_file(path), encoding="utf-8-sig") as file:
            return Template(file.read(), str(path))
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text: save the template as UTF-8") from None
