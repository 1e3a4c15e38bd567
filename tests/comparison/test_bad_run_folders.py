"""One run folder that cannot be read is named and left out: it neither ends nor hangs what reads others."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.written_runs import write_run
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_experiments.cli.compare import main
from qc_experiments.cli.wandb import main as wandb_main
from qc_experiments.comparison.study import compare
from qc_experiments.comparison.views.page import page_html
from qc_experiments.comparison.views.table import comparison_table
from qc_experiments.config.schema import RunConfig
from qc_experiments.errors import UserError
from qc_experiments.evaluation.comparison import read_judged
from qc_experiments.records.folder import Identity, RunFolder

EXAMPLES = int(os.environ.get("QC_EXAMPLES", "60"))
"""More of them by hand: ``QC_EXAMPLES=5000 pytest tests/test_bad_run_folders.py``."""

SECONDS = 20
"""What no folder may take; all of them together take a fraction of it."""

FILES = (
    "result.json",
    "metrics.jsonl",
    "config.yaml",
    "report.json",
    "environment.json",
    "predictions.csv",
)
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
MAP_BOMB = "a: &a {x: 1, y: 2}\n" + "".join(
    f"{name}: &{name} {{x: *{before}, y: *{before}, z: *{before}}}\n"
    for before, name in zip("abcdefghijklmnopqrstu", "bcdefghijklmnopqrstuv", strict=True)
)


def figure(key: str, value: str) -> Callable[[Path], None]:
    """A finished run whose ``result.json`` holds some text as a figure."""

    def harm(folder: Path) -> None:
        found = json.loads((folder / "result.json").read_text())
        found.pop(key, None)
        text = json.dumps(found)[:-1] + f', "{key}": {value}}}'
        (folder / "result.json").write_text(text)

    return harm


def holding(name: str, content: str | bytes) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return harm


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 108 bytes
    try:
        with closing(socket.socket(socket.AF_UNIX)) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def itself(path: Path) -> None:
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def instead(name: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return harm


HARMS = {
    **{
        f"{key}={value[:12]}": figure(key, value)
        for key, value in (
            ("execution_accuracy", "-5"),
            ("execution_accuracy", "1e400"),
            ("execution_accuracy", "NaN"),
            ("execution_accuracy", "[0.5]"),
            ("execution_accuracy", '"0.5"'),
            ("execution_accuracy", "true"),
            ("execution_count", "1e300"),
            ("execution_count", "-3"),
            ("execution_count", "0"),
            ("execution_correct", "9" * 400),
            ("eval_loss", "9" * 400),
            ("eval_loss", "-Infinity"),
            ("steps", "9" * 5000),
            ("parameters_trainable", "{}"),
            ("config_hash", "[1]"),
            ("evaluation_hash", "7"),
            ("code_commit", "{}"),
            ("error", "[]"),
            ("a_new_key", "1e999"),
        )
    },
    "result nested": holding("result.json", '{"a": ' + "[" * 100_000),
    "report nested": holding("report.json", '{"by_hardness": ' + '{"a":' * 100_000),
    "report 1e400": holding(
        "report.json", '{"by_hardness": {"easy": {"hits": 1, "count": 1e400}}}'
    ),
    "report -1": holding("report.json", '{"by_database": {"a": {"hits": 2, "count": 1}}}'),
    "report list": holding("report.json", '{"judged_on": {"golds": [1]}}'),
    "metrics int": holding("metrics.jsonl", '{"step": 1, "loss": ' + "9" * 400 + "}\n"),
    "metrics 1e400": holding("metrics.jsonl", '{"step": 1, "loss": 1}\n{"step": 2, "loss": 1e400}'),
    "metrics step": holding("metrics.jsonl", '{"step": ' + "9" * 400 + ', "loss": 1}\n'),
    "metrics garbage": holding("metrics.jsonl", "garbage{"),
    "metrics torn": holding("metrics.jsonl", '{"step": 1, "lo\n{"step": 2, "loss": 1}\n'),
    "metrics list": holding("metrics.jsonl", "[1]\n"),
    "metrics no step": holding("metrics.jsonl", '{"loss": 1}\n'),
    "metrics nested": holding("metrics.jsonl", '{"step": ' + "[" * 100_000 + "\n"),
    "metrics text": holding("metrics.jsonl", '{"step": 1, "loss": "low"}\n'),
    "environment list": holding(
        "environment.json", '{"data": [], "hardware": {"processes": 1e400}}'
    ),
    "environment processes": holding("environment.json", '{"hardware": {"processes": 1e400}}'),
    "config bomb": holding("config.yaml", BOMB),
    "config bomb of maps": holding("config.yaml", MAP_BOMB),
    "config holds itself": holding("config.yaml", "a: &a\n  b: *a\n"),
    "config list holds itself": holding("config.yaml", "a: &a [*a]\n"),
    "config long alias": holding("config.yaml", f"a: &a {'x' * 5000}\nb: [{'*a, ' * 9000}]\n"),
    "config nested": holding("config.yaml", "a: " + "[" * 100_000),
    "config nested blocks": holding("config.yaml", "- " * 100_000),
    "config nested maps": holding("config.yaml", "a: " + "{a: " * 20_000),
    "config hex": holding("config.yaml", "lora: {r: 0x" + "f" * 100_000 + "}\n"),
    "config digits": holding("config.yaml", "lora: {r: " + "9" * 100_000 + "}\n"),
    "config base 60": holding("config.yaml", "lora: {r: 1" + ":1" * 50_000 + "}\n"),
    "config python": holding("config.yaml", "a: !!python/object/apply:os.getcwd []\n"),
    "config many": holding("config.yaml", "a\n" * 100_000),
    "config list": holding("config.yaml", "[1, 2]\n"),
    "config empty": holding("config.yaml", ""),
    "predictions short row": holding("predictions.csv", "db_id,question,query,correct\na,b\n"),
    "predictions verdict": holding("predictions.csv", "db_id,question,query,correct\na,b,c,yes\n"),
    "predictions quotes": holding("predictions.csv", 'db_id,question,query,correct\na,"b'),
    **{
        f"{name} not UTF-8": holding(name, b"\xff\xfe{}") for name in FILES if "metrics" not in name
    },
    **{
        f"{name} {make.__name__}": instead(name, make)
        for name in FILES
        for make in (fifo, huge, Path.mkdir, itself, endless)
    },
    "result socket": instead("result.json", listening_socket),
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for number in (8, 16):
        write_run(tmp_path / "runs" / f"good{number}", "1110000000", lora__r=number)
    write_run(tmp_path / "runs" / "bad", lora__r=64)
    return tmp_path / "runs"


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS.keys())
def test_a_bad_run_is_named_with_the_reason_and_left_out(runs, capsys, harm):
    expected = comparison_of_the_good(runs)
    harm(runs / "bad")
    started = time.monotonic()
    main([str(runs)])
    assert time.monotonic() - started < SECONDS
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "Left out" in line]
    assert line.startswith("Left out: bad: ")
    assert len(line) < 300
    assert next(name for name in (*FILES, "config.yaml") if name in line)
    assert out.replace(f"\n\n{line}", "").split("\n\nFiles in ")[0] == expected
    assert "Left out: bad: " in (runs / "compare.html").read_text()
    assert ",bad," not in (runs / "compare.csv").read_text()


def comparison_of_the_good(runs: Path) -> str:
    """What is said where the bad run is not there."""
    away = runs.parent / "bad"
    os.replace(runs / "bad", away)
    try:
        return comparison_table([runs])
    finally:
        os.replace(away, runs / "bad")


def test_nothing_but_bad_runs_is_one_line(tmp_path, refused):
    for name in ("a", "b", "c"):
        figure("execution_accuracy", "-5")(write_run(tmp_path / name))
    line = refused(main, [str(tmp_path)])
    assert "a: result.json: execution_accuracy is -5, not a share from 0 to 1; 2 more" in line
    assert "cannot be read" in refused(wandb_main, [str(tmp_path)])


def test_qc_wandb_leaves_it_out_as_well(runs, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    HARMS["execution_count=1e300"](runs / "bad")
    wandb_main([str(runs)])
    out = capsys.readouterr().out
    assert "2 runs of project" in out
    assert "Left out: bad: result.json: execution_count is 1e+300, not a count" in out


def test_a_sweeps_closing_comparison_names_it(runs):
    HARMS["config holds itself"](runs / "bad")
    text = comparison_table([runs / name for name in ("good8", "good16", "bad")])
    assert "Left out: bad: config.yaml repeats a section" in text


@pytest.mark.parametrize(
    "harm",
    [
        holding("report.json", '{"a": ' + "[" * 100_000),
        holding("report.json", '{"judged_on": {"golds": "x"}, "figures": [1]}'),
        holding(
            "report.json", '{"judged_on": {"golds": "x"}, "figures": {}, "by_hardness": 1e999}'
        ),
        instead("report.json", fifo),
        instead("report.json", huge),
        instead("predictions.csv", fifo),
        instead("predictions.csv", endless),
        holding("predictions.csv", "correct\n7\n"),
    ],
)
def test_an_earlier_evaluation_that_cannot_be_read_is_one_line(tmp_path, harm):
    folder = write_run(tmp_path / "bad")
    harm(folder)
    with pytest.raises(UserError) as stopped:
        read_judged(folder, "--against")
    assert str(folder) in str(stopped.value)


@pytest.mark.parametrize(
    "harm",
    [
        holding("result.json", "[1]"),
        holding("result.json", '{"a": ' + "[" * 100_000),
        figure("eval_loss", '"low"'),
        instead("result.json", fifo),
        holding("paused.json", '{"0.5": [1]}'),
        holding("rungs.json", "7"),
        instead("environment.json", fifo),
        holding("config.yaml", MAP_BOMB),
    ],
)
def test_a_training_that_finds_it_in_its_place_goes_on_or_refuses(tmp_path, harm):
    """The files a run reads of an earlier start of itself are read as carefully."""
    folder = write_run(tmp_path / "run")
    harm(folder)
    own = RunFolder(folder, Identity("run", str(folder)))
    own.finished()
    assert own.paused(0.5) is None
    with pytest.raises(UserError, match="holds"):
        own.check_owner(RunConfig())


def test_a_folder_into_which_nobody_may_look_is_named(runs, monkeypatch):
    """The tests may run as root, whom no permission stops: so the system's answer is what is put in place."""
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    (runs / "closed").mkdir()
    monkeypatch.setattr(os, "scandir", scandir)
    text = comparison_table([runs])
    assert f"Left out: {runs / 'closed'}: cannot be looked into (Permission denied)" in text
    assert text.startswith("3 runs: 3 finished")


