"""Every written form of the prompt gives the tokens of the training, for plain templates and for chats."""

from __future__ import annotations

import json
import re

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from qc_experiments.config.schema import Wrap
from qc_experiments.data.encode import Encoder
from qc_experiments.data.table import Row
from qc_experiments.data.template import Template
from qc_experiments.export.exact_prompt import ExactPrompt

ROW = Row(2, "How many in 'Zürich'?", "SELECT 1", 'CREATE TABLE "a b" (c TEXT); -- {x} {{y}}')
TEMPLATES = {
    "a blank before the query": "Schema:\n{context}\nQuestion: {question}\nSQL: {query}",
    "a line before the query": "{context}\n-- {question}\n{query}",
    "the question first": "Q: {question}\n\n{context}\nA:\t{query};",
    "braces and quotes": 'He said "{{{question}}}" \\n of {context} {{% if %}} {query}',
    "a brace before a field": "{context}\n{{{question}}} {{x}}\n{query}",
    "three quotes": '{context}\nprompt = """\n{question}\n"""\n""""\n{{{{"""\n{query}\n"""\n',
    "an instruction": "Answer with SQL.\n\n{context}\n\n{question}\n{query}\n\n",
}
WRAPS = [Wrap.plain, Wrap.chat]


@pytest.fixture(params=TEMPLATES)
def template(request):
    return Template(TEMPLATES[request.param], "template.txt")


def fill(text):
    return text.replace("{context}", ROW.context, 1).replace("{question}", ROW.question, 1)


def modelfile_values(text):
    """What Ollama reads in: a value in three quotes ends with the first line that ends with three quotes."""
    value = r'(?:"""(.*?)"""|([^\n"]*))$'
    pattern = re.compile(rf"^(FROM|TEMPLATE|PARAMETER \w+) {value}", re.DOTALL | re.MULTILINE)
    found = list(pattern.finditer(text))
    assert "".join(one[0] + "\n" for one in found) == text
    return {one[1]: one[2] if one[2] is not None else one[3] for one in found}


def rendered_by_go(template):
    """Go's templates, as far as they are used here."""
    fields = {".System": ROW.context, ".Prompt": ROW.question}
    return re.sub(
        "{{ ?(.*?) ?}}",
        lambda one: fields.get(one[1]) or json.loads(one[1]),
        template,
    )


@pytest.mark.parametrize("wrap", WRAPS)
def test_the_text_has_the_tokens_of_the_training(template, wrap, tokenizer):
    encoder = Encoder(tokenizer, template, wrap)
    prompt = ExactPrompt(encoder)
    (ids,) = encoder.prompts([ROW])
    special = bool(prompt.adds_bos)
    assert tokenizer(prompt.filled(ROW), add_special_tokens=special).input_ids == list(ids)
    assert not prompt.text.endswith((" ", "\t")) or wrap is Wrap.chat
    whole = encoder.examples([ROW])[0].input_ids
    assert whole[: len(ids)] == list(ids)


@pytest.mark.parametrize("wrap", WRAPS)
def test_the_chat_template_asks_as_in_training(template, wrap, tokenizer):
    encoder = Encoder(tokenizer, template, wrap)
    prompt = ExactPrompt(encoder)
    turns = [
        {"role": "system", "content": ROW.context},
        {"role": "user", "content": ROW.question},
    ]
    if wrap is Wrap.chat:
        turns = [{"role": "user", "content": template.prompt(ROW.context, ROW.question)}]
    written = prompt.chat_template()
    tokenizer = type(tokenizer).from_pretrained(tokenizer.name_or_path)
    tokenizer.chat_template = written
    found = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert tokenizer(found, add_special_tokens=False).input_ids == encoder.prompts([ROW])[0]


@pytest.mark.parametrize("wrap", WRAPS)
def test_ollamas_template_asks_as_in_training(template, wrap, tokenizer):
    encoder = Encoder(tokenizer, template, wrap)
    found = modelfile_values(ExactPrompt(encoder).modelfile("model.gguf", 64, 1088))
    assert found["PARAMETER num_ctx"] == "1088"
    assert '"""' not in found["TEMPLATE"]
    asked = rendered_by_go(found["TEMPLATE"])
    assert tokenizer(asked).input_ids == list(encoder.prompts([ROW])[0])
    assert found.get("PARAMETER stop", "") == template.after_query()


def test_the_chat_template_runs_in_the_sandbox_that_servers_use(template, tokenizer):
    prompt = ExactPrompt(Encoder(tokenizer, template, Wrap.plain))
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    rendered = environment.from_string(prompt.chat_template()).render(
        messages=[{"role": "user", "content": "Q"}], add_generation_prompt=True
    )
    assert rendered == template.prompt("", "Q")


def test_hints_leave_the_models_own_chat_template(tokenizer):
    template = Template("{context}\n{evidence}\n{question}\n{query}", "t.txt")
    prompt = ExactPrompt(Encoder(tokenizer, template, Wrap.plain))
    assert prompt.chat_template() == tokenizer.chat_template
    assert "{{ .Prompt }}" in prompt.modelfile("m.gguf", 9, 99)
    assert "{evidence}" in prompt.text
