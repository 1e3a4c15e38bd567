"""The comparison for a terminal, and as ``compare.csv``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qc_experiments.comparison.facts import EFFECTIVE_BATCH, SEED, facts
from qc_experiments.comparison.grouping import Configuration, Group
from qc_experiments.comparison.runs import Run
from qc_experiments.comparison.significance import in_words
from qc_experiments.comparison.study import Study, compare
from qc_experiments.config.metrics import COSTS, EXECUTION, LOSS, Cost, Metric, recorded
from qc_experiments.evaluation.shown import table_text as printed
from qc_experiments.evaluation.wording import verdict
from qc_experiments.records.results import Scalar
from qc_experiments.system.console import visible

if TYPE_CHECKING:
    from rich.table import Table

NARROWEST = 80
SAYS_NOTHING = ("enabled", "mode", "name")
"""Ends of keys that need what stands before them."""
WIDE = 110
"""Characters of a line from which a run's name has one of its own."""
LONGEST_NAME = 14
"""Characters of a column's head; a key is broken at its underscores."""
LONGEST_VALUE = 40
"""Characters of a swept value, such as a list of modules, and of a run's name beside none."""
SHORT_NAME = 16
"""Characters of a run's name beside swept values: the end, which is its hash, and some of its start."""
MOST_ROWS = 50
"""Configurations of a group that are printed; all runs are in the files."""
NOT_DISTINGUISHABLE, P_VALUE = "n.d.", "p (Holm)"

SELECTION = (
    "The leader was chosen on these very questions, so its accuracy is a little too good; confirm it "
    "on fresh ones."
)
TESTS = (
    "leader_difference",
    "leader_low",
    "leader_high",
    "mcnemar_p",
    "mcnemar_p_holm",
    "leader_is",
)
"""Columns of ``compare.csv`` on the test of the group's leader against the row's run."""


def comparison_table(
    folders: Sequence[Path], objective: str | None = None, width: int | None = None
) -> str:
    """The table that ``qc compare`` prints, as a sweep may print it at its end; see `compare`."""
    return table_text(compare(folders, objective), width)


def table_text(study: Study, width: int | None = None) -> str:
    """A comparison as text, in lines of so many characters, or as many as the terminal's."""
    width = max(NARROWEST, width or shutil.get_terminal_size((120, 24)).columns)
    blocks = [f"{study.counted()}. Ranked by {study.objective.title}."]
    shown = [group for group in study.groups if group.runs]
    for number, group in enumerate(shown, 1):
        title = group.name if len(shown) == 1 else f"Group {number}: {group.name}"
        if group.apart:
            title += f"\nShown apart from group 1, not ranked with it: {group.apart}."
        where = [] if group.best is None else [f"The leader's folder: {group.best.folder}"]
        blocks.append("\n".join([title, _ranked(study, group, width), *where, *remarks(group)]))
    if unfinished := study.unfinished():
        blocks.append(f"Not finished\n{_unfinished(unfinished, width)}")
    if study.left_out:
        blocks.append("\n".join(study.left_out_lines()))
    return "\n\n".join(blocks)


def remarks(group: Group) -> list[str]:
    """What a ranking does not show: warnings, and what the tests say of the leader."""
    lines = list(group.warnings)
    if group.best is not None:
        lines.append(in_words(group.best, group.against, len(group.runs) - 1))
        lines += _against_next(group)
        if group.against and group.best.figure(EXECUTION.key):
            lines.append(SELECTION)
    return lines


def _against_next(group: Group) -> list[str]:
    """What the test says of the leader against the best run of another configuration; one line or none."""
    pools = [{run.folder for run in one.runs} for one in group.configurations]
    own = next((pool for pool in pools if group.best and group.best.folder in pool), set())
    tested = (group.against.get(run.folder) for run in group.runs if run.folder not in own)
    found = next(filter(None, tested), None)
    if found is None:
        return []
    said = verdict(found.table, "the next one", "the leader", found.p_holm, len(group.against))
    return [f"{said[0].upper()}{said[1:]}."]


