"""What a run leaves behind: its folder, its hash, and files that are whole or not there.

A run's folder is ``<paths.output>/<values>-<hash8>``. The hash is of everything that determines the
figures: the config without paths and tracking, with the contents of the data files and the model's
fingerprint in place of their paths. So the same run finds its own folder again, wherever it is
started and however the data is called.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from qc_experiments.config import QuantMode, RunConfig, determining, plain
from qc_experiments.data.files import NO_SUCH_FOLDER, folder_problem, hash_bytes, output_problem
from qc_experiments.data.load import RunData
from qc_experiments.errors import UserError
from qc_experiments.locking import LOCK
from qc_experiments.processes import is_main_process, world_size
from qc_experiments.reading import Unreadable, read_json
from qc_experiments.recorded import (
    check_result,
    flatten,
    read_config,
    read_environment,
    read_result,
)
from qc_experiments.secrets import redacted_tree

PACKAGES = (
    "qc_experiments",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "wandb",
    "hydra-core",
    "omegaconf",
    "sqlglot",
)

RESULT_KEYS = (
    "status",
    "objective",
    "eval_loss",
    "base_eval_loss",
    "execution_accuracy",
    "execution_accuracy_low",
    "execution_accuracy_high",
    "execution_correct",
    "execution_count",
    "base_execution_accuracy",
    "repaired_execution_accuracy",
    "fuzz_accuracy",
    "ex_bird",
    "ex_test_suite",
    "exact_match",
    "base_exact_match",
    "valid_sql",
    "base_valid_sql",
    "parameters_trainable",
    "parameters_total",
    "label_tokens",
    "examples",
    "steps",
    "seed",
    "config_hash",
    "data_hash",
    "template_hash",
    "evaluation_hash",
    "code_commit",
    "seconds_total",
    "seconds_training",
    "seconds_evaluation",
    "examples_per_second",
    "tokens_per_second",
    "peak_memory_bytes",
    "error",
)
"""Keys of ``result.json``; one that was not measured is null."""


UNWRITABLE = re.compile("[\0\ud800-\udfff]")
NEEDS_QUOTES = re.compile(r'[",\r\n]|^\s|\s\Z|^\ufeff')
"""Cells that a reader would cut, strip, pass over as a blank line or take for the file's byte order mark."""


@dataclass(frozen=True)
class Identity:
    """What tells one run from another.

    Attributes:
        name: ``<values>-<hash8>``.
        config_hash: SHA-256 of everything that determines the figures.
        run_id: id of the W&B run.
    """

    name: str
    config_hash: str

    @property
    def run_id(self) -> str:
        """The same run, started again, goes on under the same id."""
        return self.config_hash[:16]


def identify(config: RunConfig, data: RunData, model_label: str, fingerprint: str) -> Identity:
    """Name and hash of a run.

    Args:
        config: the whole config.
        data: its rows, by their hashes.
        model_label: short name of the base model.
        fingerprint: text that changes when the base model does.
    """
    what: dict[str, Any] = determining(config)
    for key in ("name", "train", "validation", "template", "databases"):
        what["data"].pop(key)
    what["model"]["name_or_path"] = fingerprint
    what["model"]["adapter"] = _adapter_hash(config)
    what["content"] = {
        "train": data.train_hash,
        "template": data.template.content_hash(),
        "evaluation": data.evaluation_hash,
    }
    config_hash = hash_bytes(json.dumps(what, sort_keys=True).encode())
    return Identity(f"{_values(config, model_label)}-{config_hash[:8]}", config_hash)


def _adapter_hash(config: RunConfig) -> str | None:
    if config.model.adapter is None:
        return None
    folder = Path(config.model.adapter).expanduser()
    names = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
    found = [folder / name for name in names if (folder / name).is_file()]
    return hash_bytes(*(path.read_bytes() for path in found))


def _values(config: RunConfig, model_label: str) -> str:
    trainer, lora = config.trainer, config.lora
    parts = [model_label.lower(), config.data.name, config.collator.name.value]
    if lora.enabled:
        kind = ("dora" if lora.use_dora else "") + ("rs" if lora.use_rslora else "")
        parts += [f"{kind}r{lora.r}", f"a{lora.alpha:g}", f"d{lora.dropout:g}"]
        if lora.target_modules != "all-linear":
            target = lora.target_modules
            parts.append(target if isinstance(target, str) else "+".join(target))
    else:
        parts.append("full")
    if config.quant.mode is not QuantMode.none:
        parts.append(config.quant.mode.value)
    batch = f"b{trainer.micro_batch_size()}x{trainer.gradient_accumulation_steps}"
    parts += [f"lr{trainer.learning_rate:g}", batch, f"s{config.seed}"]
    text = "_".join(parts)
    return "".join(c if c.isalnum() or c in "._+-" else "-" for c in text)[:150]


