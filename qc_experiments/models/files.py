"""Files of models and adapters that others have saved: what is wrong with one is told in one line."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import lexists
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import ModelConfig
from qc_experiments.errors import UserError
from qc_experiments.system.memory import out_of_memory
from qc_experiments.system.paths import open_file, read_file

LFS_POINTER = b"version https://git-lfs"
"""How the file begins that git leaves in the place of a large one."""
OTHER_WEIGHTS = ("*.pt", "*.pth", "*.ckpt", "*.pkl", "*.bin", "*.safetensors", "*.gguf")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "tokenizer_config.json",
)
LOADED_BY_NAME = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""Files of a saved model that are read when it is loaded."""


@dataclass(frozen=True)
class Spelling:
    """What a command calls the settings of loading, for messages.

    Attributes:
        model: stands before the name of the model.
        moved: what to do where a model is not where it was.
        trust_remote_code: allows code out of the model's repository.
        allow_pickle: allows weights that are pickles.
    """

    model: str = "model.name_or_path="
    moved: str = ""
    trust_remote_code: str = "model.trust_remote_code=true"
    allow_pickle: str = "model.allow_pickle=true"


TRAINING = Spelling()


@contextmanager
def load_errors(what: str, folder: Path | None, spelling: Spelling = TRAINING) -> Iterator[None]:
    """Tell in one line of whatever a library raises while it loads what somebody saved.

    Libraries raise exceptions of any class for a broken file; so nothing but their loading belongs in here.

    Args:
        what: is loaded, as the user named it.
        folder: of the files, which are looked through for the broken one; None where it is not known.
        spelling: of the settings.

    Raises:
        UserError: for everything but a lack of memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what matters of them ends in a refusal
            yield
    except UserError:
        raise
    except BaseException as error:
        # tokenizers may panic, and Rust's panics are no Exception.
        mine = isinstance(error, Exception) or type(error).__name__ == "PanicException"
        if not mine or out_of_memory(error):
            raise
        broken = None if folder is None else _broken_file(folder)
        reason = broken or _reason(error, spelling)
        hint = spelling.moved if folder is None else ""
        raise UserError(f"{what} cannot be loaded: {reason}{hint}") from error


def _reason(error: BaseException, spelling: Spelling) -> str:
    text = str(error).strip()
    if "trust_remote_code" in text:
        return (
            "it needs code out of its own folder or repository (auto_map): read that code, then allow it "
            f"with {spelling.trust_remote_code}"
        )
    if "use_safetensors" in text:
        return (
            f"it has no safetensors; weights that are pickles are read with {spelling.allow_pickle}"
        )
    if type(error).__name__ == "UnpicklingError":  # torch recommends to run whatever it holds
        return "the pickle holds something else than weights, which is never run: get it from elsewhere"
    lines = [line.strip() for line in text.splitlines()] or [""]
    first = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    if not isinstance(error, OSError | ValueError) or not first:
        first = f"{type(error).__name__}: {first}".rstrip(": ")
    return first[:300]


def _broken_file(folder: Path) -> str | None:
    """The first file of a folder that cannot be what its name says, and why; None if there is none."""
    try:
        files = sorted(file for pattern in LOADED_BY_NAME for file in folder.glob(pattern))
    except OSError:
        return None
    for file in files:
        try:
            if file.suffix == ".safetensors":
                check_safetensors(file)
            elif file.suffix == ".json":
                read_json(file)
            else:
                _check_content(file)
        except UserError as error:
            return str(error)
    return None


def _check_content(file: Path) -> None:
    """Refuse a file that holds nothing of its own.

    Raises:
        UserError: if it is no readable file, empty, or git's pointer to a file that was not fetched.
    """
    try:
        with open_file(file) as opened:
            start = opened.read(len(LFS_POINTER))
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}): get it again from where it comes from"
        ) from None
    if start == LFS_POINTER:
        raise UserError(
            f"{file}: is a Git LFS pointer, not the file itself: run git lfs pull where it was cloned, or "
            "download the file"
        )
    if not start:
        raise UserError(f"{file}: is empty: download or copy it again")


def read_json(file: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        UserError: if it does not.
    """
    _check_content(file)
    try:
        found = json.loads(read_file(file).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{file}: is not valid JSON ({reason}): download or copy it again"
        ) from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    if not isinstance(found, dict):
        raise UserError(f"{file}: holds {type(found).__name__} where a JSON object is expected")
    return found


