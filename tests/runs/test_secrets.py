"""No password, token or key is written, sent or shown: runs are searched byte by byte for them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from helpers.postgresql import Server
from helpers.runs import TINY_TRAINING, child
from hypothesis import assume, example, given
from hypothesis import strategies as st

from qc_experiments.__main__ import main as qc
from qc_experiments.cli.compare import main as compare_main
from qc_experiments.cli.train import main
from qc_experiments.cli.wandb import main as wandb_main
from qc_experiments.config.compose import composed, register_schema, to_run_config
from qc_experiments.system.secrets import in_environment, redacted

PASSWORD = "gehe!m@x/ä 7%"
"""With what a URL has to escape."""
TOKENS = {
    "NOTE_API_KEY": "note-key-8c1f",
    "HF_TOKEN": "hf-token-5d2e",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "OPENAI_KEY": "openai-key-77aa",
}
FORMS = [PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), *TOKENS.values()]


def leaks(folder: Path, *printed: str) -> list[str]:
    """Where secrets stand below a folder, or in what was printed."""
    found = []
    texts = [(f"printed {n}", text.encode()) for n, text in enumerate(printed)]
    texts += [(str(path), path.read_bytes()) for path in folder.rglob("*") if path.is_file()]
    for name, content in texts:
        found += [f"{name}: {form}" for form in FORMS if form.encode() in content]
        found += [f"{name}: in its name" for form in FORMS if form in name]
    return found


@pytest.fixture
def url(server: Server) -> str:
    """Of a server on which a role has that password."""
    if not server.execute("SELECT 1 FROM pg_roles WHERE rolname = 'keeper'"):
        server.execute(f"CREATE ROLE keeper LOGIN PASSWORD '{PASSWORD}' IN ROLE reader")
    return f"postgresql://keeper:{quote(PASSWORD, safe='')}@/{{db_id}}?host={server.folder}"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    source = tmp_path / "rows.csv"
    lines = [
        f"How many are above {n}?,SELECT count(*) FROM author WHERE id > {n}" for n in range(9)
    ]
    text = "".join(f'{line},"CREATE TABLE author (id integer);",shop\n' for line in lines)
    source.write_text(f"question,query,context,db_id\n{text}")
    return source


def settings(rows: Path, tiny_model: Path, url: str, output: Path) -> list[str]:
    return [
        *("model=hub", f"model.name_or_path={tiny_model}", "data=csv", f"data.train={rows}"),
        *(f'data.databases="{url}"', f"paths.output={output}", "tracking.mode=offline"),
        *("tracking.notes=${oc.env:NOTE_API_KEY}", "tracking.tags=[${oc.env:OPENAI_KEY}]"),
        *TINY_TRAINING,
        *("trainer.max_steps=1", "evaluation.max_new_tokens=2", "evaluation.base=false"),
    ]


def test_a_run_and_what_is_made_of_it_hold_no_secret(
    url, rows, tiny_model, tmp_path, monkeypatch, capsys
):
    """By the real command, since W&B reads a process's arguments, too."""
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    output = tmp_path / "outputs"
    arguments = settings(rows, tiny_model, url, output)
    done = child("train.py", *arguments)
    assert done.returncode == 0, done.stderr
    (run,) = [path.parent for path in output.glob("*/result.json")]
    main(arguments)
    again = capsys.readouterr()
    assert "has finished before" in again.out
    compare_main([str(output)])
    wandb_main([str(output)])
    told = capsys.readouterr()
    printed = (done.stdout, done.stderr, again.out, again.err, told.out, told.err)
    assert leaks(tmp_path, *printed) == []
    # The search would have found it: what stands beside the password is there.
    for name in ("config.yaml", "environment.json"):
        assert b"postgresql://keeper:" in (run / name).read_bytes()
    (sent,) = run.glob("wandb/offline-run-*/run-*.wandb")
    assert b"postgresql://keeper:***@" in sent.read_bytes()
    assert b'"execution_count": 1' in (run / "result.json").read_bytes()

    # A run that an earlier version wrote down.
    clear = yaml.safe_load((run / "config.yaml").read_text())
    clear["data"]["databases"] = url
    (run / "config.yaml").write_text(yaml.safe_dump(clear))
    failed = {"status": "failed", "error": f"OSError: {url}: no route"}
    (run / "result.json").write_text(json.dumps(failed))
    compare_main([str(output), "--output", str(tmp_path / "compared")])
    assert leaks(tmp_path / "compared", *capsys.readouterr()) == []


