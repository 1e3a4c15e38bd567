"""What a saved model is given to read that is asked from Python, and what is refused; none is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

import qc_experiments as qc
from qc_experiments.config.schema import ModelConfig, QuantConfig, SchemaFormat, Wrap
from qc_experiments.data.template import Template
from qc_experiments.errors import UserError
from qc_experiments.generation import saved as module
from qc_experiments.generation.choosing import Predicted
from qc_experiments.generation.saved import SavedPredictor
from qc_experiments.models.saved import SavedPrompting

CONTEXT = "CREATE TABLE pet (name TEXT, age INTEGER);"
TEMPLATE = "{context} {question} {evidence} {query}"


@pytest.fixture
def asked(tokenizer, monkeypatch, tmp_path):
    """Load a model that has saved this; what it is asked stands in ``asked.rows`` and ``asked.dialects``."""
    (tmp_path / "prompting.json").write_text("{}")

    def load(template: str = TEMPLATE, form: SchemaFormat | None = None, **options):
        saved = SavedPrompting(
            *(Template(template, "mine.txt"), Wrap.plain, 4, ModelConfig(), QuantConfig()),
            schema_format=form,
            dialect="postgres",
        )

        def load_saved(folder, cache, **given):
            load.given = given
            return tokenizer, None, saved

        def answer(self, rows, databases, on_answer=None, dialect=None):
            load.rows, load.dialect = list(rows), dialect or self._saved.dialect
            return [Predicted("SELECT 1", confidence=0.5) for _ in rows]

        monkeypatch.setattr(module, "load_saved", load_saved)
        monkeypatch.setattr(SavedPredictor, "prompts", lambda self, rows, names: [])
        monkeypatch.setattr(SavedPredictor, "answer", answer)
        return qc.load_predictor(tmp_path, cache=tmp_path / "cache", **options)

    return load


def test_a_context_is_written_as_in_training(asked):
    asked().predict("Who?", context=CONTEXT)
    assert asked.rows[0].context == CONTEXT
    predictor = asked(form=SchemaFormat.compact)
    predictor.predict("Who?", context=CONTEXT)
    (row,) = asked.rows
    assert "CREATE" not in row.context
    assert row.schema == CONTEXT
    predictor.predict("Who?", context="pet: name, age")  # which no statements make
    assert asked.rows[0].context == "pet: name, age"


def test_hints_are_one_for_all_or_one_each(asked):
    predictor = asked()
    for given, hints in (("h", ["h", "h"]), (["a", "b"], ["a", "b"]), (None, ["", ""])):
        predictor.predict(["Who?", "What?"], context=CONTEXT, evidence=given)
        assert [row.evidence for row in asked.rows] == hints


def test_answers_follow_the_engine_that_is_named_or_that_of_training(asked):
    asked().predict("Who?", context=CONTEXT)
    assert asked.dialect == "postgres"
    asked().predict("Who?", context=CONTEXT, engine="sqlite")
    assert asked.dialect == "sqlite"
    SavedPredictor(Path(), Path(), engine="sqlite").predict("Who?", context=CONTEXT)
    assert asked.dialect == "sqlite"


@pytest.mark.parametrize(
    ("template", "given", "said"),
    [
        (TEMPLATE, {"evidence": ["a", "b"]}, "evidence: 2 hints for 1 question: give one for all"),
        ("{context} {question} {query}", {"evidence": "a"}, "mine.txt has no {evidence}"),
        (TEMPLATE, {"not_below": 60}, "not_below 60: must be from 0 to 1"),
        (TEMPLATE, {"engine": "postgres"}, "there is no engine postgres"),
    ],
)
def test_what_cannot_be_is_refused(asked, template, given, said):
    predictor = asked(template)
    with pytest.raises(UserError) as told:
        predictor.predict("Who?", context=CONTEXT, **given)
    assert said in str(told.value)


def test_options_of_loading_are_known_and_may_be_paths(asked):
    asked(base_model=Path("there"))
    assert asked.given == {"base_model": "there"}
    with pytest.raises(UserError, match=r"no option base_modell \(did you mean base_model\?\)"):
        asked(base_modell="there")
