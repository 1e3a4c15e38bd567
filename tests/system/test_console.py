"""Nothing from other people's files steers the terminal: every command is run on hostile names and cells."""

from __future__ import annotations

import csv
import os
import pty
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from helpers.written_runs import write_run
from hypothesis import given
from hypothesis import strategies as st

from qc_experiments.cli.compare import main as compare_main
from qc_experiments.cli.data import main as data_main
from qc_experiments.cli.evaluate import main as evaluate_main
from qc_experiments.cli.plan import main as plan
from qc_experiments.cli.predict import main as predict_main
from qc_experiments.cli.train import main as train_main
from qc_experiments.cli.wandb import main as wandb_main
from qc_experiments.system.console import visible

EVIL = "\x1b]2own\x07\x1b[2J\x9b31m\x08\u202e\u2066[/b]\x7f\rx"
"""Sets the title, clears the screen, colours, goes back, turns letters round; and ends rich's markup."""
NAME = EVIL.replace("/", "|")  # a file's name holds no slash
ALLOWED = set("\t\n")


def steering(text: str) -> list[str]:
    """What in a text would steer a terminal, by Unicode's own tables and not by ours."""
    import unicodedata

    bidi = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return [
        repr(c)
        for c in text
        if (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in ALLOWED)
        or unicodedata.bidirectional(c) in bidi
    ]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command, however it ends; returns all that it printed, which must steer nothing."""

    def run(command: Callable[..., object], *arguments: str | Path, escaped: bool = True) -> str:
        with suppress(SystemExit):
            command([str(one) for one in arguments])
        out, err = capsys.readouterr()
        assert steering(out) == []
        assert steering(err) == []
        assert not escaped or r"\x1b" in out + err  # what is shown in its place
        return out + err

    return run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a database of hostile names and cells."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "dbs" / "shop"
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "shop.sqlite")) as connection:
        connection.execute(f'CREATE TABLE "{EVIL}" ("{EVIL}" TEXT DEFAULT \'{EVIL}\')')
        connection.execute(f"INSERT INTO \"{EVIL}\" VALUES ('{EVIL}')")
        connection.commit()
    return tmp_path


def write(path: Path, header: list[str], *rows: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    return path


HEADER = ["question", "query", "context", "db_id"]
ROW = ["q", "SELECT 1", "CREATE TABLE t(x);", "shop"]


def test_qc_data(place, told):
    text = told(data_main, "context", "dbs/shop/shop.sqlite")
    assert text.startswith(r'CREATE TABLE "\x1b]2own\x07\x1b[2J\x9b31m\x08\u202e\u2066[/b]\x7f\rx"')
    broken = write(
        place / "a.csv", HEADER, [EVIL, f"SELECT '{EVIL}' FROM \"{EVIL}2\"", ROW[2], "shop"]
    )
    told(data_main, "show", broken, "--row", "2")
    told(data_main, "check", broken)
    told(data_main, "check", broken, "--databases", "dbs")
    told(data_main, "check", write(place / "b.csv", [EVIL, "b"], ["1", "2"]))
    told(data_main, "check", write(place / "c.csv", HEADER, [*ROW[:3], EVIL]), "--databases", "dbs")
    told(data_main, "check", write(place / f"{NAME}.csv", HEADER, ROW, ROW))
    told(data_main, "check", "absent" + EVIL)
    told(data_main, "check", "a.csv", EVIL)  # argparse's own message


def test_qc_evaluate(place, told):
    name = "odd[red]\u202e"
    folder = place / "dbs" / name
    folder.mkdir()
    with closing(sqlite3.connect(folder / f"{name}.sqlite")) as connection:
        connection.execute("CREATE TABLE t(x)")
    header = ["db_id", "question", "query", "prediction"]
    rows = [[name, EVIL, "SELECT 1", f"SELECT '{EVIL}'"], ["shop", "q", f'SELECT "{EVIL}"', "x"]]
    source = write(place / f"{NAME}.csv", header, *rows)
    text = told(evaluate_main, source, "--databases", "dbs", "--output", f"out{NAME}")
    assert r"odd[red]\u202e" in text
    again = (source, "--databases", "dbs", "--output", "out2", "--against", f"out{NAME}")
    told(evaluate_main, *again)
    told(
        evaluate_main, write(place / "p.csv", [EVIL], ["1"]), "--databases", "dbs", "--output", "o"
    )


def test_qc_compare_and_qc_wandb(place, told):
    for rank, bits in ((8, "1100"), (16, "1111")):
        write_run(place / "runs" / f"{NAME}{rank}", bits, lora__r=rank, lora__init=EVIL + str(rank))
    write_run(place / "runs" / f"bad{NAME}", status="failed", error=f"OSError: {EVIL}")
    (write_run(place / "runs" / f"out{NAME}") / "result.json").write_text('{"eval_loss": 1e400}')
    text = told(compare_main, "runs")
    assert r"out\x1b]2own" in text  # the one that is left out, by its name
    assert "[/b]" in text
    told(compare_main, "runs", "--objective", EVIL)
    told(compare_main, f"absent{EVIL}")
    told(wandb_main, "runs", "--title", EVIL, "--project", "qc_experiments", escaped=False)


def test_qc_train_and_qc_plan(place, told, tiny_model):
    settings = ["model=hub", f"model.name_or_path={tiny_model}", "data=csv", "tracking=none"]
    rows = [[f"q{n}", f"SELECT {n}", ROW[2], "shop"] for n in range(8)]
    source = write(place / f"{NAME}.csv", HEADER, *rows, rows[0])
    (place / "link.csv").symlink_to(source.name)
    quoted = f'data.train="{source.name}"'
    told(plan, *settings, quoted)
    told(train_main, *settings, f'data.train="absent{NAME}"')
    told(train_main, *settings, f"lora.r={EVIL}")
    told(train_main, EVIL)
    told(train_main, "--" + EVIL)
    told(train_main, "--cfg", "job", f'tracking.notes="{EVIL}"', escaped=False)  # YAML has its own
    told(train_main, "-m", *settings, quoted, f'tracking.group="{EVIL}",b', "lora.dropout=2")


def test_qc_predict(place, told):
    told(predict_main, "--adapter", f"absent{EVIL}", "--db", "x", "--question", "q")
    (place / f"adapter{NAME}").mkdir()
    source = write(place / "q.csv", [EVIL], ["1"])
    arguments = ("--adapter", f"adapter{NAME}", "--input", source, "--output", "out.csv")
    told(predict_main, *arguments)
    told(predict_main, *arguments[:2], "--db", "dbs/shop/shop.sqlite", "--question", "q")


def test_what_is_written_of_a_run_steers_nothing_when_it_is_looked_at(place, train):
    rows = [[f"q{n}", f"SELECT {n}", ROW[2], "shop"] for n in range(8)]
    write(place / f"{NAME}.csv", HEADER, *rows, rows[0])
    run = train(
        "data=csv", f'data.train="{NAME}.csv"', "trainer.max_steps=1", "evaluation.base=false"
    )
    text = (run.folder / "train.log").read_text()
    assert r"\x1b[2J" in text
    assert steering(text) == []


def test_a_traceback_steers_nothing_and_holds_no_password():
    code = (
        "from qc_experiments.system.console import safe_output\n"
        "with safe_output(data=True):\n"
        "    raise ValueError('\\x1b[2J at postgresql://u:s3cret@h/d')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert r"ValueError: \x1b[2J at postgresql://u:***@h/d" in done.stderr
    assert steering(done.stderr) == []


BAR = f"""
import logging, sys
from qc_experiments.system.console import told_to_users
from qc_experiments.system.console import progress
from qc_experiments.system.console import set_up_logging, unbreakable_output
set_up_logging()
with unbreakable_output(), told_to_users():
    with progress("Judging", 2) as advance:
        logging.getLogger("qc_experiments").warning({EVIL!r})
        print({EVIL!r})
        advance(1)