def _ranked(study: Study, group: Group, width: int) -> str:
    """The table of a group, with as many swept keys as there is room for."""
    pooled = any(len(one.runs) > 1 for one in group.configurations)
    keys = [key for key in group.swept if key not in (SEED, EFFECTIVE_BATCH)]
    if SEED in group.swept and not pooled:
        keys.append(SEED)
    if EFFECTIVE_BATCH in group.swept:  # follows from others, so it goes first for lack of room
        keys.append(EFFECTIVE_BATCH)
    every = [P_VALUE, *(cost.head for cost in COSTS)]
    # What was set matters more than what it cost; the files have all.
    for room in range(len(keys) + len(every), min(len(keys), 1) - 1, -1):
        shown, costs = keys[:room], every[: max(0, room - len(keys))]
        table = _table(study, group, shown, costs, pooled)
        if _natural_width(table) <= width:
            break
    text = printed(table, max(width, _natural_width(table)))
    if len(group.configurations) > MOST_ROWS:
        text += f"\n{len(group.configurations) - MOST_ROWS} more (all are in compare.csv)"
    if NOT_DISTINGUISHABLE in text:
        text += f"\n{NOT_DISTINGUISHABLE}: not distinguishable from the leader by the paired test"
    if hidden := [*every[len(costs) :], *keys[len(shown) :]]:
        text += f"\nNo room in this terminal for {', '.join(hidden)}: see compare.csv"
    return text


def _table(
    study: Study, group: Group, shown: Sequence[str], costs: Sequence[str], pooled: bool
) -> Table:
    table = _empty_table()
    titles = ["", *(_folded(short_name(key, shown)) for key in shown)]
    titles += ["seeds"] if pooled else []
    titles += [_folded(one.title + (" %" if one.share else "")) for one in study.other_metrics]
    titles += ["accuracy %", "95 % interval", "loss", *costs[1:], "leader is", *costs[:1]]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("run", overflow="fold", max_width=None if shown else LONGEST_VALUE)
    rows = group.configurations[:MOST_ROWS]
    values = {key: shortened([show(one.facts.get(key)) for one in rows]) for key in shown}
    names = [one.runs[0].name for one in rows]
    names = shortened(names, SHORT_NAME) if shown else [visible(name) for name in names]
    for place, one in enumerate(rows, 1):
        measured = one.mean(study.objective.key) is not None
        cells = [str(place) if group.ranked and measured else "-"]
        cells += [values[key][place - 1] for key in shown]
        cells += [str(len(one.runs))] if pooled else []
        cells += [_with_spread(one, metric) for metric in study.other_metrics]
        table.add_row(
            *cells,
            _with_spread(one, EXECUTION),
            interval_text(one),
            LOSS.shown(one.mean(LOSS.key)),
            *(show_cost(cost, one.mean(cost.recorded.key)) for cost in COSTS[: len(costs[1:])]),
            *_against(one, group)[: 1 + len(costs[:1])],
            names[place - 1],
        )
    return table


def shortened(texts: Sequence[str], longest: int = LONGEST_VALUE) -> list[str]:
    """Texts without their middles where they are too long, but for what tells different ones apart."""
    texts = [visible(text) for text in texts]
    while True:
        tail = 2 * longest // 3  # where paths and names of runs differ
        cut = [t if len(t) <= longest else f"{t[: longest - tail - 1]}…{t[-tail:]}" for t in texts]
        if len(set(cut)) == len(set(texts)):
            return cut
        longest += 1


