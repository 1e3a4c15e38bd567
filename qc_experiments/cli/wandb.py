"""``qc wandb``: show a comparison on Weights & Biases, as a workspace and a report."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from qc_experiments.cli.compare import runs_parser, studied
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.words import counted


def main(arguments: Sequence[str]) -> None:
    """Build both, and save them where there is a login; exits with 2 where the user has to mend something."""
    with told_to_users():
        _show(_parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = runs_parser(
        "qc wandb",
        "Build a Weights & Biases workspace and a report that compare the runs of a sweep, and save them "
        "where there is a login.",
    )
    parser.add_argument("--title", help="of workspace and report (the folder's name)")
    parser.add_argument("--entity", help="whose project it is (that of the runs, or the login's)")
    parser.add_argument("--project", help="only runs of this project (that of most runs)")
    return parser


def _show(options: argparse.Namespace) -> None:
    if find_spec("wandb_workspaces") is None:
        raise UserError("qc wandb needs wandb-workspaces: pip install 'qc_experiments[sweeps]'")
    from qc_experiments.comparison.views.wandb import (
        build_report,
        build_workspace,
        choose,
        offline_runs,
        save,
    )
    from qc_experiments.config.schema import WandbMode
    from qc_experiments.tracking.wandb import wandb_mode

    study = studied(options.folders, options.objective)
    shown = choose(study, options.title, options.entity, options.project)
    workspace = build_workspace(shown)
    report = build_report(shown)
    panels = sum(len(section.panels) for section in workspace.sections)
    print(
        f"{counted(len(shown.runs), 'run')} of project {shown.project}, compared by {study.objective.title}"
    )
    if shown.left_out:
        print(f"{shown.left_out} more were measured otherwise, or are in another project: left out")
    for line in study.left_out_lines():
        print(line)
    sections = counted(len(workspace.sections), "section")
    print(f"Workspace {workspace.name}: {sections}, {counted(panels, 'panel')}")
    print(f"Report    {report.title}: {counted(len(report.blocks), 'block')}")
    waiting = offline_runs(shown)
    if wandb_mode(WandbMode.auto) != "online":
        print("Not saved, for lack of a login: run `wandb login`, then this command again.")
    else:
        for what, address in zip(("Workspace", "Report   "), save(shown), strict=True):
            print(f"{what} {address}")
    if waiting:
        print(
            f"Not on the server yet: {counted(len(waiting), 'offline run')}. To send all:\n"
            f"  wandb sync {' '.join(_patterns(waiting))}"
        )


def _patterns(runs: Sequence[Path]) -> list[str]:
    """Shell patterns that name all offline runs: one for the runs that stand beside each other."""
    places = dict.fromkeys(run.resolve().parents[2] for run in runs)
    return [f"{shlex.quote(str(place))}/*/wandb/offline-run-*" for place in places]
