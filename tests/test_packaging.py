"""What an installed wheel holds: option files, templates and demo data come along."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.runs import ROOT

from qc_experiments import __version__


@pytest.mark.slow
def test_a_wheel_holds_everything_a_user_needs(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, str(ROOT)],
        check=True,
        timeout=600,
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"qc_experiments/conf/{path.relative_to(ROOT / 'conf').as_posix()}" in held
    for path in (ROOT / "qc_experiments").rglob("*"):
        if path.suffix in (".py", ".txt", ".csv", ".sqlite", ".css", ".html", ".js"):
            assert path.relative_to(ROOT).as_posix() in held
    assert not [name for name in held if name.startswith(("tests/", "scripts/", "tools/"))]


def test_the_version_is_the_same_wherever_it_stands():
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert cited[1] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_pre_commit_and_the_workflow_run_what_ci_runs():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    for linter in ("ruff check", "ruff format", "mypy"):
        assert f".venv/bin/{linter}" in hooks
        assert f"$(BIN)/{linter}" in (ROOT / "Makefile").read_text()
    assert "bash .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text()
