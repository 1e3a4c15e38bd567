"""A GGUF file asked through llama.cpp's own server: answers, probabilities, and a process that ends."""

from __future__ import annotations

import os
import re
import signal
import sys
import time

import pytest
from helpers.runs import child

from qc_experiments.cli import export as command
from qc_experiments.config.schema import Wrap
from qc_experiments.data.encode import Encoder
from qc_experiments.data.template import Template
from qc_experiments.errors import UserError
from qc_experiments.export.engines import GgufFile
from qc_experiments.export.llama_server import LAUNCH, LLAMA_SERVER, LlamaServer, gguf_engine
from qc_experiments.system.processes import process_lives

STOPS_ITS_PARENT = """#!{python}
import os, signal, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        Path({pid!r}).write_text(str(os.getpid()))

    def do_POST(self):
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(300)

    def log_message(self, *told):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Have a script of a few lines be the server."""

    def write(text):
        path = tmp_path / "server"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        monkeypatch.setenv(LLAMA_SERVER, str(path))

    return write


@pytest.fixture
def file(tokenizer, tmp_path):
    """A file that may be there or not."""
    encoder = Encoder(
        tokenizer, Template("{context} {question} {query}", "template.txt"), Wrap.plain
    )
    return GgufFile(tmp_path / "model.gguf", encoder, 8, 64)


def exported(run, tmp_path, *options):
    target = tmp_path / "exported"
    command.main([str(run.folder), "--to", str(target), "--format", "gguf", *options])
    return target


@pytest.mark.usefixtures("real_server")
def test_the_server_answers_and_weighs_as_the_runs_own_model(train, tmp_path, capsys):
    run = train("model.dtype=float32")
    folder = exported(run, tmp_path, "--type", "f32", "--check", "4")
    out = capsys.readouterr().out
    assert re.search(
        r"on 4 held-out questions, greedy: .* by the export in .*, asked through llama-server", out
    )
    assert "0 answers of 4 written differently" in out
    most = float(re.search(r"nats on average, ([\d.]+) at most", out)[1])
    assert most < 0.02
    assert "llama-server" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("real_server")
def test_a_file_that_cannot_be_loaded_is_said(file):
    file.path.write_bytes(b"GGUF")
    with pytest.raises(
        UserError, match=r"model\.gguf: llama-server cannot load it \(.*\); the last it said: \w"
    ):
        LlamaServer(file)


def test_what_ends_at_once_is_told_with_its_last_words(file, program):
    program("#!/bin/sh\necho starting\necho no room for a model >&2\nexit 1\n")
    with pytest.raises(
        UserError, match=r"cannot load it \(exit code 1\); the last it said: no room for a model$"
    ):
        LlamaServer(file)


def test_a_server_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv(LLAMA_SERVER, str(tmp_path / "missing"))
    with pytest.raises(UserError, match=f"LLAMA_SERVER={tmp_path}/missing: is no program"):
        gguf_engine()


def test_without_any_engine_both_are_named(train, tmp_path, monkeypatch, capsys):
    run = train()
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(LLAMA_SERVER, raising=False)
    folder = exported(run, tmp_path, "--check", "4")
    error = capsys.readouterr().err
    assert "pip install llama-cpp-python" in error
    assert "llama-server (on PATH, or named by LLAMA_SERVER)" in error
    assert (folder / "model.gguf").exists()


def test_sigterm_ends_the_server_and_leaves_nothing(train, tmp_path, program):
    run = train()
    pid = tmp_path / "pid"
    program(STOPS_ITS_PARENT.format(python=sys.executable, pid=str(pid)))
    with pytest.raises(SystemExit) as ended:
        exported(run, tmp_path, "--check", "4")
    assert ended.value.code == 143
    time.sleep(0.1)
    assert not process_lives(int(pid.read_text()))
    assert not [name for name in os.listdir(tmp_path) if "export" in name]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_the_server_ends_with_a_process_that_is_killed():
    script = f"""
import os, signal, subprocess, sys, time
server = subprocess.Popen([sys.executable, "-c", {LAUNCH!r}, "/bin/sleep", "300"])
time.sleep(1)
print(server.pid, server.poll(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    told = child("-c", script)
    assert told.returncode == -signal.SIGKILL
    pid, ended = told.stdout.split()
    assert ended == "None"
    wait_until = time.monotonic() + 10
    while process_lives(int(pid)) and time.monotonic() < wait_until:
        time.sleep(0.1)
    assert not process_lives(int(pid))