# ---- anything ------------------------------------------------------------------------------------

NASTY = ("1e400", "-5", "NaN", "[]", "{}", "9" * 400, '"\\ud800"', "null", "1e300", "true", '"x"')
SNIPPETS = (b"[" * 3000, b"\xff", b"\0", b"\r", b"&a ", b"*a", b"9" * 400, b'"', b"\n", b",", b"{}")


def mutate(folder: Path, chance: random.Random) -> None:
    """Change one file of a run at random: bytes, values, keys or what kind of file it is."""
    path = folder / chance.choice(FILES)
    kind = chance.randrange(6)
    if not path.is_file() or path.is_symlink():
        return
    content = path.read_bytes()
    if kind == 0:
        content = content[: chance.randrange(len(content) + 1)]
    elif kind == 1:
        place = chance.randrange(len(content) + 1)
        content = content[:place] + chance.choice(SNIPPETS) + content[place:]
    elif kind == 2:
        changed = bytearray(content)
        for _ in range(chance.randrange(1, 8)):
            if changed:
                changed[chance.randrange(len(changed))] = chance.randrange(256)
        content = bytes(changed)
    elif kind == 3 and path.suffix != ".csv":
        content = with_another_value(content, chance)
    elif kind == 4:
        other = folder / chance.choice(FILES)
        content = other.read_bytes() if other.is_file() else b""
    elif kind == 5:
        path.unlink()
        chance.choice((fifo, Path.mkdir, itself, lambda path: None))(path)
        return
    path.write_bytes(content)


