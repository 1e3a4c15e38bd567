"""What the tests of inspection share."""

from __future__ import annotations

import pytest

from qc_experiments.cli import data as command


@pytest.fixture
def check(capsys):
    """Run ``qc data check``; its exit code and what it printed."""

    def start(*arguments):
        code = 0
        try:
            command.main(["check", *map(str, arguments)])
        except SystemExit as stopped:
            code = stopped.code
        return code, capsys.readouterr().out

    return start