class RunFolder:
    """The folder of one run.

    Args:
        path: ``<paths.output>/<name>``.
        identity: the run that it belongs to.

    Attributes:
        held: whether it is still there and this process's, once that works in it (see `owned`).
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path = path
        self.identity = identity
        self.held: Callable[[], bool] = lambda: True

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

    def rest(self, share: float, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Write down what the run is worth behind a share of its steps.

        Args:
            share: of its steps.
            figures: values of some of `RESULT_KEYS`.
        """
        result = self.result(figures)
        self.write_json("rungs.json", {**self._rungs(), repr(share): result})
        return result

    def rested(self, share: float) -> dict[str, Any] | None:
        """What `rest` wrote down for a share, or None."""
        return self._rungs().get(repr(share))

    def _rungs(self) -> dict[str, dict[str, Any]]:
        try:
            found = read_json(self / "rungs.json") or {}
            return {share: check_result(result, "rungs.json") for share, result in found.items()}
        except Unreadable:
            return {}

    def empty(self) -> None:
        """Remove all that the run has left, for it to be run anew; the result goes first."""
        (self / "result.json").unlink(missing_ok=True)
        for path in list(self.path.iterdir()):
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
        """Check that the folder is free, or this run's.

        Args:
            config: of the run, to say in which keys another one differs.

        Raises:
            UserError: if the folder belongs to something else.
        """
        problem = folder_problem(self.path)
        if problem == NO_SUCH_FOLDER:
            problem = output_problem(self.path)
            if problem is not None:
                raise UserError(
                    f"paths.output={config.paths.output}: {self.path} cannot be written ({problem}): "
                    "choose another paths.output"
                )
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
        """Work in the folder; if it is deleted or moved meanwhile, that is what went wrong, whatever did.

        Args:
            held: whether it is still ours.

        Raises:
            UserError: if it is gone, in the place of any other exception but a request to stop.
        """
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
        """Check that the folder is still there, and this process's, before something is written into it.

        Raises:
            UserError: if it was deleted, moved or taken over.
        """
        if not self.held():
            raise self._gone()

    def _gone(self, name: str = "") -> UserError:
        return UserError(
            f"{self / name if name else self.path}: was deleted or moved while the run was at work, so "
            "that its result would not be whole: run the same command again"
        )

    def claim(self, config: RunConfig, data: RunData, model: Mapping[str, str]) -> None:
        """Make the folder and write down what the run is, before it computes anything.

        Args:
            config: the whole config.
            data: its rows.
            model: what the base model is, and how its weights are stored.

        Raises:
            UserError: if the folder cannot be written or belongs to something else.
        """
        if not is_main_process():
            return
        self.check_owner(config)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.write_json("environment.json", environment(self.identity, data, model))
            self.write("config.yaml", _yaml(redacted_tree(plain(config))))
            (self / "result.json").unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"paths.output={config.paths.output}: {self.path} cannot be written "
                f"({error.strerror}): choose another paths.output"
            ) from None

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file, whole or not at all, and without secrets."""
        self.write(name, json.dumps(redacted_tree(value), indent=2) + "\n")

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file, whole or not at all: beside its place, then renamed.

        Like all that the folder writes, by the main process only.
        """
        if is_main_process():
            self.check_held()
            write_whole(self / name, content)

    def write_csv(
        self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """Write a CSV, whole or not at all; None becomes an empty cell."""
        self.write(name, csv_text(columns, rows))

    def result(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Complete the figures to a whole ``result.json`` and write it.

        Args:
            figures: values of some of `RESULT_KEYS`.
        """
        unknown = set(figures) - set(RESULT_KEYS)
        if unknown:
            raise ValueError(f"not keys of result.json: {sorted(unknown)}")
        result = {key: figures.get(key) for key in RESULT_KEYS}
        self.write_json("result.json", result)
        return result


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all: beside its place, forced to the disk, then renamed.

    Args:
        path: the file; its permissions follow the umask.
        content: text is written as UTF-8; what that cannot hold, as in a path of other bytes, is escaped.

    Raises:
        OSError: if it cannot be written; then nothing is left behind.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    draft = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, so that a rename outlasts a power cut."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV as text, which our reader, Python's and pandas read back as it was, whatever the cells hold.

    None becomes an empty cell; NUL and lone surrogates, which no UTF-8 CSV can hold, become U+FFFD.
    """
    return "".join(f"{_csv_line(cells)}\n" for cells in (columns, *rows))


def _csv_line(cells: Sequence[object]) -> str:
    texts = ["" if cell is None else UNWRITABLE.sub("\ufffd", str(cell)) for cell in cells]
    if texts == [""]:
        return '""'  # an empty line is no row
    return ",".join(
        '"' + text.replace('"', '""') + '"' if NEEDS_QUOTES.search(text) else text for text in texts
    )


def _changed_keys(written: Path, config: RunConfig) -> str:
    """How a run that was written down differs: ``lora.r=8 there, 16 here; ...``; empty if it does not."""
    try:
        there = read_config(written)
    except Unreadable:
        return ""
    if not there:
        return ""
    here = flatten(redacted_tree(plain(config)))
    return "; ".join(
        f"{key}={there.get(key)} there, {here.get(key)} here"
        for key in sorted(here.keys() | there.keys())
        if there.get(key) != here.get(key) and not key.startswith(("paths.", "tracking."))
    )


def _yaml(value: object) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(value))  # type: ignore[call-overload]


def environment(identity: Identity, data: RunData, model: Mapping[str, str]) -> dict[str, Any]:
    """Versions, commit, hardware, base model and data hashes, as ``environment.json`` holds them."""
    return {
        "name": identity.name,
        "config_hash": identity.config_hash,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "code_commit": code_commit(),
        "hardware": _hardware(),
        "model": dict(model),
        "data": {
            "train": data.train_source,
            "train_hash": data.train_hash,
            "validation": data.validation_source,
            "evaluation_hash": data.evaluation_hash,
            "template": data.template.source,
            "template_hash": data.template.content_hash(),
            "decisions": list(data.decisions),
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def code_commit() -> str | None:
    """Commit of the code that runs, with ``+changes`` where files differ; None outside git."""
    here = str(Path(__file__).parent)
    try:
        commit = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no", ".", "../conf")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changed else commit


def _git(folder: str, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def _hardware() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "gpus": gpus,
    }
