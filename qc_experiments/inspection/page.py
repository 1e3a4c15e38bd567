"""What was found of a data set as a page: one file, which reaches nothing else, with plots."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

from qc_experiments.evaluation.metrics import HARDNESS
from qc_experiments.evaluation.plot import COLOURS
from qc_experiments.inspection.checks import Inspection
from qc_experiments.inspection.faults import KINDS, LEVELS, Fault

MOST_FEATURES = 15
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem;
padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } td, th { border-bottom: 1px solid #ccc;
padding: .35rem .5rem; text-align: left; vertical-align: top }
td.rows { overflow-wrap: anywhere; max-width: 22rem }
.error { color: #a11; font-weight: 600 } .warning { color: #850 } .note { color: #555 }
.plots { display: flex; flex-wrap: wrap; gap: 1rem } .plots svg { max-width: 100%; height: auto }
pre { background: #f5f5f5; padding: .75rem; overflow-x: auto; white-space: pre-wrap }
@media (prefers-color-scheme: dark) { body { background: #1b1b1b; color: #ddd } pre { background: #262626 }
.error { color: #f88 } .warning { color: #eb6 } .note { color: #aaa } .plots svg { background: #fff } }
"""


def page_html(found: Inspection, lines: Sequence[str]) -> str:
    """The page; ``lines`` are the report as text, which stands in it whole."""
    name = escape(found.table.path.name)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        "<meta http-equiv='Content-Security-Policy' "
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{name}: data check</title><style>{STYLE}</style></head><body>",
        f"<h1>{name}: {len(found.table.rows):,} usable rows, {len(found.schemas()):,} schemas</h1>",
        f"<div class='plots'>{''.join(_plots(found))}</div>",
        "<h2>What to mend, the worst first</h2>",
        _fault_table(found.faults),
    ]
    if found.held_out is not None:
        faults, count = found.held_out
        parts += [f"<h2>Held out: {count:,} rows</h2>", _fault_table(faults)]
    if found.untouched:
        parts += ["<h2>What no question is about</h2><table>"]
        parts += [
            f"<tr><th>{escape(schema)}</th><td>{escape(', '.join(names))}</td></tr>"
            for schema, names in found.untouched.items()
        ]
        parts += ["</table>"]
    parts += ["<h2>As text</h2><pre>", escape("\n".join(lines)), "</pre></body></html>\n"]
    return "\n".join(parts)


def _fault_table(faults: Sequence[Fault]) -> str:
    if not faults:
        return "<p>Nothing was found.</p>"
    ordered = sorted(faults, key=lambda one: LEVELS.index(one.level))
    rows = [
        f"<tr><td class='{fault.level}'>{fault.level}</td>"
        f"<td>{escape(KINDS[fault.kind].title.format(fault.what))}<br>{escape(KINDS[fault.kind].advice)}</td>"
        f"<td>{len(fault.rows):,}</td><td class='rows'>{', '.join(map(str, fault.rows))}</td></tr>"
        for fault in ordered
    ]
    head = "<tr><th>level</th><th>what, and what to do</th><th>rows</th><th>which</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _plots(found: Inspection) -> list[str]:
    own = Counter(fact.hardness for fact in found.facts)
    levels = [level for level in HARDNESS if own[level] or level != "unknown"]
    shares = {"yours": [100 * own[level] / len(found.facts) for level in levels]}
    if found.target:
        other = Counter(fact.hardness for fact in found.target)
        shares["target"] = [100 * other[level] / len(found.target) for level in levels]
    drawn = [_bars("hardness, % of queries", levels, shares)]
    features = Counter(one for fact in found.facts for one in fact.features).most_common(
        MOST_FEATURES
    )
    if features:
        names = [name for name, _ in features]
        share = {"yours": [100 * count / len(found.facts) for _, count in features]}
        if found.target:
            theirs = Counter(one for fact in found.target for one in fact.features)
            share["target"] = [100 * theirs[name] / len(found.target) for name in names]
        drawn.append(_bars("features, % of queries", names, share))
    drawn.append(_histogram("questions per schema", found.schemas(), None))
    if found.tokens is not None:
        drawn.append(_histogram("tokens per row", found.tokens.lengths, found.tokens.longest))
    return drawn


def _bars(title: str, names: Sequence[str], series: dict[str, list[float]]) -> str:
    figure, axes = _figure(0.8 + 0.22 * len(names) * max(1, 0.7 * len(series)), title)
    height = 0.8 / len(series)
    for number, (label, values) in enumerate(series.items()):
        places = [place + number * height for place in range(len(names))]
        axes.barh(places, values, height, label=label, color=COLOURS[number])
    axes.set_yticks([place + (len(series) - 1) * height / 2 for place in range(len(names))], names)
    axes.invert_yaxis()
    if len(series) > 1:
        axes.legend(frameon=False)
    return _svg(figure)


def _histogram(title: str, values: Sequence[int], limit: int | None) -> str:
    figure, axes = _figure(2.4, title)
    axes.hist(values, bins=min(30, max(1, len(set(values)))), color=COLOURS[0])
    if limit is not None and limit < 1.5 * max(values):
        axes.axvline(limit, color=COLOURS[1], linestyle="--", label=f"data.max_length={limit}")
        axes.legend(frameon=False)
    return _svg(figure)


def _figure(height: float, title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    import matplotlib

    written = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "qc", "svg.fonttype": "path"}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return text[text.index("<svg") :]
