"""Draw accuracies with their 95 % intervals, in all and by kind; and risk against coverage."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from qc_experiments.config.metrics import EXACT, EXECUTION, Metric

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""Paul Tol's bright scheme, which people who see colours differently can tell apart."""

OTHER_SCRIPTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Microsoft YaHei", "SimHei", "PingFang SC"),
    *("Hiragino Sans", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS", "Unifont"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai"),
)
"""Fonts for letters that matplotlib's own lacks, where they are installed."""

ROW_INCHES = 0.24
MOST_DATABASES = 40


def accuracy_plot(reports: Mapping[str, Mapping[str, Any]]) -> bytes:
    """A PNG picture of execution accuracy (exact match where nothing was run).

    Args:
        reports: name of each system to its report (see `metrics.report`), on the same questions.
    """
    import matplotlib

    with matplotlib.rc_context({"font.sans-serif": _fonts()}), warnings.catch_warnings():
        # Letters that no font of this machine has become boxes; the report has the names.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        return _drawn(reports)


def confidence_plot(curves: Mapping[str, Sequence[float]]) -> bytes:
    """A PNG picture of risk against coverage.

    Args:
        curves: name of each system to the share of wrong ones among its 1, 2, ... surest answers.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.sans-serif": _fonts()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(7, 4))
        axes = figure.subplots()
        for colour, (name, risks) in zip(cycle(COLOURS), curves.items(), strict=False):
            coverage = [100 * (place + 1) / len(risks) for place in range(len(risks))]
            axes.plot(coverage, [100 * risk for risk in risks], color=colour, label=name)
            # As it would be if confidence told nothing.
            axes.axhline(100 * risks[-1], color=colour, linestyle=":", linewidth=1)
        axes.set_xlim(0, 102)
        axes.set_ylim(bottom=-1)
        axes.set_xlabel("coverage: questions answered in %, the surest first")
        axes.set_ylabel("risk: wrong of these in %")
        axes.grid(alpha=0.3)
        _finish(axes, len(curves))
        return _png(figure)


def _fonts() -> list[str]:
    """The installed fonts that are looked through for a letter, matplotlib's own first."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed)]


def _drawn(reports: Mapping[str, Mapping[str, Any]]) -> bytes:
    from matplotlib.figure import Figure

    rows = _rows(next(iter(reports.values())))
    figure = Figure(figsize=(7, 1.2 + ROW_INCHES * len(rows) * max(1, 0.6 * len(reports))))
    axes = figure.subplots()
    step = 0.7 / len(reports)
    for number, (name, report) in enumerate(reports.items()):
        offset = (number - (len(reports) - 1) / 2) * step
        for place, (section, kind) in enumerate(rows):
            share = _share(report, section, kind)
            if share is None or share["value"] is None:
                continue
            low, high = share["value"] - share["low"], share["high"] - share["value"]
            axes.errorbar(
                100 * share["value"],
                place + offset,
                xerr=[[100 * max(0, low)], [100 * max(0, high)]],
                fmt="o",
                markersize=4,
                color=COLOURS[number % len(COLOURS)],
                capsize=2,
                label=name if place == 0 else None,
            )
    axes.set_yticks(range(len(rows)), [kind or "all questions" for _, kind in rows])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)  # a $ in a name is a $
    axes.invert_yaxis()
    axes.set_xlim(-2, 102)
    axes.set_xlabel(f"{_metric(next(iter(reports.values()))).title} in %, with 95 % intervals")
    axes.grid(axis="x", alpha=0.3)
    _finish(axes, len(reports))
    return _png(figure)


def _finish(axes: Any, systems: int) -> None:
    """Borders, and a legend where there are several systems."""
    for border in ("top", "right"):
        axes.spines[border].set_visible(False)
    if systems > 1:
        legend = axes.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1), ncols=systems, frameon=False
        )
        for label in legend.get_texts():
            label.set_parse_math(False)


def _png(figure: Any) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130, bbox_inches="tight")
    return picture.getvalue()


def _metric(report: Mapping[str, Any]) -> Metric:
    return EXECUTION if report["figures"][EXECUTION.key]["count"] else EXACT


def _rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("figures", "")]
    rows += [("by_hardness", name) for name in report["by_hardness"]]
    databases = list(report["by_database"])
    if 1 < len(databases) <= MOST_DATABASES:
        rows += [("by_database", name) for name in databases]
    return rows


def _share(report: Mapping[str, Any], section: str, kind: str) -> dict[str, Any] | None:
    share: dict[str, Any] | None = report[section].get(kind or _metric(report).key)
    return share