def test_the_records_of_a_sweep_hold_no_secret(rows, tiny_model, tmp_path, monkeypatch, capsys):
    """Hydra writes some of them itself; jobs that are refused leave them, too."""
    monkeypatch.setenv("OPENAI_KEY", TOKENS["OPENAI_KEY"])
    monkeypatch.setenv("NOTE_API_KEY", TOKENS["NOTE_API_KEY"])
    output = tmp_path / "outputs"
    secret = quote(PASSWORD, safe="")
    url = f"postgresql://u@h/{{db_id}}?sslmode=require&password={secret}"
    arguments = settings(rows, tiny_model, url, output)
    arguments += [f"tracking.group={TOKENS['HF_TOKEN']}"]
    monkeypatch.setenv("HF_TOKEN", TOKENS["HF_TOKEN"])  # as a shell puts it in: $HF_TOKEN
    arguments += [f"+hydra.job.env_set.WANDB_API_KEY={TOKENS['WANDB_API_KEY']}"]
    swept = f'data.databases="{url}","postgresql://u:{secret}@h/{{db_id}}"'
    with pytest.raises(SystemExit) as stopped:
        main(["-m", *arguments, swept, "lora.dropout=2,3"])
    assert stopped.value.code == 1
    record = (output / "multirun.yaml").read_text()
    assert "postgresql://u@h/{db_id}?sslmode=require&password=" in record
    told = capsys.readouterr()
    assert "lora.dropout" in told.err
    assert leaks(tmp_path, *told) == []
    assert not [name for name in os.environ if name.startswith("QC_SECRET_")]


def test_a_secret_in_an_option_file_is_masked_and_refused_in_a_sweep(train, tmp_path, refused):
    place = tmp_path / "conf" / "tracking" / "mine.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(f"name: none\nnotes: 'postgresql://me:{quote(PASSWORD)}@h/x'\n")
    overrides = ["--config-dir", str(tmp_path / "conf"), "tracking=mine", "trainer.max_steps=1"]
    run = train(*overrides, "evaluation.base=false", "data.limit=4")
    assert leaks(run.folder) == []
    assert "postgresql://me:***@h/x" in (run.folder / "config.yaml").read_text()
    line = refused(main, ["-m", *overrides, "lora.r=2,4", f"paths.output={tmp_path / 'sweep'}"])
    assert line.startswith("error: tracking.notes: an option file holds a password")
    assert leaks(tmp_path / "sweep", line) == []


@pytest.mark.parametrize(
    "shown", [["--cfg", "job"], ["--cfg", "job", "--resolve"], ["--info", "all"]]
)
def test_the_printed_config_holds_no_secret(shown, monkeypatch):
    monkeypatch.setenv("NOTE_API_KEY", TOKENS["NOTE_API_KEY"])
    given = [f"data.databases='postgresql://u:{quote(PASSWORD, safe='')}@h/x'"]
    done = child("train.py", *shown, *given, "tracking.notes=${oc.env:NOTE_API_KEY}")
    assert "postgresql://u:" in done.stdout
    assert leaks(Path("nowhere"), done.stdout, done.stderr) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@h:1/d?x=1", "postgresql://u:***@h:1/d?x=1"),
        ("postgresql://u:p@ss/w@h/d: refused", "postgresql://u:***@h/d: refused"),
        ("postgresql://u:p w@h/d", "postgresql://u:***@h/d"),
        ("postgresql+psycopg://:p@[::1]/d", "postgresql+psycopg://:***@[::1]/d"),
        ("mysql://u:a@h/d,mysql://u:b@h/d", "mysql://u:***@h/d,mysql://u:***@h/d"),
        ("postgresql://h/d?user=u&password=p%20w&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ('"postgresql://h/d?sslpassword=p"', '"postgresql://h/d?sslpassword=***"'),
        ("https://h/?access_token=abc#x", "https://h/?access_token=***#x"),
        ("https://tok@github.com/a/b", "https://***@github.com/a/b"),
        ("host=h password=p dbname=d", "host=h password=*** dbname=d"),
        ("host=h password='p w' dbname=d", "host=h password=*** dbname=d"),
        ("postgresql:/u:p@h/d", "postgresql:***@h/d"),
        (
            "--databases=u:p@ss/w@h/{db_id}: no such folder",
            "--databases=u:***@h/{db_id}: no such folder",
        ),
        ("/home/me/postgresql//u:p@h", "/home/me/postgresql//u:***@h"),
        ("['u:p@h/d']", "['u:***@h/d']"),
        ("hf_" + "aB3" * 10, "***"),
        ("use ghp_" + "aB3" * 10 + " here", "use *** here"),
    ],
)
def test_what_a_secret_looks_like(text, shown):
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u@h:5432/d",
        "postgresql://h:5432/shop: role a@b",
        "http://localhost:8080/ serves me@example.org",
        "git@github.com:a/b.git",
        "git+https://github.com/a/b@v1",
        "model.revision=${oc.env:REVISION}@x",
        "row 3: me@example.org",
        "model.pad_token=<pad>",
        "evaluation.max_new_tokens=8",
        "postgresql://h/d?passfile=/home/me/.pgpass",
        "row 3 names db_id shop",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redacted(text) == text
    with in_environment([text]) as overrides:
        assert overrides == [text]