def with_another_value(content: bytes, chance: random.Random) -> bytes:
    """A JSON or YAML text in which one of the values is another."""
    places = [place for place, byte in enumerate(content) if byte in b":"]
    if not places:
        return content
    start = chance.choice(places) + 1
    ends = [place for place in range(start, len(content)) if content[place] in b",}\n"]
    end = ends[0] if ends else len(content)
    return content[:start] + b" " + chance.choice(NASTY).encode() + content[end:]


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 4))
def test_whatever_is_changed_in_a_run_the_comparison_ends_without_a_traceback(
    tmp_path_factory, seed, changes
):
    base = tmp_path_factory.getbasetemp() / "fuzzed"
    shutil.rmtree(base, ignore_errors=True)
    write_run(base / "good", "1110000000", lora__r=8)
    bad = write_run(base / "bad", "1111000000", lora__r=64)
    chance = random.Random(seed)
    for _ in range(changes):
        mutate(bad, chance)
    started = time.monotonic()
    study = compare([base])
    found = [run.name for run in study.runs] + [one.name for one in study.left_out]
    assert sorted(found) == (
        ["bad", "good"] if os.listdir(bad) and is_still_a_run(bad) else ["good"]
    )
    main([str(base)])
    assert page_html(study)
    assert time.monotonic() - started < SECONDS


def is_still_a_run(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in ("config.yaml", "environment.json"))
