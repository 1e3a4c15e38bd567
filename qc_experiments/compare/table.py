"""The comparison for a terminal, and as ``compare.csv``."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

from qc_experiments.compare.grouping import SEED, Configuration, Group, facts
from qc_experiments.compare.objectives import EVAL_LOSS, EXECUTION_ACCURACY
from qc_experiments.compare.runs import Run, Scalar
from qc_experiments.compare.significance import in_words
from qc_experiments.compare.study import Study, compare

NARROWEST = 100
WIDTH_OF_FIGURES = 86
"""Characters that the columns of figures take; the rest is for swept values."""

WIDTH_OF_VALUE = 11

SELECTION = (
    "The leader was chosen on these very questions, so its accuracy is a little too good; confirm it "
    "on fresh ones."
)


def comparison_table(
    folders: Sequence[Path], objective: str | None = None, width: int | None = None
) -> str:
    """The table that ``qc compare`` prints, as a sweep may print it at its end.

    Args:
        folders: runs, or folders that hold runs.
        objective: the figure that ranks them (see `compare`).
        width: characters of a line; None takes the terminal's.

    Raises:
        UserError: if a folder holds no run.
    """
    return table_text(compare(folders, objective), width)


def table_text(study: Study, width: int | None = None) -> str:
    """A comparison as text.

    Args:
        study: the comparison.
        width: characters of a line; None takes the terminal's.
    """
    width = max(NARROWEST, width or shutil.get_terminal_size((120, 24)).columns)
    blocks = [f"{study.counted()}. Ranked by {study.objective.title}."]
    shown = [group for group in study.groups if group.runs]
    for number, group in enumerate(shown, 1):
        title = group.name if len(shown) == 1 else f"Group {number}: {group.name}"
        if group.apart:
            title += f"\nNot ranked with the first group: {group.apart}."
        blocks.append(f"{title}\n{_ranked(study, group, width)}")
        blocks[-1] += "".join(f"\n{line}" for line in _remarks(group))
    unfinished = study.unfinished()
    if unfinished:
        blocks.append(f"Not finished\n{_unfinished(unfinished, width)}")
    return "\n\n".join(blocks)


def _ranked(study: Study, group: Group, width: int) -> str:
    from rich import box
    from rich.table import Table

    pooled = any(len(one.runs) > 1 for one in group.configurations)
    keys = [key for key in group.swept if key != SEED]
    if SEED in group.swept and not pooled:
        keys.append(SEED)
    shown, hidden = _fitting(keys, group, width - WIDTH_OF_FIGURES - (6 if pooled else 0))
    own_column = study.objective.key not in (EXECUTION_ACCURACY, EVAL_LOSS)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=False)
    table.add_column("", justify="right", no_wrap=True)
    if not shown:
        table.add_column("run", overflow="ellipsis", no_wrap=True, max_width=40)
    for key in shown:
        table.add_column(short_name(key, shown), justify="right", overflow="fold")
    if pooled:
        table.add_column("seeds", justify="right")
    if own_column:
        table.add_column(study.objective.title, justify="right")
    for title in (
        "accuracy %",
        "95 % interval",
        "loss",
        "trainable",
        "seconds",
        "memory",
        "leader vs it, p",
    ):
        table.add_column(title, justify="right", no_wrap=title != "leader vs it, p")
    for place, one in enumerate(group.configurations, 1):
        measured = one.mean(study.objective.key) is not None
        cells = [str(place) if group.ranked and measured else "-"]
        cells += [one.runs[0].name] if not shown else []
        cells += [show(one.facts.get(key)) for key in shown]
        cells += [str(len(one.runs))] if pooled else []
        if own_column:
            cells.append(_with_spread(one, study.objective.key, 100, 1))
        table.add_row(
            *cells,
            _with_spread(one, EXECUTION_ACCURACY, 100, 1),
            _interval(one),
            _with_spread(one, EVAL_LOSS, 1, 4, spread=False),
            show_count(one.mean("parameters_trainable")),
            show_number(one.mean("seconds_total"), 0),
            show_bytes(one.mean("peak_memory_bytes")),
            _against(one, group),
        )
    text = _printed(table, width)
    if hidden:
        text += f"\n{len(hidden)} more keys differ (all are in compare.csv): {', '.join(hidden)}"
    return text


def _fitting(keys: Sequence[str], group: Group, room: int) -> tuple[list[str], list[str]]:
    """The keys for which there is room, at least two, and the others."""
    shown: list[str] = []
    for key in keys:
        values = (len(show(one.facts.get(key))) for one in group.configurations)
        room -= 2 + min(max(*values, len(key.rpartition(".")[2]), 4), WIDTH_OF_VALUE + 7)
        if room < 0 and len(shown) >= 2:
            break
        shown.append(key)
    return shown, list(keys[len(shown) :])


def _remarks(group: Group) -> list[str]:
    lines = list(group.warnings)
    if not group.ranked:
        return [*lines, "These runs are not ranked."]
    if group.best is not None:
        lines.append(in_words(group.best, group.against, len(group.runs) - 1))
        if group.against:
            lines.append(SELECTION)
    return lines


def _unfinished(runs: Sequence[Run], width: int) -> str:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("status", no_wrap=True)
    table.add_column("run", overflow="fold")
    table.add_column("step", justify="right")
    table.add_column("error", overflow="fold")
    for run in runs:
        step = run.curves.last_step
        table.add_row(run.status, run.name, "" if step is None else str(step), run.error or "")
    return _printed(table, width)


def _printed(table: object, width: int) -> str:
    from rich.console import Console

    buffer = io.StringIO()
    # Names and errors are data: no markup, no emoji, no colours for what looks like a number.
    console = Console(
        file=buffer, width=width, color_system=None, markup=False, emoji=False, highlight=False
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip().splitlines())


def _with_spread(
    one: Configuration, key: str, factor: float, digits: int, *, spread: bool = True
) -> str:
    mean = one.mean(key)
    if mean is None:
        return "not measured" if factor == 100 else ""
    text = f"{factor * mean:.{digits}f}"
    ends = one.spread(key) if spread else None
    if ends is not None:
        text += f" ({factor * ends[0]:.{digits}f}-{factor * ends[1]:.{digits}f})"
    return text


def _interval(one: Configuration) -> str:
    ends = one.interval()
    return "" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _against(one: Configuration, group: Group) -> str:
    """What the test says of the leader against these seeds."""
    if group.best is None:
        return ""
    if len(one.runs) == 1:
        if one.runs[0] is group.best:
            return "leader"
        found = group.against.get(one.runs[0].folder)
        return "not tested" if found is None else f"{found.verdict}, {show_p(found.p_holm)}"
    others = [run for run in one.runs if run is not group.best]
    tests = [group.against[run.folder] for run in others if run.folder in group.against]
    if not tests:
        return "not tested"
    better = sum(test.verdict == "better" for test in tests)
    text = f"better than {better} of {len(tests)}" if better else "not distinguishable"
    if any(test.verdict == "worse" for test in tests):
        text = "mixed"
    return f"leader; {text}" if group.best in one.runs else text


def short_name(key: str, among: Sequence[str]) -> str:
    """The last part of a key where that is enough to tell it from the others."""
    last = key.rpartition(".")[2]
    return last if sum(one.rpartition(".")[2] == last for one in among) == 1 else key


def show(value: Scalar) -> str:
    """A config value as it stands in a cell."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_number(value: float | None, digits: int) -> str:
    """A number with so many decimals; empty for None."""
    return "" if value is None else f"{value:.{digits}f}"


