"""Which commit of a hub repository is meant, and whether the hub answers at all."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

SECONDS = 5.0
"""How long the hub may take to answer at all."""
UNREACHABLE = (502, 503, 504)
"""What a proxy answers in the hub's place."""


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

    It is asked once, so that all of a process is about the same commit (see `forget_failure`).

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
