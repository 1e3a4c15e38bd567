"""What may be typed of a model behind an endpoint, and what is refused before anybody is asked."""

from __future__ import annotations

import pytest
from helpers.endpoint import serving

from qc_experiments.cli.predict import main
from qc_experiments.system.files import csv_text, write_whole


@pytest.fixture
def source(tmp_path):
    rows = [["How many?", "CREATE TABLE pet (name TEXT)"]]
    write_whole(tmp_path / "q.csv", csv_text(["question", "context"], rows))
    return ["--input", str(tmp_path / "q.csv"), "--output", str(tmp_path / "out.csv")]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--samples", "4"], "--samples 4 needs different answers: set --temperature 0.7"),
        (["--samples", "0"], "--samples 0: must be at least 1"),
        (["--temperature", "-1"], "--temperature -1.0: must be at least 0"),
        (["--samples", "4", "--not-below", "60"], "--not-below 60: must be from 0 to 1"),
        (["--not-below", "nan"], "--not-below nan: must be from 0 to 1"),
        (["--temperature", "nan"], "--temperature nan: must be a finite number"),
        (["--temperature", "inf"], "--temperature inf: must be a finite number"),
        (["--timeout", "0"], "--timeout 0: must be above 0"),
        (["--requests-per-minute", "inf"], "--requests-per-minute inf: must be a finite number"),
        (["--retries", "-1"], "--retries -1: must be at least 0"),
        (["--max-tokens", "0"], "--max-tokens 0: must be at least 1"),
        (["--api", "responses"], "--api responses: must be one of chat, completion"),
        (["--body", "[1]"], "--body [1]: must be a JSON object"),
        (["--body", '{"temperature": NaN}'], "must be a JSON object"),
        (["--body", '{"stream": true}'], "--body: stream is not for you to give"),
        (["--key-env", "NO_SUCH"], "--key-env NO_SUCH: there is no such environment variable"),
        (["--template", "none.txt"], "--template=none.txt: no such file"),
        (["--template", "t.txt", "--adapter", "run"], "--adapter brings its own template"),
        (["--adapter", "none"], "--adapter none: no such folder"),
        (["--base-model", "x"], "--base-model is for a model that runs here"),
        (["--decoding", "guided"], "--decoding is for a model that runs here"),
        (["--batch-size", "16"], "--batch-size is for a model that runs here"),
        (["--engine", "postgres"], "there is no engine postgres (did you mean postgresql?)"),
        (["--endpoint", "localhost:8000"], "is no address of a server"),
        (["--endpoint", "ftp://x/v1"], "is no address of a server"),
        (["--endpoint", "http://x:port/v1"], "is no address of a server"),
        (["--endpoint", "https://me:pw12345@x/v1"], "--endpoint: holds a password or key"),
        (["--model", " "], "needs --model"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(given, told, source, refused):
    line = refused(main, ["--endpoint", "http://localhost:1/v1", "--model", "m", *source, *given])
    assert told in line
    assert "pw12345" not in line


def test_a_key_that_no_header_takes_is_refused_and_not_shown(source, monkeypatch, refused):
    monkeypatch.setenv("MY_SERVER", "sécret key")
    given = ["--endpoint", "http://localhost:1", "--model", "m", "--key-env", "MY_SERVER"]
    line = refused(main, [*given, *source])
    assert "--key-env MY_SERVER: holds blanks or other characters" in line
    assert "cret" not in line.replace("secret", "")


def test_options_of_an_endpoint_need_one(source, refused):
    line = refused(main, ["--adapter", "run", "--model", "m", *source])
    assert "--model goes with --endpoint" in line
    assert "needs --adapter" in refused(main, source)


@pytest.mark.parametrize("ending", ["", "/", "/chat/completions", "/completions/", "/models"])
def test_an_address_may_be_written_as_servers_show_it(ending, source, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(lambda question, before: "SELECT 1") as server:
        main(["--endpoint", server.url + ending, "--model", "m", "--retries", "0", *source])
    assert server.paths == ["/v1/chat/completions"]


def test_what_a_body_brings_comes_first_and_null_leaves_out(source, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    body = '{"max_tokens": null, "max_completion_tokens": 9, "temperature": null, "seed": 1}'
    with serving(lambda question, before: "SELECT 1") as server:
        main(["--endpoint", server.url, "--model", "m", "--body", body, *source])
    (sent,) = server.bodies
    assert sent.keys() == {"model", "messages", "max_completion_tokens", "seed"}
    assert server.keys == {None}  # no key is sent that nobody named