"""


def test_a_bar_moves_on_a_terminal_and_what_is_printed_meanwhile_does_not():
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "90"}
    environment.pop("NO_COLOR", None)
    done = subprocess.Popen(
        [sys.executable, "-c", BAR], stdout=slave, stderr=slave, stdin=slave, env=environment
    )
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 1 << 16):
            shown += part
    except OSError:  # how a terminal ends on Linux
        pass
    os.close(master)
    assert done.wait() == 0, shown
    text = shown.decode()
    assert "\x1b[2K" in text  # the bar redraws its line
    assert "1/2" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert text.count(r"\x1b]2own\x07\x1b[2J\x9b31m\x08\u202e") == 2
    for part in ("\x1b]2own", "\x1b[2J", "\x9b", "\u202e", "\x08"):
        assert part not in text


@given(st.text())
def test_any_text_is_shown_without_steering_and_once_is_enough(text):
    shown = visible(text)
    assert steering(shown) == []
    assert visible(shown) == shown
    kept = "".join(c for c in text if not steering(c))
    assert [c for c in shown if c in kept] or not kept


def test_ordinary_text_stays_as_it_is():
    text = "Größe\t商店 café 🙂 e\u0301"
    assert visible(text) == text
    assert visible("a\r\nb") == "a\nb"
