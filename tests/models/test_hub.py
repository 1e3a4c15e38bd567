"""A model of the hub where there is no network: one line within seconds, and what is cached is used."""

from __future__ import annotations

import http.server
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qc_experiments.cli import plan as plan_command
from qc_experiments.cli import train as command_line
from qc_experiments.models import source
from qc_experiments.models.base import load_tokenizer
from qc_experiments.models.source import ModelSource


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A process that may ask the hub; nothing listens where it asks."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    source.hub_problem.cache_clear()
    yield
    source.hub_problem.cache_clear()


ARGUMENTS = ["model=hub", "model.name_or_path=owner/name", "tracking=none"]


@pytest.mark.parametrize("start", [command_line.main, plan_command.main])
def test_without_a_network_one_line_says_so_within_seconds(refused, start, tmp_path):
    started = time.perf_counter()
    line = refused(start, [*ARGUMENTS, f"paths.output={tmp_path / 'out'}"])
    assert time.perf_counter() - started < 20  # the library alone takes 50
    for part in ("owner/name", "not in this machine's cache", "127.0.0.1:9", "hf download"):
        assert part in line
    assert not (tmp_path / "out").exists()


def test_a_model_that_packages_hold_as_well_is_offered_out_of_them(refused, tmp_path):
    line = refused(
        command_line.main,
        ["model=qwen2.5-coder-0.5b", "tracking=none", f"paths.output={tmp_path / 'out'}"],
    )
    assert "take model=qwen2.5-coder-0.5b-packaged, out of packages" in line


def test_what_is_cached_is_used_without_a_network(tiny_model, tokenizer, tmp_path):
    folder = tmp_path / "hub" / "models--owner--name"
    commit = "0" * 40
    shutil.copytree(tiny_model, folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    source = ModelSource(
        "owner/name",
        label="name",
        fingerprint="hub:owner/name@default:",
        trust_remote_code=False,
    )
    found = load_tokenizer(source, None)
    assert found("SELECT 1").input_ids == tokenizer("SELECT 1").input_ids


def test_a_hub_that_did_not_answer_is_asked_again_by_the_next_run(monkeypatch):
    assert source.hub_problem() is not None
    monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: True)
    assert "does not answer" in (source.hub_problem() or "")
    source.forget_failure()
    assert source.hub_problem() == "HF_HUB_OFFLINE is set"


@pytest.mark.parametrize(("status", "answers"), [(404, True), (200, True), (503, False)])
def test_whatever_the_hub_itself_answers_is_an_answer(monkeypatch, status, answers):
    from huggingface_hub import constants

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    try:
        problem = source.hub_problem()
    finally:
        server.shutdown()
        server.server_close()
    assert (problem is None) == answers
