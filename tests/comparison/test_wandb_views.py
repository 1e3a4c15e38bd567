"""`qc wandb`: the workspace and the report are built and serialised by W&B's own library, and sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb
from helpers.written_runs import write_run

from qc_experiments.cli.wandb import main
from qc_experiments.comparison.study import compare
from qc_experiments.comparison.views.wandb import (
    Shown,
    build_report,
    build_workspace,
    choose,
    offline_runs,
)
from qc_experiments.records.folder import Identity
from qc_experiments.system.paths import hash_bytes


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    for rank, bits in ((8, "0" * 20), (16, "1" * 18 + "00"), (32, "1" * 17 + "000")):
        write_run(folder / f"r{rank}", bits, lora__r=rank, tracking__project="pets")
    return folder


def spec(built: Any) -> dict[str, Any]:
    """What W&B would be sent."""
    return json.loads(built._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))


def shown(folder: Path, **settings: Any) -> Shown:
    return choose(compare([folder]), **settings)


def ids(folder: Path, *names: str) -> list[str]:
    return [Identity(name, hash_bytes(str(folder / name).encode())).run_id for name in names]


def test_the_workspace_shows_these_runs_best_first_with_what_was_swept(sweep):
    write_run(sweep / "elsewhere", "11", tracking__project="other")
    found = spec(build_workspace(shown(sweep)))["section"]
    [runset] = found["runSets"]
    [only] = runset["filters"]["filters"]
    assert only["key"] == {"section": "run", "name": "name"}  # W&B's name for a run's id
    assert sorted(only["value"]) == sorted(ids(sweep, "r8", "r16", "r32"))
    [order] = runset["sort"]["keys"]
    assert order == {
        "key": {"section": "summary", "name": "execution_accuracy"},
        "ascending": False,
    }
    assert "config:lora.value.r" in runset["runFeed"]["columnPinned"]
    sections = {one["name"]: one["panels"] for one in found["panelBankConfig"]["sections"]}
    assert list(sections) == ["Comparison", "Learning curves", "Cost", "Predictions"]
    parallel, importance = sections["Comparison"][:2]
    assert [one["accessor"] for one in parallel["config"]["columns"]] == [
        "config:lora.value.r",
        "summary:execution_accuracy",
        "summary:eval_loss",
    ]
    assert importance["viewType"] == "Parameter Importance"
    assert importance["config"]["targetKey"] == "execution_accuracy"
    assert [one["config"]["metrics"] for one in sections["Learning curves"]] == [
        ["loss"],
        ["eval_loss"],
    ]
    assert "predictions" in json.dumps(sections["Predictions"])


def test_the_report_says_what_the_test_allows(sweep):
    report = build_report(shown(sweep, entity="me"))
    table = report.blocks[0].text.splitlines()
    assert table[2].startswith("| 1 | 16 | 1 | 90.0 % |")
    assert table[2].endswith("| leader |")
    assert table[3].endswith("| not distinguishable (1.000) |")
    assert table[4].startswith("| 3 | 8 | 1 | 0.0 % |")
    assert table[4].endswith("| better (\\<0.001) |")
    text = json.dumps(spec(report))
    assert "McNemar" in text
    assert "Parallel Coordinates Plot" in text


def test_a_ranking_by_loss_has_the_smallest_first(sweep):
    study = compare([sweep], "eval_loss")
    [runset] = spec(build_workspace(choose(study)))["section"]["runSets"]
    assert runset["sort"]["keys"] == [
        {"key": {"section": "summary", "name": "eval_loss"}, "ascending": True}
    ]


def test_values_cannot_become_markup(tmp_path):
    for number, name in enumerate(("a|b", "<img src=x>`*")):
        write_run(tmp_path / str(number), "10", model__name_or_path=name)
    table = build_report(shown(tmp_path, entity="me")).blocks[0].text
    assert "a\\|b" in table
    assert "\\<img src=x\\>\\`\\*" in table


def test_a_title_of_symbols_is_made_plain(sweep):
    assert build_workspace(shown(sweep, title="rank 🚀 & <Größe>=2")).name == "rank  & Größe2"


def test_runs_that_were_not_tracked_are_refused(tmp_path, refused):
    write_run(tmp_path / "r", tracking__name="none")
    assert "tracking=wandb" in refused(main, [str(tmp_path / "r")])


def test_a_project_that_is_named_chooses_the_runs(sweep, refused):
    write_run(sweep / "elsewhere", "1" * 20, tracking__project="other")
    found = shown(sweep, project="other")
    assert [run.name for run in found.runs] == ["elsewhere"]
    assert found.left_out == 3
    assert "in project third" in refused(main, [str(sweep), "--project", "third"])


def test_a_single_run_from_within_its_folder(sweep, monkeypatch, capsys):
    (sweep / "r8" / "wandb" / "offline-run-1-a").mkdir(parents=True)
    monkeypatch.chdir(sweep / "r8")
    main(["."])
    assert f"wandb sync {sweep}/*/wandb/offline-run-*" in capsys.readouterr().out


def test_without_a_login_it_says_what_to_do(sweep, capsys):
    offline = sweep / "r8" / "wandb" / "offline-run-1-a"
    sent = sweep / "r16" / "wandb" / "offline-run-1-b"
    for folder in (offline, sent):
        folder.mkdir(parents=True)
    (sent / "run-b.wandb.synced").touch()
    assert offline_runs(shown(sweep)) == [offline]
    main([str(sweep)])
    said = capsys.readouterr().out
    assert "3 runs of project pets, compared by execution accuracy" in said
    assert "Not saved, for lack of a login" in said
    assert f"wandb sync {sweep}/*/wandb/offline-run-*" in said


class Server(ThreadingHTTPServer):
    """Answers W&B's GraphQL as far as saving needs it, and keeps the views that it is given."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.views: list[dict[str, Any]] = []
        self.full = False

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of an answer."""
        if "upsertView" in query:
            if self.full:
                raise ConnectionError("no more views for you")
            self.views.append(variables)
            known = {
                "id": f"view{len(self.views)}",
                "type": variables["type"],
                "name": variables["name"],
                "displayName": variables["displayName"],
                "description": variables.get("description"),
                "spec": variables["spec"],
                "updatedAt": "2026-01-01T00:00:00",
                "createdAt": "2026-01-01T00:00:00",
                "project": {"name": "pets", "entityName": "me", "id": "1"},
                "user": {"name": "me", "username": "me", "photoUrl": None, "admin": False},
            }
            return {"upsertView": {"view": known, "inserted": True}}
        if "viewer" in query:
            return {"viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}"}}
        return {"models": {"edges": [], "pageInfo": {"endCursor": None, "hasNextPage": False}}}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        content: dict[str, Any] = {}
        if self.path == "/graphql":  # and not W&B's telemetry
            asked = json.loads(body)
            try:
                found = self.server.answer(asked["query"], asked.get("variables") or {})
                content = {"data": found}
            except ConnectionError as error:
                content = {"errors": [{"message": str(error)}], "data": None}
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("HOME", str(tmp_path))
        yield running
        running.shutdown()
        wandb.teardown()  # else it remembers the login


def test_with_a_login_both_are_saved(sweep, server, capsys):
    main([str(sweep)])
    said = capsys.readouterr().out
    report, workspace = server.views
    assert report["projectName"] == workspace["projectName"] == "pets"
    assert report["entityName"] == workspace["entityName"] == "me"  # the login's own
    assert report["displayName"] == "outputs: execution accuracy"
    assert "| leader |" in report["spec"]
    assert ids(sweep, "r16")[0] in workspace["spec"]
    assert "/me/pets" in said
    assert "Not saved" not in said


def test_a_server_that_refuses_is_told_in_one_line(sweep, server, refused):
    server.full = True
    assert "Weights & Biases did not take it" in refused(main, [str(sweep)])
