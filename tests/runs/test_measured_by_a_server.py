"""`evaluation.endpoint`: a server writes the answers of a run, whose adapter is loaded into it."""

from __future__ import annotations

import pytest
from helpers.endpoint import LoraServer, Status, served
from helpers.runs import Run, run_folders
from helpers.slow import then_slow

from qc_experiments.comparison.grouping import group_runs
from qc_experiments.comparison.runs import load_runs
from qc_experiments.config.metrics import EXACT
from qc_experiments.generation import endpoint_client

KEY = "sk-live-abcdefghijkl"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(endpoint_client, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server(tiny_model):
    with served(LoraServer(tiny_model)) as told:
        yield told


def judged(run: Run, name: str = "predictions.csv") -> list[tuple[str, str, str]]:
    return [(row["question"], row["prediction"], row["verdict"]) for row in run.rows(name)]


@pytest.mark.parametrize("wrap", then_slow("plain", "chat"))
def test_a_server_measures_what_the_run_itself_would_measure(wrap, train, server, tmp_path):
    here = train(f"data.wrap={wrap}", output=tmp_path / "here")
    there = train(
        f"data.wrap={wrap}", f"evaluation.endpoint={server.url}", output=tmp_path / "there"
    )
    assert judged(there) == judged(here)
    assert judged(there, "base_predictions.csv") == judged(here, "base_predictions.csv")
    assert there.result["eval_loss"] == here.result["eval_loss"]
    assert there.folder.name != here.folder.name  # another engine is another measurement
    base, adapter = server.prompts
    assert base == server.models[0]
    assert adapter.startswith(there.folder.name)
    assert len(server.prompts[base]) == 4
    assert sorted(server.prompts[base]) == sorted(server.prompts[adapter])
    assert server.adapters == {}  # it is given back
    for body in server.bodies:  # in place of what the base model's folder says
        asked = [body[key] for key in ("repetition_penalty", "top_k", "min_p", "top_p")]
        assert asked == [1, -1, 0, 1]


def test_a_closing_code_fence_ends_no_chat(train, server, tmp_path):
    template = tmp_path / "closed.txt"
    template.write_text("{context}\nQuestion: {question}\n```sql\n{query}\n```")
    server.says = lambda question, before: "Here it is:\n```sql\nSELECT 1\n```"
    run = train(
        *(f"evaluation.endpoint={server.url}", f"data.template={template}", "data.wrap=chat"),
        "evaluation.base=false",
    )
    assert {row["prediction"] for row in run.rows()} == {"SELECT 1"}
    assert "stop" not in server.bodies[0]


def test_a_port_is_no_setting_and_nothing_is_asked_twice(train, server, tiny_model, capsys):
    run = train(f"evaluation.endpoint={server.url}")
    asked = len(server.bodies)
    assert asked == 8
    again = train("evaluation.endpoint=http://127.0.0.1:9/v1")
    assert again.folder == run.folder
    assert len(server.bodies) == asked


@pytest.mark.slow
def test_an_adapter_has_another_name_each_time(train, server, tmp_path):
    for place in ("one", "two"):  # a server keeps what it has computed for a name
        train(
            *(f"evaluation.endpoint={server.url}", "evaluation.base=false"), output=tmp_path / place
        )
    assert len(server.prompts) == 2


@pytest.mark.slow
def test_the_base_models_answers_are_those_of_one_server_model(train, server, capsys):
    train(f"evaluation.endpoint={server.url}")
    capsys.readouterr()
    train(f"evaluation.endpoint={server.url}", "seed=7")
    assert "4 answers are kept from before" in capsys.readouterr().out
    server.models = ["another"]
    train(f"evaluation.endpoint={server.url}", "seed=8")
    printed = capsys.readouterr()
    assert "answers are kept from before" not in printed.out
    assert "The server's base model is another, this run's is" in printed.out + printed.err


@pytest.mark.slow
def test_runs_measured_by_servers_are_ranked_together_but_not_with_others(
    train, server, tiny_model
):
    train(f"evaluation.endpoint={server.url}")
    with served(LoraServer(tiny_model)) as elsewhere:
        last = train(f"evaluation.endpoint={elsewhere.url}", "seed=7")
    train("seed=8")
    groups = group_runs(load_runs([last.folder.parent])[0], EXACT)
    assert sorted(len(one.runs) for one in groups) == [1, 2]


def test_a_server_that_is_gone_at_the_very_end_costs_nothing(train, server, monkeypatch, capsys):
    taken = server._changed

    def changed(path, body):
        if path.startswith("unload"):
            raise ConnectionError
        return taken(path, body)

    monkeypatch.setattr(server, "_changed", changed)
    run = train(f"evaluation.endpoint={server.url}", "evaluation.base=false")
    assert run.result["status"] == "finished"
    assert "keeps the adapter" in "".join(capsys.readouterr())


@pytest.mark.slow
def test_a_finished_model_is_measured_by_the_name_that_the_server_knows(train, server, tmp_path):
    run = train("evaluation.base=false")
    adapter = run.folder / "adapter"
    measure = (
        *(f"model.adapter={adapter}", "trainer.max_steps=0", "evaluation.base=false"),
        f"evaluation.endpoint={server.url}",
    )
    loaded = train(*measure, output=tmp_path / "loaded")
    server.models = ["merged"]
    named = train(*measure, "evaluation.endpoint_model=merged", output=tmp_path / "named")
    assert judged(loaded) == judged(run)
    assert len(server.prompts["merged"]) == 4
    assert "load_lora_adapter" not in "".join(server.paths[-4:])
    assert named.result["eval_loss"] == run.result["eval_loss"]


def test_candidates_are_sampled_there_and_vote(train, server):
    answers = iter(["SELECT 1", "SELECT 2", "SELECT 1"] * 8)
    server.says = lambda question, before: next(answers)
    run = train(
        *(f"evaluation.endpoint={server.url}", "evaluation.candidates=3", "evaluation.base=false"),
        *("evaluation.temperature=0.5", "evaluation.top_p=0.9", "evaluation.choose=majority"),
    )
    (body, *_) = server.bodies
    assert (body["n"], body["temperature"], body["top_p"], body["seed"]) == (3, 0.5, 0.9, 0)
    assert len(server.bodies) == 4
    assert run.result["candidate_recall"] is not None
    assert len(run.rows()) == 4


def test_a_server_that_dies_costs_answers_and_no_training(train, server, refused, tmp_path):
    settings = (
        f"evaluation.endpoint={server.url}",
        "evaluation.base=false",
        "trainer.save_strategy=steps",
    )
    settings = (*settings, "trainer.save_steps=1")
    server.says = lambda question, before: Status(400, "no")
    line = refused(train, *settings)
    assert "evaluation.endpoint" in line
    assert "no answer (HTTP 400: no): once that is mended, the same command goes on" in line
    assert server.adapters == {}
    (folder,) = run_folders(tmp_path / "outputs")
    steps = (folder / "metrics.jsonl").read_text()
    server.says = lambda question, before: None
    run = train(*settings)
    assert run.folder == folder
    assert (folder / "metrics.jsonl").read_text().startswith(steps)
    assert len(run.rows()) == 4


def test_the_key_comes_from_the_environment_and_is_written_nowhere(
    train, server, monkeypatch, refused
):
    monkeypatch.setenv("MY_SERVER", KEY)
    run = train(f"evaluation.endpoint={server.url}", "evaluation.endpoint_key_env=MY_SERVER")
    assert server.keys == {f"Bearer {KEY}"}
    monkeypatch.setattr(server, "_changed", lambda path, body: (400, f"Bearer {KEY} may not"))
    line = refused(
        *(train, f"evaluation.endpoint={server.url}", "evaluation.endpoint_key_env=MY_SERVER"),
        "seed=7",
    )
    assert "does not take" in line
    assert "Bearer *** may not" in line
    written = [path for path in run.folder.parent.rglob("*") if path.is_file()]
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def test_a_server_without_adapters_is_known_before_the_training(train, server, refused, tmp_path):
    server.takes_adapters = False
    line = refused(train, f"evaluation.endpoint={server.url}")
    assert "takes no adapter while it runs" in line
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in line
    assert not (tmp_path / "outputs").exists()


def test_an_adapter_that_a_server_does_not_take_is_measured_here(
    train, server, refused, monkeypatch
):
    taken = server._changed

    def changed(path, body):
        return (400, "rank 4 is too large") if body.get("lora_path") else taken(path, body)

    monkeypatch.setattr(server, "_changed", changed)
    line = refused(train, f"evaluation.endpoint={server.url}")
    assert "rank 4 is too large" in line
    assert "start it so that it does, and run the same command again" in line
    assert "or measure it here: trainer.max_steps=0 model.adapter=" in line


def test_a_window_that_is_too_small_is_known_before_the_training(
    train, server, refused, monkeypatch, tmp_path
):
    listed = server.listed()
    monkeypatch.setattr(server, "listed", lambda: [{**listed[0], "max_model_len": 32}])
    line = refused(train, f"evaluation.endpoint={server.url}")
    assert "takes 32 tokens, and the longest question with its answer has" in line
    assert "--max-model-len" in line
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALL_PROXY", "foo://x"), ("SSL_CERT_FILE", "/no/such/file"), ("HTTP_PROXY", "http://x:y")],
)
def test_an_environment_that_lets_nobody_ask_is_one_line(
    name, value, train, server, refused, monkeypatch
):
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv(name, value)
    assert "evaluation.endpoint" in refused(train, f"evaluation.endpoint={server.url}")


