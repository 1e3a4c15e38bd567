"""Which commit of a hub repository is meant: a branch moves, a run's figures come from one commit."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

from qc_experiments.models.hub import SECONDS, hub_problem


@cache
def hub_commit(name: str, revision: str | None) -> str | None:
    """The commit behind a branch or tag: as the hub has it, else as this machine's cache has it.

    It is asked once, so that all of a process is about the same commit.

    Args:
        name: of the repository, ``owner/name``.
        revision: branch, tag or commit; None for the default branch.

    Returns:
        The commit, or None where neither knows the repository.
    """
    from huggingface_hub import HfApi, constants, file_download

    if hub_problem() is None:
        with suppress(Exception):  # no network, no repository, no permission: loading says which
            commit: str | None = HfApi().model_info(name, revision=revision, timeout=SECONDS).sha
            return commit
    folder = file_download.repo_folder_name(repo_id=name, repo_type="model")
    cached = Path(constants.HF_HUB_CACHE) / folder
    if revision is not None and (cached / "snapshots" / revision).is_dir():
        return revision
    with suppress(OSError):
        return (cached / "refs" / (revision or "main")).read_text(encoding="ascii").strip()
    return None
