"""``qc wandb``: show a comparison on Weights & Biases, as a workspace and a report."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from importlib.util import find_spec

from qc_experiments.cli.compare import runs_parser, studied
from qc_experiments.errors import UserError
from qc_experiments.system.console import told_to_users
from qc_experiments.system.words import counted


def main(arguments: Sequence[str]) -> None:
    """Build both, and save them where there is a login; exits with 2 where the user has to mend something."""
    with told_to_users():
        parser = runs_parser(
            "qc wandb",
            "Build a Weights & Biases workspace and a report that compare the runs of a sweep, and save "
            "them where there is a login.",
        )
        add = parser.add_argument
        add("--title", help="of workspace and report (the folder's name)")
        add("--entity", help="whose project it is (that of the runs, or the login's)")
        add("--project", help="only runs of this project (that of most runs)")
        _show(parser.parse_args(arguments))


def _show(options: argparse.Namespace) -> None:
    if find_spec("wandb_workspaces") is None:
        raise UserError("qc wandb needs wandb-workspaces: pip install 'qc_experiments[sweeps]'")
    from qc_experiments.comparison.views import wandb as views
    from qc_experiments.config.schema import WandbMode
    from qc_experiments.tracking.wandb import wandb_mode

    study = studied(options.folders, options.objective)
    shown = views.choose(study, options.title, options.entity, options.project)
    workspace = views.build_workspace(shown)
    report = views.build_report(shown)
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
    if wandb_mode(WandbMode.auto) != "online":
        print("Not saved, for lack of a login: run `wandb login`, then this command again.")
    else:
        for what, address in zip(("Workspace", "Report   "), views.save(shown), strict=True):
            print(f"{what} {address}")
    if waiting := views.offline_runs(shown):
        # One shell pattern for the runs that stand beside each other.
        places = dict.fromkeys(str(run.resolve().parents[2]) for run in waiting)
        patterns = " ".join(f"{shlex.quote(place)}/*/wandb/offline-run-*" for place in places)
        print(
            f"Not on the server yet: {counted(len(waiting), 'offline run')}. To send all:\n"
            f"  wandb sync {patterns}"
        )