ENDPOINT = "evaluation.endpoint=http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((ENDPOINT,), "no server answers there"),
        (("evaluation.endpoint=nowhere",), "is no address of a server"),
        (("evaluation.endpoint=http://me:secret99@x/v1",), "holds a password"),
        (("evaluation.endpoint_model=mine",), "goes with evaluation.endpoint"),
        (("evaluation.endpoint_key_env=MY_KEY",), "goes with evaluation.endpoint"),
        ((ENDPOINT, "evaluation.endpoint_key_env=NO_SUCH_KEY"), "no such environment variable"),
        ((ENDPOINT, "evaluation.num_beams=2"), "evaluation.num_beams=2 contradicts"),
        ((ENDPOINT, "evaluation.constrain=schema"), "evaluation.constrain=schema contradicts"),
        ((ENDPOINT, "evaluation.repair=1"), "evaluation.repair=1 contradicts"),
        ((ENDPOINT, "lora=none"), "lora=none contradicts"),
        ((ENDPOINT, "lora.use_dora=true"), "lora.use_dora=true contradicts"),
        ((ENDPOINT, "evaluation.endpoint_model=mine"), "set evaluation.base=false"),
        (
            (ENDPOINT, "evaluation.endpoint_model=mine", "evaluation.base=false"),
            "no server has what this run is to train",
        ),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_written(
    given, told, train, refused, tmp_path
):
    assert told in refused(train, *given)
    assert not (tmp_path / "outputs").exists()


def test_a_model_that_the_server_does_not_have_is_named_with_those_it_has(train, server, refused):
    line = refused(
        train,
        *(f"evaluation.endpoint={server.url}", "evaluation.endpoint_model=mine"),
        *("evaluation.base=false", "trainer.max_steps=0"),
    )
    assert "evaluation.endpoint_model=mine" in line
    assert f"serves {server.models[0]}" in line
