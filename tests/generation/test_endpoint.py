"""A model behind an endpoint: asked once, kept as it comes, and a bad server costs no answer."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.endpoint import AdapterServer, Drop, Raw, Stall, Status, Written, served, serving
from helpers.runs import ROOT, start, wait_for
from helpers.slow import then_slow

from qc_experiments.cli.evaluate import main as evaluate_main
from qc_experiments.cli.predict import main as predict_main
from qc_experiments.config.schema import Wrap
from qc_experiments.data.encode import Encoder
from qc_experiments.data.table import Row
from qc_experiments.data.template import read_template
from qc_experiments.generation import endpoint_asking, endpoint_client
from qc_experiments.generation.endpoint_settings import Api, Endpoint, Manners
from qc_experiments.system.files import csv_text, write_whole

CONTEXT = "CREATE TABLE pet (name TEXT, age INTEGER)"
KEY = "sk-live-abcdefghijkl"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses of milliseconds, and no proxy between the test and its server."""
    monkeypatch.setattr(endpoint_client, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def questions(folder: Path, count: int = 12) -> Path:
    rows = [[f"How old is {n}?", CONTEXT, f"a\r{n}"] for n in range(count)]
    write_whole(folder / "q.csv", csv_text(["question", "context", "note"], rows))
    return folder / "q.csv"


def answered(path: Path) -> list[tuple[str, str]]:
    """Questions and predictions; a server tells no confidence."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["question"], row["prediction"]) for row in csv.DictReader(file)]


def asking(url: str, source: Path, *more: str, model: str = "served") -> list[str]:
    output = source.parent / "out.csv"
    return [
        *("--endpoint", url, "--model", model, "--input", str(source), "--output", str(output)),
        *more,
    ]


def predictions(source: Path) -> list[str]:
    with (source.parent / "out.csv").open(encoding="utf-8", newline="") as file:
        return [row["prediction"] for row in csv.DictReader(file)]


def number(question: str) -> int:
    """Which of `questions` it is."""
    return int(question.removeprefix("Question: How old is ").removesuffix("?"))


def sql(question: str, before: int = 0) -> str:
    return f"SELECT {number(question)}"


ALL = [f"SELECT {n}" for n in range(12)]


def test_a_csv_is_answered_and_judged_as_that_of_any_other_model(tmp_path, capsys):
    folder = tmp_path / "db" / "pets"
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "pets.sqlite")) as connection:
        connection.executescript(f"{CONTEXT}; INSERT INTO pet VALUES ('Rex', 3), ('Tom', 5);")
    rows = [["pets", "How old is 0?", "SELECT age FROM pet WHERE name = 'Rex'"]]
    rows += [["pets", "How old is 1?", "SELECT age FROM pet WHERE name = 'Tom'"]]
    write_whole(tmp_path / "q.csv", csv_text(["db_id", "question", "query"], rows))

    def says(question: str, before: int) -> str:
        chatty = "Sure! Here it is:\n```sql\nSELECT age\nFROM pet WHERE name = 'Rex';\n```\nBye."
        return chatty if number(question) == 0 else "I do not know."

    with serving(says) as server:
        predict_main(
            asking(server.url, tmp_path / "q.csv", "--db", str(tmp_path / "db"), "--retries", "0")
        )
    printed = capsys.readouterr().out
    assert "Tokens: 20 of prompts, 6 of answers; 2 requests, 0 of them again" in printed
    assert "1 answer of 2 without SQL" in printed
    assert predictions(tmp_path / "q.csv") == ["SELECT age\nFROM pet WHERE name = 'Rex'", ""]
    evaluate_main(
        [
            *(str(tmp_path / "out.csv"), "--databases", str(tmp_path / "db"), "--processes", "1"),
            *("--output", str(tmp_path / "judged"), "--cache", str(tmp_path / "cache")),
        ]
    )
    with (tmp_path / "judged" / "judged.csv").open(encoding="utf-8", newline="") as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == ["correct", "wrong"]
    (body, _) = server.bodies
    assert (body["temperature"], body["max_tokens"]) == (0, 128)
    assert "n" not in body
    assert server.paths == ["/v1/chat/completions"] * 2


def test_one_question_is_printed_and_its_cost_stands_beside_it(tmp_path, capsys):
    with closing(sqlite3.connect(tmp_path / "pets.sqlite")) as connection:
        connection.executescript(CONTEXT)
    with serving(lambda question, before: "SELECT max(age) FROM pet") as server:
        predict_main(
            [
                *("--endpoint", server.url.removesuffix("/v1"), "--model", "served"),
                *("--db", str(tmp_path / "pets.sqlite"), "--question", "The oldest?"),
            ]
        )
    printed = capsys.readouterr()
    assert printed.out == "SELECT max(age) FROM pet\n"
    assert printed.err.startswith("Tokens: 10 of prompts, 3 of answers; 1 request,")
    assert CONTEXT in server.bodies[0]["messages"][0]["content"]


def test_a_bad_server_costs_no_answer_and_is_asked_for_none_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_SERVER", KEY)
    faults: list[Any] = [
        Status(500),
        Status(503, "overloaded"),
        Status(429, "slower", {"Retry-After": "0.05"}),
        Status(429, "later", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        Drop(),
        Stall(3),
        Raw("<html>a proxy's page</html>"),
        Raw('{"choices": []}'),
        Raw('{"choices": [{"message": {"content": 7}}]}'),
        Raw("[" * 100_000),
        Raw('{"error": {"message": "upstream is gone"}}'),
    ]

    def says(question: str, before: int) -> Any:
        place = number(question)
        if before == 0 and place < len(faults):
            return faults[place]
        return sql(question)

    source = questions(tmp_path)
    with serving(says) as server:
        more = ("--timeout", "1", "--concurrency", "4", "--key-env", "MY_SERVER")
        predict_main(asking(server.url, source, *more))
    assert predictions(source) == ALL
    assert set(server.answered.values()) == {1}
    assert server.asked.total() == len(ALL) + len(faults)
    assert server.most_together <= 5  # a request that has timed out may still be at work there
    assert server.keys == {f"Bearer {KEY}"}
    printed = capsys.readouterr().out
    assert f"{len(ALL) + len(faults)} requests, {len(faults)} of them again" in printed
    assert not (tmp_path / ".out.csv.partial").exists()


def test_rows_without_an_answer_are_named_and_the_others_kept(tmp_path, capsys):
    mended = False

    def says(question: str, before: int) -> Any:
        if number(question) == 3 and not mended:
            return Status(400, "This model's maximum context length is 4096 tokens")
        if number(question) == 7 and not mended:
            return Status(500, "crashed")
        return sql(question)

    source = questions(tmp_path)
    with serving(says) as server:
        command = asking(server.url, source, "--retries", "2")
        with pytest.raises(SystemExit) as stopped:
            predict_main(command)
        assert stopped.value.code == 2
        printed = capsys.readouterr()
        assert "warning: row 5: HTTP 400: This model's maximum context length" in printed.err
        assert "warning: row 9: HTTP 500: crashed, 3 times" in printed.err
        assert "error: rows 5, 9 got no answer" in printed.err
        assert "other 10 are kept" in printed.err
        assert "Tokens: 100 of prompts" in printed.out
        assert not (tmp_path / "out.csv").exists()
        assert server.asked["Question: How old is 3?"] == 1
        assert server.asked["Question: How old is 7?"] == 3
        # One row is left out, the other works now: nothing else is asked again.
        kept = csv_text(
            ["question", "context", "note"],
            [[f"How old is {n}?", CONTEXT, ""] for n in range(12) if n != 3],
        )
        write_whole(source, kept)
        mended = True
        predict_main(command)
    assert "Goes on: 10 of 11 were answered before" in capsys.readouterr().out
    assert predictions(source) == [one for one in ALL if one != "SELECT 3"]
    assert set(server.answered.values()) == {1}


def test_a_killed_command_goes_on_where_it_was_and_no_file_ever_holds_the_key(tmp_path):
    source = questions(tmp_path, 40)
    kept = tmp_path / ".out.csv.partial"
    environment = {**os.environ, "MY_SERVER": KEY, "PYTHONPATH": str(ROOT)}

    def says(question: str, before: int) -> Any:
        if number(question) >= 25 and not resumed:
            return Stall()
        return f"SELECT {number(question)} -- {KEY}"  # a server that repeats it

    resumed = False
    with serving(says) as server:
        more = ("--concurrency", "2", "--key-env", "MY_SERVER")
        command = [sys.executable, "-m", "qc_experiments", "predict"]
        command += asking(server.url, source, *more)
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            wait_for(lambda: kept.exists() and kept.read_bytes().count(b"\n") >= 9, process)
            process.send_signal(signal.SIGKILL)
            said, _ = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "out.csv").exists()
        lines = kept.read_bytes().count(b"\n")
        assert lines >= 9
        assert KEY.encode() not in kept.read_bytes() + said
        before = Counter(server.answered)
        resumed = True
        done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert f"Goes on: {lines} of 40 were answered before".encode() in done.stdout
    assert predictions(source) == [f"SELECT {n} -- ***" for n in range(40)]
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()
    assert KEY.encode() not in done.stdout + done.stderr
    # What had come was not asked for again; two were on their way at most.
    assert sum(before.values()) - lines <= 2
    assert server.answered.total() - 40 <= 2


def test_an_interruption_says_what_is_kept_and_does_not_wait_for_the_server(tmp_path):
    source = questions(tmp_path)
    kept = tmp_path / ".out.csv.partial"

    def says(question: str, before: int) -> Any:
        return sql(question) if number(question) < 4 else Stall()

    with serving(says) as server:
        process = start(["-m", "qc_experiments", "predict", *asking(server.url, source)])
        wait_for(lambda: kept.exists() and kept.read_bytes().count(b"\n") == 4, process)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.splitlines()[-1].endswith(
        "4 of 12 answers are kept; the same command goes on from there"
    )


def test_another_model_or_setting_starts_again_and_another_prompt_is_asked_anew(tmp_path, capsys):
    source = questions(tmp_path)
    broken = True

    def says(question: str, before: int) -> Any:
        return Status(400, "no") if broken and number(question) == 11 else sql(question)

    def told(*more: str) -> str:
        with pytest.raises(SystemExit):
            predict_main(asking(server.url, source, *more))
        return capsys.readouterr().out

    with serving(says) as server:
        told()
        assert "Goes on: 11 of 12" in told()
        assert "starts again" in told("--temperature", "0.5")
        assert "starts again" in told("--api", "completion")
        assert "Goes on" not in (again := told("--body", '{"seed": 1}'))
        assert "starts again" in again
        # how the server is treated changes no answer
        assert "Goes on: 11 of 12" in told("--body", '{"seed": 1}', "--concurrency", "2")
        (tmp_path / "mine.txt").write_text("{context}\nMine.\nQuestion: {question}\n{query}")
        before = server.asked.total()
        assert "Goes on" not in told("--body", '{"seed": 1}', "--template", f"{tmp_path}/mine.txt")
        assert server.asked.total() == before + 12
        broken = False
        predict_main(asking(server.url, source, "--body", '{"seed": 1}'))
        assert "Goes on: 11 of 12" in capsys.readouterr().out
    assert predictions(source) == ALL


def test_the_same_question_is_asked_once(tmp_path):
    rows = [["How old is 0?", CONTEXT]] * 5
    write_whole(tmp_path / "q.csv", csv_text(["question", "context"], rows))
    with serving(sql) as server:
        predict_main(asking(server.url, tmp_path / "q.csv"))
    assert predictions(tmp_path / "q.csv") == ["SELECT 0"] * 5
    assert server.asked.total() == 1


@pytest.mark.parametrize("several", [True, False], ids=["n", "one at a time"])
def test_samples_vote_by_what_they_return(tmp_path, several):
    (tmp_path / "db").mkdir()
    with closing(sqlite3.connect(tmp_path / "db" / "pets.sqlite")) as connection:
        connection.executescript(f"{CONTEXT}; INSERT INTO pet VALUES ('Rex', 3), ('Tom', 5);")
    samples = ("SELECT nothing", "SELECT 7", "SELECT max(age) FROM pet", "SELECT 5", "no SQL")
    write_whole(tmp_path / "q.csv", csv_text(["question"], [["How old is 0?"]]))

    def says(question: str, before: int) -> Written:
        return Written(samples if several else (samples[before],))

    with serving(says) as server:
        predict_main(
            asking(
                *(server.url, tmp_path / "q.csv", "--db", str(tmp_path / "db" / "pets.sqlite")),
                *("--samples", "5", "--temperature", "0.7"),
            )
        )
    assert predictions(tmp_path / "q.csv") == ["SELECT max(age) FROM pet"]
    assert server.asked.total() == (1 if several else 5)
    assert server.bodies[0]["n"] == 5
    assert server.bodies[0]["temperature"] == 0.7


def test_without_databases_the_first_sample_that_runs_counts(tmp_path):
    source = questions(tmp_path, 1)
    with serving(lambda question, before: Written(("SELECT x", "SELECT age FROM pet"))) as server:
        predict_main(asking(server.url, source, "--samples", "2", "--temperature", "1"))
    assert predictions(source) == ["SELECT age FROM pet"]


def test_questions_are_asked_from_a_notebook_too_whose_loop_runs(tmp_path):
    source = questions(tmp_path)

    async def cell(url: str) -> None:
        predict_main(asking(url, source))

    with serving(sql) as server:
        asyncio.run(cell(server.url))
    assert predictions(source) == ALL


def test_requests_keep_to_the_rate_and_to_what_a_server_asks_for(tmp_path):
    source = questions(tmp_path, 5)
    with serving(sql) as server:
        predict_main(asking(server.url, source, "--requests-per-minute", "600"))
    gaps = [b - a for a, b in zip(server.moments, server.moments[1:], strict=False)]
    assert min(gaps) > 0.06  # a tenth of a second, as far as threads wake up in time
    (tmp_path / "out.csv").unlink()

    def throttled(question: str, before: int) -> Any:
        first = len(server.moments) == 1
        return Status(429, "slower", {"Retry-After": "1"}) if first else sql(question)

    with serving(throttled) as server:
        predict_main(asking(server.url, source, "--concurrency", "1"))
    assert server.moments[1] - server.moments[0] > 0.95


def test_thoughts_are_no_answer_and_what_is_cut_off_is_counted(tmp_path, capsys):
    said = {
        0: "<think>\nSELECT 9?\nNo.</think>\n\nSELECT 0",
        1: "Let me see:\nSELECT 9\n</think>SELECT 1",
    }
    source = questions(tmp_path, 3)

    def says(question: str, before: int) -> Any:
        text = said.get(number(question))
        return text or Written(("<think>\nSELECT 9 would be wrong, since",), "length")

    with serving(says) as server:
        predict_main(asking(server.url, source))
    assert predictions(source) == ["SELECT 0", "SELECT 1", ""]
    printed = capsys.readouterr().out
    assert "1 answer of 3 without SQL" in printed
    assert "1 answer of 3 cut off at --max-tokens" in printed


# ---- servers that answer nobody ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (Status(401, f"Incorrect key {KEY}"), "does not let us in (HTTP 401: Incorrect key ***)"),
        (Status(403, "no"), "--key-env names another environment variable"),
        (Status(404, "no such model"), "--model srved: {url} serves served (did you mean served?)"),
        (Status(307, "", {"Location": "http://elsewhere/v1"}), "sends on to http://elsewhere/v1"),
        (Status(402, "no credit"), "wants to be paid first"),
        (Status(429, "quota", {"Retry-After": "86400"}), "asks to be left alone for 86400 s"),
    ],
)
def test_what_would_be_said_to_all_ends_it_in_one_line(
    said, told, tmp_path, monkeypatch, refused, capsys
):
    monkeypatch.setenv("MY_SERVER", KEY)
    source = questions(tmp_path)
    with serving(lambda question, before: said) as server:
        command = asking(server.url, source, "--key-env", "MY_SERVER", model="srved")
        line = refused(predict_main, command)
    assert told.format(url=server.url) in line
    assert KEY not in line
    assert server.asked.total() <= 8
    assert [path.name for path in tmp_path.iterdir()] == ["q.csv"]


def test_an_api_that_a_server_lacks_names_the_other(tmp_path, refused):
    with serving(lambda question, before: Status(404, "Not Found")) as server:
        command = asking(server.url, questions(tmp_path), "--api", "completion")
        assert "HTTP 404: Not Found: try --api chat" in refused(predict_main, command)
        server.models = []
        assert "is it the address of the API" in refused(predict_main, command)


def test_a_server_that_is_down_is_not_waited_for(tmp_path, refused):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        line = refused(predict_main, asking(url, questions(tmp_path)))
    assert f"--endpoint {url}: no server answers there" in line


def test_a_server_that_goes_away_is_tried_again_and_then_given_up(tmp_path, capsys):
    source = questions(tmp_path, 60)

    def says(question: str, before: int) -> Any:
        return sql(question) if len(server.moments) <= 4 else Drop()

    with serving(says) as server, pytest.raises(SystemExit) as stopped:
        predict_main(asking(server.url, source, "--retries", "1"))
    assert stopped.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "20 questions in a row got no answer, the last: the connection broke" in line
    assert "answers are kept, the same command goes on" in line
    assert server.asked.total() < 80  # of 116


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path, refused):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        capture_output=True,
        check=True,
    )
    source = questions(tmp_path, 2)
    with serving(sql, (certificate, key)) as server:
        line = refused(predict_main, asking(server.url, source))
        assert "its https cannot be trusted" in line
        assert "SSL_CERT_FILE" in line
        assert not server.asked
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(certificate))
            predict_main(asking(server.url, source))
    assert predictions(source) == ALL[:2]


def test_so_many_retries_overflow_nothing(monkeypatch):
    """A server that is down for a night, with --retries 2000; only the last pause is waited for."""
    monkeypatch.setattr(endpoint_client, "LONGEST_PAUSE", 0.01)

    async def pause() -> int:
        asked = Endpoint("http://127.0.0.1:1/v1", "served", Api.chat, {})
        async with endpoint_client.Client(asked, Manners(retries=2000)) as client:
            await client._pause(1999, 0.0)
            return client.retries

    assert asyncio.run(pause()) == 1


def test_no_more_tasks_than_questions_wait(tmp_path, monkeypatch):
    made = []
    ask = endpoint_asking.Asking._ask
    monkeypatch.setattr(
        endpoint_asking.Asking, "_ask", lambda *given: made.append(1) or ask(*given)
    )
    source = questions(tmp_path, 3)
    with serving(sql) as server:
        predict_main(asking(server.url, source, "--concurrency", "1000000"))
    assert predictions(source) == ALL[:3]
    assert len(made) == 3


def test_a_server_is_asked_without_torch(tmp_path):
    source = questions(tmp_path, 2)
    code = (
        "import sys\n"
        "from qc_experiments.cli.predict import main\n"
        "main(sys.argv[1:])\n"
        "print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))\n"
    )
    two = ("--samples", "2", "--temperature", "1")
    with serving(lambda question, before: Written(("SELECT x", "SELECT age FROM pet"))) as server:
        done = subprocess.run(
            [sys.executable, "-c", code, *asking(server.url, source, *two)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert predictions(source) == ["SELECT age FROM pet"] * 2
    assert done.stdout.splitlines()[-1] == "[]"


# ---- real models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", then_slow("plain", "chat"))
def test_an_adapter_behind_an_endpoint_predicts_what_it_predicts_here(train, tmp_path, wrap):
    adapter = train("data.limit=8", "evaluation.limit=2", f"data.wrap={wrap}").folder / "adapter"
    source = questions(tmp_path, 6)
    local = ["--adapter", str(adapter), "--input", str(source), "--decoding", "greedy"]
    predict_main([*local, "--output", str(tmp_path / "here.csv")])
    direct = {"chat_template_kwargs": {"enable_thinking": False}}
    server = AdapterServer(adapter)
    with served(server):
        more = ["--adapter", str(adapter), "--body", json.dumps(direct)]
        predict_main(asking(server.url, source, *more))
    assert answered(tmp_path / "out.csv") == answered(tmp_path / "here.csv")
    path = "/v1/completions" if wrap == "plain" else "/v1/chat/completions"
    assert set(server.paths) == {path}
    # The server read what the model was trained on, token for token.
    template = read_template(adapter / "template.txt")
    rows = [Row(n, f"How old is {n}?", "", CONTEXT) for n in range(6)]
    expected = Encoder(server.tokenizer, template, Wrap(wrap)).prompts(rows)
    assert sorted(server.prompts) == sorted(expected)
    assert wrap == "chat" or any(predictions(source))


def test_a_closing_text_of_the_template_is_where_a_completion_stops(train, tmp_path):
    template = tmp_path / "closed.txt"
    template.write_text("{context}\nQuestion: {question}\n```sql\n{query}\n```")
    run = train("data.limit=8", "evaluation.limit=2", f"data.template={template}")
    source = questions(tmp_path, 1)
    with serving(lambda question, before: "SELECT 0") as server:
        predict_main(asking(server.url, source, "--adapter", str(run.folder / "adapter")))
    (body,) = server.bodies
    assert body["stop"] == ["\n```"]
    assert body["prompt"].endswith("Question: How old is 0?\n```sql\n")
    assert body["max_tokens"] == 8  # as the run says
