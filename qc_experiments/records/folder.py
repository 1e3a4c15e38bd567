"""What a run leaves behind: its folder, its hash, and files that are whole or not there."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qc_experiments.config.metrics import Metric, recorded
from qc_experiments.config.schema import RunConfig, plain
from qc_experiments.errors import UserError
from qc_experiments.records.results import (
    check_result,
    flatten,
    read_config,
    read_environment,
    read_result,
)
from qc_experiments.system.files import csv_text, write_whole
from qc_experiments.system.locking import LOCK
from qc_experiments.system.paths import NO_SUCH_FOLDER, folder_problem, output_problem
from qc_experiments.system.processes import is_main_process
from qc_experiments.system.reading import Unreadable, read_json
from qc_experiments.system.secrets import redacted_tree

log = logging.getLogger(__name__)

PAUSES = "paused.json"
"""What a run was worth at each share of its steps at which a halving paused it."""


@dataclass(frozen=True)
class Identity:
    """What tells one run from another."""

    name: str
    """``<values>-<hash8>``."""
    config_hash: str
    """SHA-256 of everything that determines the figures."""

    @property
    def run_id(self) -> str:
        """Id of the W&B run: the same run, started again, goes on under the same one."""
        return self.config_hash[:16]


class RunFolder:
    """The folder of one run, ``<paths.output>/<name>``; ``own`` are the user's own metrics."""

    def __init__(self, path: Path, identity: Identity, own: Sequence[Metric] = ()) -> None:
        self.path = path
        self.identity = identity
        self._keys = tuple(recorded(own))
        self.held: Callable[[], bool] = lambda: True
        """Whether it is still there and this process's, once that works in it (see `owned`)."""

    def __truediv__(self, name: str) -> Path:
        """A file of the folder."""
        return self.path / name

    def finished(self) -> dict[str, Any] | None:
        """The result of this very run if it has finished, else None."""
        try:
            result = read_result(self.path) or {}
        except Unreadable:
            return None
        own = result.get("config_hash") == self.identity.config_hash
        return result if own and result.get("status") == "finished" else None

    def pause(self, share: float, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Write down what the run is worth after a share of its steps, see `result`."""
        result = self.result(figures)
        self.write_json(PAUSES, {**self._pauses(), repr(share): result})
        return result

    def paused(self, share: float) -> dict[str, Any] | None:
        """What `pause` wrote down for a share, or None."""
        return self._pauses().get(repr(share))

    def _pauses(self) -> dict[str, dict[str, Any]]:
        try:
            # Older runs call it rungs.json.
            found = read_json(self / PAUSES) or read_json(self / "rungs.json") or {}
            return {share: check_result(result, PAUSES) for share, result in found.items()}
        except Unreadable:
            return {}

    def empty(self) -> None:
        """Remove all that the run has left, so that it is run again.

        What it could go on from goes first, and what says whose the folder is last: a kill between them
        leaves nothing that is taken for the new run's.
        """
        if not is_main_process():
            return
        shutil.rmtree(self / "checkpoints", ignore_errors=True)
        (self / "result.json").unlink(missing_ok=True)
        for path in sorted(self.path.iterdir(), key=lambda one: one.name == "environment.json"):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()

    def summary(self) -> str:
        """The closing table of a finished run, or where its figures are if the table is gone."""
        try:
            return (self / "summary.txt").read_text(encoding="utf-8")
        except OSError:
            return str(self / "result.json")

    def check_owner(self, config: RunConfig) -> None:
        """Check that the folder is free, or this run's; else say in which settings another one's differs."""
        problem = folder_problem(self.path)
        if problem == NO_SUCH_FOLDER:
            if problem := output_problem(self.path):
                raise _unwritable(config, self.path, problem)
            return
        if problem is not None:
            raise UserError(
                f"{self.path}: {problem}, where the run's folder should be: move it away or choose "
                "another paths.output"
            )
        if all(path.name.startswith(".") for path in self.path.iterdir()):
            return  # nothing but a lock, and what a kill left of a file that was being written
        try:
            owner = read_environment(self.path).config_hash
        except Unreadable:
            owner = None
        if owner == self.identity.config_hash:
            return
        changed = _changed_keys(self.path, config)
        what = (
            f"a run with other settings ({changed})" if changed else "something else than this run"
        )
        raise UserError(f"{self.path}: holds {what}: move it away or choose another paths.output")

    @contextmanager
    def owned(self, held: Callable[[], bool]) -> Iterator[None]:
        """Work in the folder; once it is no longer ``held``, that is told in place of any other exception."""
        self.held = held
        try:
            yield
            self.check_held()
            for name in ("config.yaml", "environment.json"):
                if is_main_process() and not (self / name).is_file():
                    raise self._gone(name)
        except Exception as error:
            if held():
                raise
            raise self._gone() from error
        finally:
            self.held = lambda: True

    def check_held(self) -> None:
        """Check, before something is written, that the folder was not deleted, moved or taken over."""
        if not self.held():
            raise self._gone()

    def _gone(self, name: str = "") -> UserError:
        return UserError(
            f"{self / name}: was deleted or moved while the run was at work, so "
            "that its result would not be whole: run the same command again"
        )

    def claim(self, config: RunConfig, environment: Mapping[str, Any]) -> None:
        """Make the folder and write down what the run is, before it computes anything."""
        from omegaconf import OmegaConf

        if not is_main_process():
            return
        self.check_owner(config)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.write_json("environment.json", environment)
            written = OmegaConf.create(redacted_tree(plain(config)))
            self.write("config.yaml", OmegaConf.to_yaml(written))
            (self / "result.json").unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(config, self.path, error.strerror) from None

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file, whole or not at all, and without secrets."""
        self.write(name, json.dumps(redacted_tree(value), indent=2) + "\n")

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file, whole or not at all; like all that the folder writes, by the main process only."""
        if is_main_process():
            self.check_held()
            write_whole(self / name, content)

    def write_csv(
        self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """Write a CSV, whole or not at all; None becomes an empty cell."""
        self.write(name, csv_text(columns, rows))

    def result(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Write ``result.json``: the given figures, and null for its other keys, see `metrics.recorded`.

        A figure that is no number, such as the loss of a model that overflows, is null as well, and told.
        """
        unknown = set(figures) - set(self._keys)
        if unknown:
            raise ValueError(f"not keys of result.json: {sorted(unknown)}")
        result = {key: figures.get(key) for key in self._keys}
        for key, value in result.items():
            if isinstance(value, float) and not math.isfinite(value):
                log.warning("%s is %s: it stands as null in result.json", key, value)
                result[key] = None
        self.write_json("result.json", result)
        return result


def _unwritable(config: RunConfig, path: Path, reason: str | None) -> UserError:
    return UserError(
        f"paths.output={config.paths.output}: {path} cannot be written ({reason}): choose another "
        "paths.output"
    )


def _changed_keys(written: Path, config: RunConfig) -> str:
    """How a run that was written down differs: ``lora.r=8 there, 16 here; ...``; empty if it does not."""
    try:
        there = read_config(written)
    except Unreadable:
        there = {}
    here = flatten(redacted_tree(plain(config))) if there else {}
    return "; ".join(
        f"{key}={there.get(key)} there, {here.get(key)} here"
        for key in sorted(here.keys() | there.keys())
        if there.get(key) != here.get(key) and not key.startswith(("paths.", "tracking."))
    )