def _folded(name: str) -> str:
    """A name on several lines, broken after its underscores, dots and blanks."""
    lines = [""]
    for part in re.findall(r"[^_. ]+[_. ]?", name):
        if lines[-1] and len(lines[-1]) + len(part) > LONGEST_NAME:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _unfinished(runs: Sequence[Run], width: int) -> str:
    table = _empty_table()
    table.add_column("status", no_wrap=True)
    # A name that is broken cannot be copied.
    table.add_column("run", overflow="fold", no_wrap=width >= WIDE)
    table.add_column("step", justify="right")
    table.add_column("why", overflow="fold")
    for run in runs:
        step = "" if run.last_step is None else str(run.last_step)
        table.add_row(run.status, visible(run.name), step, run.error or "")
    return printed(table, width)


def _empty_table() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _natural_width(table: Table) -> int:
    from rich.console import Console

    return Console(width=10_000, markup=False, emoji=False).measure(table).maximum


def _with_spread(one: Configuration, metric: Metric) -> str:
    mean, ends = one.mean(metric.key), one.spread(metric.key)
    if mean is None:
        return "not measured"
    spread = "-".join(metric.shown(end, unit=False) for end in ends or ())
    return metric.shown(mean, unit=False) + (f" ({spread})" if spread else "")


def interval_text(one: Configuration) -> str:
    """The 95 % interval of the execution accuracy in %; empty where there is none."""
    ends = one.interval()
    return "" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _against(one: Configuration, group: Group) -> tuple[str, str]:
    """What the test says of the leader against these seeds, and the corrected p (their range)."""
    if group.best is None:
        return "", ""
    if any(run is group.best for run in one.runs):
        return "leader", ""
    tests = [group.against[run.folder] for run in one.runs if run.folder in group.against]
    if not tests:
        return "not tested", ""
    verdicts, ps = [test.verdict for test in tests], [test.p_holm for test in tests]
    text, better = NOT_DISTINGUISHABLE, verdicts.count("better")
    if "worse" in verdicts:
        text = "mixed" if len(tests) > 1 else "worse"
    elif better:
        text = "better" if better == len(tests) else f"better: {better}/{len(tests)}"
    return text, "-".join(dict.fromkeys(map(show_p, (min(ps), max(ps)))))


def short_name(key: str, among: Sequence[str]) -> str:
    """The last part of a key where that is enough to tell it from the others."""
    last = key.rpartition(".")[2]
    if last in SAYS_NOTHING:
        return key
    return last if sum(one.rpartition(".")[2] == last for one in among) == 1 else key


def show(value: Scalar) -> str:
    """A config value as it stands in a cell."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_cost(cost: Cost, value: float | None) -> str:
    """A cost with its unit, such as ``4.88 M`` or ``1.00 GiB``; empty for None."""
    if value is None:
        return ""
    if cost.unit == "GiB":
        return f"{value / 2**30:.2f} GiB"
    if not cost.unit:
        for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if value >= size:
                return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def show_p(value: float) -> str:
    """A p value to three places; small ones by their bound."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def csv_table(study: Study) -> tuple[list[str], list[list[object]]]:
    """Header and rows of ``compare.csv``: one row per run, all swept keys, all figures, the tests."""
    keys = (key for group in study.groups for key in group.swept)
    swept = list(dict.fromkeys((*keys, SEED)))
    known = recorded(study.own_metrics)
    figures = [key for key in known if key not in ("status", "error", SEED)]
    header = ["group", "rank", "run", "folder", "status", "error", *swept, *figures, *TESTS]
    rows: list[list[object]] = []
    for group in study.groups:
        for place, run in enumerate(group.members, 1):
            measured = run.finished and run.figure(study.objective.key) is not None
            values = map(facts(run).get, swept)
            said = "leader" if run is group.best else "not tested" if run.finished else None
            tested: list[object] = [*[None] * (len(TESTS) - 1), said]
            if found := group.against.get(run.folder):
                tested = [*found.figures, found.verdict]
            rows.append(
                [
                    group.name,
                    place if group.ranked and measured else None,
                    run.name,
                    str(run.folder),
                    run.status,
                    run.error,
                    *(show(value) if isinstance(value, bool) else value for value in values),
                    *(run.result.get(key) for key in figures),
                    *tested,
                ]
            )
    return header, rows
