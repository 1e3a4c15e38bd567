"""The private things of Hydra that we rely on, by name: fails where a new version has lost one."""

from __future__ import annotations

import inspect
from pathlib import Path

from hydra._internal import utils

import qc_experiments
from qc_experiments.cli.hydra_arguments import hydra_parser


def test_private_names_of_hydra_are_used_in_one_file():
    package = Path(qc_experiments.__file__).parent
    users = [path.name for path in package.rglob("*.py") if "hydra._" in path.read_text("utf-8")]
    assert users == ["hydra_arguments.py"]


def test_hydra_runs_a_task_by_the_private_function():
    parameters = list(inspect.signature(utils._run_hydra).parameters)
    assert parameters[:5] == ["args", "args_parser", "task_function", "config_path", "config_name"]


def test_hydras_private_parser_has_the_flags():
    given = vars(hydra_parser().parse_args([]))
    names = ["help", "hydra_help", "overrides", "cfg", "resolve", "package", "run", "multirun"]
    names += ["shell_completion", "config_path", "config_name", "config_dir", "experimental_rerun"]
    assert set(given) == {*names, "info"}