def test_what_secret_variables_hold_is_masked_in_any_form(monkeypatch):
    for name in (
        "DB_PASSWORD",
        "PGPASSWORD",
        "MY_PW",
        "ApiKey",
        "GITHUB_TOKEN",
        "AWS_SECRET",
        "X_KEY_2",
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, "two words/ü")
            text = "a two words/ü, two%20words%2F%C3%BC and two+words%2F%C3%BC"
            assert redacted(text) == "a ***, *** and ***", name
    for name in ("TOKENIZERS_PARALLELISM", "PWD", "HF_TOKEN_PATH", "KEYMAP", "PGPASSFILE", "HOME"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "two words/ü")
            assert redacted("two words/ü") == "two words/ü", name


@example("0@ ")
@example("0@ @ more")
@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1))
def test_no_password_survives_in_a_url(password):
    assume(not re.match(r"\d{1,5}[/?\s]", password))  # reads as the port of a server
    assume(not re.search(r"@\S+\s", password))  # reads as the server, and the URL's end
    for given_password in (password, quote(password, safe="")):
        assert redacted(f"x postgresql://u:{given_password}@h/d") == "x postgresql://u:***@h/d"


@pytest.mark.parametrize(
    "override",
    [
        "data.databases=postgresql://u:a%40b@h/shop",
        "data.databases='postgresql://u:a b@c@h/{db_id}?password=x%20y'",
        'data.databases="postgresql://u:a\'b@h/{db_id}"',
        r"data.databases=postgresql://u:a\,b\=c@h/shop",
        "tracking.tags=[ghp_abcdefghijklmnopqrstuv,b]",
        "tracking.notes=${oc.env:NOTE_API_KEY}",
        'data.databases="postgresql://reader:${oc.env:NOTE_API_KEY}@host/{db_id}"',
    ],
)
def test_a_config_is_the_same_without_secrets_on_the_command_line(override, monkeypatch):
    monkeypatch.setenv("NOTE_API_KEY", TOKENS["NOTE_API_KEY"])
    register_schema()
    wanted = to_run_config(composed([override], None))
    with in_environment([override]) as overrides:
        assert "${oc.env:" in overrides[0]
        assert to_run_config(composed(overrides, None)) == wanted


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader:hun@ter2@localhost:1/{db_id}",
        "postgresql://reader:hun@ter2/x@localhost:1/{db_id}",
        "postgresql:/reader:hunter2@localhost/{db_id}",
        "reader:hun@ter2@localhost/{db_id}",
        "postgres//reader:hunter2@localhost/{db_id}",
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "plan", "data", "predict"])
def test_no_command_shows_part_of_a_password(rows, tmp_path, monkeypatch, capsys, url, command):
    monkeypatch.chdir(tmp_path)
    arguments = {
        "evaluate": [str(rows), "--databases", url, "--output", "out"],
        "plan": ["data=csv", f"data.train={rows}", f"data.databases='{url}'"],
        "data": ["context", url],
        "predict": ["--adapter", str(tmp_path), "--db", url, "--question", "q"],
    }[command]
    monkeypatch.setattr("sys.argv", ["qc", command, *arguments])
    with pytest.raises(SystemExit) as stopped:
        qc()
    assert stopped.value.code == 2
    told = "".join(capsys.readouterr())
    assert told.startswith("error: ")
    assert "hun" not in told
    assert "ter2" not in told
    if "://" in url:
        assert "an @ in its password is written %40" in told
