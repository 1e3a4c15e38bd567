"""Flags that are mistyped, missing or too many are told in one line, by every command."""

from __future__ import annotations

import sys

import pytest

from qc_experiments import __main__

OTHERS = {"train", "plan", "wandb"}
"""Whose flags are Hydra's, and one that needs a package."""


@pytest.mark.parametrize("command", sorted(set(__main__.COMMANDS) - OTHERS))
@pytest.mark.parametrize("given", [["--no-such-flag"], ["one", "too", "many", "words", "--hlep"]])
def test_a_wrong_flag_is_one_line(command, given, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["qc", command, *given])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["runs", "--jsn"], "--jsn: no such flag (did you mean --json?); qc runs --help"),
        (["data", "check", "a.csv", "--fx"], "--fx: no such flag (did you mean --fix?)"),
        (
            ["data", "check", "a.csv", "--db", "a.db"],
            "--db: no such flag (did you mean --databases?)",
        ),
        (
            ["data", "context", "--databases", "a.db"],
            "--databases: no such flag (did you mean --db?)",
        ),
        (["predict", "--databases=a.db"], "--databases: no such flag (did you mean --db?)"),
        (["evaluate", "a.csv", "--db", "a.db"], "--db: no such flag (did you mean --databases?)"),
        (["data", "show", "a.csv", "--output", "b"], "--output: no such flag; qc data show --help"),
        (["runs", "--jsn=x"], "--jsn: no such flag (did you mean --json?)"),
        (["export", "latest", "my_model"], "the following arguments are required: --to"),
        (["data", "check", "a.csv", "b.csv"], "b.csv: one argument too many"),
    ],
)
def test_the_flag_that_is_meant_is_named(arguments, told, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["qc", *arguments])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