def part_of_run(folder: Path, names: tuple[str, ...], otherwise: str) -> str:
    """What to do about a folder that is not what it should be: a run's part is named where it is a run.

    Args:
        folder: that was given.
        names: parts of a run that would do.
        otherwise: said where the folder has none of them.
    """
    found = [str(folder / name) for name in names if os.path.isdir(folder / name)]
    return f"did you mean {' or '.join(found)}?" if found else otherwise


def check_safetensors(file: Path) -> None:
    """Look at a file's header, which says how long the file must be.

    Raises:
        UserError: if the file is not whole.
    """
    from safetensors import SafetensorError, safe_open

    _check_content(file)
    try:
        with safe_open(file, "np") as opened:
            opened.keys()
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file}: is no whole safetensors file ({error}), so it is damaged or its download or copy was "
            "cut off: get it again"
        ) from None


def weight_files(
    folder: Path, stem: str, pickled: str, allow_pickle: bool, spelling: Spelling = TRAINING
) -> list[Path]:
    """The files that hold a model's or adapter's weights, each of which is there and whole.

    Args:
        folder: of the model or adapter.
        stem: name of the weights as safetensors, without suffix.
        pickled: their name as a pickle, without suffix.
        allow_pickle: whether they may be a pickle where there are no safetensors.
        spelling: of the settings.

    Raises:
        UserError: if there are no weights, only pickles that are not allowed, or a file is missing or broken.
    """
    for name in (f"{stem}.safetensors", f"{stem}.safetensors.index.json"):
        if lexists(folder / name):
            files = _with_shards(folder / name)
            for file in files:
                check_safetensors(file)
            return files
    for name in (f"{pickled}.bin", f"{pickled}.bin.index.json"):
        if not lexists(folder / name):
            continue
        if not allow_pickle:
            raise UserError(
                f"{folder}: its weights ({name}) are a pickle, which can run code when it is opened: save "
                "them as safetensors (from_pretrained, then save_pretrained), or allow it with "
                f"{spelling.allow_pickle}"
            )
        files = _with_shards(folder / name)
        for file in files:
            _check_content(file)
        return files
    others = sorted(path.name for pattern in OTHER_WEIGHTS for path in folder.glob(pattern))
    there = f", and {others[0]} is not read" if others else ""
    raise UserError(
        f"{folder}: has no weights (there is no {stem}.safetensors{there}): save them with "
        "save_pretrained, or download or copy them"
    )


def _with_shards(file: Path) -> list[Path]:
    """A file of weights, or the files that an index of shards names."""
    if file.suffix != ".json":
        return [file]
    shards = read_json(file).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise UserError(f"{file}: has no weight_map, which names the files of the weights")
    names = sorted({str(name) for name in shards.values()})
    for name in names:
        if not lexists(file.parent / name):
            raise UserError(
                f"{file.parent}: lacks {name}, one of the {len(names)} files of weights that {file.name} "
                "names: download or copy it"
            )
    return [file.parent / name for name in names]


def check_model_folder(path: Path, config: ModelConfig, named: str, spelling: Spelling) -> None:
    """Check that a folder holds a model, or the GGUF file that is named, whole.

    Raises:
        UserError: if it does not.
    """
    if config.gguf_file is not None:
        if not os.path.isfile(path / config.gguf_file):
            raise UserError(f"model.gguf_file={config.gguf_file}: not in {path}")
        return
    if os.path.exists(path / "adapter_config.json"):
        raise UserError(
            f"{named}: holds an adapter (adapter_config.json), no model alone: name the base model's folder "
            "here (training goes on from an adapter with model.adapter)"
        )
    if not os.path.exists(path / "config.json"):
        advice = part_of_run(path, ("model",), "name a folder that save_pretrained has written")
        raise UserError(f"{named}: the folder has no config.json, so no model; {advice}")
    read_json(path / "config.json")
    if not any(os.path.isfile(path / name) for name in TOKENIZER_FILES):
        raise UserError(
            f"{named}: the folder has no tokenizer ({TOKENIZER_FILES[0]} or the like): save the tokenizer "
            "beside the model"
        )
    weight_files(path, "model", "pytorch_model", config.allow_pickle, spelling)
