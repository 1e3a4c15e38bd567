"""What an installed wheel holds: option files, templates and demo data come along."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.runs import ROOT


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
    assert not [name for name in held if name.startswith(("tests/", "scripts/"))]