def show_count(value: float | None) -> str:
    """A large count: ``4.88 M``."""
    if value is None:
        return ""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def show_bytes(value: float | None) -> str:
    """Memory in GiB."""
    return "" if value is None else f"{value / 2**30:.2f} GiB"


def show_p(value: float) -> str:
    """A p value; small ones by their bound."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


TESTS = (
    "leader_difference",
    "leader_low",
    "leader_high",
    "mcnemar_p",
    "mcnemar_p_holm",
    "leader_is",
)
"""Columns of ``compare.csv`` on the test of the group's leader against the row's run."""


def csv_table(study: Study) -> tuple[list[str], list[list[object]]]:
    """Header and rows of ``compare.csv``: one row a run, all swept keys, all figures, the tests."""
    from qc_experiments.record import RESULT_KEYS

    swept = list(dict.fromkeys(key for group in study.groups for key in group.swept))
    figures = [key for key in RESULT_KEYS if key not in ("status", "error", SEED)]
    if SEED not in swept:
        swept.append(SEED)
    header = ["group", "rank", "run", "folder", "status", "error", *swept, *figures, *TESTS]
    rows: list[list[object]] = []
    for group in study.groups:
        for place, run in enumerate((*group.runs, *group.unfinished), 1):
            ranked = group.ranked and run.figure(study.objective.key) is not None
            known = facts(run)
            rows.append(
                [
                    group.name,
                    place if ranked else None,
                    run.name,
                    str(run.folder),
                    run.status,
                    run.error,
                    *(_cell(known.get(key)) for key in swept),
                    *(run.result.get(key) for key in figures),
                    *_test_cells(run, group),
                ]
            )
    return header, rows


def _cell(value: Scalar) -> object:
    return show(value) if isinstance(value, bool) else value


def _test_cells(run: Run, group: Group) -> list[object]:
    if run is group.best:
        return [*[None] * (len(TESTS) - 1), "leader"]
    found = group.against.get(run.folder)
    if found is None:
        return [*[None] * (len(TESTS) - 1), "not tested" if run.finished else None]
    low, high = found.table.interval()
    return [found.table.difference(), low, high, found.p, found.p_holm, found.verdict]
