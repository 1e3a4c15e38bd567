"""Where a base model is, in which commit of the hub, and what is said when it cannot be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from qc_experiments.errors import UserError
from qc_experiments.models.files import TRAINING, Spelling, load_errors

SECONDS = 5.0  # how long the hub may take to answer at all
UNREACHABLE = (502, 503, 504)  # what a proxy answers in the hub's place


@cache
def hub_problem() -> str | None:
    """Why the hub cannot be asked, so that only what is cached can be used; None if it answers."""
    from huggingface_hub import constants, get_session, is_offline_mode

    if is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    try:
        status = get_session().head(constants.ENDPOINT, timeout=SECONDS).status_code
    # Of the library's own client, which is another one every few versions.
    except Exception as error:
        reason = str(error) or type(error).__name__
    else:
        if status not in UNREACHABLE:
            return None
        reason = f"status {status}"
    return f"{constants.ENDPOINT} does not answer: {reason}"


def forget_failure() -> None:
    """Let the next run ask a hub again that did not answer the last one."""
    if hub_problem.cache_info().currsize and hub_problem() is not None:
        hub_problem.cache_clear()
        hub_commit.cache_clear()


@cache
def hub_commit(name: str, revision: str | None) -> str | None:
    """The commit that a branch or tag stands for: as the hub has it, else as this machine's cache has it.

    It is asked once, so that all of a process is about the same commit (see `forget_failure`). None where
    neither knows the repository.
    """
    from huggingface_hub import HfApi, constants, file_download

    if hub_problem() is None:
        with suppress(Exception):  # no network, no repository, no permission: loading says which
            return HfApi().model_info(name, revision=revision, timeout=SECONDS).sha
    folder = file_download.repo_folder_name(repo_id=name, repo_type="model")
    cached = Path(constants.HF_HUB_CACHE) / folder
    if revision is not None and (cached / "snapshots" / revision).is_dir():
        return revision
    with suppress(OSError):
        return (cached / "refs" / (revision or "main")).read_text(encoding="ascii").strip()
    return None


@dataclass(frozen=True)
class ModelSource:
    """Where a model is loaded from."""

    name_or_path: str  # hub id or folder, as transformers takes it
    _: KW_ONLY
    label: str  # short name for folders and tables
    fingerprint: str  # text that changes when the model does
    trust_remote_code: bool = False
    revision: str | None = None
    gguf_file: str | None = None  # the one from which that folder was converted
    gguf_hash: str | None = None  # its SHA-256
    allow_pickle: bool = False
    named: str = ""  # the model as the user named it, for messages
    spelling: Spelling = TRAINING

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for ``from_pretrained``."""
        found: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self.revision is not None:
            found["revision"] = self.revision
        if self.on_hub and hub_problem():
            found["local_files_only"] = True
        return found

    def config(self) -> Any:
        """The model's config, as transformers reads it."""
        from transformers import AutoConfig

        with self.loading("config"):
            return AutoConfig.from_pretrained(self.name_or_path, **self.arguments())

    @property
    def on_hub(self) -> bool:
        """Whether the model is named by its hub id."""
        return self.fingerprint.startswith("hub:")

    def folder(self) -> Path | None:
        """The folder that holds the model's files; None for a model of the hub that is not loaded yet."""
        path = Path(self.name_or_path)
        if path.is_dir():
            return path
        from transformers.utils.hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.name_or_path, "config.json", revision=self.revision)
        return Path(found).parent if isinstance(found, str) else None

    @contextmanager
    def loading(self, what: str) -> Iterator[None]:
        """Tell in one line of whatever goes wrong while a part of the model is loaded."""
        named = self.named or f"{self.spelling.model}{self.name_or_path}"
        try:
            with load_errors(f"{named}: its {what}", self.folder(), self.spelling):
                yield
        except UserError as error:
            cause = error.__cause__
            absent = isinstance(cause, OSError) and "does not appear" not in str(cause)
            if absent and self.on_hub and (problem := hub_problem()):
                raise UserError(
                    f"{named}: is not in this machine's cache ({what}), and the hub cannot be asked "
                    f"({problem}): {self._out_of_packages()}fetch it where there is a network, hf download "
                    f"{self.name_or_path}, or name a folder that holds it{self.spelling.moved}"
                ) from error
            raise

    def _out_of_packages(self) -> str:
        """What to take instead where packages of PyPI hold the same model."""
        from qc_experiments.models.packaged import MODELS

        same = (one.option for one in MODELS.values() if one.hub_id == self.name_or_path)
        option = next(same, None) if self.spelling is TRAINING else None
        return "" if option is None else f"take model={option}, out of packages; or "
