"""Where a base model is, and what is said when something of it cannot be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from qc_experiments.errors import UserError
from qc_experiments.models.files import TRAINING, Spelling, load_errors
from qc_experiments.models.hub import hub_problem


@dataclass(frozen=True)
class ModelSource:
    """Where a model is loaded from.

    Attributes:
        name_or_path: hub id or folder, as transformers takes it.
        revision: hub revision, or None.
        gguf_file: name of the GGUF file from which that folder was converted, or None.
        label: short name for folders and tables.
        fingerprint: text that changes when the model does.
        trust_remote_code: whether its own code may run.
        gguf_hash: SHA-256 of the GGUF file, or None.
        allow_pickle: whether its weights may be a pickle.
        named: the model as the user named it, for messages.
        spelling: of the settings, for messages.
    """

    name_or_path: str
    _: KW_ONLY
    label: str
    fingerprint: str
    trust_remote_code: bool
    revision: str | None = None
    gguf_file: str | None = None
    gguf_hash: str | None = None
    allow_pickle: bool = False
    named: str = ""
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
        """The model's config, as transformers reads it.

        Raises:
            UserError: if it cannot be found or read.
        """
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
                    f"({problem}): fetch it where there is a network, hf download {self.name_or_path}, or "
                    f"name a folder that holds it{self.spelling.moved}"
                ) from error
            raise
