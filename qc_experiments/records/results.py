"""What a run has recorded of itself, checked where it is read, so that no reader has to.

A figure that cannot be (an accuracy of -5, a count of 1e300, a list) makes a run unreadable: whatever
else stands in such a file is not to be trusted either.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from qc_experiments.config.metrics import EXACT, EXECUTION, RESULT, Metric, metric_of
from qc_experiments.system.reading import (
    COUNT,
    MOST_BYTES,
    NAME,
    SCALAR,
    SHARE,
    Unreadable,
    check,
    parse_yaml,
    read_json,
    read_text,
)
from qc_experiments.system.secrets import redacted_tree

REPORT_BYTES = 32 * MOST_BYTES
"""``report.json`` names each row that failed."""
CONFIG_BYTES = 1 << 18
LARGEST = 1 << 64
"""Number in a config."""
MOST_SECTIONS = 50
"""Of a config that are read by themselves."""

RATE_KEYS = ("value", "low", "high")
DRAWN = ("figures", "by_hardness", "by_database")
"""Sections of ``report.json`` that are drawn beside another one's."""

Scalar = str | int | float | bool | None
Shares = Mapping[str, tuple[int, int]]
"""Right answers and questions by name."""


@dataclass(frozen=True)
class Environment:
    """What ``environment.json`` tells that comparisons need; None where it is not recorded.

    Attributes:
        config_hash: of everything that determines the run's figures.
        evaluation_hash: of all that its verdicts depend on.
        data_hash: of the training rows.
        processes: how many trained it together.
    """

    config_hash: str | None = None
    evaluation_hash: str | None = None
    data_hash: str | None = None
    template_hash: str | None = None
    code_commit: str | None = None
    code_mark: str | None = None
    processes: int = 1


@dataclass(frozen=True)
class Report:
    """What ``report.json`` tells that comparisons need; ``judged_on`` are parts of the evaluation hash."""

    judged_on: Mapping[str, str] = field(default_factory=dict)
    by_hardness: Shares = field(default_factory=dict)
    by_database: Shares = field(default_factory=dict)
    own_metrics: tuple[Metric, ...] = ()


def read_result(folder: Path) -> dict[str, Any] | None:
    """The content of a run's ``result.json``, or None where there is none yet."""
    found = read_json(folder / "result.json")
    return None if found is None else check_result(found, "result.json")


def check_result(found: object, where: str) -> dict[str, Any]:
    """The figures of a run, read from the file ``where``, if all of them can be."""
    if not isinstance(found, dict):
        raise Unreadable(f"{where} holds {reprlib.repr(found)}, not an object")
    for key, value in found.items():
        check(value, RESULT[key].kind if key in RESULT else SCALAR, f"{where}: {key}")
    correct, count = found.get("execution_correct"), found.get("execution_count")
    if correct is not None and count is not None and correct > count:
        raise Unreadable(f"{where}: execution_correct is {correct} of {count}")
    return found


def read_environment(folder: Path) -> Environment:
    """What a run's ``environment.json`` tells; nothing where there is none."""
    found = read_json(folder / "environment.json") or {}
    data = _section(found, "data", "environment.json")
    hardware = _section(found, "hardware", "environment.json")

    def name(tree: Mapping[str, Any], key: str) -> str | None:
        return check(tree.get(key), NAME, f"environment.json: {key}") or None

    processes = check(hardware.get("processes"), COUNT, "environment.json: hardware.processes")
    return Environment(
        config_hash=name(found, "config_hash"),
        evaluation_hash=name(data, "evaluation_hash"),
        data_hash=name(data, "train_hash"),
        template_hash=name(data, "template_hash"),
        code_commit=name(found, "code_commit"),
        code_mark=name(found, "code_mark"),
        processes=processes or 1,
    )


def read_report(folder: Path) -> Report:
    """What a run's ``report.json`` tells; nothing where there is none."""
    found = read_json(folder / "report.json", REPORT_BYTES) or {}
    return Report(
        judged_on=_judged_on(found),
        by_hardness=_counts(found, "by_hardness"),
        by_database=_counts(found, "by_database"),
        own_metrics=_own_metrics(found),
    )


