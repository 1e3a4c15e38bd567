"""qc export --push: the hub's real client against a hub of our own on this machine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from helpers.runs import ROOT

from qc_experiments.errors import UserError
from qc_experiments.export.hub import check_push, push

TOKEN = "hf_for_this_test_alone"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload of small files asks for."""

    files: dict[str, bytes]
    refuses: int

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" or self.server.refuses:
            self._answer({"error": "no"}, self.server.refuses or 401)
        elif self.path == "/api/repos/create":
            url = f"http://{self.headers['Host']}/me/model"
            self._answer({"url": url, "name": "me/model", "id": "me/model"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            names = [one["path"] for one in json.loads(body)["files"]]
            found = [
                {"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names
            ]
            self._answer({"files": found})
        elif "/commit/" in self.path:
            for line in body.decode().splitlines():
                told = json.loads(line)
                if told["key"] == "file":
                    value = told["value"]
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
            found = {
                "commitUrl": f"http://{self.headers['Host']}/me/model/commit/1",
                "commitOid": "1" * 40,
            }
            self._answer({**found, "success": True})
        else:
            self._answer({"error": self.path}, 404)

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "no"}, 401)
            return
        found = {"id": "me/model", "sha": "0" * 40, "siblings": [], "tags": [], "private": True}
        self._answer(found if self.path.startswith("/api/models/me/model") else {"name": "me"})

    def _answer(self, content, status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.refuses = {}, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def pushed(run, tmp_path, hub, token=TOKEN, name="me/model"):
    target = tmp_path / "exported"
    settings = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "HF_TOKEN": token,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    command = ["export", str(run.folder), "--to", str(target), "--format", "adapter"]
    found = subprocess.run(
        [sys.executable, "-m", "qc_experiments", *command, "--check", "0", "--push", name],
        env=os.environ | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return target, found


def test_the_folder_is_uploaded_as_it_is(train, tmp_path, hub):
    target, found = pushed(train(), tmp_path, hub)
    assert found.returncode == 0, found.stderr
    assert "/me/model" in found.stdout
    there = {path.name: path.read_bytes() for path in target.iterdir()}
    assert hub.files == there
    assert TOKEN not in found.stdout + found.stderr


@pytest.mark.slow
def test_a_hub_that_cannot_be_used_is_one_line_before_anything_is_made(train, tmp_path, hub):
    run = train()
    said = []
    for number, (token, down) in enumerate([("hf_wrong", False), ("", False), (TOKEN, True)]):
        if down:
            hub.shutdown()
            hub.server_close()
        target, found = pushed(run, tmp_path / str(number), hub, token)
        assert found.returncode == 2, found.stderr
        [line] = found.stderr.strip().splitlines()
        said.append(line)
        assert not target.exists()
    assert "(status 401): log in with hf auth login" in said[0]
    assert "nobody is logged in" in said[1]
    assert "cannot be used" in said[2]


def test_who_may_not_write_there_is_told_how_to_upload_what_is_kept(tmp_path, monkeypatch):
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    refused = SimpleNamespace(status_code=403, headers={}, request=None)

    def refuse(*_: object, **__: object) -> None:
        raise HfHubHTTPError("no", response=refused)

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(UserError, match="may you write there") as error:
        push(tmp_path, "other/model")
    assert f"{tmp_path} is kept" in str(error.value)
    assert "hf upload --private other/model" in str(error.value)


@pytest.mark.parametrize("name", ["a b/c", "model", "", "me/model.git"])
def test_what_is_no_name_of_a_repository_is_refused_without_a_network(name):
    with pytest.raises(UserError, match="owner/name"):
        check_push(name)
