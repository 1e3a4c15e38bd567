"""The comparison as a Weights & Biases workspace and report, built as code with wandb-workspaces.

They show runs that were measured alike, and no others; the report also says in words what the paired
test allows to be said, which W&B's own panels do not know.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qc_experiments.comparison.facts import CODE, DATA, SEED, TEMPLATE
from qc_experiments.comparison.grouping import Configuration, Group
from qc_experiments.comparison.runs import Run
from qc_experiments.comparison.study import Study
from qc_experiments.comparison.views.table import interval_text, remarks, show, show_cost, show_p
from qc_experiments.config.metrics import COSTS, EXACT, EXECUTION, LOSS
from qc_experiments.errors import UserError, in_one_line
from qc_experiments.records.folder import Identity
from qc_experiments.system.words import counted

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Report
    from wandb_workspaces.workspaces import Workspace

LONGEST_TITLE = 128
"""Characters of a report's title that W&B takes."""
MOST_LINES = 50
"""Runs whose curves a plot shows."""
CURVES = {"loss": "training loss", LOSS.logged_as: LOSS.title}
PREDICTIONS = "predictions"
"""The W&B table that each run logs."""


@dataclass(frozen=True)
class Shown:
    """What a workspace and a report show.

    Attributes:
        study: the comparison.
        group: of it, the runs that were measured alike.
        runs: those of the group that were tracked in this project.
        left_out: how many tracked runs of other groups or projects there are.
        entity: whose project it is; empty for the default of whoever is logged in.
        project: the W&B project.
        title: of both.
    """

    study: Study
    group: Group
    runs: tuple[Run, ...]
    left_out: int
    entity: str
    project: str
    title: str

    @property
    def swept(self) -> list[str]:
        """Settings in which the runs differ."""
        return [key for key in self.group.swept if key not in (DATA, TEMPLATE, CODE)]


def choose(
    study: Study, title: str | None = None, entity: str | None = None, project: str | None = None
) -> Shown:
    """Choose what is shown: the runs of the largest group in the project that most of them are in.

    Args:
        study: the comparison.
        title: of workspace and report; None takes the folders' names.
        entity: None takes that of the runs.
        project: only runs of this one; None takes the one that most runs are in.

    Raises:
        UserError: if no run was tracked by Weights & Biases.
    """
    tracked = [
        run for run in study.runs if run.config.get("tracking.name") == "wandb" and run.config_hash
    ]
    wanted = {run.folder for run in tracked if project in (None, _project(run))}
    found = ((group, [r for r in group.members if r.folder in wanted]) for group in study.groups)
    group, members = next((one for one in found if one[1]), (None, []))
    if group is None:
        place = "" if project is None else f" in project {project}"
        raise UserError(
            f"{', '.join(map(str, study.folders))}: no run here was tracked by Weights & Biases{place}: "
            "train with tracking=wandb"
        )
    [(project, _)] = Counter(map(_project, members)).most_common(1)
    members = [run for run in members if _project(run) == project]
    if entity is None:
        known = [run.config.get("tracking.entity") for run in members]
        entity = str(next(filter(None, known), ""))
    if title is None:
        title = ", ".join(folder.resolve().name for folder in study.folders)
    return Shown(study, group, tuple(members), len(tracked) - len(members), entity, project, title)


def offline_runs(shown: Shown) -> list[Path]:
    """Folders that ``wandb sync`` still has to send."""
    found = [path for run in shown.runs for path in run.folder.glob("wandb/offline-run-*")]
    return sorted(path for path in found if not list(path.glob("*.wandb.synced")))


def build_workspace(shown: Shown) -> Workspace:
    """The workspace: comparison, learning curves, cost, predictions, for these runs alone."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    objective = shown.study.objective
    parts = (key.partition(".") for key in shown.swept)
    columns = [f"config:{section}.value{dot}{rest}" for section, dot, rest in parts]
    figures = [one.key for one in (EXECUTION, EXACT, LOSS, *shown.study.own_metrics)]
    figures += [cost.recorded.key for cost in COSTS if cost.unit]
    measured = [key for key in figures if _measured(shown, key)]
    columns += [f"summary:{key}" for key in dict.fromkeys((objective.key, *measured))]
    return ws.Workspace(
        entity=shown.entity,
        project=shown.project,
        name=_plain(shown.title),
        sections=[
            ws.Section(name=name, panels=panels, is_open=True)
            for name, panels in _sections(shown).items()
        ],
        settings=ws.WorkspaceSettings(max_runs=min(MOST_LINES, max(1, len(shown.runs)))),
        runset_settings=ws.RunsetSettings(
            filters=_only(shown.runs),
            order=[
                expr.Ordering(expr.Summary(objective.key), ascending=not objective.higher_is_better)
            ],
            pinned_columns=columns,
        ),
    )


def build_report(shown: Shown) -> Report:
    """The report, whose entity must be known: a table, what the test says, and the workspace's panels."""
    import wandb_workspaces.reports.v2 as wr

    objective = shown.study.objective
    lines = [f"{shown.study.counted()}. {shown.group.name}.", *remarks(shown.group)]
    if shown.left_out:
        more = counted(shown.left_out, "more run")
        lines.append(f"Not shown: {more}, measured otherwise or in another project.")
    blocks: list[Any] = [wr.MarkdownBlock(_markdown_table(shown)), *map(wr.P, lines)]
    for name, panels in _sections(shown).items():
        runset = wr.Runset(
            name=_plain(shown.title),
            filters=_only(shown.runs),
            order=[
                wr.OrderBy(
                    wr.SummaryMetric(objective.key), ascending=not objective.higher_is_better
                )
            ],
        )
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runset], panels=panels)]
    return wr.Report(
        project=shown.project,
        entity=shown.entity,
        title=f"{_plain(shown.title)}: {objective.title}"[:LONGEST_TITLE],
        description=shown.study.counted(),
        blocks=blocks,
        width="fluid",
    )


