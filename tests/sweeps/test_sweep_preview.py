"""`qc plan -m`: each run is counted once, and a job that will be refused is named with the reason."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from qc_experiments.cli.plan import main as plan


@pytest.fixture
def planned(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What `qc plan -m` prints, and whether it names jobs that will be refused."""

    def start(*swept: str) -> tuple[list[str], int]:
        model = ["model=hub", f"model.name_or_path={tiny_model}", "tracking=none"]
        code = 0
        try:
            plan(["-m", "data=demo", f"paths.output={tmp_path / 'out'}", *model, *swept])
        except SystemExit as stopped:
            code = int(str(stopped.code))
        assert not (tmp_path / "out").exists()
        said = capsys.readouterr().out.splitlines()
        # transformers prints a line of its own in the test that imports it first.
        return [line for line in said if not line.startswith("[INFO]")], code

    return start


@pytest.mark.parametrize(
    ("swept", "runs", "again"),
    [
        (["lora.r=8,8"], 1, 1),
        (["lora.dropout=0,0.0"], 1, 1),
        (["lora=r8,r16", "lora.r=4"], 1, 1),
        (["lora.alpha=16,16.0,32", "lora.r=8"], 2, 1),
        (["trainer.logging_steps=1,2"], 1, 1),  # which determines nothing
        (["lora.r=4,8", "seed=1,2"], 4, 0),
    ],
)
def test_the_same_run_is_counted_once(planned, swept, runs, again):
    said, code = planned(*swept)
    jobs = runs + again
    assert code == 0
    assert said[0].startswith(f"A sweep of {runs} run{'' if runs == 1 else 's'} ")
    assert (f"({jobs} jobs)" in said[0]) == (again > 0)
    assert sum("the same run as job" in line for line in said) == again
    assert len(said) == 1 + jobs


@pytest.mark.parametrize(
    ("swept", "refused", "reason"),
    [
        (["lora.init=pissa,default", "quant=4bit"], [0], "lora.init=pissa needs unquantized"),
        (["lora.r=0,8"], [0], "lora.r=0: must be at least 1"),
        (["lora.r=8,abc"], [1], "lora.r=abc: must be a whole number"),
        (["data.max_length=512,8"], [1], "longer than data.max_length=8"),
        (["data.template=~/nowhere.txt", "seed=1,2"], [0, 1], "~/nowhere.txt: no such file"),
        (["model.adapter=/nowhere,null"], [0], "/nowhere"),
        (["experiment=auto,quickstart"], [0], "chooses for one run"),
    ],
)
def test_a_job_that_will_be_refused_is_named_with_the_reason(planned, swept, refused, reason):
    said, code = planned(*swept)
    assert code == 1
    found = [
        int(before.partition(":")[0].removeprefix("Job "))
        for before, line in pairwise(said)
        if line.startswith("  will be refused: ")
    ]
    assert found == refused
    assert any(reason in line for line in said)
    assert said[0].startswith(f"A sweep of {2 - len(refused)} run")


def test_a_folder_that_holds_something_else_and_a_login_that_lacks_are_seen(
    tiny_model, tmp_path, capsys, monkeypatch
):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("wandb.login", lambda **_: False)
    model = ["data=demo", "model=hub", f"model.name_or_path={tiny_model}"]
    given = [*model, f"paths.output={tmp_path / 'out'}"]
    plan([*given, "lora.r=8", "tracking=none"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Run "))
    folder = Path(line.split(maxsplit=1)[1])
    folder.mkdir(parents=True)
    (folder / "thesis.tex").touch()
    for swept, said in (
        (["lora.r=16,8", "tracking=none"], "holds something else than this run"),
        (["tracking.mode=offline,online", "lora.r=16"], "needs a login"),
    ):
        with pytest.raises(SystemExit):
            plan(["-m", *given, *swept])
        told = capsys.readouterr().out.splitlines()
        (refused,) = (n for n, line in enumerate(told) if line.startswith("  will be refused"))
        assert told[refused - 1].startswith("Job 1:")
        assert said in told[refused]


def test_what_no_job_can_be_is_said_by_its_reason(refused):
    line = refused(plan, ["-m", "lora.r=8,16", "hydra.nothing=1"])
    assert "hydra.nothing" in line
    assert "cannot be composed" not in line
