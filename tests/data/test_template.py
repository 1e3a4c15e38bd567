"""The prompt template: what it must hold, and that prompt and completion are the filled-in text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from qc_experiments.config.schema import DataConfig
from qc_experiments.data.template import Template, read_template
from qc_experiments.errors import UserError
from qc_experiments.system.paths import resolve_path

SHIPPED = sorted(resolve_path(DataConfig().template, "data.template").parent.glob("*.txt"))
WRITE_IN = "a template has {context}, {question} and, last, {query}: write it in"


def filled_in(text: str, context: str, question: str, query: str) -> str:
    """A template filled in by plain replacement, in one pass."""
    values = {"{context}": context, "{question}": question, "{query}": query}
    values |= {"{{": "{", "}}": "}"}
    result, place = "", 0
    while place < len(text):
        mark = next((m for m in values if text.startswith(m, place)), None)
        result += text[place] if mark is None else values[mark]
        place += 1 if mark is None else len(mark)
    return result


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{question}{query}", f"the field {{context}} is missing: {WRITE_IN}"),
        ("{context}{query}", f"the field {{question}} is missing: {WRITE_IN}"),
        ("{context}{question}", f"the field {{query}} is missing: {WRITE_IN}"),
        ("", f"the field {{context}} is missing: {WRITE_IN}"),
        ("{context}{question}{context}{query}", "{context} occurs more than once: keep one"),
        ("{context}{question}{query}{query}", "{query} occurs more than once: keep one"),
        ("{context}{question}{schema}{query}", "unknown field {schema}"),
        ("{context}{question}{}{query}", "unknown field {}"),
        ("{context}{question.x}{query}", "unknown field {question.x}"),
        ("{context}{query}{question}", "{query} must be the last field"),
        ("{context}{question}{query!r}", "a field is a name alone"),
        ("{context}{question:>9}{query}", "a field is a name alone"),
        ("{context}{question}{query", "write literal braces as {{ and }}"),
        ("{context}{question}{query} }", "write literal braces as {{ and }}"),
        ('{"schema": "{context}"} {question} {query}', "a field is a name alone"),
    ],
)
def test_a_wrong_template_is_refused_in_one_line_that_names_it(tmp_path, text, reason):
    path = tmp_path / "mine.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_template(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert reason in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"{context}{question}{query} \xff", "not UTF-8"), (None, "cannot be read")],
)
def test_a_template_that_cannot_be_read_is_refused(tmp_path, content, reason):
    path = tmp_path / "mine.txt"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        read_template(path)
    assert str(path) in str(caught.value)


def test_literal_braces_are_written_twice():
    template = Template('{{"db": "{context}"}} {question}\n{{{query}}}', "mine")
    assert template.prompt("c", "q") == '{"db": "c"} q\n{'
    assert template.completion("SELECT 1") == "SELECT 1}"
    assert template.after_query() == "}"


@pytest.mark.parametrize(
    ("text", "prompt", "completion"),
    [
        ("{context}\n{question}\nSQL: {query}", "c\nq\nSQL:", " SELECT 1"),
        ("{context}\n{question}\nSQL: \t {query}", "c\nq\nSQL:", " \t SELECT 1"),
        ("{context}\n{question}\nSQL:\n{query}", "c\nq\nSQL:\n", "SELECT 1"),
        ("{context}\n{question} {query}", "c\nq", " SELECT 1"),
        ("{context} {question} {query}", "c q", " SELECT 1"),
    ],
)
def test_blanks_before_the_query_belong_to_the_completion(text, prompt, completion):
    template = Template(text, "mine")
    assert template.prompt("c", "q") == prompt
    assert template.completion("SELECT 1") == completion


def test_text_after_the_query_belongs_to_the_completion():
    template = Template("{context}\n{question}\n```sql\n{query}\n```\n", "mine")
    assert template.prompt("c", "q") == "c\nq\n```sql\n"
    assert template.completion("SELECT 1") == "SELECT 1\n```"
    assert template.after_query() == "\n```"


PIECES = [
    "{",
    "}",
    "{query}",
    "{context}",
    "{{x}}",
    "{0}",
    "%s",
    "\\",
    "'",
    '"',
    "a",
    " ",
    "\n",
    "é🙂",
]


@pytest.mark.parametrize(
    "text",
    [
        "{context}\n{question}\n{query}",
        "{question}\n{context}\nSQL: {query}",
        "{{x}} {context} {{{question}}} \t{query};{{}}",
        "{context} {question} {query}",
        "{context}{question}{query}",
        *(path.read_text(encoding="utf-8") for path in SHIPPED),
    ],
)
def test_prompt_and_completion_are_the_template_filled_in(text):
    """Also with braces and field names inside the values, and as the CSV's cells: without blanks around."""
    template = Template(text, "mine")
    draw = random.Random(0)
    for _ in range(200):
        context, question, query = (
            "".join(draw.choices(PIECES, k=draw.randint(1, 8))).strip() or "x" for _ in range(3)
        )
        whole = template.prompt(context, question) + template.completion(query)
        wanted = filled_in(text, context, question, query + "\0")
        before, after = wanted.split("\0")
        assert whole == before + after.rstrip(), (context, question, query)


def test_shipped_templates_put_the_context_first():
    assert len(SHIPPED) >= 2
    for path in SHIPPED:
        text = read_template(path).text
        assert text.index("{context}") < text.index("{question}"), path.name


def test_a_template_saved_by_a_windows_editor_gives_the_same_prompt(tmp_path: Path):
    text = "Schema:\n{context}\n{question}\nSQL: {query}\n"
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_template(path).prompt("c", "q") == Template(text, "mine").prompt("c", "q")


def test_the_hash_is_of_the_text_not_of_the_file(tmp_path):
    one, two = (Template(f"{{context}}{{question}}{{query}}{end}", "mine") for end in ("", "!"))
    path = tmp_path / "copy.txt"
    path.write_text(one.text, encoding="utf-8")
    assert read_template(path).content_hash() == one.content_hash()
    assert one.content_hash() != two.content_hash()
