"""Files of models and adapters that others have saved: what is wrong with one is told in one line."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import lexists
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import ModelConfig
from qc_experiments.errors import UserError
from qc_experiments.system.memory import out_of_memory
from qc_experiments.system.paths import open_file, read_file

LFS_POINTER = b"version https://git-lfs"  # how git's stand-in for a large file begins
OTHER_WEIGHTS = ("*.pt", "*.pth", "*.ckpt", "*.pkl", "*.bin", "*.safetensors", "*.gguf")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json"),
)
LOADED_BY_NAME = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""Files of a saved model that are read when it is loaded."""
TOGETHER = "get config.json and weights from the same place, or save the model again"
NAMED = 3  # weights that a message names of each kind


@dataclass(frozen=True)
class Spelling:
    """What a command calls the settings of loading, and what to do where a model has ``moved``."""

    model: str = "model.name_or_path="
    moved: str = ""
    trust_remote_code: str = "model.trust_remote_code=true"
    allow_pickle: str = "model.allow_pickle=true"


TRAINING = Spelling()


@contextmanager
def load_errors(what: str, folder: Path | None, spelling: Spelling = TRAINING) -> Iterator[None]:
    """Tell in one line of whatever a library raises while it loads what somebody saved.

    Libraries raise exceptions of any class for a broken file; so nothing but their loading belongs in here.
    A lack of memory is passed on as it is. A folder that is known is looked through for the broken file.
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
        reason = (folder and _broken_file(folder)) or _reason(error, spelling)
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
    checks = {".safetensors": check_safetensors, ".json": read_json}
    for file in files:
        try:
            checks.get(file.suffix, _check_content)(file)
        except UserError as error:
            return str(error)
    return None


def _check_content(file: Path) -> None:
    """Refuse what is no readable file, empty, or git's pointer to a file that was not fetched."""
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
    """Read a file that has to hold one JSON object."""
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
    """What to do about a folder that is not what it should be: names the parts of a run that would do."""
    found = [str(folder / name) for name in names if os.path.isdir(folder / name)]
    return f"did you mean {' or '.join(found)}?" if found else otherwise


def check_safetensors(file: Path) -> None:
    """Refuse a file that is not whole, by its header, which says how long it must be."""
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
    folder: Path, stem: str, allow_pickle: bool, spelling: Spelling = TRAINING
) -> list[Path]:
    """The files that hold a model's or adapter's weights, each of which is there and whole.

    They are called by a ``stem``, ``model`` or ``adapter_model``; where there are no safetensors, they may be
    pickles if that is allowed.
    """
    pickled = "pytorch_model.bin" if stem == "model" else f"{stem}.bin"
    for weights, check in ((f"{stem}.safetensors", check_safetensors), (pickled, _check_content)):
        for name in (weights, f"{weights}.index.json"):
            if not lexists(folder / name):
                continue
            if weights == pickled and not allow_pickle:
                raise UserError(
                    f"{folder}: its weights ({name}) are a pickle, which can run code when it is opened: "
                    "save them as safetensors (from_pretrained, then save_pretrained), or allow it with "
                    f"{spelling.allow_pickle}"
                )
            files = _with_shards(folder / name)
            for file in files:
                check(file)
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
    """Check that a folder holds a model, or the GGUF file that is named, whole."""
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
    weight_files(path, "model", config.allow_pickle, spelling)


def check_loaded(report: Mapping[str, Any], named: str, advice: str = TOGETHER) -> None:
    """Refuse weights that are missing, left over or of another shape than the config asks for."""
    missing, unexpected = set(report["missing_keys"]), set(report["unexpected_keys"])
    mismatched = {
        f"{name} (stored {tuple(stored)}, the config asks for {tuple(asked)})"
        for name, stored, asked in report["mismatched_keys"]
    }
    for name in unexpected:  # saved from within a wrapper, every name begins with the wrapper's own
        for wanted in missing:
            if name.endswith(f".{wanted}"):
                prefix = name.removesuffix(wanted)
                advice = f"they were saved under {prefix}*: save them without that prefix"
    what = f"{named}: its weights are not those that its config asks for"
    refuse_misfits(what, missing, unexpected, mismatched, advice)


def check_names(files: Sequence[Path], config: Any, named: str) -> None:
    """Compare the names of stored weights with those that a config asks for, without loading any."""
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    stored: set[str] = set()
    for file in files:
        with safe_open(file, "np") as opened:
            stored.update(opened.keys())
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    asked = {name for name, _ in model.named_parameters()}  # tied ones once
    # Where quantization has weights of its own.
    layers = tuple(name.rpartition(".")[0] + "." for name in asked)
    extra = {name for name in stored if not name.startswith(layers)}
    report = {"missing_keys": asked - stored, "unexpected_keys": extra, "mismatched_keys": ()}
    check_loaded(report, named)


def refuse_misfits(
    what: str,
    missing: Collection[str],
    unexpected: Collection[str],
    mismatched: Collection[str],
    advice: str,
) -> None:
    """Refuse weights that are missing, left over or of another shape, with some of their names."""
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": mismatched}
    parts = []
    for kind, names in kinds.items():
        shown = ", ".join(sorted(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")
        parts += [f"{len(names)} {kind} ({shown})"] if names else []
    if parts:
        raise UserError(f"{what}: {', '.join(parts)}; {advice}")
