"""`qc explain` says what a key, a group or an option means."""

from __future__ import annotations

import pytest

from qc_experiments.cli.explain import main
from qc_experiments.config.keys import GROUPS, option_names
from qc_experiments.config.schema import keys_of


def test_every_key_is_explained(capsys):
    for key, _, section in keys_of():
        main([key])
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(key)
        assert section or len(lines[1].strip()) > 5, key


def test_a_key_has_its_type_default_and_range(capsys):
    main(["lora.r", "quant.mode"])
    out = capsys.readouterr().out
    assert "lora.r (whole number; default 16; at least 1)" in out
    assert "quant.mode (choice; default none; none, int8, int4)" in out


def test_every_option_of_every_group_has_a_line(capsys):
    for group in GROUPS:
        main([group])
        out = capsys.readouterr().out
        for option in option_names(group, None):
            assert f"{group}={option}: " in out
            main([f"{group}={option}"])
            assert "has no description" not in capsys.readouterr().out, f"{group}={option}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lora.rank", "did you mean lora.r?"),
        ("lora=r17", "lora has no option r17"),
        ("nope", "nope"),
    ],
)
def test_what_there_is_not_is_refused(refused, name, said):
    assert said in refused(main, [name])