def read_evaluation(folder: Path) -> dict[str, Any] | None:
    """All of a ``report.json`` that another evaluation is compared with and drawn beside, or None."""
    found = read_json(folder / "report.json", REPORT_BYTES)
    if found is None:
        return None
    if not _judged_on(found):
        raise Unreadable("report.json does not say on what it was judged")
    for section in DRAWN:
        if not isinstance(found.get(section), dict):
            raise Unreadable(f"report.json has no {section}")
    own = {metric.key for metric in _own_metrics(found)}
    found["figures"] = {key: one for key, one in found["figures"].items() if key not in own}
    for section in DRAWN:
        _counts(found, section)
        for name, share in found[section].items():
            where = f"report.json: {section}.{reprlib.repr(name)}"
            rates = [check(share.get(key), SHARE, f"{where}: {key}") for key in RATE_KEYS]
            if not share.keys() >= set(RATE_KEYS) or rates.count(None) not in (0, len(rates)):
                raise Unreadable(f"{where} lacks its {', '.join(RATE_KEYS)}")
    for metric in (EXECUTION, EXACT):  # either of which is drawn
        if metric.key not in found["figures"]:
            raise Unreadable(f"report.json has no {metric.key}")
    return found


def read_config(folder: Path) -> dict[str, Scalar]:
    """Every key of a run's ``config.yaml`` by its dotted path; empty where there is none."""
    text = read_text(folder / "config.yaml", CONFIG_BYTES)
    if text is None:
        return {}
    # The runs of a sweep share most sections, and each of these is read once: a third of the time.
    sections = re.split(r"(?m)^(?=[A-Za-z_])", text)
    try:
        if len(sections) > MOST_SECTIONS:
            return _settings(text)
        return {key: value for one in sections for key, value in _settings(one).items()}
    except Unreadable:  # it may still be whole, if one section refers to another
        return _settings(text)


@lru_cache(maxsize=4096)
def _settings(text: str) -> dict[str, Scalar]:
    try:
        # Older runs wrote down the passwords in their URLs.
        found = redacted_tree(flatten(parse_yaml(text, "config.yaml")))
    except ValueError:
        raise Unreadable("config.yaml holds a number of too many digits") from None
    for key, value in found.items():
        if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
            raise Unreadable(f"config.yaml: {key} is too large a number")
    return found


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """A nested config by dotted keys; lists and what is no number become text."""
    found: dict[str, Scalar] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            found[f"{prefix}{key}"] = "+".join(map(str, value))
        elif value is None or SCALAR.allows(value):
            found[f"{prefix}{key}"] = value
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def _section(tree: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    found = tree.get(key)
    if found is not None and not isinstance(found, dict):
        raise Unreadable(f"{name}: {key} is {reprlib.repr(found)}, not an object")
    return found or {}


def _judged_on(report: Mapping[str, Any]) -> dict[str, str]:
    found = _section(report, "judged_on", "report.json")
    for key, value in found.items():
        check(value, NAME, f"report.json: judged_on.{key}")
    return found


def _counts(report: Mapping[str, Any], section: str) -> Shares:
    found = {}
    for name, share in _section(report, section, "report.json").items():
        where = f"report.json: {section}.{reprlib.repr(name)}"
        if not isinstance(share, dict):
            raise Unreadable(f"{where} is {reprlib.repr(share)}, not an object")
        hits, count = (check(share.get(key), COUNT, f"{where}: {key}") for key in ("hits", "count"))
        if hits is None or count is None or hits > count:
            raise Unreadable(f"{where}: {hits} hits of {count}")
        found[name] = (hits, count)
    return found


def _own_metrics(report: Mapping[str, Any]) -> tuple[Metric, ...]:
    found = []
    for key, plain in _section(report, "metrics", "report.json").items():
        where = f"report.json: metrics.{reprlib.repr(key)}"
        if not isinstance(plain, dict) or not key.isidentifier() or key in RESULT:
            raise Unreadable(f"{where} is {reprlib.repr(plain)}, not a metric")
        for name in ("title", "unit"):
            check(plain.get(name), NAME, f"{where}: {name}")
        found.append(metric_of(key, plain))
    return tuple(found)
