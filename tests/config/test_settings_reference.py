"""docs/settings.md is what the schema says."""

from __future__ import annotations

from make_settings_reference import TARGET, reference

from qc_experiments.config.explanation import docstrings
from qc_experiments.config.schema import RunConfig, keys_of


def test_the_settings_reference_is_up_to_date(monkeypatch):
    monkeypatch.delenv("QC_CACHE", raising=False)
    assert TARGET.read_text(encoding="utf-8") == reference(), (
        "docs/settings.md is stale: run python scripts/make_settings_reference.py"
    )


def test_every_key_says_what_it_means():
    sections = {"": RunConfig} | {
        f"{key}.": field.default_factory for key, field, section in keys_of() if section
    }
    for key, field, section in keys_of():
        if not section:
            texts = docstrings(sections[key.removesuffix(field.name)])
            assert texts.get(field.name), key


def test_the_reference_names_every_key_with_its_default_and_range():
    page = reference()
    for key, _, section in keys_of():
        assert f"`{key}`" in page
        assert section or f"| `{key}` |" in page
    assert "| `lora.r` | whole number | `16` | at least 1 | Rank: " in page
    assert "| `quant.mode` | choice | `none` | `none`, `int8`, `int4` |" in page
    assert "| `data.train` | text | must be given |" in page