def save(shown: Shown) -> tuple[str, str]:
    """Save workspace and report on the server, by default for the login; returns their addresses."""
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        entity = shown.entity or wandb.Api().default_entity
        if not entity:
            raise UserError("--entity is not given, and the login has no default: give --entity")
        known = replace(shown, entity=entity)
        report = build_report(known).save()  # it makes the project if there is none yet
        workspace = build_workspace(known).save()
        return str(workspace.url), str(report.url)
    except UserError:
        raise
    except Exception as error:  # requests', graphql's and wandb's own, by version
        reason = in_one_line(error)[:300]
        raise UserError(f"Weights & Biases did not take it ({reason})") from None


def _sections(shown: Shown) -> dict[str, list[Any]]:
    """The panels by the section that they stand in."""
    import wandb_workspaces.reports.v2 as wr

    objective = shown.study.objective
    swept = [key for key in shown.swept if key != SEED]
    axes = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key)) for key in swept]
    axes += [
        wr.ParallelCoordinatesPlotColumn(
            metric=wr.SummaryMetric(one.key), inverted=not one.higher_is_better
        )
        for one in ((objective,) if objective is LOSS else (objective, LOSS))
        if _measured(shown, one.key)
    ]
    wide = wr.Layout(w=24, h=10)
    comparison: list[Any] = []
    if swept:
        comparison = [
            wr.ParallelCoordinatesPlot(columns=axes, title=objective.title, layout=wide),
            wr.ParameterImportancePlot(with_respect_to=objective.key),
        ]
    comparison += [
        wr.BarPlot(
            title=objective.title, metrics=[wr.SummaryMetric(objective.key)], max_runs_to_show=50
        ),
        wr.RunComparer(diff_only="split", layout=wide),
    ]
    sections = {
        "Comparison": comparison,
        "Learning curves": [
            wr.LinePlot(title=title, x="Step", y=[key], title_y=LOSS.unit)
            for key, title in CURVES.items()
        ],
        "Cost": [
            wr.ScatterPlot(
                title=f"{objective.title} by {cost.recorded.title}",
                x=wr.SummaryMetric(cost.recorded.key),
                y=wr.SummaryMetric(objective.key),
            )
            for cost in COSTS
            if _measured(shown, cost.recorded.key)
        ],
        "Predictions": [wr.WeavePanelSummaryTable(table_name=PREDICTIONS, layout=wide)],
    }
    return {name: panels for name, panels in sections.items() if panels}


def _markdown_table(shown: Shown) -> str:
    swept = [key for key in shown.swept if key != SEED]
    others = shown.study.other_metrics
    [trainable] = [cost for cost in COSTS if not cost.unit]
    heads = ["", *swept, "seeds", *(one.title for one in others), EXECUTION.title]
    heads += ["95 % interval", "loss", trainable.head, "leader against it (p, Holm)"]
    rows = [heads, ["---"] * len(heads)]
    for place, one in enumerate(shown.group.configurations, 1):
        interval = interval_text(one)
        rows.append(
            [
                str(place) if shown.group.ranked else "-",
                *(show(one.facts.get(key)) for key in swept),
                str(len(one.runs)),
                *(metric.shown(one.mean(metric.key)) for metric in others),
                EXECUTION.shown(one.mean(EXECUTION.key)) or "not measured",
                interval and f"{interval} %",
                LOSS.shown(one.mean(LOSS.key)),
                show_cost(trainable, one.mean(trainable.recorded.key)),
                _against(one, shown.group),
            ]
        )
    # No text can end a cell or begin markup.
    escaped = ((re.sub(r"[\\`*_\[\]<>|]", r"\\\g<0>", cell) for cell in row) for row in rows)
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in row)} |" for row in escaped)


def _against(one: Configuration, group: Group) -> str:
    tests = [group.against[run.folder] for run in one.runs if run.folder in group.against]
    if not tests:
        return "leader" if group.best in one.runs else "not tested"
    worst = max(tests, key=lambda test: test.p_holm)
    return f"{worst.verdict} ({show_p(worst.p_holm)})"


def _measured(shown: Shown, key: str) -> bool:
    return any(run.figure(key) is not None for run in shown.runs)


def _project(run: Run) -> str:
    return str(run.config.get("tracking.project"))


def _only(runs: Sequence[Run]) -> list[Any]:
    """The filter that lets these runs through alone."""
    from wandb_workspaces import expr

    ids = [Identity(run.name, str(run.config_hash)).run_id for run in runs]
    return [expr.Metric("ID").isin(ids)]


def _plain(title: str) -> str:
    """A title without symbols, which W&B refuses in names."""
    kept = "".join(c for c in title if c.isalnum() or c in " ._-,:()/#&'")
    return kept.strip() or "comparison"
